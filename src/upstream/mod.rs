//! The servers behind: pools, endpoints, their health and the connections to them.
//!
//! Knows how to reach a server and how it has been doing. Never knows who asks, or which arm a pool stands for.

pub mod admission;
pub mod balance;
pub mod budget;
pub mod connect;
mod discover;
pub mod eject;
pub mod endpoint;
mod found;
mod gradient;
mod health;
mod latency;
mod moment;
pub mod pool;
mod ring;
pub mod roster;
mod socket;
pub mod upkeep;
mod wheel;
