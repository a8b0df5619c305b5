//! The published JSON forms of what a gate says: events, evaluations, figures, plan, state.
//!
//! One form for the journal, the deployment log, the API, the stream and the notices, so that they cannot differ.
//! Owns the names of the fields and the compact bytes of counts; never reads or writes a file.
//!
//! Rules for all of them: snake_case names; moments as RFC 3339 with milliseconds in UTC; spans in whole milliseconds
//! with `_ms` in the name (a plan's in the form a person types); shares as numbers from 0 to 1; latencies in
//! milliseconds. Fields that are not known are passed over when reading, so that an older reader follows a newer writer.

pub mod compact;
pub mod confidence;
pub mod evaluation;
pub mod event;
pub mod evidence;
pub mod fleet;
pub mod handed;
pub mod hook;
pub mod inputs;
pub mod kinds;
pub mod notice;
pub mod people;
pub mod plan;
pub mod recovery;
pub mod rehearsal;
pub mod sample;
pub mod state;
pub mod status;
pub mod told;

mod counted;
mod figure;
mod hexadecimal;
mod moment;
mod words;

pub use moment::Moment;
