//! What the process that was replaced still counts, on its way to the one that replaced it.

use std::time::Duration;

use super::line::{Fault, Line, out_of_turn};
use super::protocol::Message;
use crate::records::handed::{CountedLine, LearnersLine};
use crate::rollout::name::Arm;
use crate::rollout::time::Timestamp;
use crate::telemetry::{Drained, Telemetry};

/// Puts everything counted since the last time on the line. Counts that came from a process before this one are passed on.
pub(super) fn put(line: &mut Line, telemetry: &Telemetry) {
    // The newcomer gives them the time at which they come.
    for drained in telemetry.drain(Timestamp::default(), Duration::ZERO) {
        put_one(line, &drained);
    }
}

fn put_one(line: &mut Line, drained: &Drained) {
    let rollout = &drained.rollout;
    for (key, cell) in drained.slot.cells.iter().chain(&drained.handed.cells) {
        line.put(&Message::Counted(CountedLine::new(rollout, key, cell)));
    }
    for arm in Arm::ALL {
        let learners = &drained.learners[arm.index()];
        if !learners.is_empty() {
            line.put(&Message::Learners(LearnersLine::new(
                rollout, arm, learners,
            )));
        }
    }
}

/// Adds what came to the counts of this process.
pub(super) fn take(message: Message, telemetry: &Telemetry) -> Result<(), Fault> {
    match message {
        Message::Counted(counted) => {
            let (rollout, key, cell) = counted.read().map_err(strange)?;
            telemetry.absorb(rollout, key, &cell);
        }
        Message::Learners(learners) => {
            let (rollout, arm, sketch) = learners.read().map_err(strange)?;
            telemetry.absorb_learners(rollout, arm, &sketch);
        }
        other => return Err(out_of_turn(&other)),
    }
    Ok(())
}

fn strange(why: impl std::fmt::Display) -> Fault {
    Fault::Strange(why.to_string())
}
