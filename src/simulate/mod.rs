//! A plan under a virtual clock: the real gate in a world of seeded chance. The same seed gives the same decisions.
//!
//! `scenario` is the world as a person writes it, `world` what it is like at a moment, `traffic` draws what a second of it
//! counts, `run` plays one rollout, `many` plays thousands and sums them up, `show` says what came out;
//! `replay` gives a recorded run to a gate again. Knows no socket and no real clock; decides nothing.

mod chance;
mod latency;
mod many;
mod population;
mod replay;
mod run;
mod scenario;
mod show;
mod traffic;
mod world;

pub use many::{Spread, Summary, many};
pub use replay::{ReplayError, Replayed, replay};
pub use run::{End, Ran, run};
pub use scenario::{Draw, Scenario, ScenarioError};
pub use show::{one_as_json, one_as_text, summary_as_text};
