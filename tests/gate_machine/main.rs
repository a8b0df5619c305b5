//! The gate under a virtual clock: each decision rule as a named promise, restarts, and random sequences.

mod commands;
mod holds;
mod life;
mod order;
mod random;
mod rehearsals;
mod restart;
mod signals;
mod sim;
mod triggers;
