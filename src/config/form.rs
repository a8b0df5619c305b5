//! Forms: how a kind of value is read from the file, and how the same kind is said in JSON Schema.
//!
//! One trait for both, so that the reader and the schema cannot differ. A form adds its fault and
//! answers `None`; reading goes on. Which keys there are is said in `raw`.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use toml::de::{DeTable, DeValue};

use super::env::{self, Env};
use super::faults::{Faults, join};
use super::{How, Origin};

/// A kind of value of the file.
pub(super) trait Form: Sized {
    /// Reads a value that stands at `key`; `None` after a fault was added.
    fn read(value: &DeValue<'_>, key: &str, reading: &mut Reading<'_>) -> Option<Self>;

    /// What `read` accepts, as JSON Schema.
    fn schema() -> Value;

    /// What takes the place of an element of a list that was not understood, so that the others are judged all the
    /// same: it must raise no fault of its own. `None` where a list with a fault is not judged.
    fn stand_in() -> Option<Self> {
        None
    }

    /// The value as the file would write it, for the schema's `default`; tables have none.
    fn shown(&self) -> Option<Value> {
        None
    }
}

/// What reading needs beside the value.
pub(super) struct Reading<'a> {
    pub(super) env: Env<'a>,
    pub(super) faults: Faults,
    /// What the environment was asked for.
    pub(super) origins: Vec<Origin>,
}

/// A table whose keys are taken one by one.
pub(super) struct Entries<'a> {
    table: Option<&'a DeTable<'a>>,
    key: &'a str,
}

/// A value that can be switched off with `false`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum OrFalse<T> {
    Off,
    On(T),
}

/// A whole number within bounds, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Count<const MIN: u64, const MAX: u64>(pub(super) u64);

/// A table of names that a person gives: pools, rollouts.
pub(super) type Named<N, T> = BTreeMap<N, T>;

/// What can be the key of a `Named` table.
pub(super) trait NameForm: Ord + Sized {
    fn parse_name(text: &str) -> Result<Self, String>;
}

// === impl Reading ===

impl Reading<'_> {
    /// The text of a string, expanded.
    pub(super) fn text(&mut self, value: &DeValue<'_>, key: &str, like: &str) -> Option<String> {
        match value.as_str() {
            Some(text) => self.expanded(text, key),
            None => self.wrong_type(value, key, like),
        }
    }

    /// The text of a string that is the environment's, or asks for it; `None` for every other value.
    pub(super) fn template(&mut self, value: &DeValue<'_>, key: &str) -> Option<Option<String>> {
        let text = value.as_str().filter(|text| self.is_outside(text, key))?;
        Some(self.expanded(text, key))
    }

    /// Whether a string is the environment's, or asks for it: there numbers have no other form.
    pub(super) fn is_outside(&self, text: &str, key: &str) -> bool {
        env::is_template(text) || self.faults.variable_of(key).is_some()
    }

    pub(super) fn wrong_type<T>(
        &mut self,
        value: &DeValue<'_>,
        key: &str,
        like: &str,
    ) -> Option<T> {
        let found = match value {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.fault(key, format!("expected {like}, found {found}"))
    }

    pub(super) fn fault<T>(&mut self, key: &str, message: impl Into<String>) -> Option<T> {
        self.faults.add(key, message);
        None
    }

    /// Adds the fault of a parser, if it is one.
    pub(super) fn good<T>(&mut self, key: &str, parsed: Result<T, String>) -> Option<T> {
        parsed.map_err(|why| self.faults.add(key, why)).ok()
    }

    fn expanded(&mut self, text: &str, key: &str) -> Option<String> {
        let expanded = self.good(key, env::expand(text, self.env))?;
        for (variable, stands_in) in expanded.asked {
            self.origins.push(Origin {
                key: key.to_owned(),
                variable,
                how: if stands_in {
                    How::Default
                } else {
                    How::Template
                },
            });
        }
        Some(expanded.text)
    }
}

// === impl Entries ===

impl<'a> Entries<'a> {
    pub(super) fn open(
        value: &'a DeValue<'a>,
        key: &'a str,
        reading: &mut Reading<'_>,
    ) -> Option<Self> {
        match value.as_table() {
            Some(table) => Some(Self {
                table: Some(table),
                key,
            }),
            None => reading.wrong_type(value, key, "a table"),
        }
    }

    pub(super) fn root(table: &'a DeTable<'a>) -> Self {
        Self {
            table: Some(table),
            key: "",
        }
    }

    /// The value of a key; `None` where it is absent or faulty.
    pub(super) fn optional<T: Form>(&self, name: &str, reading: &mut Reading<'_>) -> Option<T> {
        let value = self.table?.get(name)?;
        T::read(value.get_ref(), &join(self.key, name), reading)
    }

    /// The same for a key without a default: its absence is a fault.
    pub(super) fn needed<T: Form>(&self, name: &str, reading: &mut Reading<'_>) -> Option<T> {
        if self.table.is_some_and(|table| !table.contains_key(name)) {
            reading.faults.add_missing(&join(self.key, name));
        }
        self.optional(name, reading)
    }

    /// Refuses what is left: keys of later versions by their names, others as unknown.
    pub(super) fn close(&self, known: &[&str], later: &[&str], reading: &mut Reading<'_>) {
        for (name, _) in self.table.into_iter().flatten() {
            let name: &str = name.get_ref();
            if known.contains(&name) {
                continue;
            }
            let message = if later.contains(&name) {
                "not in this version".to_owned()
            } else {
                unknown(name, known)
            };
            reading.faults.add(&join(self.key, name), message);
        }
    }
}

