//! The servers behind: pools, endpoints, their health and the connections to them.
//!
//! Knows how to reach a server and how it has been doing. Never knows who asks, or which arm a pool stands for.

pub mod balance;
pub mod budget;
pub mod connect;
pub mod endpoint;
pub mod health;
pub mod pool;
mod socket;
