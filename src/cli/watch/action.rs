//! What an operator can do from here: where it is allowed, what it will do to whom, and the call that asks for it.
//!
//! Where an action is allowed is the gate's own table. Nothing is sent from here.

use http::Method;
use serde_json::{Value, json};

use super::effect;
use crate::admin::wire::{ActionBody, RolloutAnswer, SayBody};
use crate::records::status::StatusRecord;
use crate::rollout::gate::{Rule, TRANSITIONS, Verb};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Rollback,
    Hold,
    Pause,
    Resume,
    Retry,
    Advance,
    Start,
    Approve,
    Reject,
    Freeze,
    Unfreeze,
    Abort,
}

/// One action, as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) action: Action,
    pub(super) reason: String,
    pub(super) force: bool,
    /// For whom it is approved or rejected.
    pub(super) role: Option<String>,
    /// The event with the figures that were on the screen.
    pub(super) seen: Option<u64>,
    pub(super) plan_hash: Option<String>,
}

/// What became of an order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Done {
    pub(super) order: Order,
    pub(super) result: Result<Box<RolloutAnswer>, Failure>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// By the gate or the port; nothing changed.
    Refused(String),
    /// Nothing was sent.
    NotSent(String),
    /// It was sent and not answered: it may have been carried out.
    Unanswered(String),
}

impl Action {
    /// In the order shown: first what takes learners off canary or keeps them where they are.
    pub(super) const ALL: [Self; 12] = [
        Self::Rollback,
        Self::Hold,
        Self::Pause,
        Self::Resume,
        Self::Retry,
        Self::Advance,
        Self::Start,
        Self::Approve,
        Self::Reject,
        Self::Freeze,
        Self::Unfreeze,
        Self::Abort,
    ];

    pub(super) const fn key(self) -> char {
        match self {
            Self::Rollback => 'r',
            Self::Hold => 'h',
            Self::Pause => 'p',
            Self::Resume => 'u',
            Self::Retry => 't',
            Self::Advance => 'a',
            Self::Start => 's',
            Self::Approve => 'y',
            Self::Reject => 'n',
            Self::Freeze => 'f',
            Self::Unfreeze => 'd',
            Self::Abort => 'x',
        }
    }

    pub(super) fn of_key(key: char) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.key() == key)
    }

    pub(super) const fn verb(self) -> Verb {
        match self {
            Self::Rollback => Verb::Rollback,
            Self::Hold => Verb::Hold,
            Self::Pause => Verb::Pause,
            Self::Resume => Verb::Resume,
            Self::Retry => Verb::Retry,
            Self::Advance => Verb::Advance,
            Self::Start => Verb::Start,
            Self::Approve => Verb::Approve,
            Self::Reject => Verb::Reject,
            Self::Freeze => Verb::Freeze,
            Self::Unfreeze => Verb::Unfreeze,
            Self::Abort => Verb::Abort,
        }
    }

    fn rule(self) -> Option<&'static Rule> {
        TRANSITIONS.iter().find(|rule| rule.verb == self.verb())
    }

    /// As an operator types it.
    pub(super) fn name(self) -> &'static str {
        self.rule().map_or("", |rule| rule.name)
    }

    /// What it does wherever it is allowed.
    pub(super) fn does(self) -> &'static str {
        self.rule().map_or("", |rule| rule.does)
    }

    pub(super) fn is_allowed(self, status: &StatusRecord) -> bool {
        let frozen = status.people.frozen.is_some();
        let stands = match self {
            Self::Freeze => !frozen,
            Self::Unfreeze => frozen,
            Self::Rollback
            | Self::Hold
            | Self::Pause
            | Self::Resume
            | Self::Retry
            | Self::Advance
            | Self::Start
            | Self::Approve
            | Self::Reject
            | Self::Abort => true,
        };
        let phase = self
            .rule()
            .is_some_and(|rule| rule.phases.contains(&status.phase));
        stands && phase
    }

    /// A step back or a stop is not kept waiting for words; whoever goes towards canary says why.
    pub(super) const fn needs_reason(self) -> bool {
        match self {
            Self::Rollback | Self::Hold | Self::Pause | Self::Abort => false,
            Self::Resume
            | Self::Retry
            | Self::Advance
            | Self::Start
            | Self::Approve
            | Self::Reject
            | Self::Freeze
            | Self::Unfreeze => true,
        }
    }

    /// Whether a refusal of the gate can be overruled.
    pub(super) const fn can_be_forced(self) -> bool {
        match self {
            Self::Advance | Self::Start => true,
            Self::Rollback
            | Self::Hold
            | Self::Pause
            | Self::Resume
            | Self::Retry
            | Self::Approve
            | Self::Reject
            | Self::Freeze
            | Self::Unfreeze
            | Self::Abort => false,
        }
    }

    /// Whether somebody's role speaks, and not just a person.
    pub(super) const fn is_said_for_a_role(self) -> bool {
        matches!(self, Self::Approve | Self::Reject)
    }
}