fn unknown(name: &str, known: &[&str]) -> String {
    match nearest(name, known) {
        Some(near) => format!("unknown key; did you mean `{near}`?"),
        None => "unknown key".to_owned(),
    }
}

/// The known word nearest to a mistyped one, if it is near enough to be meant.
pub(super) fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    let distance = |candidate: &str| strsim::damerau_levenshtein(&word.to_lowercase(), candidate);
    let near = known
        .iter()
        .map(|candidate| (distance(candidate), *candidate))
        .min()?;
    (near.0 <= allowed).then_some(near.1)
}

// === forms of any content ===

impl Form for String {
    fn read(value: &DeValue<'_>, key: &str, reading: &mut Reading<'_>) -> Option<Self> {
        reading.text(value, key, "a string")
    }

    fn schema() -> Value {
        json!({ "type": "string" })
    }

    fn shown(&self) -> Option<Value> {
        Some(json!(self))
    }
}

impl Form for bool {
    fn read(value: &DeValue<'_>, key: &str, reading: &mut Reading<'_>) -> Option<Self> {
        if let Some(text) = reading.template(value, key) {
            let parsed = text?
                .parse()
                .map_err(|_| "expected true or false".to_owned());
            return reading.good(key, parsed);
        }
        value
            .as_bool()
            .or_else(|| reading.wrong_type(value, key, "true or false"))
    }

    fn schema() -> Value {
        or_template(json!({ "type": "boolean" }))
    }

    fn shown(&self) -> Option<Value> {
        Some(json!(self))
    }
}

impl<const MIN: u64, const MAX: u64> Form for Count<MIN, MAX> {
    fn read(value: &DeValue<'_>, key: &str, reading: &mut Reading<'_>) -> Option<Self> {
        let number = match (reading.template(value, key), value) {
            (Some(text), _) => text?.parse::<i128>().ok(),
            (None, DeValue::Integer(integer)) => {
                i128::from_str_radix(integer.as_str(), integer.radix()).ok()
            }
            (None, _) => return reading.wrong_type(value, key, "a whole number"),
        };
        match number.and_then(|number| u64::try_from(number).ok()) {
            Some(count) if (MIN..=MAX).contains(&count) => Some(Self(count)),
            _ if MAX == u64::MAX => {
                reading.fault(key, format!("expected a whole number of {MIN} or more"))
            }
            _ => reading.fault(key, format!("expected a whole number from {MIN} to {MAX}")),
        }
    }

    fn schema() -> Value {
        let mut schema = json!({ "type": "integer", "minimum": MIN });
        if MAX != u64::MAX {
            schema["maximum"] = json!(MAX);
        }
        or_template(schema)
    }

    fn shown(&self) -> Option<Value> {
        Some(json!(self.0))
    }
}

impl<T: Form> Form for OrFalse<T> {
    fn read(value: &DeValue<'_>, key: &str, reading: &mut Reading<'_>) -> Option<Self> {
        match value.as_bool() {
            Some(false) => Some(Self::Off),
            Some(true) => reading.fault(key, "expected false, or what is switched on"),
            None => T::read(value, key, reading).map(Self::On),
        }
    }

    fn schema() -> Value {
        json!({ "anyOf": [{ "const": false }, T::schema()] })
    }

    fn shown(&self) -> Option<Value> {
        match self {
            Self::Off => Some(json!(false)),
            Self::On(value) => value.shown(),
        }
    }
}

/// Every element is read; one that is faulty makes the list faulty, so that nobody judges a part of it.
impl<T: Form> Form for Vec<T> {
    fn read(value: &DeValue<'_>, key: &str, reading: &mut Reading<'_>) -> Option<Self> {
        let Some(array) = value.as_array() else {
            return reading.wrong_type(value, key, "an array");
        };
        let mut list = Self::with_capacity(array.len());
        for (index, element) in array.iter().enumerate() {
            let read = T::read(element.get_ref(), &format!("{key}[{index}]"), reading);
            list.extend(read.or_else(T::stand_in));
        }
        (list.len() == array.len()).then_some(list)
    }

    fn schema() -> Value {
        json!({ "type": "array", "items": T::schema() })
    }

    fn shown(&self) -> Option<Value> {
        self.iter()
            .map(Form::shown)
            .collect::<Option<Vec<_>>>()
            .map(Value::Array)
    }
}

impl<N: NameForm, T: Form> Form for Named<N, T> {
    fn read(value: &DeValue<'_>, key: &str, reading: &mut Reading<'_>) -> Option<Self> {
        let Some(table) = value.as_table() else {
            return reading.wrong_type(value, key, "a table");
        };
        let mut named = Self::new();
        for (name, value) in table {
            let key = join(key, name.get_ref());
            let parsed = N::parse_name(name.get_ref());
            let name = reading.good(&key, parsed);
            if let (Some(name), Some(value)) = (name, T::read(value.get_ref(), &key, reading)) {
                named.insert(name, value);
            }
        }
        Some(named)
    }

    fn schema() -> Value {
        let name = "^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$";
        json!({ "type": "object", "propertyNames": { "pattern": name }, "additionalProperties": T::schema() })
    }
}

/// The schema of a value that is no string, but may come from the environment as one.
pub(super) fn or_template(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "$ref": "#/$defs/template" }] })
}
