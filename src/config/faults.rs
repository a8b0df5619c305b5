//! The faults of one file: collected, placed on their lines, and given out all at once.
//!
//! A fault is added by its key; the line, or the variable that gave the value, is looked up here, so that nobody else
//! carries places about. Never stops at the first one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Fault;

/// Every fault found so far, and where each key of the file stands.
pub(super) struct Faults {
    file: String,
    /// Key path to its place: `pools.original.endpoints[1]` -> line 12.
    places: BTreeMap<String, Place>,
    /// Lines that are no TOML. What else is found on them is a consequence.
    broken: BTreeSet<usize>,
    list: Vec<Fault>,
}

/// Where a value was given.
#[derive(Clone, Debug)]
enum Place {
    /// 1 = the first.
    Line(usize),
    /// A variable of the environment.
    Variable(Rc<str>),
}

/// Where each line of a text begins, to turn offsets into lines.
struct Lines(Vec<usize>);

// === impl Faults ===

impl Faults {
    /// Learns the lines of a parsed text and takes over what the parser did not understand.
    pub(super) fn of(
        file: &str,
        text: &str,
        table: &DeTable<'_>,
        errors: &[toml::de::Error],
    ) -> Self {
        let lines = Lines::of(text);
        let mut places = BTreeMap::new();
        index_table(
            table,
            "",
            &|span| Place::Line(lines.at(span.start)),
            &mut places,
        );
        let mut faults = Self {
            file: file.to_owned(),
            places,
            broken: BTreeSet::new(),
            list: Vec::new(),
        };
        for error in errors {
            faults.add_syntax(text, &lines, error);
        }
        faults
    }

    /// Adds a fault at a key; a key that is not in the file gets the place of the table it belongs to.
    pub(super) fn add(&mut self, key: &str, message: impl Into<String>) {
        match self.place_of(key) {
            Place::Line(line) if self.broken.contains(&line) => {}
            Place::Line(line) => self.list.push(Fault {
                file: self.file.clone(),
                line: Some(line),
                key: key.to_owned(),
                message: message.into(),
            }),
            Place::Variable(variable) => self.add_of_variable(&variable, key, message),
        }
    }

    /// Adds a fault of a variable of the environment.
    pub(super) fn add_of_variable(
        &mut self,
        variable: &str,
        key: &str,
        message: impl Into<String>,
    ) {
        self.list.push(Fault {
            file: format!("environment {variable}"),
            line: None,
            key: key.to_owned(),
            message: message.into(),
        });
    }

    /// Learns that the value at a key of the table, and all that is inside of it, is a variable's.
    pub(super) fn note_variable(&mut self, key: &str, variable: &str, table: &DeTable<'_>) {
        let place = Place::Variable(variable.into());
        self.places.retain(|known, _| !is_inside(known, key));
        let mut now = BTreeMap::new();
        index_table(table, "", &|_| place.clone(), &mut now);
        now.retain(|known, _| is_inside(known, key) || is_inside(key, known));
        for (known, place) in now {
            // What the value was put into may have been there before.
            self.places.entry(known).or_insert(place);
        }
    }

    /// The variable that gave the value at a key, or what it is inside of.
    pub(super) fn variable_of(&self, key: &str) -> Option<&str> {
        match self.places.get(key) {
            Some(Place::Variable(variable)) => Some(variable),
            Some(Place::Line(_)) | None => None,
        }
    }

    /// Adds "missing", unless lines that could not be read may have held the key.
    pub(super) fn add_missing(&mut self, key: &str) {
        if self.broken.is_empty() {
            self.add(key, "missing; it has no default");
        }
    }

    pub(super) fn count(&self) -> usize {
        self.list.len()
    }

    /// Whether the file, or the environment, holds this key.
    pub(super) fn has_key(&self, key: &str) -> bool {
        self.places.contains_key(key)
    }

