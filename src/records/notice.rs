//! A notice that is no event, as JSON: a reminder of a hold, the progress of a run, a test of the channel.
//!
//! The notice of an event is the event itself.

use serde::{Deserialize, Serialize};

use super::Moment;
use super::status::StatusRecord;

/// A notice as published.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct NoticeRecord {
    pub id: String,
    pub notice: NoticeWord,
    /// Empty in a test.
    pub rollout: String,
    pub at: Moment,
    /// What a person reads.
    pub text: String,
    /// The rollout as it stood; `null` in a test.
    pub status: Option<StatusRecord>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NoticeWord {
    Reminder,
    Progress,
    Test,
}
