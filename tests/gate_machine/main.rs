//! The gate under a virtual clock: each decision rule as a named promise, restarts, and random sequences.

mod commands;
mod confidence;
mod crowd;
mod evidence;
mod guilt;
mod holds;
mod hooks;
mod life;
mod order;
mod people;
mod random;
mod recovery;
mod rehearsals;
mod replay;
mod restart;
mod segments;
mod settling;
mod shares;
mod signals;
mod sim;
mod triggers;
