//! The gate: a pure state machine that takes one rollout from stage to stage, holds it, or takes it back.
//!
//! `handle(now, Input) -> Vec<Effect>`: no I/O, no clock, no dice. The caller carries the effects out
//! in their order, and gives the time. `snapshot` and `restore` let it survive its own process.
//!
//! Reading order: `state` (phases, causes), `transitions` (the table of commands), `input`, `effect`, `snapshot` (all it
//! remembers), then `command` and `tick` (what comes in), `outside` (what is told of the world), `judge` (what a condition reads), `watch` (triggers; `proof` and `evidence` say what proves them, `confidence` how sure a
//! decision is), `stage` (the way to the next stage), `shares` (whether learners stand where the weight says), `passage`, `approval`, `people`, `freeze` and
//! `settle` (what people and the calendar have to say about it), `retreat`, `hold`, `ceilings` and `segments` (the ways out), `hooks` (who is waited for), `recovery` (what follows a
//! rollback), `rehearsal`, `fleet` (one gate among several proxies), `remind`, `emit` (the order of effects), `status`; `invariants` is what must hold after each input.

mod approval;
mod ceilings;
mod command;
mod confidence;
mod effect;
mod emit;
mod evidence;
mod fleet;
mod freeze;
mod hold;
mod hooks;
mod input;
mod invariants;
mod judge;
mod outside;
mod passage;
mod people;
mod proof;
mod recovery;
mod rehearsal;
mod remind;
mod retreat;
mod segments;
mod settle;
mod shares;
mod snapshot;
mod stage;
mod state;
mod status;
mod tick;
mod transitions;
mod watch;

use std::time::Duration;

pub use confidence::{Confidence, Level, SUPPOSED_RATE, Sensitivity};
pub use effect::{
    Effect, Event, EventKind, HookEnding, HookName, HookOrder, HookOutcome, Refusal, RollbackCause,
};
pub use evidence::{EvidenceStatus, SegmentStatus, process_name};
pub use fleet::{ALONE, FleetWord};
pub use hooks::{HookBook, HookState, HookTask, StepByHand};
pub use input::{Action, Command, EventId, HookEnd, Input, Observed, PoolHealth, Say};
pub use outside::{Heard, OutcomeFigures, SignalFigure};
pub use people::{ApprovalStatus, People};
pub use recovery::{EndedHook, Recovered, Recovery, RecoveryStep};
pub use rehearsal::{Rehearsal, Rehearsed};
pub use shares::SharesStatus;
pub use snapshot::{
    Approval, Ask, Awaiting, Breach, Decided, Freeze, HeldFor, Progress, Raise, Reminder, Run,
    Snapshot, Watch,
};
pub use state::{Cause, Phase, WaitsFor};
pub use status::{ArmFigures, HoldCause, Incident, SegmentFigures, Status};
pub use transitions::{Rule, TRANSITIONS, Verb, rules_in};

use super::assign::Split;
use super::condition::Condition;
use super::evidence::Sampled;
use super::name::StageName;
use super::plan::{DEFAULT_OVER, Plan};
use super::slot::Slot;
use super::time::Now;
use super::weight::Weight;
use super::window::{Part, Window};
use emit::Author;

/// A learner who leaves sooner than this is nobody's fault, where the stage names no latency limit.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(1);
/// Room for slots that end a little before the window does.
const MEMORY_MARGIN: Duration = Duration::from_secs(10);

/// One rollout's state machine.
#[derive(Debug)]
pub struct Gate {
    /// All that is remembered.
    state: Snapshot,
    /// The recent slots, without what was before the present split.
    window: Window,
    /// Who is in the counts of learners per arm. Not remembered: `Shares` goes on without them.
    sampled: Sampled,
    /// Events that may be told once the step they wait for is on disk.
    withheld: Vec<Event>,
    /// Why nothing may be done: the store could not be read.
    unusable: Option<String>,
    /// What guards where there never was a plan.
    default_tripwire: Option<Condition>,
}

