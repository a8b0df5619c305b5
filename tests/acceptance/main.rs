//! Promises to people, seen through the binary on real sockets.
//!
//! `SERIN_BIN` names the binary (`tests/run` passes the released one); without it the one of this build is used.
//! Those of `alone` run one at a time (`--test-threads=1`); the others mostly wait, and do so side by side.

#![expect(
    clippy::disallowed_methods,
    reason = "these tests look at the process from outside, by the machine's own clock"
)]

mod access_log;
mod alerts;
mod alone;
mod approval;
mod bad_input;
mod bot;
mod browser;
mod clients;
mod dashboard;
mod demo;
mod docker;
mod docs;
mod exclusive;
mod grafana;
mod hooks;
mod https;
mod kubernetes;
mod members;
mod metrics;
#[path = "../support/nats.rs"]
mod nats;
mod notices;
mod preflight;
mod receiver;
mod recovery;
mod rehearsal;
#[path = "../support/relay.rs"]
mod relay;
mod reports;
mod segments;
mod signals;
mod support;
mod tracing;
mod void;
mod watch;
