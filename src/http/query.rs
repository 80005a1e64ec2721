//! Query parameters: none that are unknown, and none twice that may stand once.

use crate::error::Error;
use crate::wire;
use axum::extract::rejection::QueryRejection;
use prost_types::Timestamp;

/// The parameters of a request, as [`axum::extract::Query`] reads them.
pub(super) type Raw = Result<axum::extract::Query<Vec<(String, String)>>, QueryRejection>;

/// Most bytes of a client's text that an error repeats.
const EXCERPT: usize = 64;

/// The parameters of a request, all of them known.
#[derive(Debug)]
pub(super) struct Query {
    parameters: Vec<(String, String)>,
}

impl Query {
    /// The parameters, if every one is among `known`.
    pub(super) fn read(raw: Raw, known: &[&str]) -> Result<Self, Error> {
        let raw = raw.map_err(|rejection| invalid("query", format!("cannot be read: {}", rejection.body_text())))?;
        let parameters = raw.0;
        match parameters.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            None => Ok(Self { parameters }),
            Some((unknown, _)) => {
                let problem = format!("has the unknown parameter {:?}; known are {}", excerpt(unknown), known.join(", "));
                Err(invalid("query", problem))
            }
        }
    }

    /// Every value of a parameter.
    pub(super) fn all(&self, name: &'static str) -> impl Iterator<Item = &str> {
        self.parameters.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The value of a parameter that may stand once.
    pub(super) fn one(&self, name: &'static str) -> Result<Option<&str>, Error> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (value, None) => Ok(value),
            (_, Some(_)) => Err(invalid(name, "may stand once only")),
        }
    }

    /// True or false; false where nothing is said.
    pub(super) fn flag(&self, name: &'static str) -> Result<bool, Error> {
        match self.one(name)? {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(other) => Err(invalid(name, format!("needs true or false, found {:?}", excerpt(other)))),
        }
    }

    /// A whole number within `bounds`.
    pub(super) fn number(&self, name: &'static str, bounds: std::ops::RangeInclusive<usize>) -> Result<Option<usize>, Error> {
        let Some(text) = self.one(name)? else { return Ok(None) };
        let number = text.parse().ok().filter(|number| bounds.contains(number));
        number.map(Some).ok_or_else(|| {
            let (least, most) = bounds.into_inner();
            invalid(name, format!("needs a whole number from {least} to {most}, found {:?}", excerpt(text)))
        })
    }
}

/// A time: epoch milliseconds or ISO 8601.
pub(super) fn time(field: &'static str, text: &str) -> Result<Timestamp, Error> {
    // In a query a plus sign that is not escaped means a space, and no form of a time has one.
    let millis = text.parse().ok().or_else(|| wire::parse_iso(&text.replace(' ', "+")));
    let wrong = || invalid(field, format!("needs epoch milliseconds or an ISO 8601 time, found {:?}", excerpt(text)));
    millis.map(wire::from_millis).ok_or_else(wrong)
}

/// What a name of a closed set stands for.
pub(super) fn one_of<T: Copy>(field: &'static str, text: &str, known: &[(&'static str, T)]) -> Result<T, Error> {
    let found = known.iter().find(|(name, _)| *name == text).map(|(_, meaning)| *meaning);
    found.ok_or_else(|| {
        let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        invalid(field, format!("needs one of {}, found {:?}", names.join(", "), excerpt(text)))
    })
}

/// A failure of a page, with its parameter as this face spells it.
pub(super) fn of_page(error: Error) -> Error {
    match error {
        Error::InvalidRequest { field: "page_token", problem } => invalid("pageToken", problem),
        other => other,
    }
}

/// A field of the request is wrong.
pub(super) fn invalid(field: &'static str, problem: impl Into<String>) -> Error {
    Error::InvalidRequest { field, problem: problem.into() }
}

/// The start of a client's text, for an error.
pub(super) fn excerpt(text: &str) -> &str {
    &text[..text.floor_char_boundary(EXCERPT)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(parameters: &[(&str, &str)]) -> Result<Query, Error> {
        let parameters = parameters.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Query::read(Ok(axum::extract::Query(parameters.collect())), &["size", "name"])
    }

    #[test]
    fn an_unknown_parameter_is_refused_and_the_known_are_named() {
        let error = query(&[("sizes", "7")]).unwrap_err();
        assert_eq!(error.to_string(), r#"query has the unknown parameter "sizes"; known are size, name"#);
    }

    #[test]
    fn a_number_outside_its_bounds_is_refused_with_both() {
        for text in ["0", "11", "-1", "1.5", "", "seven", "99999999999999999999999"] {
            let error = query(&[("size", text)]).unwrap().number("size", 1..=10).unwrap_err();
            assert_eq!(error.to_string(), format!("size needs a whole number from 1 to 10, found {text:?}"));
        }
        assert_eq!(query(&[("size", "10")]).unwrap().number("size", 1..=10), Ok(Some(10)));
        assert_eq!(query(&[]).unwrap().number("size", 1..=10), Ok(None));
    }

    #[test]
    fn a_parameter_that_may_stand_once_is_refused_twice() {
        let error = query(&[("size", "7"), ("size", "7")]).unwrap().one("size").unwrap_err();
        assert_eq!(error.to_string(), "size may stand once only");
    }
}
