//! Where in a document a value stands.

use super::Exact;
use super::text::excerpt;
use std::fmt;

/// A place in a document: a chain of steps kept on the stack, spelled out only when somebody asks.
#[derive(Debug, Clone, Copy)]
pub(super) struct Path<'p> {
    parent: Option<&'p Self>,
    step: Step<'p>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'p> {
    Root,
    Key(&'p str),
    /// A key that the client spelled `found` and the model spells `named`.
    Alias {
        found: &'p str,
        named: &'p str,
    },
    /// An element that stands at `found`, and at `kept` once the nulls before it are gone.
    Element {
        found: usize,
        kept: usize,
    },
}

impl<'p> Path<'p> {
    /// The document itself.
    pub(super) const ROOT: Path<'static> = Path { parent: None, step: Step::Root };

    /// The member `key` of this object.
    pub(super) const fn key<'c>(&'c self, key: &'c str) -> Path<'c> {
        Path { parent: Some(self), step: Step::Key(key) }
    }

    /// The member `named` of this object, which the client spelled `found`.
    pub(super) const fn alias<'c>(&'c self, found: &'c str, named: &'c str) -> Path<'c> {
        Path { parent: Some(self), step: Step::Alias { found, named } }
    }

    /// The element at `index` of this list.
    pub(super) const fn index<'c>(&'c self, index: usize) -> Path<'c> {
        self.element(index, index)
    }

    /// The element at `found` of this list, which will be written at `kept`.
    pub(super) const fn element<'c>(&'c self, found: usize, kept: usize) -> Path<'c> {
        Path { parent: Some(self), step: Step::Element { found, kept } }
    }

    /// The place in the document as we write it, as a JSON Pointer (RFC 6901); none if that takes more than `most` bytes.
    pub(super) fn pointer(&self, most: usize) -> Option<String> {
        let mut pointer = match self.parent {
            Some(parent) => parent.pointer(most)?,
            None => String::new(),
        };
        match self.step {
            Step::Root => {}
            // Looked at before it is copied: a document of one long key must not cost its length for every number inside.
            Step::Key(key) | Step::Alias { named: key, .. } if pointer.len() + key.len() >= most => return None,
            Step::Key(key) | Step::Alias { named: key, .. } => push_key(&mut pointer, key),
            Step::Element { kept, .. } => push_index(&mut pointer, kept),
        }
        Some(pointer).filter(|pointer| pointer.len() <= most)
    }
}

/// What `exact` holds for the value at `pointer` and for all that is inside it.
pub(super) fn within<'e>(exact: &'e Exact, pointer: &str) -> impl Iterator<Item = (&'e String, &'e String)> {
    // '0' is the character after '/'.
    let inside = exact.range(format!("{pointer}/")..format!("{pointer}0"));
    exact.get_key_value(pointer).into_iter().chain(inside)
}

/// Appends a key to a JSON Pointer.
pub(super) fn push_key(pointer: &mut String, key: &str) {
    pointer.push('/');
    for character in key.chars() {
        match character {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}

/// Appends an index to a JSON Pointer.
pub(super) fn push_index(pointer: &mut String, index: usize) {
    pointer.push('/');
    pointer.push_str(&index.to_string());
}

/// Longest key that is spelled out as a plain name; every key of the model is one.
const LONGEST_PLAIN: usize = 40;

/// The place in the document as the client sent it: `body.buttons[2].title`. Keys that are no plain names are quoted, long ones cut.
impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Element { found, .. } => write!(f, "[{found}]"),
            Step::Key(key) | Step::Alias { found: key, .. } => {
                let named = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
                let plain = named && (1..=LONGEST_PLAIN).contains(&key.len());
                let first = self.parent.is_none_or(|parent| matches!(parent.step, Step::Root));
                match (plain, first) {
                    (true, true) => f.write_str(key),
                    (true, false) => write!(f, ".{key}"),
                    (false, _) => write!(f, "[{:?}]", excerpt(key)),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_as_the_client_wrote_it_and_points_where_we_write_it() {
        let header = Path::ROOT.key("header");
        let alias = header.alias("replyToMessageId", "originalMessageId");
        assert_eq!(alias.to_string(), "header.replyToMessageId");
        assert_eq!(alias.pointer(99).as_deref(), Some("/header/originalMessageId"));
        let entities = header.key("entities");
        let odd = entities.key("a/b~c d");
        let element = odd.element(5, 4);
        assert_eq!(element.to_string(), r#"header.entities["a/b~c d"][5]"#);
        assert_eq!(element.pointer(99).as_deref(), Some("/header/entities/a~1b~0c d/4"));
        assert_eq!(element.pointer(28).as_deref(), Some("/header/entities/a~1b~0c d/4"));
        assert_eq!(element.pointer(27), None);
    }

    #[test]
    fn a_long_key_is_cut_where_it_is_shown_only() {
        let key = "k".repeat(100);
        let place = Path::ROOT.key(&key);
        assert_eq!(place.to_string(), format!("[\"{}...\"]", "k".repeat(40)));
        assert_eq!(place.pointer(101), Some(format!("/{key}")));
    }

    #[test]
    fn a_value_and_all_inside_it_lie_within_its_pointer_and_its_neighbours_do_not() {
        let exact: Exact =
            ["/a", "/a/", "/a/b", "/a/~0", "/a.b", "/a0", "/ab", "/", ""].map(|pointer| (pointer.into(), "1".into())).into();
        let inside: Vec<_> = within(&exact, "/a").map(|(pointer, _)| pointer.as_str()).collect();
        assert_eq!(inside, ["/a", "/a/", "/a/b", "/a/~0"]);
    }
}
