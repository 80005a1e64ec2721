//! The context that a trace goes on in: W3C Trace Context, level 1.

use hyper::header::HeaderValue;
use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// What `traceparent` carries: the trace, the span in it that a request was made by, and whether it is recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceParent {
    /// Never zero.
    trace_id: u128,
    /// Never zero.
    parent_id: u64,
    flags: u8,
}

impl TraceParent {
    /// A trace of its own, not recorded.
    pub fn new() -> Self {
        // The fixed bits of the id are in its middle; the trace's id is random where others rely on it, in the last seven bytes.
        Self { trace_id: Uuid::new_v4().as_u128(), parent_id: span_id(), flags: 0 }
    }

    /// The next span of the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self { parent_id: span_id(), ..self }
    }

    pub(super) fn to_header(self) -> HeaderValue {
        HeaderValue::from_bytes(&self.text()).expect("hexadecimal digits are a header's value")
    }

    /// As the header has it.
    fn text(self) -> [u8; 55] {
        let mut text = *b"00-tttttttttttttttttttttttttttttttt-pppppppppppppppp-ff";
        // An id knows how to write hexadecimal digits fast.
        let mut rest = [0; 32];
        Uuid::from_u128(self.trace_id).simple().encode_lower(&mut text[3..35]);
        Uuid::from_u128(u128::from(self.parent_id) << 8 | u128::from(self.flags)).simple().encode_lower(&mut rest);
        text[36..52].copy_from_slice(&rest[14..30]);
        text[53..].copy_from_slice(&rest[30..]);
        text
    }
}

impl Default for TraceParent {
    fn default() -> Self {
        Self::new()
    }
}

/// Random and not zero.
fn span_id() -> u64 {
    loop {
        // The fixed bits of one half meet random ones of the other.
        let (high, low) = Uuid::new_v4().as_u64_pair();
        if high != low {
            return high ^ low;
        }
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.text()))
    }
}

impl FromStr for TraceParent {
    type Err = NotATraceParent;

    /// Reads the value of a header. A later version may say more after the flags, which is left out.
    fn from_str(text: &str) -> Result<Self, NotATraceParent> {
        let mut parts = text.splitn(5, '-');
        let mut next = |digits: usize| parts.next().filter(|part| is_hex(part, digits)).ok_or(NotATraceParent);
        let version = number(next(2)?)?;
        let trace_id = u128::from_str_radix(next(32)?, 16).map_err(|_| NotATraceParent)?;
        let parent_id = u64::from_str_radix(next(16)?, 16).map_err(|_| NotATraceParent)?;
        let flags = number(next(2)?)?;
        let more = parts.next().is_some();
        if version == 0xff || (version == 0 && more) || trace_id == 0 || parent_id == 0 {
            return Err(NotATraceParent);
        }
        // Of the flags only the first is known, and unknown ones are not passed on.
        Ok(Self { trace_id, parent_id, flags: flags & 1 })
    }
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

fn number(text: &str) -> Result<u8, NotATraceParent> {
    u8::from_str_radix(text, 16).map_err(|_| NotATraceParent)
}

/// A text that is no `traceparent`; whoever gets it begins a new trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("needs a version, a trace, a span and flags, such as 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")]
pub struct NotATraceParent;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The example of the specification.
    const EXAMPLE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_example_of_the_specification_is_read_and_written() {
        assert_eq!(EXAMPLE.parse::<TraceParent>().unwrap().to_string(), EXAMPLE);
    }

    #[test]
    fn a_child_stays_in_its_trace() {
        let parent: TraceParent = EXAMPLE.parse().unwrap();
        let child = parent.child();
        assert_ne!(child.parent_id, parent.parent_id);
        assert_eq!(child, TraceParent { parent_id: child.parent_id, ..parent });
    }

    #[test]
    fn every_trace_is_another() {
        assert_ne!(TraceParent::new().trace_id, TraceParent::new().trace_id);
    }

    #[test]
    fn a_later_version_may_say_more() {
        for later in [
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-what-comes",
        ] {
            assert_eq!(later.parse::<TraceParent>().unwrap().to_string(), EXAMPLE, "{later}");
        }
    }

    #[test]
    fn what_the_specification_calls_invalid_is_refused() {
        let invalid = [
            "",
            "00",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b71692033310-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333g-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            " 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ];
        for text in invalid {
            assert_eq!(text.parse::<TraceParent>(), Err(NotATraceParent), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in ".*") {
            let _either = text.parse::<TraceParent>();
        }

        #[test]
        fn what_is_written_is_read(trace_id in 1u128.., parent_id in 1u64.., flags in 0u8..=1) {
            let written = TraceParent { trace_id, parent_id, flags };
            prop_assert_eq!(written.to_string().parse(), Ok(written));
        }
    }
}
