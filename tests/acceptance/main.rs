//! Promises to people, seen through the binary on real sockets.
//!
//! `SERIN_BIN` names the binary (`tests/run` passes the released one); without it the one of this build is used.
//! One test at a time (`--test-threads=1`): several of them load the machine.

#![expect(
    clippy::disallowed_methods,
    reason = "these tests look at the process from outside, by the machine's own clock"
)]

mod abuse;
mod access_log;
mod alerts;
mod approval;
mod bad_input;
mod bot;
mod browser;
mod clients;
mod crash;
mod dashboard;
mod demo;
mod detect;
mod docs;
mod exclusive;
mod grafana;
mod hooks;
mod https;
mod metrics;
mod notices;
mod preflight;
mod receiver;
mod recovery;
mod rehearsal;
mod reports;
mod rollback;
mod segments;
mod signals;
mod steady;
mod sticky;
mod support;
mod takeover;
mod tracing;
mod void;
mod watch;
mod weights;
