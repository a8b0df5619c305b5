//! The control path: one task that owns the gates and is the only writer of `live`.
//!
//! `driver` takes ticks, orders and the store's word to the gates; `carry_out` does what they answer, in their order;
//! `events` keeps the history that people read, `samples` reads the figures over time, `report` gathers what a report is made of and `written` leaves
//! reports beside the deployment logs; `inbox` has what handles send and who is answered when; `hearing` takes what is said from outside; `reload` applies a new
//! proxy.toml; `vitals` counts how this room itself fares; `fleet` is
//! this member's part where several proxies carry one rollout. Requests never pass here, and with
//! this room stopped traffic flows on at the last weights. Never waits for the disk.

mod carry_out;
mod driver;
mod events;
mod fleet;
mod handle;
mod hearing;
mod inbox;
mod journal;
mod mirrored;
mod order;
mod reload;
mod report;
mod samples;
mod seconds;
mod settings;
mod start;
#[cfg(test)]
mod tests;
mod view;
mod vitals;
mod written;

pub use events::{HistoryError, Subscription};
pub use fleet::{FleetView, MemberView};
pub use handle::{DrainError, Handle, HearError, Lookup};
pub use hearing::{ItemFault, OutcomesTaken, PostedOutcome, PushedReading};
pub use journal::{Reports, reports};
pub use order::{Order, OrderError, Said, Verb};
pub use reload::{ReloadError, Reloaded};
pub use samples::{SamplePoint, points};
pub use start::{Control, Parts, StartError, start};
pub use view::RolloutView;
pub use vitals::Vitals;
