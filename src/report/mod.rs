//! The report of one run: what was decided and why, from the records alone.
//!
//! Pure: the same records give the same bytes. `findings` reads the records, `markdown` writes them for people; the JSON
//! form is the findings themselves. Every number is a record's, or computed from records by a formula that is named
//! beside it. Never asks a clock, a file or a gate.

mod bound;
mod decision;
mod findings;
mod markdown;
mod notice;
mod sample;
mod wording;

use crate::records::event::EventRecord;
use crate::records::status::StatusRecord;
use crate::rollout::name::RolloutName;

use findings::Findings;

pub use bound::upper_bound_beyond;
pub use notice::{event_notice, progress, reminder};
pub use wording::{sentence, share_text};

/// What a report is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportInput {
    pub rollout: RolloutName,
    /// As it stands now, or as it stood when the run ended.
    pub status: StatusRecord,
    /// All events of one run, oldest first.
    pub events: Vec<EventRecord>,
}

/// The report for people.
pub fn markdown(input: &ReportInput) -> String {
    markdown::write(&Findings::of(input))
}

/// The report for programs: one JSON document, indented.
pub fn json(input: &ReportInput) -> String {
    let mut text = serde_json::to_string_pretty(&Findings::of(input)).expect("records are JSON");
    text.push('\n');
    text
}
