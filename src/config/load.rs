//! Reads proxy.toml and the environment.
//!
//! The one way from a file to a `Config`; a file that cannot be read is a fault like any other, and so is a variable
//! that gives a value which cannot be.

use std::ffi::OsString;
use std::path::Path;

use toml::de::DeTable;

use super::check::check;
use super::env::Env;
use super::faults::Faults;
use super::form::Reading;
use super::overrides::{self, Override};
use super::{Config, Fault, raw};

/// Reads and checks a file, with `${VAR}` and `SERIN__..` taken from the process's environment.
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
        Ok(text) => {
            let overrides = overrides::of(std::env::vars_os());
            let env = |name: &str| std::env::var(name).ok();
            read(&file, text, &env, &overrides)
        }
        Err(why) => Err(vec![not_utf8(&file, &bytes, why.valid_up_to())]),
    }
}

/// The same for a text, with what `${VAR}` asks for given, and nothing overridden: for tests and for the demo.
///
/// # Errors
/// Every fault of the text, in the order of its lines; never none.
pub fn parse(file: &str, text: &str, env: Env<'_>) -> Result<Config, Vec<Fault>> {
    read(file, text, env, &[])
}

/// The same with the variables of an environment, of which those that begin with `SERIN__` override the text.
///
/// # Errors
/// Every fault: of the variables, then of the text in the order of its lines; never none.
pub fn parse_with(
    file: &str,
    text: &str,
    environment: &[(&str, &str)],
) -> Result<Config, Vec<Fault>> {
    let pairs = environment.iter();
    let overrides =
        overrides::of(pairs.map(|(name, value)| (OsString::from(name), OsString::from(value))));
    let env = |wanted: &str| {
        let mut pairs = environment.iter();
        let found = pairs.find(|(name, _)| *name == wanted);
        found.map(|(_, value)| (*value).to_owned())
    };
    read(file, text, &env, &overrides)
}

fn read(
    file: &str,
    text: &str,
    env: Env<'_>,
    overrides: &[Override],
) -> Result<Config, Vec<Fault>> {
    let (table, errors) = DeTable::parse_recoverable(text);
    let mut table = table.into_inner();
    let mut faults = Faults::of(file, text, &table, &errors);
    let origins = overrides::apply(&mut table, overrides, &mut faults);
    let mut reading = Reading {
        env,
        faults,
        origins,
    };
    let typed = raw::File::read_root(&table, &mut reading);
    let Reading {
        mut faults,
        origins,
        ..
    } = reading;
    match check(typed, env, &mut faults) {
        Some(config) => Ok(Config {
            environment: origins,
            ..config
        }),
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
