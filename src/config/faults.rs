//! The faults of one file: collected, placed on their lines, and given out all at once.
//!
//! A fault is added by its key; the line is looked up here, so that nobody else carries lines
//! about. Never stops at the first one.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Fault;

/// Every fault found so far, and where each key of the file stands.
pub(super) struct Faults {
    file: String,
    /// Key path to line, 1 = the first: `pools.original.endpoints[1]` -> 12.
    lines: BTreeMap<String, usize>,
    /// Lines that are no TOML. What else is found on them is a consequence.
    broken: BTreeSet<usize>,
    list: Vec<Fault>,
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
        index_table(table, "", &lines, &mut places);
        let mut faults = Self {
            file: file.to_owned(),
            lines: places,
            broken: BTreeSet::new(),
            list: Vec::new(),
        };
        for error in errors {
            faults.add_syntax(text, &lines, error);
        }
        faults
    }

    /// Adds a fault at a key; a key that is not in the file gets the line of the table it belongs to.
    pub(super) fn add(&mut self, key: &str, message: impl Into<String>) {
        let line = self.line_of(key);
        if line.is_some_and(|line| self.broken.contains(&line)) {
            return;
        }
        self.list.push(Fault {
            file: self.file.clone(),
            line,
            key: key.to_owned(),
            message: message.into(),
        });
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

    /// Whether the file holds this key.
    pub(super) fn has_key(&self, key: &str) -> bool {
        self.lines.contains_key(key)
    }

    /// All faults in the order of the file; none means that the file is good.
    pub(super) fn into_list(mut self) -> Vec<Fault> {
        self.list
            .sort_by(|a, b| (a.line, &a.key).cmp(&(b.line, &b.key)));
        self.list.dedup();
        self.list
    }

    fn line_of(&self, key: &str) -> Option<usize> {
        let mut key = key;
        loop {
            if let Some(line) = self.lines.get(key) {
                return Some(*line);
            }
            let cut = if key.ends_with(']') {
                key.rfind('[')
            } else {
                key.rfind('.')
            };
            match cut {
                Some(cut) => key = &key[..cut],
                // A top-level table that is absent: the file as a whole, which begins on line 1.
                None => return Some(1),
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
        let first = self
            .lines
            .iter()
            .filter(|(path, at)| **at <= line && ends_so(path))
            .max_by_key(|(_, at)| **at);
        match first {
            Some((path, at)) if *at < line => (
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

    fn of_span(&self, span: &Range<usize>) -> usize {
        self.at(span.start)
    }
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
    lines: &Lines,
    places: &mut BTreeMap<String, usize>,
) {
    for (name, value) in table {
        let path = join(path, name.get_ref());
        places.insert(path.clone(), lines.of_span(&name.span()));
        index_value(value, &path, lines, places);
    }
}

fn index_value(
    value: &Spanned<DeValue<'_>>,
    path: &str,
    lines: &Lines,
    places: &mut BTreeMap<String, usize>,
) {
    match value.get_ref() {
        DeValue::Table(table) => index_table(table, path, lines, places),
        DeValue::Array(array) => {
            for (index, element) in array.iter().enumerate() {
                let path = format!("{path}[{index}]");
                places.insert(path.clone(), lines.of_span(&element.span()));
                index_value(element, &path, lines, places);
            }
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => {}
    }
}
