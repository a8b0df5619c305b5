//! `SERIN__SERVER__WORKERS=2`: a value of the file, given by a variable of the environment.
//!
//! Owns how a variable's name becomes a place in the file, and its text a value. The environment itself is an argument,
//! and what a value means is for the form of its key to say.

use std::borrow::Cow;
use std::ffi::OsString;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::faults::{Faults, join};
use super::{How, Origin};

/// What the names of such variables begin with, and what stands between the parts of a key.
const BEGIN: &str = "SERIN__";
const BETWEEN: &str = "__";
/// No key of the file lies as deep.
const DEEPEST: usize = 16;

/// A variable that gives a value of the file.
#[derive(Debug)]
pub(super) struct Override {
    variable: String,
    /// Keys, and numbers of elements from 0.
    path: Vec<String>,
    /// `None` where it is no text.
    text: Option<String>,
}

/// Where a value cannot be put, and why.
struct Misplaced {
    key: String,
    why: String,
}

/// The overrides of an environment, so ordered that a list or table that one gives whole is there before another one
/// changes a part of it, and that elements follow each other.
pub(super) fn of(environment: impl Iterator<Item = (OsString, OsString)>) -> Vec<Override> {
    let mut found: Vec<Override> = environment
        .filter_map(|(variable, value)| {
            let variable = variable.into_string().ok()?;
            let path = variable.strip_prefix(BEGIN)?.split(BETWEEN);
            Some(Override {
                path: path.map(str::to_owned).collect(),
                text: value.into_string().ok(),
                variable,
            })
        })
        .collect();
    found.sort_by_cached_key(|one| {
        let parts = one.path.iter();
        parts
            .map(|part| (index(part), part.clone()))
            .collect::<Vec<_>>()
    });
    found
}

/// Puts the values in their places, and says which. What cannot be placed is a fault, and the others are placed all the
/// same.
pub(super) fn apply<'t>(
    table: &mut DeTable<'t>,
    overrides: &'t [Override],
    faults: &mut Faults,
) -> Vec<Origin> {
    let mut origins = Vec::new();
    for one in overrides {
        let Some(text) = &one.text else {
            faults.add_of_variable(&one.variable, "", "not UTF-8 text");
            continue;
        };
        if one.path.len() > DEEPEST || one.path.iter().any(String::is_empty) {
            let message = "not the name of a key: its parts stand between two underscores each";
            faults.add_of_variable(&one.variable, "", message);
            continue;
        }
        match put_in_table(table, &one.path, "", value(text)) {
            Ok(key) => {
                faults.note_variable(&key, &one.variable, table);
                origins.push(Origin {
                    key,
                    variable: one.variable.clone(),
                    how: How::Override,
                });
            }
            Err(Misplaced { key, why }) => faults.add_of_variable(&one.variable, &key, why),
        }
    }
    origins
}

/// What looks like a list, a table or a quoted string of TOML is that, and true and false are. Everything else is
/// text, which the form of its key reads.
fn value(text: &str) -> DeValue<'_> {
    let text = text.trim();
    match text {
        "true" => return DeValue::Boolean(true),
        "false" => return DeValue::Boolean(false),
        _ => {}
    }
    let parsed = text
        .starts_with(['[', '{', '"', '\''])
        .then(|| DeValue::parse(text).ok());
    // Also an address like [::1]:80.
    parsed
        .flatten()
        .map_or_else(|| DeValue::String(Cow::Borrowed(text)), Spanned::into_inner)
}

/// The key at which the value now stands.
fn put_in_table<'t>(
    table: &mut DeTable<'t>,
    path: &[String],
    above: &str,
    value: DeValue<'t>,
) -> Result<String, Misplaced> {
    let Some((part, rest)) = path.split_first() else {
        return Ok(above.to_owned());
    };
    let name = if table.contains_key(part.as_str()) {
        part.clone()
    } else {
        part.to_lowercase()
    };
    let key = join(above, &name);
    let name = nowhere(Cow::Owned(name));
    match rest.first() {
        None => {
            table.insert(name, nowhere(value));
            Ok(key)
        }
        Some(next) => {
            let inside = table.entry(name).or_insert_with(|| nowhere(empty(next)));
            put(inside.get_mut(), rest, key, value)
        }
    }
}

fn put_in_list<'t>(
    list: &mut DeArray<'t>,
    path: &[String],
    above: &str,
    value: DeValue<'t>,
) -> Result<String, Misplaced> {
    let Some((part, rest)) = path.split_first() else {
        return Ok(above.to_owned());
    };
    let misplaced = |why: String| Misplaced {
        key: above.to_owned(),
        why,
    };
    let at = index(part)
        .ok_or_else(|| misplaced(format!("a list: {part:?} is no number of an element")))?;
    if at > list.len() {
        let why = format!("the next element of the list is {}, not {at}", list.len());
        return Err(misplaced(why));
    }
    if at == list.len() {
        list.push(nowhere(match rest.first() {
            None => DeValue::Boolean(false),
            Some(next) => empty(next),
        }));
    }
    let key = format!("{above}[{at}]");
    let Some(element) = list.get_mut(at) else {
        return Err(misplaced("the list is too long".to_owned()));
    };
    if rest.is_empty() {
        *element = nowhere(value);
        return Ok(key);
    }
    put(element.get_mut(), rest, key, value)
}

fn put<'t>(
    inside: &mut DeValue<'t>,
    path: &[String],
    key: String,
    value: DeValue<'t>,
) -> Result<String, Misplaced> {
    match inside {
        DeValue::Table(table) => put_in_table(table, path, &key, value),
        DeValue::Array(list) => put_in_list(list, path, &key, value),
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => Err(Misplaced {
            key,
            why: "neither a table nor a list: nothing is inside of it".to_owned(),
        }),
    }
}

/// What a part that is not there yet stands in: a number in a list, a name in a table.
fn empty<'t>(part: &str) -> DeValue<'t> {
    match index(part) {
        Some(_) => DeValue::Array(DeArray::new()),
        None => DeValue::Table(DeTable::new()),
    }
}

fn index(part: &str) -> Option<usize> {
    let digits = part.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| part.parse().ok()).flatten()
}

/// It stands on no line of the file.
fn nowhere<T>(value: T) -> Spanned<T> {
    Spanned::new(0..0, value)
}
