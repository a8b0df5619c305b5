//! An event and what it says to people, in the report's words: what the API answers, the stream sends and webhooks get.

use serde::{Deserialize, Serialize};

use super::event::EventRecord;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ToldEvent {
    #[serde(flatten)]
    pub event: EventRecord,
    pub sentence: String,
}
