//! A freeze: while it lasts nothing goes towards canary, and every way back stays open.
//!
//! A mark beside the phase. Owns its beginning and its end, and what it refuses; never moves a weight.

use super::Gate;
use super::command::Answer;
use super::effect::{Effect, EventKind, Refusal};
use super::emit::Author;
use super::snapshot::Freeze;
use super::transitions::Verb;
use crate::rollout::time::{Now, WallTime};
use crate::rollout::weight::Weight;

impl Gate {
    /// Freezes, or freezes anew with another end or reason. A step that is recorded already comes into force.
    pub(super) fn freeze(
        &mut self,
        now: Now,
        author: Author<'_>,
        until: Option<WallTime>,
        out: &mut Vec<Effect>,
    ) -> Answer {
        if author.reason.trim().is_empty() {
            return Err(Refusal::Invalid("a freeze needs a reason".to_owned()));
        }
        if until.is_some_and(|until| until <= now.wall) {
            return Err(Refusal::Invalid("`until` is past".to_owned()));
        }
        self.state.freeze = Some(Freeze {
            since: now,
            until,
            by: author.by.to_owned(),
            reason: author.reason.to_owned(),
        });
        self.tell(now, author, EventKind::Frozen { until }, out);
        Ok(())
    }

    pub(super) fn unfreeze(
        &mut self,
        now: Now,
        author: Author<'_>,
        out: &mut Vec<Effect>,
    ) -> Answer {
        if self.state.freeze.take().is_none() {
            return Err(self.refuse(Verb::Unfreeze, "nothing is frozen"));
        }
        self.tell(now, author, EventKind::Unfrozen, out);
        Ok(())
    }

    /// Ends a freeze whose time is over.
    pub(super) fn end_freeze(&mut self, now: Now, out: &mut Vec<Effect>) {
        let until = self.state.freeze.as_ref().and_then(|freeze| freeze.until);
        if until.is_some_and(|until| until <= now.wall) {
            self.state.freeze = None;
            let author = Author {
                by: Author::GATE.by,
                reason: "its time is over",
            };
            self.tell(now, author, EventKind::Unfrozen, out);
        }
    }

    /// Whether a freeze stands in the way of this weight.
    pub(super) fn is_frozen_below(&self, weight: Weight) -> bool {
        self.state.freeze.is_some() && weight > self.state.split.weight
    }

    /// Refuses what a freeze does not let happen.
    pub(super) fn refuse_frozen(&self, verb: Verb) -> Answer {
        let Some(freeze) = &self.state.freeze else {
            return Ok(());
        };
        let why = format!(
            "the rollout is frozen by {} ({}): unfreeze it first",
            freeze.by, freeze.reason
        );
        Err(self.refuse(verb, &why))
    }
}
