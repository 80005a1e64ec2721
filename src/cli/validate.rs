//! `validate`: checks messages against every rule, without sending them.

use super::{failure::Failure, input::Input, output, settings::Settings};
use cim_gateway::config::{Limits, Size};

use cim_gateway::violation::{Reason, Violations};
use cim_gateway::{app, message, wire};
use clap::Args;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cim-gateway validate hello.json
  cim-gateway validate --config gateway.toml messages/*.json

Prints one line per broken rule: file, path, sentence and reason. Rules that need the gateway's state, such as that a session \
exists, are not checked. Exit code 1 if any message breaks a rule.")]
pub(super) struct Options {
    #[command(flatten)]
    settings: Settings,
    /// Files with one message each in the documented JSON; - for standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<Input>,
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let limits = options.settings.load()?.limits;
    let mut all_valid = true;
    for file in &options.files {
        let lines = broken_rules(file, &limits);
        all_valid &= lines.is_empty();
        lines.iter().for_each(|line| eprintln!("{file}: {line}"));
        if lines.is_empty() {
            output::print(format!("{file}: valid\n"))?;
        }
    }
    if all_valid { Ok(()) } else { Err(Failure::Told) }
}

/// A line for every rule that the message in `file` breaks.
fn broken_rules(file: &Input, limits: &Limits) -> Vec<String> {
    match file.read().and_then(|json| check(&json, limits).map_err(|e| e.to_string())) {
        Ok(violations) => violations.as_slice().iter().map(ToString::to_string).collect(),
        Err(reason) => vec![reason],
    }
}

/// Every rule that the message breaks: what cannot be read of it, what is out of bounds, what contradicts a rule.
fn check(json: &[u8], limits: &Limits) -> Result<Violations, wire::SyntaxError> {
    let decoded = wire::decode(json, limits.json_depth)?;
    let (mut message, mut violations) = (decoded.message, decoded.violations);
    violations.follow_up(message::check(&mut message, &app::limits(limits)));
    if json.len() > limits.message.as_usize() {
        let found = Size::bytes(json.len() as u64);
        violations.add("", Reason::TooLarge, format!("needs at most {}, found {found}", limits.message));
    }
    Ok(violations)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cim_gateway::config::Config;

    fn reasons(json: &str, limits: &Limits) -> Vec<(String, Reason)> {
        check(json.as_bytes(), limits).unwrap().into_vec().into_iter().map(|v| (v.path, v.reason)).collect()
    }

    #[test]
    fn type_violations_bounds_and_rules_are_reported_together() {
        let limits = Limits { free_form_depth: 1, message: Size::bytes(16), ..Config::default().limits };
        let found = reasons(r#"{"id":{},"mine":{"a":{}}}"#, &limits);
        let expected =
            [("id", Reason::WrongType), ("mine", Reason::TooDeep), ("header", Reason::Required), ("", Reason::TooLarge)];
        for (path, reason) in expected {
            assert!(found.iter().any(|(p, r)| p.starts_with(path) && *r == reason), "{path}: {found:?}");
        }
    }
}