    /// All faults in the order of the file; none means that the file is good.
    pub(super) fn into_list(mut self) -> Vec<Fault> {
        self.list
            .sort_by(|a, b| (a.line, &a.key).cmp(&(b.line, &b.key)));
        self.list.dedup();
        self.list
    }

    fn place_of(&self, key: &str) -> Place {
        let mut key = key;
        loop {
            if let Some(place) = self.places.get(key) {
                return place.clone();
            }
            let cut = if key.ends_with(']') {
                key.rfind('[')
            } else {
                key.rfind('.')
            };
            match cut {
                Some(cut) => key = &key[..cut],
                // A top-level table that is absent: the file as a whole, which begins on line 1.
                None => return Place::Line(1),
            }
        }
    }

    fn add_syntax(&mut self, text: &str, lines: &Lines, error: &toml::de::Error) {
        let span = error.span().unwrap_or(0..0);
        let line = lines.at(span.start);
        let (key, message) = match error.message() {
            "duplicate key" => self.duplicate(text.get(span).unwrap_or_default(), line),
            message => (String::new(), format!("not TOML: {message}")),
        };
        // One broken line often gives several errors; the first says what is wrong.
        if self.broken.insert(line) || !key.is_empty() {
            self.list.push(Fault {
                file: self.file.clone(),
                line: Some(line),
                key,
                message,
            });
        }
    }

    /// The path of a key given twice: that of the nearest one above with the same last name.
    fn duplicate(&self, name: &str, line: usize) -> (String, String) {
        let name = name.trim_matches(['"', '\'']);
        let ends_so = |path: &str| {
            path.strip_suffix(name)
                .is_some_and(|head| head.is_empty() || head.ends_with('.'))
        };
        let lines = self.places.iter().filter_map(|(path, place)| match place {
            Place::Line(at) => Some((path, *at)),
            Place::Variable(_) => None,
        });
        let first = lines
            .filter(|(path, at)| *at <= line && ends_so(path))
            .max_by_key(|(_, at)| *at);
        match first {
            Some((path, at)) if at < line => (
                path.clone(),
                format!("duplicate key, given on line {at} already"),
            ),
            Some((path, _)) => (path.clone(), "duplicate key".to_owned()),
            None => (name.to_owned(), "duplicate key".to_owned()),
        }
    }
}

// === impl Lines ===

impl Lines {
    fn of(text: &str) -> Self {
        let ends = text
            .bytes()
            .enumerate()
            .filter(|(_, byte)| *byte == b'\n')
            .map(|(at, _)| at + 1);
        Self(std::iter::once(0).chain(ends).collect())
    }

    fn at(&self, offset: usize) -> usize {
        self.0.partition_point(|begin| *begin <= offset)
    }
}

/// Whether a key is another one, or stands inside of it.
fn is_inside(key: &str, of: &str) -> bool {
    key.strip_prefix(of)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The path of a key inside a table, quoted where TOML asks for it.
pub(super) fn join(path: &str, name: &str) -> String {
    let bare = !name.is_empty()
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    let dot = if path.is_empty() { "" } else { "." };
    if bare {
        format!("{path}{dot}{name}")
    } else {
        format!("{path}{dot}{name:?}")
    }
}

fn index_table(
    table: &DeTable<'_>,
    path: &str,
    place: &dyn Fn(Range<usize>) -> Place,
    places: &mut BTreeMap<String, Place>,
) {
    for (name, value) in table {
        let path = join(path, name.get_ref());
        places.insert(path.clone(), place(name.span()));
        index_value(value, &path, place, places);
    }
}

fn index_value(
    value: &Spanned<DeValue<'_>>,
    path: &str,
    place: &dyn Fn(Range<usize>) -> Place,
    places: &mut BTreeMap<String, Place>,
) {
    match value.get_ref() {
        DeValue::Table(table) => index_table(table, path, place, places),
        DeValue::Array(array) => {
            for (index, element) in array.iter().enumerate() {
                let path = format!("{path}[{index}]");
                places.insert(path.clone(), place(element.span()));
                index_value(element, &path, place, places);
            }
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {}
    }
}
