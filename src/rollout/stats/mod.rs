//! The statistics of the gate: one file per method, plain functions of counts.
//!
//! *Evidence* is an e-process: a number E that starts at 1 and whose expectation never exceeds 1 while the null
//! hypothesis holds, so that the chance of it ever reaching 1 / alpha, looked at after each block, is at most alpha
//! (Ville's inequality). All evidence is kept as ln E in natural logarithms: E itself overflows. Nothing here keeps a
//! clock or knows a plan; a *block* is what one second of both arms gave.
//!
//! | file | question | state |
//! |---|---|---|
//! | `fixed` | does one arm fail more often than a fixed limit | sums of ln LR |
//! | `compare` | does canary fail more often than baseline, beyond a margin | sums of ln LR |
//! | `onset` | the same, begun at a moment that nobody knows | `Onset` |
//! | `combine` | several processes as one | none |
//! | `ebh` | which of many hypotheses fall together | none |
//! | `ratio_mismatch` | do the arms hold the learners they should | none |
//! | `interval`, `ratio_interval` | what a rate, or a ratio of means, may be | none |
//! | `binomial` | the exact chance of so many failures | none |
//! | `detectable` | what a sample could have seen | none |
//! | `special` | the functions of mathematics that std lacks | none |

pub mod binomial;
pub mod combine;
pub mod compare;
pub mod detectable;
pub mod ebh;
pub mod fixed;
pub mod interval;
pub mod onset;
pub mod ratio_interval;
pub mod ratio_mismatch;
pub mod special;

pub use onset::Onset;

/// The chance of a false alarm in a whole rollout, where a plan says nothing else.
pub const DEFAULT_ALPHA: f64 = 0.01;
/// psi0 where a plan says nothing else: two equal pools differ as well, and less than half as much again is not worth a rollback.
pub const DEFAULT_ODDS_MARGIN: f64 = 1.5;

/// How many times the null hypothesis' rate (`fixed`) or odds (`compare`) the alternatives have, with equal weights.
///
/// From a regression that is just worth a rollback up to a dead canary. A grid costs at most ln 9 = 2.2 nats against
/// knowing the right multiplier, and unlike a single alternative it loses to none of them.
pub const MULTIPLIERS: [f64; 9] = [1.5, 2.0, 3.0, 5.0, 8.0, 13.0, 20.0, 50.0, 100.0];

/// ln LR of one block for each of the multipliers.
pub type LnLrs = [f64; MULTIPLIERS.len()];
