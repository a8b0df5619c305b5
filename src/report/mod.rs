//! The report of one run: what was decided and why, from the records alone.
//!
//! Pure: the same records give the same bytes. `findings` reads the records (with `stages`, `series`, `people`, `decision`,
//! `sample`), `content` lays them out as a `page` once, and `markdown` and `html` write the page down; the JSON form is the
//! findings themselves. `wanted` says which samples a report needs. Every number is a record's, or computed from records by
//! a formula that is named beside it. Never asks a clock, a file, a store or a gate.

mod bound;
mod chart;
mod closing;
mod content;
mod decision;
mod findings;
mod html;
mod markdown;
mod notice;
mod page;
mod people;
mod sample;
mod series;
mod stages;
mod svg;
mod wanted;
mod wording;

use crate::records::event::EventRecord;
use crate::records::status::StatusRecord;
use crate::rollout::name::RolloutName;

use findings::Findings;

pub use bound::upper_bound_beyond;
pub use closing::{Closed, closed};
pub use notice::{event_notice, progress, reminder};
pub use wanted::{Measured, StageSpan, Wanted};
pub use wording::{sentence, share_text};

/// What a report is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct ReportInput {
    pub rollout: RolloutName,
    /// As it stands now, or as it stood when the run ended.
    pub status: StatusRecord,
    /// All events of one run, oldest first.
    pub events: Vec<EventRecord>,
    /// What `Wanted::of` the two asks for.
    pub measured: Measured,
}

/// The report for people, as text.
pub fn markdown(input: &ReportInput) -> String {
    markdown::write(&content::page(&Findings::of(input)))
}

/// The report for people, with charts: one file that needs no other.
pub fn html(input: &ReportInput) -> String {
    html::write(&content::page(&Findings::of(input)))
}

/// The report for programs: one JSON document, indented.
pub fn json(input: &ReportInput) -> String {
    let mut text = serde_json::to_string_pretty(&Findings::of(input)).expect("records are JSON");
    text.push('\n');
    text
}