impl Order {
    /// What it will do, in sentences, as things stand.
    pub(super) fn effect(&self, answer: &RolloutAnswer) -> Vec<String> {
        effect::sentences(self, answer)
    }

    /// The method, the resource below the rollout, and the body.
    pub(super) fn call(&self) -> (Method, &'static str, Value) {
        let method = match self.action {
            Action::Freeze => Method::PUT,
            Action::Unfreeze => Method::DELETE,
            Action::Rollback
            | Action::Hold
            | Action::Pause
            | Action::Resume
            | Action::Retry
            | Action::Advance
            | Action::Start
            | Action::Approve
            | Action::Reject
            | Action::Abort => Method::POST,
        };
        match self.action {
            Action::Freeze | Action::Unfreeze => {
                (method, "freeze", json!({ "reason": self.reason }))
            }
            Action::Approve | Action::Reject => (method, self.action.name(), self.say()),
            Action::Rollback
            | Action::Hold
            | Action::Pause
            | Action::Resume
            | Action::Retry
            | Action::Advance
            | Action::Start
            | Action::Abort => (method, self.action.name(), self.act()),
        }
    }

    fn act(&self) -> Value {
        let body = ActionBody {
            reason: self.reason.clone(),
            force: self.force,
        };
        json!(body)
    }

    fn say(&self) -> Value {
        let body = SayBody {
            role: self.role.clone(),
            reason: self.reason.clone(),
            seen: self.seen,
            plan_hash: self.plan_hash.clone(),
        };
        json!(body)
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples::{answer, order};
    use super::*;
    use crate::records::Moment;
    use crate::records::people::FreezeRecord;
    use crate::rollout::gate::Phase;

    fn allowed(status: &StatusRecord) -> String {
        let allowed = Action::ALL.into_iter().filter(|one| one.is_allowed(status));
        allowed.map(Action::key).collect()
    }

    #[test]
    fn each_phase_offers_what_the_gate_would_take() {
        let mut status = answer().status;
        for (phase, keys) in [
            (Phase::Idle, "sf"),
            (Phase::Scheduled, "rafx"),
            (Phase::Running, "rhpafx"),
            (Phase::AwaitingApproval, "rhaynfx"),
            (Phase::Waiting, "rhanfx"),
            (Phase::Held, "rhutafx"),
            (Phase::Paused, "rhutafx"),
            (Phase::RollingBack, "f"),
            (Phase::RolledBack, "sf"),
            (Phase::Complete, "rsf"),
        ] {
            status.phase = phase;
            assert_eq!(allowed(&status), keys, "{phase:?}");
        }
        status.people.frozen = Some(FreezeRecord {
            since: Moment::default(),
            until: None,
            by: "ops".to_owned(),
            reason: "night".to_owned(),
        });
        assert_eq!(allowed(&status), "rsd");
    }

    #[test]
    fn every_action_has_a_key_of_its_own_and_a_row_in_the_table() {
        for action in Action::ALL {
            assert_eq!(Action::of_key(action.key()), Some(action));
            assert!(!action.name().is_empty() && !action.does().is_empty());
        }
        assert_eq!(Action::of_key('q'), None);
    }

    #[test]
    fn an_order_becomes_the_call_of_its_command() {
        let check = |order: &Order, method: Method, resource: &str, body: Value| {
            assert_eq!(order.call(), (method, resource, body));
        };
        let mut given = order(Action::Advance, "well");
        given.force = true;
        check(
            &given,
            Method::POST,
            "advance",
            json!({ "reason": "well", "force": true }),
        );
        given = order(Action::Approve, "read");
        (given.role, given.seen) = (Some("finance".to_owned()), Some(12));
        given.plan_hash = Some("abc".to_owned());
        check(
            &given,
            Method::POST,
            "approve",
            json!({ "reason": "read", "role": "finance", "seen": 12, "plan_hash": "abc" }),
        );
        let freeze = json!({ "reason": "night" });
        check(
            &order(Action::Freeze, "night"),
            Method::PUT,
            "freeze",
            freeze.clone(),
        );
        check(
            &order(Action::Unfreeze, "night"),
            Method::DELETE,
            "freeze",
            freeze,
        );
    }
}
