//! The gate under a virtual clock: each decision rule as a named promise, restarts, and random sequences.

mod commands;
mod crowd;
mod evidence;
mod holds;
mod hooks;
mod life;
mod order;
mod people;
mod random;
mod rehearsals;
mod restart;
mod segments;
mod settling;
mod signals;
mod sim;
mod triggers;
