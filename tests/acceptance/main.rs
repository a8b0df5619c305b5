//! Promises to people, seen through the binary on real sockets.
//!
//! `SERIN_BIN` names the binary (`tests/run` passes the released one); without it the one of this build is used.
//! One test at a time (`--test-threads=1`): several of them load the machine.

#![expect(
    clippy::disallowed_methods,
    reason = "these tests look at the process from outside, by the machine's own clock"
)]

mod bad_input;
mod crash;
mod demo;
mod exclusive;
mod rehearsal;
mod rollback;
mod signals;
mod sticky;
mod support;
mod weights;
