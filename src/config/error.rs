//! What is wrong with a configuration: everything at once.

use std::fmt;

/// Everything that is wrong with a configuration, at least one problem. Displayed one per line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The problems, in the order of the layers, then of the reference.
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, the file or the environment variable that is wrong.
    pub subject: String,
    /// What was needed and what was given, to be read after the subject.
    pub sentence: String,
    /// The file or the environment variable that set the key, where one did.
    pub origin: Option<String>,
}

impl Problem {
    /// A problem with `subject` itself.
    pub fn new(subject: impl Into<String>, sentence: impl Into<String>) -> Self {
        Self { subject: subject.into(), sentence: sentence.into(), origin: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.subject, self.sentence)?;
        match &self.origin {
            Some(origin) => write!(f, " ({origin})"),
            None => Ok(()),
        }
    }
}
