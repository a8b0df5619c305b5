//! The one table of which command is allowed in which phase, and what it does there.
//!
//! The sentences of refusals come from it. Carries no command out.

use super::input::Action;
use super::state::Phase;

/// A command as the table knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    Start,
    Pause,
    Resume,
    Retry,
    Hold,
    Advance,
    Rollback,
    Abort,
    Approve,
    Reject,
    /// A weight above 0 by hand.
    SetWeight,
    /// 0 by hand.
    SetZero,
    Pin,
    Unpin,
    /// A person sets the ceiling of a segment.
    SetCeiling,
    LiftCeiling,
    OpenIncident,
    CloseIncident,
    Rehearse,
    CanaryReplaced,
    Freeze,
    Unfreeze,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    pub verb: Verb,
    /// As an operator types it.
    pub name: &'static str,
    /// As in "cannot ...".
    pub infinitive: &'static str,
    /// Where it is allowed.
    pub phases: &'static [Phase],
    /// What it does there, for the documentation.
    pub does: &'static str,
}

const IN_A_RUN: &[Phase] = &[
    Phase::Running,
    Phase::AwaitingApproval,
    Phase::Waiting,
    Phase::Stabilizing,
    Phase::Held,
    Phase::Paused,
];
const IN_A_RUN_OR_SCHEDULED: &[Phase] = &[
    Phase::Scheduled,
    Phase::Running,
    Phase::AwaitingApproval,
    Phase::Waiting,
    Phase::Stabilizing,
    Phase::Held,
    Phase::Paused,
];

