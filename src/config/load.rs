//! Reads proxy.toml and the environment.
//!
//! The one way from a file to a `Config`; a file that cannot be read is a fault like any other.

use std::path::Path;

use toml::de::DeTable;

use super::check::check;
use super::env::Env;
use super::faults::Faults;
use super::form::Reading;
use super::{Config, Fault, raw};

/// Reads and checks a file, with `${VAR}` taken from the process's environment.
///
/// # Errors
/// Every fault of the file, in the order of its lines; never none.
pub fn load(path: &Path) -> Result<Config, Vec<Fault>> {
    let file = path.display().to_string();
    let unreadable = |message: String| {
        vec![Fault {
            file: file.clone(),
            line: None,
            key: String::new(),
            message,
        }]
    };
    if path.is_dir() {
        return Err(unreadable("is a directory, not a file".to_owned()));
    }
    let bytes = std::fs::read(path).map_err(|why| unreadable(format!("cannot be read: {why}")))?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => parse(&file, text, &|name| std::env::var(name).ok()),
        Err(why) => Err(vec![not_utf8(&file, &bytes, why.valid_up_to())]),
    }
}

/// The same for a text, with the environment given: for tests and for the demo.
///
/// # Errors
/// Every fault of the text, in the order of its lines; never none.
pub fn parse(file: &str, text: &str, env: Env<'_>) -> Result<Config, Vec<Fault>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let faults = Faults::of(file, text, table.get_ref(), &errors);
    let mut reading = Reading { env, faults };
    let typed = raw::File::read_root(table.get_ref(), &mut reading);
    let mut faults = reading.faults;
    match check(typed, env, &mut faults) {
        Some(config) => Ok(config),
        None => Err(faults.into_list()),
    }
}

fn not_utf8(file: &str, bytes: &[u8], valid: usize) -> Fault {
    let line = bytes
        .iter()
        .take(valid)
        .filter(|byte| **byte == b'\n')
        .count()
        + 1;
    let message = format!("not UTF-8 text: the byte at offset {valid} is no character");
    Fault {
        file: file.to_owned(),
        line: Some(line),
        key: String::new(),
        message,
    }
}
