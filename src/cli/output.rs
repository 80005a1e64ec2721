//! What a command prints.

use super::failure::Failure;
use std::io::{self, Write as _};

/// Writes `bytes` to standard output, at once.
pub(super) fn print(bytes: impl AsRef<[u8]>) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    out.write_all(bytes.as_ref()).and_then(|()| out.flush()).map_err(|e| Failure::of_output(&e))
}

/// A number of things.
pub(super) fn counted(number: impl TryInto<u64>, thing: &str) -> String {
    match number.try_into().unwrap_or(u64::MAX) {
        1 => format!("1 {thing}"),
        number => format!("{number} {thing}s"),
    }
}

/// Positions of a log.
pub(super) fn positions(oldest: u64, last: u64) -> String {
    if last < oldest { "no entries".into() } else { format!("positions {oldest} to {last}") }
}

/// `text` on one line of at most `most` characters, without any that a terminal would obey or that would turn what it shows around:
/// what strangers send must not draw on the operator's screen.
pub(super) fn tame(text: &str, most: usize) -> String {
    let turns =
        |c| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}');
    let mut tamed: String = text.chars().map(|c| if c.is_control() || turns(c) { ' ' } else { c }).take(most + 1).collect();
    if let Some((end, _)) = tamed.char_indices().nth(most) {
        let cut = tamed[..end].char_indices().next_back().map_or(0, |(last, _)| last);
        tamed.replace_range(cut.., "…");
    }
    tamed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_of_a_stranger_cannot_command_the_terminal() {
        assert_eq!(tame("a\x1b[2Jb\nc\u{202e}d\u{9b}e", 80), "a [2Jb c d e");
    }

    #[test]
    fn a_long_text_is_cut_with_a_sign_of_it() {
        assert_eq!(tame("größer", 6), "größer");
        assert_eq!(tame("größer", 5), "größ…");
        assert_eq!(tame("größer", 1), "…");
    }
}