/// Which command is allowed in which phase, and what it does. The texts of refusals come from here.
pub const TRANSITIONS: [Rule; 22] = [
    Rule {
        verb: Verb::Start,
        name: "start",
        infinitive: "start",
        phases: &[
            Phase::Idle,
            Phase::Manual,
            Phase::RolledBack,
            Phase::Aborted,
            Phase::Complete,
        ],
        does: "begins a run of the plan at its first stage, or at that stage's `start_at`; within `cooldown` after a rollback only with force",
    },
    Rule {
        verb: Verb::Pause,
        name: "pause",
        infinitive: "pause",
        phases: &[Phase::Running, Phase::Stabilizing],
        does: "stops the stage clock; the weight stays and triggers stay armed",
    },
    Rule {
        verb: Verb::Resume,
        name: "resume",
        infinitive: "resume",
        phases: &[Phase::Held, Phase::Paused],
        does: "ends every cause of the hold and goes on at the stage's weight with new windows",
    },
    Rule {
        verb: Verb::Retry,
        name: "retry",
        infinitive: "retry",
        phases: &[Phase::Held, Phase::Paused],
        does: "begins the stage again",
    },
    Rule {
        verb: Verb::Hold,
        name: "hold",
        infinitive: "hold",
        phases: IN_A_RUN,
        does: "holds for the cause `operator`",
    },
    Rule {
        verb: Verb::Advance,
        name: "advance",
        infinitive: "advance",
        phases: IN_A_RUN_OR_SCHEDULED,
        does: "goes to the next stage, or completes; over unmet criteria, without an approval or before its time only with force and a reason",
    },
    Rule {
        verb: Verb::Rollback,
        name: "rollback",
        infinitive: "roll back",
        phases: &[
            Phase::Scheduled,
            Phase::Running,
            Phase::AwaitingApproval,
            Phase::Waiting,
            Phase::Stabilizing,
            Phase::Held,
            Phase::Paused,
            Phase::Manual,
            Phase::Complete,
        ],
        does: "sends everybody to baseline at once",
    },
    Rule {
        verb: Verb::Abort,
        name: "abort",
        infinitive: "abort",
        phases: IN_A_RUN_OR_SCHEDULED,
        does: "ends the run and sends everybody to baseline at once",
    },
    Rule {
        verb: Verb::Approve,
        name: "approve",
        infinitive: "approve",
        phases: &[Phase::AwaitingApproval],
        does: "gives the approval of one role; with the last one the rollout goes on",
    },
    Rule {
        verb: Verb::Reject,
        name: "reject",
        infinitive: "reject",
        phases: &[Phase::AwaitingApproval, Phase::Waiting],
        does: "holds for the cause `rejected`",
    },
    Rule {
        verb: Verb::SetWeight,
        name: "weights",
        infinitive: "set a weight above 0",
        phases: &[
            Phase::Idle,
            Phase::Scheduled,
            Phase::Running,
            Phase::AwaitingApproval,
            Phase::Waiting,
            Phase::Stabilizing,
            Phase::Held,
            Phase::Paused,
            Phase::Manual,
            Phase::RolledBack,
            Phase::Aborted,
            Phase::Complete,
        ],
        does: "in a run holds there for the cause `manual`; else the phase is `manual`, and a run that is scheduled is over",
    },
    Rule {
        verb: Verb::SetZero,
        name: "weights",
        infinitive: "set the weight to 0",
        phases: &Phase::ALL,
        does: "in a run an operator's rollback; else closes the canary, and the phase is `idle` unless a run just ended",
    },
    Rule {
        verb: Verb::Pin,
        name: "pin",
        infinitive: "pin",
        phases: &Phase::ALL,
        does: "forces one learner to a pool",
    },
    Rule {
        verb: Verb::Unpin,
        name: "unpin",
        infinitive: "unpin",
        phases: &Phase::ALL,
        does: "lets go of one learner",
    },
    Rule {
        verb: Verb::SetCeiling,
        name: "segment",
        infinitive: "set a segment's ceiling",
        phases: &Phase::ALL,
        does: "caps the weight of one segment; in a run holds for the cause `manual`",
    },
    Rule {
        verb: Verb::LiftCeiling,
        name: "lift segment",
        infinitive: "lift a segment's ceiling",
        phases: &Phase::ALL,
        does: "lets one segment have the weight again; in a run holds for the cause `manual`",
    },
    Rule {
        verb: Verb::OpenIncident,
        name: "incident",
        infinitive: "open an incident",
        phases: &Phase::ALL,
        does: "raises `incidents` by one",
    },
    Rule {
        verb: Verb::CloseIncident,
        name: "close incident",
        infinitive: "close an incident",
        phases: &Phase::ALL,
        does: "lowers `incidents` by one",
    },
    Rule {
        verb: Verb::Rehearse,
        name: "rehearse",
        infinitive: "rehearse",
        phases: &[Phase::Running],
        does: "injects faults into canary's requests until they are found, rolled back and gone; then goes on as before",
    },
    Rule {
        verb: Verb::CanaryReplaced,
        name: "canary replaced",
        infinitive: "take note of a replaced canary",
        phases: &[
            Phase::Scheduled,
            Phase::Running,
            Phase::AwaitingApproval,
            Phase::Waiting,
            Phase::Stabilizing,
            Phase::Held,
            Phase::Paused,
            Phase::Manual,
        ],
        does: "begins the stage anew",
    },
    Rule {
        verb: Verb::Freeze,
        name: "freeze",
        infinitive: "freeze",
        phases: &Phase::ALL,
        does: "nothing goes towards canary and the stage clock stands until it is over; triggers stay armed",
    },
    Rule {
        verb: Verb::Unfreeze,
        name: "unfreeze",
        infinitive: "unfreeze",
        phases: &Phase::ALL,
        does: "ends a freeze",
    },
];

/// What a person may do in a phase. A row for each verb: `weights` stands twice where more and nothing are both allowed.
pub fn rules_in(phase: Phase) -> impl Iterator<Item = &'static Rule> {
    TRANSITIONS
        .iter()
        .filter(move |rule| rule.verb != Verb::CanaryReplaced && rule.phases.contains(&phase))
}

