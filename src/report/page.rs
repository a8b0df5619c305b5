//! The content of a report as it is laid out: sections of sentences, tables, lists and charts.
//!
//! What is said is decided here and in `content`, once; `markdown` and `html` only write it down. In every text what stands
//! between two backticks is code. Nothing here is escaped: that is the matter of whoever writes it.

use super::chart::Chart;

/// A whole report.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Page {
    pub(super) title: String,
    /// How the run stands, in a word or two.
    pub(super) badge: String,
    pub(super) tone: Tone,
    pub(super) sections: Vec<Section>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Section {
    /// What a link within the page is to.
    pub(super) id: &'static str,
    pub(super) title: &'static str,
    pub(super) blocks: Vec<Block>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Block {
    Text(String),
    /// Names with what they stand for.
    Facts(Vec<(String, String)>),
    List(Vec<String>),
    Table(Table),
    Chart(Box<Chart>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table {
    pub(super) head: Vec<Column>,
    pub(super) rows: Vec<Vec<Cell>>,
    /// What it has, where it is long and need not be seen at once.
    pub(super) folded: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) holds: Holds,
}

/// What a column is filled with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    Words,
    /// Moments and names, which are not broken into lines.
    Labels,
    Numbers,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cell {
    pub(super) text: String,
    pub(super) tone: Tone,
}

/// How something is to be taken. Said in words as well: nobody has to see colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Good,
    Bad,
    /// Somebody is to look.
    Doubtful,
}

/// What a cell shows where there is nothing.
pub(super) const NOTHING: &str = "-";

// === impl Section ===

impl Section {
    pub(super) const fn new(id: &'static str, title: &'static str, blocks: Vec<Block>) -> Self {
        Self { id, title, blocks }
    }
}

// === impl Block ===

impl Block {
    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The table, or a sentence where it has no row.
    pub(super) fn table_or(table: Table, none: &str) -> Self {
        match table.rows.is_empty() {
            true => Self::text(none),
            false => Self::Table(table),
        }
    }
}

// === impl Table ===

impl Table {
    pub(super) fn new(
        head: impl IntoIterator<Item = Column>,
        rows: impl IntoIterator<Item = Vec<Cell>>,
    ) -> Self {
        Self {
            head: head.into_iter().collect(),
            rows: rows.into_iter().collect(),
            folded: None,
        }
    }

    pub(super) fn folded(self, has: impl Into<String>) -> Self {
        Self {
            folded: Some(has.into()),
            ..self
        }
    }
}

// === impl Column ===

impl Column {
    pub(super) fn words(name: impl Into<String>) -> Self {
        Self::of(name, Holds::Words)
    }

    pub(super) fn labels(name: impl Into<String>) -> Self {
        Self::of(name, Holds::Labels)
    }

    pub(super) fn numbers(name: impl Into<String>) -> Self {
        Self::of(name, Holds::Numbers)
    }

    fn of(name: impl Into<String>, holds: Holds) -> Self {
        Self {
            name: name.into(),
            holds,
        }
    }
}

// === impl Cell ===

impl Cell {
    pub(super) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        let text = text.into();
        let text = match text.is_empty() {
            true => NOTHING.to_owned(),
            false => text,
        };
        Self { text, tone }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<&String> for Cell {
    fn from(text: &String) -> Self {
        text.clone().into()
    }
}
