//! Tests that load the machine, or whose promise is one of time: `tests/run` lets nothing else run beside them.

mod abuse;
pub(crate) mod compose;
mod container;
mod crash;
mod detect;
mod fleet;
mod rollback;
mod steady;
mod sticky;
mod takeover;
mod weights;
