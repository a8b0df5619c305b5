//! The pure room: what a rollout is, and how it is decided.
//!
//! No clock, no sockets, no files, no tasks, no serde, no dice. The same inputs give the same
//! decisions, bit for bit. `tests/rollout_alone.rs` compiles this room by itself.
//!
//! Words, each with one meaning: a *learner* is the unit of assignment; an *arm* is the side his
//! hash puts him on; a *weight* is the canary arm's share; a *stage* is a weight with a duration,
//! criteria and triggers; a *segment* is a group of learners by a name their requests carry, with a
//! *ceiling* where its weight is capped; a *verdict* judges one condition; a *decision* moves the rollout.

pub mod assign;
pub mod condition;
pub mod evidence;
pub mod gate;
pub mod latencies;
pub mod learners;
pub mod name;
pub mod outcome;
pub mod plan;
pub mod rehearsal;
pub mod schedule;
pub mod segments;
pub mod signal;
pub mod slot;
pub mod stats;
pub mod time;
pub mod verdict;
pub mod weight;
pub mod window;
