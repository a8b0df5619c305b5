//! A rehearsal: faults in a share of canary's requests, to see them found, rolled back and gone; then all as before.
//!
//! Owns when one may begin, what it has seen, and how it ends. The faults themselves are the data path's; what finds
//! them is the plan's own triggers, which know nothing of it. The figures of a rehearsal are forgotten with it.

use std::time::Duration;

use super::Gate;
use super::effect::{Effect, EventKind, Refusal};
use super::emit::Author;
use super::retreat::Retreat;
use super::snapshot::Snapshot;
use super::state::Phase;
use super::transitions::Verb;
use crate::rollout::assign::Split;
use crate::rollout::condition::Selector;
use crate::rollout::name::Arm;
use crate::rollout::plan::Stage;
use crate::rollout::rehearsal::{Fault, Injection};
use crate::rollout::time::Now;
use crate::rollout::verdict::Purpose;
use crate::rollout::window::Measured;

/// Longest a rehearsal may take, and the longest latency it may add.
const LONGEST: Duration = Duration::from_secs(600);
const LONGEST_LATENCY: Duration = Duration::from_secs(60);
/// Baseline is well again when it was for so long after the weights were back.
const RECOVERED_AFTER: Duration = Duration::from_secs(2);

/// A rehearsal under way.
#[derive(Clone, Debug, PartialEq)]
pub struct Rehearsal {
    pub injection: Injection,
    pub began: Now,
    /// It must be found, rolled back and over within this time.
    pub within: Duration,
    /// Since when a trigger was true.
    pub detected: Option<Now>,
    /// When the weights were back.
    pub back: Option<Now>,
    /// The gate as it stood before.
    pub kept: Box<Snapshot>,
}

/// What a rehearsal showed: spans since its first fault. `None` for what did not happen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rehearsed {
    pub injection: Injection,
    pub within: Duration,
    /// A trigger was true.
    pub detected: Option<Duration>,
    /// The weights were back.
    pub back: Option<Duration>,
    /// Baseline's errors and latency kept every limit for 2 s.
    pub recovered: Option<Duration>,
    /// What went wrong; empty where all went well within the time.
    pub fault: String,
}

impl Gate {
    /// The faults in force.
    pub fn injection(&self) -> Option<Injection> {
        let rehearsal = self.state.rehearsal.as_ref()?;
        rehearsal.back.is_none().then_some(rehearsal.injection)
    }

    pub(super) fn begin_rehearsal(
        &mut self,
        now: Now,
        author: Author<'_>,
        injection: Injection,
        within: Duration,
        out: &mut Vec<Effect>,
    ) -> Result<(), Refusal> {
        check_faults(injection, within).map_err(Refusal::Invalid)?;
        if let Some(why) = self.keeps_from_rehearsing() {
            let refusal = Verb::Rehearse.refusal(&why, self.state.phase);
            return Err(Refusal::Phase(refusal));
        }
        let kept = Box::new(self.snapshot(now));
        self.state.rehearsal = Some(Rehearsal {
            injection,
            began: now,
            within,
            detected: None,
            back: None,
            kept,
        });
        self.publish(out);
        let kind = EventKind::RehearsalBegan { injection, within };
        self.tell(now, author, kind, out);
        Ok(())
    }

    /// While one is under way only what leads to baseline is open to operators.
    pub(super) fn check_rehearsing(&self, verb: Verb) -> Result<(), Refusal> {
        let leads_back = matches!(
            verb,
            Verb::Rollback
                | Verb::Abort
                | Verb::SetZero
                | Verb::OpenIncident
                | Verb::CloseIncident
                | Verb::CanaryReplaced
        );
        if self.state.rehearsal.is_none() || leads_back {
            return Ok(());
        }
        let why = "a rehearsal is under way; it ends by itself, and rollback ends it at once";
        Err(Refusal::Phase(verb.refusal(why, self.state.phase)))
    }

    /// A person goes back to baseline in the middle: that stands, and nothing is brought back.
    pub(super) fn drop_rehearsal(&mut self, now: Now, by: &str, out: &mut Vec<Effect>) {
        let Some(rehearsal) = self.state.rehearsal.take() else {
            return;
        };
        let fault = "an operator went back to baseline".to_owned();
        let outcome = rehearsal.outcome(None, fault);
        let author = Author { by, reason: "" };
        self.tell(now, author, EventKind::RehearsalEnded(outcome), out);
    }

    /// A trigger takes the weight down.
    pub(super) fn note_rehearsed(&mut self, now: Now, retreat: &Retreat) {
        if let Some(rehearsal) = &mut self.state.rehearsal {
            rehearsal.detected = retreat.breached_since;
            rehearsal.back = Some(now);
        }
    }

    /// Looks whether it is over.
    pub(super) fn rehearse(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(rehearsal) = &self.state.rehearsal else {
            return;
        };
        let time_is_up = now.mono.since(rehearsal.began.mono) >= rehearsal.within;
        let recovered = rehearsal
            .back
            .is_some_and(|back| self.has_recovered(now, back));
        // A retreat is on disk before anything moves towards canary again.
        if self.state.phase == Phase::RollingBack || !(recovered || time_is_up) {
            return;
        }
        let fault = match (recovered, rehearsal.back) {
            (true, _) => String::new(),
            (false, Some(_)) => "errors or latency of baseline did not come back".to_owned(),
            (false, None) => self.not_found(rehearsal),
        };
        self.end_rehearsal(now, recovered.then_some(now), fault, out);
    }

