//! serin: a layer-7 reverse proxy with canary routing, inline measurement and a rollout gate in the data path.
//!
//! The rooms in reading order; `docs/ARCHITECTURE.md` has the picture, `tests/tidy.rs` the table of who may import whom.
//!
//! | room | owns | never |
//! |---|---|---|
//! | [`rollout`] | what a rollout is and how it is decided: pure | reads a clock, a socket, a file |
//! | [`clock`], [`shutdown`] | time; the way out | |
//! | [`calendar`] | moments and time zones as people write them | reads a clock |
//! | [`proxy_protocol`] | PROXY headers, from bytes to values and back | touches a socket |
//! | [`cgroup`] | how much memory the process may have | limits itself |
//! | [`inherited`] | listening sockets that serin was given | listens |
//! | [`wire`] | a socket, or TLS over it, as bytes | speaks a protocol |
//! | [`tls`] | certificates, from files to what a handshake uses | touches a connection |
//! | [`config`] | proxy.toml, every fault at once | |
//! | [`records`] | the published JSON forms | reads or writes a file |
//! | [`telemetry`] | what requests count | judges a number |
//! | [`upstream`] | pools, endpoints, health, connections | chooses an arm |
//! | [`signals`] | sources of figures from outside | decides |
//! | [`live`] | the one table that the data path reads | |
//! | [`proxy`] | the data path, in the order a request meets it | knows control, store, admin |
//! | [`store`] | journal, state, samples, deployment logs | decides |
//! | [`control`] | the gates' driver, the only writer of `live` | sees a request |
//! | [`outbound`] | one HTTP call to somebody outside | repeats it |
//! | [`hooks`] | programs and calls around a step | knows what they lead to |
//! | [`notify`] | the delivery of notices | decides, delays |
//! | [`admin`] | the HTTP API of operators | writes `live` |
//! | [`traces`] | spans of requests to a collector | knows who tells it |
//! | [`fleet`] | the link to the other proxies of a rollout: who leads, and bytes | decides |
//! | [`takeover`] | one process takes the place of another | starts or stops a part |
//! | [`console`] | the dashboard's files | holds data |
//! | [`report`] | records as text | computes what is not in them |
//! | [`simulate`] | a plan under a virtual clock, and recorded rollouts again | decides |
//! | [`stub`] | stub analyzers and learners' load | is part of the proxy |
//! | [`app`] | builds, starts and stops all of it | |
//! | [`cli`] | what is typed | |
//! | `fuzz` | what any bytes from outside must not break | is part of the program |
//!
//! Begin with `proxy::service` for a request, `control::driver` for a tick, `rollout::gate` for a decision.

pub mod admin;
pub mod app;
pub mod calendar;
pub mod cgroup;
pub mod cli;
pub mod clock;
pub mod config;
pub mod console;
pub mod control;
pub mod fleet;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod hooks;
pub mod inherited;
pub mod live;
pub mod notify;
pub mod outbound;
pub mod proxy;
pub mod proxy_protocol;
pub mod records;
pub mod report;
pub mod rollout;
pub mod shutdown;
pub mod signals;
pub mod simulate;
pub mod store;
pub mod stub;
pub mod takeover;
pub mod telemetry;
pub mod tls;
pub mod traces;
pub mod upstream;
pub mod wire;
