//! What a gate shows of people and time: approvals, what is waited for, a freeze, the level of the stabilization.
//!
//! A part of the status; changes nothing.

use super::Gate;
use super::input::EventId;
use super::snapshot::{Approval, Freeze};
use super::state::{Phase, WaitsFor};
use crate::rollout::name::RoleName;
use crate::rollout::plan::ROUTINE;
use crate::rollout::time::{Now, WallTime};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct People {
    pub frozen: Option<Freeze>,
    /// Where the stage's end asks for approvals and they are asked for now, or given.
    pub approval: Option<ApprovalStatus>,
    /// In `waiting` and `scheduled`.
    pub waits_for: Vec<WaitsFor>,
    /// The planned start of the stage to come.
    pub next_start: Option<WallTime>,
    /// In the stabilization: how closely it is watched.
    pub level: Option<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ApprovalStatus {
    /// The event with the figures that are asked about.
    pub asked: EventId,
    pub since: Now,
    pub given: Vec<Approval>,
    pub missing: Vec<RoleName>,
}

impl Gate {
    pub(super) fn people(&self) -> People {
        let run = self.state.run.as_ref();
        let in_a_run = self.state.phase.is_in_a_run() || self.state.phase == Phase::Scheduled;
        let level = run
            .filter(|run| in_a_run && run.plan.settles_at(run.stage.index))
            .and_then(|run| run.plan.level_at(run.stage.time));
        People {
            frozen: self.state.freeze.clone(),
            approval: self.ask().filter(|_| in_a_run).map(|ask| ApprovalStatus {
                asked: ask.event,
                since: ask.since,
                given: ask.approvals.clone(),
                missing: self.missing_roles(),
            }),
            waits_for: match in_a_run {
                true => self.told_to_wait_for().to_vec(),
                false => Vec::new(),
            },
            next_start: self.next_start().filter(|_| in_a_run),
            level: level.map(|(_, name)| name.to_owned()),
        }
    }

    pub(super) fn outlook_asking(&self) -> String {
        let missing = self.missing_roles();
        let names: Vec<&str> = missing.iter().map(RoleName::as_str).collect();
        format!(
            "passed; waits for the approval of {}; triggers stay armed",
            names.join(", ")
        )
    }

    pub(super) fn outlook_waiting(&self) -> String {
        let waits_for = self.waits_in_words(self.told_to_wait_for()).join("; ");
        let way_out = match self.told_to_wait_for().contains(&WaitsFor::Person) {
            true => "`advance` goes on",
            false => "goes on by itself",
        };
        format!("waits for {waits_for}; {way_out}")
    }

    pub(super) fn outlook_stabilizing(&self) -> String {
        let Some((run, stage)) = self.state.run.as_ref().zip(self.present_stage()) else {
            return String::new();
        };
        let level = run
            .plan
            .level_at(run.stage.time)
            .map_or(ROUTINE, |(_, name)| name);
        let left = super::stage::whole_seconds(stage.duration.saturating_sub(run.stage.time));
        format!("watched as {level}; complete in {left} if every day passes what is required")
    }
}
