//! The servers behind: pools, endpoints, their health and the connections to them.
//!
//! Knows how to reach a server and how it has been doing. Never knows who asks, or which arm a pool stands for.

pub mod admission;
pub mod answer;
pub mod balance;
pub mod budget;
mod closing;
pub mod connect;
mod discover;
pub mod eject;
pub mod endpoint;
mod found;
mod gradient;
pub mod health;
pub mod http1;
mod idle;
mod latency;
mod line;
mod moment;
mod multiplex;
pub mod pool;
mod probe;
mod ring;
pub mod roster;
mod sentry;
mod socket;
pub mod transport;
pub mod upkeep;
mod wheel;