impl Gate {
    /// A gate without history: idle at this weight.
    pub fn at_rest(weight: Weight) -> Self {
        let split = Split {
            epoch: 1,
            weight,
            closed: false,
            ..Split::baseline_only()
        };
        Self::with(Snapshot::at_rest(split))
    }

    /// A gate whose store could not be read: held at weight 0 for the cause `store`.
    pub fn without_store(now: Now, why: &str) -> Self {
        let split = Split {
            epoch: 1,
            ..Split::baseline_only()
        };
        let mut gate = Self::with(Snapshot::at_rest(split));
        gate.state.phase = Phase::Held;
        gate.state.causes.push(HeldFor {
            cause: Cause::Store,
            since: now,
            why: why.to_owned(),
            gone_since: None,
        });
        gate.state.store_fault = Some(why.to_owned());
        gate.unusable = Some(why.to_owned());
        gate
    }

    /// A gate as it was saved, with the stored slots of its recent past (oldest first), and what must be done to
    /// go on: publish its split, record the restart. What was saved was recorded, so an unfinished step comes into
    /// force, and an unfinished rollback is over.
    pub fn restore(snapshot: Snapshot, recent: Vec<Slot>, now: Now) -> (Self, Vec<Effect>) {
        Self::restore_because(snapshot, recent, now, "")
    }

    /// The same with the reason why this process goes on, for the event that says so.
    pub fn restore_because(
        snapshot: Snapshot,
        recent: Vec<Slot>,
        now: Now,
        why: &str,
    ) -> (Self, Vec<Effect>) {
        let gap = down_time(snapshot.saved, now);
        let mut gate = Self::with(snapshot);
        let mut out = Vec::new();
        gate.state.store_fault = None;
        gate.state.stored = gate.state.last_event;
        if gate.state.phase == Phase::RollingBack {
            gate.state.phase = Phase::RolledBack;
            gate.state.retreat = None;
        }
        let windows_kept = gap <= gate.max_gap();
        if !windows_kept {
            gate.begin_windows(now);
        }
        if !gap.is_zero() {
            gate.state.last_tick = gate.state.last_tick.map(|_| now);
        }
        gate.remember(&recent, now);
        let raised = gate.raise_ceilings(gate.state.last_event);
        match gate.state.awaiting.take() {
            Some(awaiting) => gate.put_in_force(now, awaiting.weight, &mut out),
            None if raised => gate.publish_anew(now, &mut out),
            None => gate.publish(&mut out),
        }
        if gate.state.last_event > EventId(0) {
            let kind = EventKind::Restarted { gap, windows_kept };
            let author = Author {
                reason: why,
                ..Author::GATE
            };
            gate.tell(now, author, kind, &mut out);
        }
        gate.end_rehearsal(now, None, "serin was restarted".to_owned(), &mut out);
        gate.recover_hooks(now, &mut out);
        gate.check_invariants(&out);
        (gate, out)
    }

    /// A gate as it stood between two inputs, for a replay: nothing is published or told. Its windows are empty, as they
    /// are when a run begins.
    pub fn as_it_stood(snapshot: Snapshot) -> Self {
        Self::with(snapshot)
    }

    pub fn handle(&mut self, now: Now, input: Input) -> Vec<Effect> {
        let mut out = Vec::new();
        match input {
            Input::Command(command) => self.command(now, command, &mut out),
            Input::Tick(observed) => self.tick(now, *observed, &mut out),
            Input::Heard(heard) => self.hear(now, *heard),
            Input::Stored(id) => {
                self.stored(now, id, &mut out);
                self.run_stored_hooks(id, &mut out);
            }
            Input::HookEnded(end) => self.hook_ended(now, *end, &mut out),
            Input::Fleet(word) => self.hear_fleet(now, word, &mut out),
            Input::StoreFailed(why) => self.store_failed(now, &why, &mut out),
        }
        if !matches!(out[..], [Effect::Refuse(_)]) {
            self.drive_hooks(now, &mut out);
        }
        self.remember_outside(now);
        self.check_invariants(&out);
        out
    }

    pub fn snapshot(&self, now: Now) -> Snapshot {
        Snapshot {
            saved: now,
            ..self.state.clone()
        }
    }

