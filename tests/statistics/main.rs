//! The gate's arithmetic against values that others computed, and what it promises by enumeration and by simulation.

mod enumeration;
mod simulation;
mod vectors;