impl Verb {
    pub const fn of(action: &Action) -> Self {
        match action {
            Action::Start { .. } => Self::Start,
            Action::Pause => Self::Pause,
            Action::Resume => Self::Resume,
            Action::Retry => Self::Retry,
            Action::Hold => Self::Hold,
            Action::Advance => Self::Advance,
            Action::Rollback => Self::Rollback,
            Action::Abort => Self::Abort,
            Action::Approve(_) => Self::Approve,
            Action::Reject(_) => Self::Reject,
            Action::SetWeight { weight, .. } if weight.is_zero() => Self::SetZero,
            Action::SetWeight { .. } => Self::SetWeight,
            Action::Pin { .. } => Self::Pin,
            Action::Unpin { .. } => Self::Unpin,
            Action::SetCeiling { .. } => Self::SetCeiling,
            Action::LiftCeiling { .. } => Self::LiftCeiling,
            Action::OpenIncident { .. } => Self::OpenIncident,
            Action::CloseIncident { .. } => Self::CloseIncident,
            Action::Rehearse { .. } => Self::Rehearse,
            Action::CanaryReplaced { .. } => Self::CanaryReplaced,
            Action::Freeze { .. } => Self::Freeze,
            Action::Unfreeze => Self::Unfreeze,
        }
    }

    /// `Ok` where the table allows it, else the sentence for the operator.
    pub fn check(self, phase: Phase) -> Result<(), String> {
        let rule = TRANSITIONS.iter().find(|rule| rule.verb == self);
        let Some(rule) = rule.filter(|rule| !rule.phases.contains(&phase)) else {
            return Ok(());
        };
        Err(refusal(
            rule.infinitive,
            &format!("the rollout is {}", phase.as_words()),
            phase,
        ))
    }

    /// The sentence of a refusal that has another reason than the phase alone.
    pub fn refusal(self, why: &str, phase: Phase) -> String {
        let rule = TRANSITIONS.iter().find(|rule| rule.verb == self);
        refusal(rule.map_or("do that", |rule| rule.infinitive), why, phase)
    }
}

fn refusal(infinitive: &str, why: &str, phase: Phase) -> String {
    const FOR_OPERATORS: usize = 12;
    let mut allowed: Vec<&str> = Vec::new();
    for rule in TRANSITIONS.iter().take(FOR_OPERATORS) {
        let refused = rule.name == infinitive;
        if rule.phases.contains(&phase) && !refused && !allowed.contains(&rule.name) {
            allowed.push(rule.name);
        }
    }
    format!(
        "cannot {infinitive}: {why}; allowed now: {}",
        allowed.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_has_a_way_out() {
        let leads_on = [
            Verb::Start,
            Verb::Resume,
            Verb::Advance,
            Verb::Rollback,
            Verb::SetWeight,
        ];
        for phase in Phase::ALL {
            let out = leads_on.iter().any(|verb| verb.check(phase).is_ok());
            // Rolling back ends by itself, as soon as its record is on disk.
            assert!(
                out || phase == Phase::RollingBack,
                "{phase:?} is a dead end"
            );
        }
    }

    #[test]
    fn the_table_has_one_row_per_verb_and_its_words_refuse() {
        for (place, rule) in TRANSITIONS.iter().enumerate() {
            let first = TRANSITIONS.iter().position(|other| other.verb == rule.verb);
            assert_eq!(first, Some(place), "{:?} stands twice", rule.verb);
            assert!(!rule.phases.is_empty() && !rule.does.is_empty());
        }
        let check = |verb: Verb, phase: Phase, text: &str| {
            assert_eq!(verb.check(phase), Err(text.to_owned()))
        };
        check(
            Verb::Pause,
            Phase::Held,
            "cannot pause: the rollout is held; allowed now: resume, retry, hold, advance, rollback, abort, weights",
        );
        check(
            Verb::Rollback,
            Phase::RolledBack,
            "cannot roll back: the rollout is rolled back; allowed now: start, weights",
        );
        check(
            Verb::SetWeight,
            Phase::RollingBack,
            "cannot set a weight above 0: the rollout is rolling back; allowed now: weights",
        );
        assert_eq!(Verb::Pause.check(Phase::Running), Ok(()));
    }
}
