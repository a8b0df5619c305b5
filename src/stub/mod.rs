//! What stands in for the client's world: analyzers that answer, and learners who ask.
//!
//! Used by the demo, the tests and the load tests, over real sockets. `analyzer` answers and
//! misbehaves as `behaviour` says; `load` asks. Knows nothing of the proxy between the two.

pub mod analyzer;
mod answer;
pub mod behaviour;
mod chance;
pub mod load;
mod tally;
mod wire;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The header that a learner's id is read from, and sent in unless told otherwise.
pub const LEARNER_HEADER: &str = "x-learner-id";
/// The header that a learner's segment is read from.
pub const SEGMENT_HEADER: &str = "x-learner-segment";
/// The header of an answer that says which pool gave it.
pub const POOL_HEADER: &str = "x-analyzer-pool";

// Counters stay usable when a task died while holding them: each write leaves them whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
