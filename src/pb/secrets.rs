//! What may hold a secret is shown without it: these values get into logs and panics by way of whatever holds them.

use super::{Attribute, SigningSecrets, ValueType};
use std::fmt;

impl fmt::Debug for SigningSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningSecrets({} hidden)", self.secrets.len())
    }
}

impl fmt::Debug for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Attribute");
        shown.field("key", &self.key).field("type", &self.r#type());
        match (self.r#type(), &self.value) {
            (ValueType::Password, Some(_)) => shown.field("value", &"hidden"),
            (_, value) => shown.field("value", value),
        };
        shown.field("extra_fields", &self.extra_fields).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Channel, Endpoint};
    use super::*;
    use prost_types::{Value, value};

    #[test]
    fn what_is_shown_of_a_channel_has_no_secret() {
        let attribute = |r#type: ValueType, text: &str| Attribute {
            key: Some("k".into()),
            r#type: r#type.into(),
            value: Some(Value { kind: Some(value::Kind::StringValue(text.into())) }),
            ..Attribute::default()
        };
        let secrets = SigningSecrets { secrets: vec!["whsec_tell-nobody".into()] };
        let channel = Channel {
            connector: Some(Endpoint { signing_secrets: Some(secrets), ..Endpoint::default() }),
            attributes: vec![attribute(ValueType::Password, "tell-nobody"), attribute(ValueType::Url, "public")],
            ..Channel::default()
        };
        let shown = format!("{channel:?}");
        assert!(!shown.contains("tell-nobody") && shown.contains("public"), "{shown}");
    }
}
