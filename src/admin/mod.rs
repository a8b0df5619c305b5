//! The admin port: the HTTP API on a thread of its own, one file per resource.
//!
//! | file | calls |
//! | --- | --- |
//! | `health` | `GET /healthz` `/readyz` |
//! | `metrics` | `GET /metrics` |
//! | `weights` | `GET` `POST /api/traffic-weights` |
//! | `rollouts` | `GET /api/rollouts[/R]`, `POST /api/rollouts/R/ACTION` |
//! | `segments` | `GET …/segments`, `PUT` `DELETE …/segments/S` |
//! | `approvals`, `freeze` | `POST …/approve` `reject`, `PUT` `DELETE …/freeze` |
//! | `incidents`, `pins` | `POST` `DELETE …/incidents`, `PUT` `DELETE …/pins/ID` |
//! | `events`, `report` | `GET …/events` as JSON or stream, `GET …/report` |
//! | `mirror` | `GET …/mirror` |
//! | `signals` | `POST /api/signals` `/api/outcomes` |
//! | `assign`, `pools`, `reload` | `GET /api/assign`, `GET /api/pools`, `POST …/drain` `undrain`, `POST /api/reload` |
//! | `whoami`, `fleet` | `GET /api/whoami`, `GET /api/fleet` |
//! | `page` | `GET /` and `/console/FILE`, the dashboard; `GET /api/openapi.json` |
//!
//! Every request passes `guard` first; every error leaves as a `problem`. Knows the control path only by its `Handle`,
//! and the data path not at all.

mod approvals;
mod ask;
mod assign;
mod events;
mod fleet;
mod freeze;
mod guard;
mod health;
mod incidents;
mod metrics;
mod mirror;
mod page;
mod pins;
mod pools;
mod problem;
mod rehearsals;
mod reload;
mod report;
mod rollouts;
mod routes;
mod samples;
mod segments;
mod server;
mod signals;
mod weights;
mod whoami;
pub mod wire;

pub use server::{Admin, BindError, Parts, bind, permit, start};
