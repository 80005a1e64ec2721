use super::*;
use crate::pb::{self, SenderType};
use crate::samples;
use crate::store::Filter;
use futures::FutureExt as _;
use http::HeaderValue;
use http::header::AUTHORIZATION;
use insta::assert_snapshot;
use serde_json::json;
use std::collections::HashSet;

/// A file with a holder who has these keys.
fn file(holders: &[(&str, &str, &str, &[&str])]) -> String {
    let table = |(name, role, rest, keys): &(&str, &str, &str, &[&str])| {
        let digests: Vec<_> = keys.iter().map(|key| format!("\"{}\"", key::Digest::of(key))).collect();
        format!("[[keys]]\nname = \"{name}\"\nrole = \"{role}\"\n{rest}\nsha256 = [{}]\n", digests.join(", "))
    };
    holders.iter().map(table).collect()
}

const BOUND: &str = "service_identifiers = [\"1\", \"2\"]";

fn keys(holders: &[(&str, &str, &str, &[&str])]) -> Keys {
    Keys::read(&file(holders)).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn gate() -> Gate {
    Gate::keyed(keys(&[
        ("whatsapp", "connector", BOUND, &["old", "new"]),
        ("bot", "bot", "", &["b"]),
        ("desk", "agent", "", &["d"]),
        ("root", "admin", "", &["r"]),
    ]))
}

fn shows(authorization: &str) -> HeaderMap {
    HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_str(authorization).unwrap())])
}

fn caller(key: &str) -> Caller {
    gate().caller(&shows(&format!("Bearer {key}"))).unwrap()
}

fn message(service_identifier: &str, sender: &str) -> pb::CimMessage {
    samples::message(json!({
        "header": { "sender": { "type": sender }, "channelData": { "serviceIdentifier": service_identifier } }
    }))
}

#[test]
fn a_key_is_known_by_its_digest_in_both_schemes() {
    for shown in ["Bearer old", "bearer  new", "Basic dzpvbGQ=", "BASIC Om5ldw=="] {
        assert_eq!(gate().caller(&shows(shown)).map(|caller| caller.name() == Some("whatsapp")), Ok(true), "{shown}");
    }
}