    /// When the state was saved that it goes on from.
    pub const fn saved(&self) -> Now {
        self.state.saved
    }

    /// The last event made.
    pub const fn last_event(&self) -> EventId {
        self.state.last_event
    }

    /// Why nothing may go towards canary as far as the fleet is concerned.
    pub fn fleet_trouble(&self) -> Option<&str> {
        self.state.fleet_trouble.as_deref()
    }

    pub fn phase(&self) -> Phase {
        self.state.phase
    }

    /// Whether its run has ended. What a rehearsal makes of the phase is no end.
    pub fn is_over(&self) -> bool {
        self.state.is_over()
    }

    /// Whether no step waits for the disk, no rehearsal for its end, no hook for its turn or its end, and a rollback is
    /// followed no more.
    pub fn is_settled(&self) -> bool {
        let state = &self.state;
        state.awaiting.is_none()
            && state.raises.is_empty()
            && self.withheld.is_empty()
            && state.rehearsal.is_none()
            && state.hooks.tasks.is_empty()
            && state.recovery.is_none()
    }

    /// The stage of the present or last run.
    pub fn stage(&self) -> Option<&StageName> {
        self.present_stage().map(|stage| &stage.name)
    }

    /// Place of the stage of the present or last run.
    pub fn stage_index(&self) -> Option<usize> {
        self.state.run.as_ref().map(|run| run.stage.index)
    }

    /// Whether a step towards canary waits for its event to be on disk.
    pub fn awaits_store(&self) -> bool {
        self.state.awaiting.is_some()
    }

    /// Whether a hold goes on without a person, once every cause of it is gone.
    pub fn hold_ends_by_itself(&self) -> bool {
        let mut causes = self.state.causes.iter();
        causes.all(|held| held.cause.ends_by_itself())
    }

    /// The split that is in force.
    pub fn split(&self) -> Split {
        self.state.split.clone()
    }

    /// The plan of the present or last run.
    pub fn plan(&self) -> Option<&Plan> {
        self.state.run.as_ref().map(|run| &run.plan)
    }

    /// Version of the canary that the present or last run was told of last.
    pub fn version(&self) -> Option<&str> {
        self.state.run.as_ref().map(|run| run.version.as_str())
    }

    /// Latency limits in microseconds that the recorder must count exactly, ascending.
    pub fn latency_limits_us(&self) -> Vec<u64> {
        self.plan().map(Plan::latency_limits_us).unwrap_or_default()
    }

    /// How long a learner may wait and leave without counting as an error.
    pub fn patience(&self) -> Duration {
        let largest = |plan: &Plan| plan.largest_latency_limit(self.state.watch.stage);
        self.plan().and_then(largest).unwrap_or(DEFAULT_PATIENCE)
    }

    /// How far back `restore` needs slots.
    pub fn memory(&self) -> Duration {
        self.plan().map_or(DEFAULT_OVER, Plan::longest_window) + MEMORY_MARGIN
    }

    fn with(state: Snapshot) -> Self {
        Self {
            state,
            window: Window::default(),
            sampled: Sampled::default(),
            withheld: Vec::new(),
            unusable: None,
            default_tripwire: Condition::parse(judge::DEFAULT_TRIPWIRE).ok(),
        }
    }

    fn remember(&mut self, recent: &[Slot], now: Now) {
        let keep = self.memory();
        let watch = &self.state.watch;
        for slot in recent.iter().filter(|slot| slot.start >= watch.since) {
            let mut part = Part::without(slot, watch.epoch, &self.state.split.ceilings);
            if !self.tells_segments() {
                part.forget_segments();
            }
            let warm_until = self.state.watch.warm_until;
            self.window.push(part, now.mono, keep, warm_until);
        }
    }
}

// The process's clock may have stood still while it was down; the wall clock did not.
fn down_time(saved: Now, now: Now) -> Duration {
    let by_wall = now
        .wall
        .as_unix_millis()
        .saturating_sub(saved.wall.as_unix_millis());
    let by_wall = Duration::from_millis(u64::try_from(by_wall).unwrap_or(0));
    now.mono.since(saved.mono).max(by_wall)
}
