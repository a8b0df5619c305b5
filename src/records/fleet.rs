//! What the proxies of a fleet tell each other of a rollout.
//!
//! `Told` goes from every member to the one that leads: what was counted in a second, or was posted to it; where a region adds up
//! first, in one `Sum` for all of them. `FleetRecord` goes from there to everybody: the state that is in force. `MemberRecord` is what a member says of itself, `OrderRecord` what it was
//! asked by an operator. Reading checks everything. Never touches a network.

mod member;
mod order;
mod record;
mod second;
mod sum;

pub use member::{Applied, MemberRecord, RetreatRecord};
pub use order::{OrderRecord, OutcomeRecord};
pub use record::{FleetRecord, Marks, Stated};
pub use second::{Second, Told};
pub use sum::{Parting, Posted, Sum};

/// Why what a member said is nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FleetFault(String);

fn fault(why: impl std::fmt::Display) -> FleetFault {
    FleetFault(why.to_string())
}
