//! `new-key`: makes an API key, and what the gateway's file of keys needs to know of it.

use super::{failure::Failure, output};
use cim_gateway::auth::{Key, Keys, Role};
use clap::Args;
use std::fmt::Write as _;
use toml::Value;

#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cim-gateway new-key whatsapp --role connector --service-identifier 4915112345678 >> keys.toml
  cim-gateway new-key desk --role agent >> keys.toml

Standard output gets the table for the file of keys, standard error the key: it is shown this once, and the gateway never knows it.")]
pub(super) struct Options {
    /// What the key's holder is called in the log and in refusals
    name: String,
    /// What the holder may do
    #[arg(long, value_parser = role)]
    role: Role,
    /// A service identifier that the key is bound to; may stand several times
    #[arg(long = "service-identifier", value_name = "ID")]
    service_identifiers: Vec<String>,
}

fn role(word: &str) -> Result<Role, String> {
    Role::of(word).ok_or_else(|| format!("needs one of {}", Role::ALL.map(Role::word).join(", ")))
}

pub(super) fn run(options: &Options) -> Result<(), Failure> {
    let key = Key::fresh().map_err(|error| Failure::Failed(format!("the system has no random numbers: {error}")))?;
    let table = table(options, &key);
    // By the rules that the gateway reads it by.
    Keys::read(&table).map_err(|problems| {
        let told = problems.iter().map(|problem| format!("{} {}", problem.path.trim_start_matches("keys[0]."), problem.sentence));
        Failure::Failed(told.collect::<Vec<_>>().join("; "))
    })?;
    output::print(table)?;
    eprintln!("The key, which is not shown again: {}", key.reveal());
    Ok(())
}

fn table(options: &Options, key: &Key) -> String {
    let Options { name, role, service_identifiers } = options;
    let mut table = format!("\n[[keys]]\nname = {}\nrole = \"{role}\"\n", Value::from(name.as_str()));
    if !service_identifiers.is_empty() {
        let list = Value::from(service_identifiers.clone());
        // To a text, writing never fails.
        let _written = writeln!(table, "service_identifiers = {list}");
    }
    let _written = writeln!(table, "sha256 = [\"{}\"]", key.digest());
    table
}
