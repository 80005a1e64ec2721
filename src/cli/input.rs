//! Where a message is read from.

use std::io::{self, BufRead, BufReader, Read as _};
use std::{convert::Infallible, fmt, fs, path::PathBuf, str::FromStr};

/// A file, or standard input, written `-`.
#[derive(Debug, Clone)]
pub(super) enum Input {
    Stdin,
    File(PathBuf),
}

impl Input {
    /// All of its bytes, or why there are none, to be read after its name and a colon.
    pub(super) fn read(&self) -> Result<Vec<u8>, String> {
        let bytes = match self {
            Self::Stdin => {
                let mut bytes = Vec::new();
                io::stdin().read_to_end(&mut bytes).map(|_| bytes)
            }
            Self::File(path) => fs::read(path),
        };
        bytes.map_err(|e| format!("cannot be read: {e}"))
    }

    /// Its lines, to be read one by one; or why there are none, to be read after its name and a colon.
    pub(super) fn lines(&self) -> Result<Box<dyn BufRead>, String> {
        match self {
            Self::Stdin => Ok(Box::new(BufReader::new(io::stdin()))),
            Self::File(path) => {
                let file = fs::File::open(path).map_err(|e| format!("cannot be read: {e}"))?;
                Ok(Box::new(BufReader::new(file)))
            }
        }
    }
}

impl FromStr for Input {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(if text == "-" { Self::Stdin } else { Self::File(text.into()) })
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdin => f.write_str("standard input"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}