    /// Brings back what was before: the run as it stood, and its weight by a step that is recorded first.
    pub(super) fn end_rehearsal(
        &mut self,
        now: Now,
        recovered: Option<Now>,
        fault: String,
        out: &mut Vec<Effect>,
    ) {
        let Some(rehearsal) = self.state.rehearsal.take() else {
            return;
        };
        let outcome = rehearsal.outcome(recovered, fault);
        let weight = rehearsal.kept.split.weight;
        self.cancel_step(out);
        let present = std::mem::replace(&mut self.state, *rehearsal.kept);
        let kept_split = self.state.split.clone();
        self.state.split = Split {
            ceilings: kept_split.ceilings,
            pins: kept_split.pins,
            ..present.split
        };
        self.state.awaiting = None;
        self.state.last_event = present.last_event;
        self.state.stored = present.stored;
        self.state.last_tick = present.last_tick;
        self.state.pools = present.pools;
        self.state.probes = present.probes;
        self.state.incidents = present.incidents;
        self.state.incidents_opened = present.incidents_opened;
        self.state.store_fault = present.store_fault;
        // Facts of the world, which no fault of ours made.
        self.state.signals = present.signals;
        self.state.splits = present.splits;
        if let (Some(run), Some(seen)) = (&mut self.state.run, present.run) {
            run.outcomes = seen.outcomes;
        }
        self.state.hooks = present.hooks;
        let fault = self.state.store_fault.clone();
        let kind = EventKind::RehearsalEnded(outcome);
        if weight == self.state.split.weight {
            self.put_in_force(now, weight, out);
            self.tell(now, Author::GATE, kind, out);
        } else {
            self.step_up(now, weight, Author::GATE, kind, out);
        }
        // The run's own, which a person has to end.
        if let Some(why) = fault {
            self.store_failed(now, &why, out);
        }
    }

    fn keeps_from_rehearsing(&self) -> Option<String> {
        let state = &self.state;
        if state.rehearsal.is_some() {
            return Some("a rehearsal is under way".to_owned());
        }
        if let Some(why) = &state.store_fault {
            return Some(format!("the store cannot write: {why}"));
        }
        if self.waits() {
            return Some("a step is being recorded".to_owned());
        }
        // It ends with a step back to canary.
        if state.freeze.is_some() {
            return Some("the rollout is frozen".to_owned());
        }
        if state.watch.warm_until.is_none() || state.split.weight.is_zero() {
            return Some("canary is not warm yet".to_owned());
        }
        if !state.guarded {
            return Some("nothing guards this weight".to_owned());
        }
        if !state.hooks.tasks.is_empty() {
            return Some("a hook is under way".to_owned());
        }
        self.breached_now().into_iter().next()
    }

    // What is said of baseline is what its triggers say of canary: the limits that each arm can keep by itself.
    fn has_recovered(&self, now: Now, back: Now) -> bool {
        if now.mono.since(back.mono) < RECOVERED_AFTER {
            return false;
        }
        let view = self.window.view(
            now.mono,
            RECOVERED_AFTER,
            self.state.watch.since,
            &self.state.probes,
        );
        if view.counts(Arm::Baseline).counted == 0 {
            return false;
        }
        let sample = self.sample(&view);
        let rollback = self.watched_stage().map(|stage: &Stage| &stage.rollback);
        let breaks = |condition: &crate::rollout::condition::Condition| {
            let mut of_baseline = condition.clone();
            of_baseline.selector = Selector::Baseline;
            condition.selector == Selector::Canary
                && of_baseline.truth(Purpose::Rollback, &sample) == Some(true)
        };
        !rollback.into_iter().flatten().any(breaks)
    }

    fn not_found(&self, rehearsal: &Rehearsal) -> String {
        let within = rehearsal.within.as_secs();
        let breached = self.breached_now();
        if breached.is_empty() {
            format!("no trigger found it within {within} s")
        } else {
            format!(
                "found but not rolled back within {within} s: {}",
                breached.join("; ")
            )
        }
    }
}

impl Rehearsal {
    fn outcome(&self, recovered: Option<Now>, fault: String) -> Rehearsed {
        let since = |at: Now| at.mono.since(self.began.mono);
        Rehearsed {
            injection: self.injection,
            within: self.within,
            detected: self.detected.map(since),
            back: self.back.map(since),
            recovered: recovered.map(since),
            fault,
        }
    }
}

fn check_faults(injection: Injection, within: Duration) -> Result<(), String> {
    if injection.share.is_zero() {
        return Err("a share of 0 injects nothing".to_owned());
    }
    if within.is_zero() || within > LONGEST {
        return Err("a rehearsal takes between 1s and 10m".to_owned());
    }
    match injection.fault {
        Fault::Latency(more) if more.is_zero() || more > LONGEST_LATENCY => {
            Err("the latency that is added lies between 1ms and 1m".to_owned())
        }
        Fault::Latency(_) | Fault::Error | Fault::Reset => Ok(()),
    }
}