#[test]
fn a_call_without_a_known_key_is_told_what_it_needs() {
    let refused = |headers: HeaderMap| gate().caller(&headers).unwrap_err().to_string();
    let mut twice = shows("Bearer old");
    twice.append(AUTHORIZATION, HeaderValue::from_static("Bearer old"));
    let sentences = [
        refused(HeaderMap::new()),
        refused(shows("Bearer unknown")),
        refused(shows("Bearer")),
        refused(shows("Digest old")),
        refused(shows("Basic old")),
        refused(twice),
    ];
    assert_snapshot!(sentences.join("\n"), @"
    the call needs an API key, as Authorization: Bearer KEY
    the API key is not known
    the header Authorization needs Bearer and an API key, or Basic and an API key as the password
    the header Authorization needs Bearer and an API key, or Basic and an API key as the password
    the header Authorization needs Bearer and an API key, or Basic and an API key as the password
    the header Authorization may stand once only
    ");
}

#[test]
fn without_a_file_everybody_may_do_everything() {
    let anybody = Gate::open().caller(&HeaderMap::new()).unwrap();
    for right in RIGHTS {
        assert_eq!(anybody.may(right), Ok(()));
    }
    assert_eq!(anybody.may_send(&message("any", "AGENT")), Ok(()));
    assert!(anybody.sees("any") && anybody.bound().is_none());
}

const RIGHTS: [Right; 6] =
    [Right::Send, Right::Read, Right::EndSessions, Right::ChangeChannels, Right::ManageDeliveries, Right::ManageSubscriptions];

#[test]
fn each_role_comes_with_its_rights() {
    let rights = |key| RIGHTS.map(|right| if caller(key).may(right).is_ok() { 'x' } else { '-' }).into_iter().collect::<String>();
    assert_eq!(["old", "b", "d", "r"].map(rights), ["xxx---", "xx----", "xxx---", "xxxxxx"]);
    let refusal = caller("b").may(Right::ChangeChannels).unwrap_err();
    assert_eq!(refusal.to_string(), "\"bot\" may not change channels: its role is bot");
}

#[test]
fn nobody_speaks_for_those_whom_they_are_not() {
    let senders = ["CUSTOMER", "CONNECTOR", "APP", "SYSTEM", "AGENT", "BOT"];
    let speaks = |key| {
        let may = |sender| caller(key).may_send(&message("1", sender)).is_ok();
        senders.map(|sender| if may(sender) { 'x' } else { '-' }).into_iter().collect::<String>()
    };
    assert_eq!(["old", "b", "d", "r"].map(speaks), ["xxx---", "-----x", "--xxx-", "xxxxxx"]);
    let by_name = |key, name: &str| {
        let mut message = message("1", "CUSTOMER");
        let sender = message.header.get_or_insert_default().sender.get_or_insert_default();
        (sender.r#type, sender.type_name) = (SenderType::Other.into(), Some(name.to_owned()));
        caller(key).may_send(&message).is_ok()
    };
    assert!(by_name("old", "supervisor"));
    assert!(["AGENT", " agent ", "System", "bot"].iter().all(|name| !by_name("old", name)), "it would be one once it is checked");
    let refusal = caller("old").may_send(&message("1", "AGENT")).unwrap_err();
    assert_eq!(refusal.to_string(), "\"whatsapp\" may not send messages as AGENT: its role is connector");
}

#[test]
fn a_bound_key_knows_of_nothing_else() {
    let bound = caller("old");
    assert_eq!(bound.may_send(&message("2", "CUSTOMER")), Ok(()));
    assert!(bound.may_send(&message("3", "CUSTOMER")).is_err());
    assert!(bound.sees("1") && !bound.sees("3"));
    assert!(bound.may_read_all("conversations").is_err());
    assert!(bound.must_see("3", || Error::SessionNotFound { id: "s".into() }).is_err());

    let of = |service_identifiers: &[&str]| Filter {
        service_identifiers: service_identifiers.iter().map(|text| (*text).to_owned()).collect(),
        ..Filter::default()
    };
    let mut all = of(&[]);
    assert_eq!(bound.narrow(&mut all), Ok(()));
    assert_eq!(all.service_identifiers, HashSet::from(["1".into(), "2".into()]));
    assert!(all.outward);
    let mut one = of(&["2"]);
    assert_eq!(bound.narrow(&mut one), Ok(()));
    assert_eq!(one.service_identifiers.len(), 1);
    assert!(bound.narrow(&mut of(&["2", "3"])).is_err());
    let mut desks = of(&[]);
    assert_eq!(caller("d").narrow(&mut desks), Ok(()));
    assert!(desks.wants_everything());

    assert!(bound.narrow_to_one("service_identifier", &mut None).is_err(), "there is a choice");
    assert!(bound.narrow_to_one("service_identifier", &mut Some("3".into())).is_err());
    assert_eq!(bound.narrow_to_one("service_identifier", &mut Some("2".into())), Ok(()));
}

#[test]
fn the_subscriptions_of_a_bound_key_are_called_after_it() {
    for (name, own) in [("whatsapp", true), ("whatsapp.eu", true), ("whatsapp2", false), ("desk", false), ("w", false)] {
        assert_eq!(caller("old").may_use_subscription(name).is_ok(), own, "{name}");
        assert!(caller("d").may_use_subscription(name).is_ok(), "{name}");
    }
}

#[test]
fn what_is_under_way_goes_on_after_a_renewal_only_under_a_key_that_stays_as_it_is() {
    let gate = gate();
    let [kept, gone, bot] = ["new", "old", "b"].map(|key| gate.caller(&shows(&format!("Bearer {key}"))).unwrap());
    gate.renew(keys(&[("whatsapp", "connector", BOUND, &["new", "newest"]), ("bot", "agent", "", &["b"])]));
    assert_eq!(kept.may(Right::Send), Ok(()));
    assert!(kept.revoked().now_or_never().is_none());
    for revoked in [gone, bot] {
        assert!(matches!(revoked.may(Right::Read), Err(Error::Unauthenticated { .. })));
        assert!(revoked.revoked().now_or_never().is_some());
    }
    assert_eq!(gate.caller(&shows("Bearer newest")).unwrap().name(), Some("whatsapp"));
    assert!(gate.caller(&shows("Bearer old")).is_err());
    assert!(gate.caller(&shows("Bearer b")).unwrap().may(Right::EndSessions).is_ok());
}

#[test]
fn everything_that_is_wrong_with_a_file_is_told_at_once_and_no_value_of_it() {
    let text = r#"
        version = 1
        [[keys]]
        name = "a b"
        role = "root"
        sha256 = ["cim_secret"]
        comment = "x"
        [[keys]]
        name = "whatsapp"
        role = "connector"
        sha256 = []
        [[keys]]
        name = "whatsapp"
        role = "admin"
        service_identifiers = ["1"]
        sha256 = "cim_secret"
        [[keys]]
        name = "bot"
        role = "bot"
        service_identifiers = ["", " "]
    "#;
    let told = |text: &str| {
        let problems = Keys::read(text).unwrap_err();
        problems.iter().map(|problem| format!("{} {}\n", problem.path, problem.sentence)).collect::<String>()
    };
    assert_snapshot!(told(text), @r#"
    version is no key of this file; it has [[keys]] only
    keys[0].comment is not known; known are name, role, service_identifiers, sha256
    keys[0].name needs 1 to 100 letters, digits, dots, dashes and underscores, a letter or digit first
    keys[0].role needs one of connector, bot, agent, admin
    keys[0].sha256[0] needs the SHA-256 of a key: 64 hexadecimal digits
    keys[1].service_identifiers is required: a connector's key is bound to them
    keys[1].sha256 needs a list of digests, at least one; `cim-gateway new-key` makes a key and its digest
    keys[2].name is "whatsapp" twice; give all digests of a holder in one table
    keys[2].service_identifiers must be left out: an admin's key is bound to none
    keys[2].sha256 needs a list of digests, at least one; `cim-gateway new-key` makes a key and its digest
    keys[3].service_identifiers needs a list of texts that are not empty, at least one
    keys[3].sha256 needs a list of digests, at least one; `cim-gateway new-key` makes a key and its digest
    "#);
    assert_eq!(told("[[keys]]\nname = \"a\"\nsha256 = cim_secret\n"), " is no TOML: it cannot be read from line 3 on\n");
    let alike = file(&[("shop", "connector", BOUND, &["k"]), ("shop.eu", "bot", "", &["l"]), ("shops", "bot", "", &["m"])]);
    assert_snapshot!(told(&alike), @r#"keys "shop.eu" begins as the subscriptions of the bound key "shop" do: call one of them otherwise"#);
    let twice = file(&[("a", "bot", "", &["k"]), ("b", "bot", "", &["k"])]);
    assert_eq!(told(&twice), "keys[1].sha256[0] is the digest of a key of \"a\", too\n");
}

#[test]
fn a_fresh_key_is_long_and_never_shown_by_chance() {
    let [one, other] = [Key::fresh().unwrap(), Key::fresh().unwrap()];
    assert!(one.reveal().starts_with("cim_") && one.reveal().len() == 47);
    assert_ne!(one.reveal(), other.reveal());
    assert_eq!(format!("{one:?}"), "Key(..)");
    let text = format!("[[keys]]\nname = \"a\"\nrole = \"admin\"\nsha256 = [\"{}\"]", one.digest());
    assert!(Keys::read(&text).unwrap().caller(one.reveal()).is_some());
}
