//! A rollout under a virtual clock: the gate, a store that works or not, and traffic without dice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serin::rollout::assign::LearnerHash;
use serin::rollout::condition::Condition;
use serin::rollout::gate::{
    Action, Command, Effect, Event, EventId, EventKind, Gate, HookOrder, Input, Observed, Phase,
    PoolHealth, Refusal,
};
use serin::rollout::learners::LearnerSketch;
use serin::rollout::name::{Arm, PoolName, RolloutName, StageName};
use serin::rollout::plan::{
    EvidenceParts, GateParts, Identity, Mode, OnFailure, OnSuccess, Plan, PlanParts, Stage,
};
use serin::rollout::schedule::Schedule;
use serin::rollout::slot::{Cell, CellKey, Slot};
use serin::rollout::time::{Now, Timestamp, WallTime, parse_duration};
use serin::rollout::weight::Weight;

use crate::crowd::Crowd;

/// 2025-10-31T14:00:00Z.
pub(crate) const WALL_MS: i64 = 1_761_919_200_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disk {
    /// What is recorded is stored at once.
    Works,
    /// Nothing comes back.
    Stalls,
}

/// How one arm behaves.
#[derive(Clone, Debug)]
pub(crate) struct Behaviour {
    /// Share of requests answered with an error that says "unavailable".
    pub(crate) failing: f64,
    /// Share answered 4xx.
    pub(crate) refusing: f64,
    pub(crate) latency_ms: u64,
    /// Share of requests that take `slow_ms` instead.
    pub(crate) slow: f64,
    pub(crate) slow_ms: u64,
    /// Over how many learners the failures are spread.
    pub(crate) learners: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Sim {
    pub(crate) now: Now,
    pub(crate) tick: Duration,
    /// Requests per second over both arms.
    pub(crate) rate: f64,
    /// Of everybody, where there are no `segments`.
    pub(crate) arms: [Behaviour; 2],
    /// Each with an equal share of the requests, and its behaviour on the two arms.
    pub(crate) segments: Vec<(&'static str, [Behaviour; 2])>,
    pub(crate) pools: [PoolHealth; 2],
    pub(crate) disk: Disk,
    pub(crate) events: Vec<Event>,
    pub(crate) announced: Vec<EventId>,
    pub(crate) published: Vec<(Timestamp, u64, Weight)>,
    pub(crate) refused: Option<Refusal>,
    /// Learners one by one, instead of `arms`.
    pub(crate) crowd: Option<Crowd>,
    /// Those that were to be run, in order.
    pub(crate) hooks: Vec<HookOrder>,
    /// Everything the gate said, in order.
    pub(crate) trace: Vec<String>,
    carry: BTreeMap<(usize, &'static str), f64>,
    failed_so_far: u64,
}

pub(crate) struct World {
    pub(crate) gate: Gate,
    pub(crate) sim: Sim,
    /// Of the configured plan, for weights by hand.
    pub(crate) holdout: Weight,
}

pub(crate) fn seconds(s: u64) -> Duration {
    Duration::from_secs(s)
}

pub(crate) fn weight(text: &str) -> Weight {
    Weight::parse(text).expect(text)
}

pub(crate) fn conditions(texts: &[&str]) -> Vec<Condition> {
    texts
        .iter()
        .map(|text| Condition::parse(text).expect(text))
        .collect()
}

/// A stage of ten minutes that asks for 100 requests and has the client's triggers.
pub(crate) fn stage(name: &str, share: &str) -> Stage {
    Stage {
        name: StageName::parse(name).expect(name),
        weight: weight(share),
        duration: seconds(600),
        warmup: seconds(60),
        checkpoints: vec![seconds(300), seconds(600)],
        min_requests: 100,
        min_window_requests: 20,
        max_extension: seconds(600),
        advance: conditions(&["error_rate < 1%", "p99 < 200ms", "availability > 99%"]),
        hold: conditions(&["client_error_rate{delta} > 50% for 2m"]),
        rollback: conditions(&[
            "error_rate > 1.5% for 2m",
            "p99 > 250ms for 5m",
            "availability < 99% for 5m",
        ]),
        on_success: OnSuccess::Advance,
        on_failure: OnFailure::Hold,
        on_rollback: Weight::ZERO,
        schedule: Schedule::default(),
        hooks: Default::default(),
    }
}

pub(crate) fn parts() -> PlanParts {
    PlanParts {
        rollout: RolloutName::parse("analyzer").expect("a name"),
        identity: Identity {
            baseline: PoolName::parse("original").expect("a name"),
            canary: PoolName::parse("ultra_fast").expect("a name"),
            salt: "analyzer".to_owned(),
            learner: vec!["header:x-learner-id".to_owned()],
            segment: Some("header:x-learner-segment".to_owned()),
        },
        version: String::new(),
        holdout: Weight::ZERO,
        gate: GateParts {
            min_segment_requests: 100,
            max_segments: 64,
            max_failed_segments: 2,
            outage_patience: seconds(300),
            max_gap: seconds(300),
            cooldown: seconds(600),
            approval_ttl: seconds(43200),
            escalate_after: seconds(1800),
            baseline_min_healthy: 0.5,
            tripwire: Condition::parse("error_rate > 50% for 0s over 1s").ok(),
            evidence: EvidenceParts::default(),
            mode: Mode::Rollout,
            speed: 1.0,
        },
        signals: Vec::new(),
        stabilization: None,
        stages: vec![
            stage("canary", "1%"),
            stage("ramp", "10%"),
            stage("rollout", "100%"),
        ],
    }
}

pub(crate) fn plan(change: impl FnOnce(&mut PlanParts)) -> Plan {
    let mut parts = parts();
    change(&mut parts);
    Plan::build(parts).expect("a valid plan")
}

impl Behaviour {
    pub(crate) fn healthy() -> Self {
        Self {
            failing: 0.0,
            refusing: 0.0,
            latency_ms: 5,
            slow: 0.0,
            slow_ms: 400,
            learners: 1000,
        }
    }
}

impl Sim {
    pub(crate) fn new() -> Self {
        let pool = |endpoints| PoolHealth {
            endpoints,
            usable: endpoints,
            probes_sent: 0,
            probes_answered: 0,
        };
        Self {
            now: Now {
                mono: Timestamp::from_millis(0),
                wall: WallTime::from_unix_millis(WALL_MS),
            },
            tick: Duration::from_millis(250),
            rate: 1000.0,
            arms: [Behaviour::healthy(), Behaviour::healthy()],
            segments: Vec::new(),
            pools: [pool(20), pool(2)],
            disk: Disk::Works,
            events: Vec::new(),
            announced: Vec::new(),
            published: Vec::new(),
            refused: None,
            crowd: None,
            hooks: Vec::new(),
            trace: Vec::new(),
            carry: BTreeMap::new(),
            failed_so_far: 0,
        }
    }

    /// Tells these segments apart, all healthy.
    pub(crate) fn tell_apart(&mut self, names: &[&'static str]) {
        let healthy = || [Behaviour::healthy(), Behaviour::healthy()];
        self.segments = names.iter().map(|&name| (name, healthy())).collect();
    }

    pub(crate) fn canary_of(&mut self, segment: &str) -> &mut Behaviour {
        let found = self.segments.iter_mut().find(|(name, _)| *name == segment);
        &mut found.expect("a segment that is told apart").1[1]
    }

    pub(crate) fn canary(&mut self) -> &mut Behaviour {
        &mut self.arms[1]
    }

    pub(crate) fn pass(&mut self, span: Duration) {
        let ms = span.as_millis() as u64;
        self.now.mono = self.now.mono.after(span);
        self.now.wall = WallTime::from_unix_millis(self.now.wall.as_unix_millis() + ms as i64);
    }

    /// What the arms did in one tick at the gate's split.
    pub(crate) fn observe(&mut self, gate: &Gate, span: Duration) -> Observed {
        let split = gate.split();
        let start = self.now.mono.before(span);
        if let Some(crowd) = &mut self.crowd {
            let limits_us = gate.latency_limits_us();
            let (slot, blocks) = crowd.observe(&split, start, span, self.rate, &limits_us);
            return Observed {
                blocks,
                ..observed(slot, self.pools)
            };
        }
        let mut slot = Slot::empty(start, span);
        let everybody = [(None, self.arms.clone())];
        let segments = self.segments.iter();
        let segments = segments.map(|(name, arms)| (Some(*name), arms.clone()));
        let groups: Vec<(Option<&str>, [Behaviour; 2])> = match self.segments.is_empty() {
            true => everybody.to_vec(),
            false => segments.collect(),
        };
        for (place, (segment, arms)) in groups.iter().enumerate() {
            let ceiling = segment.and_then(|name| split.ceilings.get(name));
            let weight = split.weight.min(ceiling.copied().unwrap_or(Weight::FULL));
            let requests = self.rate * span.as_secs_f64() / groups.len() as f64;
            for arm in Arm::ALL {
                let share = match arm {
                    Arm::Baseline => weight.baseline_share(),
                    Arm::Canary => weight.share(),
                };
                let index = 2 * place + arm.index();
                let cell = self.cell(
                    index,
                    &arms[arm.index()],
                    share * requests,
                    &gate.latency_limits_us(),
                );
                if cell.counted > 0 {
                    let key = CellKey {
                        epoch: split.epoch,
                        arm,
                        segment: segment.map(Arc::from),
                    };
                    slot.cells.entry(key).or_default().merge(&cell);
                }
            }
        }
        observed(slot, self.pools)
    }

    fn cell(
        &mut self,
        index: usize,
        behaviour: &Behaviour,
        requests: f64,
        limits_us: &[u64],
    ) -> Cell {
        let counted = self.whole(index, "counted", requests);
        let part = |share: f64| counted as f64 * share;
        let failed = self
            .whole(index, "failed", part(behaviour.failing))
            .min(counted);
        let slow = self.whole(index, "slow", part(behaviour.slow)).min(counted);
        let client_errors = self
            .whole(index, "refused", part(behaviour.refusing))
            .min(counted - failed);
        let mut cell = Cell {
            counted,
            errors: failed,
            failed,
            client_errors,
            ..Cell::default()
        };
        cell.latency
            .record(behaviour.latency_ms * 1000, counted - slow);
        cell.latency.record(behaviour.slow_ms * 1000, slow);
        for &limit in limits_us {
            let above = |ms: u64, requests: u64| if ms * 1000 > limit { requests } else { 0 };
            let over = above(behaviour.latency_ms, counted - slow) + above(behaviour.slow_ms, slow);
            cell.over_limit.insert(limit, over);
        }
        for _ in 0..failed {
            self.failed_so_far += 1;
            let learner = LearnerHash::from_raw(self.failed_so_far % behaviour.learners);
            *cell.failing.entry(learner).or_default() += 1;
        }
        cell
    }

    // Fractions are carried on, so that 2.5 requests a tick are 10 a second exactly.
    fn whole(&mut self, place: usize, what: &'static str, exact: f64) -> u64 {
        let carry = self.carry.entry((place, what)).or_default();
        *carry += exact;
        let whole = (*carry + 1e-9).floor();
        *carry -= whole;
        whole as u64
    }

    /// Carries effects out; answers with the last event that now must be stored.
    pub(crate) fn carry_out(&mut self, effects: Vec<Effect>) -> Option<EventId> {
        let mut recorded = None;
        for effect in effects {
            self.trace.push(format!("{} {effect:?}", self.now.mono));
            match effect {
                Effect::Publish(split) => {
                    self.published
                        .push((self.now.mono, split.epoch, split.weight))
                }
                Effect::Record(event) => {
                    recorded = Some(event.id);
                    self.events.push(event);
                }
                Effect::RunHook(order) => self.hooks.push(*order),
                Effect::Announce(event) => self.announced.push(event.id),
                Effect::Refuse(refusal) => self.refused = Some(refusal),
            }
        }
        recorded
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            gate: Gate::at_rest(Weight::ZERO),
            sim: Sim::new(),
            holdout: Weight::ZERO,
        }
    }

    /// A run of this plan, one second old.
    pub(crate) fn running(plan: Plan) -> Self {
        let mut world = Self::new();
        world.start(plan);
        world.run(seconds(1));
        world
    }

    pub(crate) fn start(&mut self, plan: Plan) {
        let baseline_endpoints = self.sim.pools[0].usable;
        self.order(Action::Start {
            plan: Box::new(plan),
            baseline_endpoints,
        });
    }

    pub(crate) fn handle(&mut self, input: Input) -> Vec<Effect> {
        let effects = self.gate.handle(self.sim.now, input);
        let mut recorded = self.sim.carry_out(effects.clone());
        while let Some(id) = recorded.filter(|_| self.sim.disk == Disk::Works) {
            let more = self.gate.handle(self.sim.now, Input::Stored(id));
            recorded = self.sim.carry_out(more);
        }
        effects
    }

    /// The store works again and has written everything.
    pub(crate) fn disk_works(&mut self) {
        self.sim.disk = Disk::Works;
        let last = self.gate.status(self.sim.now).last_event;
        self.handle(Input::Stored(last));
    }

    pub(crate) fn order(&mut self, action: Action) -> Vec<Effect> {
        self.command(action, "tested", false)
    }

    pub(crate) fn command(&mut self, action: Action, reason: &str, force: bool) -> Vec<Effect> {
        self.sim.refused = None;
        let command = Command {
            by: "ops".to_owned(),
            reason: reason.to_owned(),
            force,
            action,
        };
        self.handle(Input::Command(command))
    }

    pub(crate) fn set_weight(&mut self, share: &str) -> Vec<Effect> {
        self.order(Action::SetWeight {
            weight: weight(share),
            guarded: true,
            holdout: self.holdout,
        })
    }

    pub(crate) fn tick(&mut self) -> Vec<Effect> {
        let span = self.sim.tick;
        self.sim.pass(span);
        let observed = self.sim.observe(&self.gate, span);
        self.handle(Input::Tick(Box::new(observed)))
    }

    pub(crate) fn run(&mut self, span: Duration) {
        let until = self.sim.now.mono.after(span);
        while self.sim.now.mono < until {
            self.tick();
        }
    }

    /// Runs until it is so; the time that took.
    pub(crate) fn run_until(
        &mut self,
        at_most: Duration,
        mut is_so: impl FnMut(&Self) -> bool,
    ) -> Duration {
        let begin = self.sim.now.mono;
        while !is_so(self) {
            let passed = self.sim.now.mono.since(begin);
            assert!(
                passed < at_most,
                "not within {at_most:?}: {}\n{}",
                self.outlook(),
                self.story()
            );
            self.tick();
        }
        self.sim.now.mono.since(begin)
    }

    pub(crate) fn phase(&self) -> Phase {
        self.gate.phase()
    }

    pub(crate) fn weight(&self) -> Weight {
        self.gate.split().weight
    }

    pub(crate) fn outlook(&self) -> String {
        self.gate.status(self.sim.now).outlook
    }

    pub(crate) fn stage(&self) -> String {
        self.gate
            .stage()
            .map(ToString::to_string)
            .unwrap_or_default()
    }

    pub(crate) fn causes(&self) -> Vec<&'static str> {
        let causes = self.gate.status(self.sim.now).causes;
        causes.iter().map(|held| held.cause.as_str()).collect()
    }

    pub(crate) fn kinds(&self) -> Vec<&'static str> {
        self.sim
            .events
            .iter()
            .map(|event| kind(&event.kind))
            .collect()
    }

    pub(crate) fn last(&self, name: &str) -> &Event {
        let mut found = self
            .sim
            .events
            .iter()
            .rev()
            .filter(|event| kind(&event.kind) == name);
        found
            .next()
            .unwrap_or_else(|| panic!("no {name} in\n{}", self.story()))
    }

    pub(crate) fn count(&self, name: &str) -> usize {
        self.kinds().iter().filter(|&&kind| kind == name).count()
    }

    /// The history for a failed test's message.
    pub(crate) fn story(&self) -> String {
        let lines = self.sim.events.iter().map(|event| {
            let Event {
                id,
                at,
                phase,
                weight,
                reason,
                ..
            } = event;
            format!(
                "{} {} {} {weight} {phase:?} {reason}",
                id.0,
                at.mono,
                kind(&event.kind)
            )
        });
        lines.collect::<Vec<_>>().join("\n")
    }

    pub(crate) fn refusal(&self) -> String {
        match &self.sim.refused {
            Some(Refusal::Phase(text)) => format!("409 {text}"),
            Some(Refusal::Invalid(text)) => format!("422 {text}"),
            None => String::new(),
        }
    }
}

fn observed(slot: Slot, pools: [PoolHealth; 2]) -> Observed {
    Observed {
        slots: vec![slot],
        pools,
        learners: [LearnerSketch::new(), LearnerSketch::new()],
        blocks: Vec::new(),
        gap: Duration::ZERO,
    }
}

pub(crate) fn kind(kind: &EventKind) -> &'static str {
    match kind {
        EventKind::Started { .. } => "started",
        EventKind::StageBegan => "stage_began",
        EventKind::Checkpoint { .. } => "checkpoint",
        EventKind::IntervalFailed { .. } => "interval_failed",
        EventKind::Advanced { .. } => "advanced",
        EventKind::Completed { .. } => "completed",
        EventKind::Extended { .. } => "extended",
        EventKind::Held { .. } => "held",
        EventKind::CauseEnded { .. } => "cause_ended",
        EventKind::Resumed => "resumed",
        EventKind::Retried => "retried",
        EventKind::Paused => "paused",
        EventKind::RolledBack { .. } => "rolled_back",
        EventKind::Recovered(_) => "recovered",
        EventKind::NotRecovered(_) => "not_recovered",
        EventKind::Aborted { .. } => "aborted",
        EventKind::WeightSet { .. } => "weight_set",
        EventKind::Pinned { .. } => "pinned",
        EventKind::Unpinned { .. } => "unpinned",
        EventKind::CeilingSet { .. } => "ceiling_set",
        EventKind::CeilingLifted { .. } => "ceiling_lifted",
        EventKind::SegmentLowered { .. } => "segment_lowered",
        EventKind::IncidentOpened { .. } => "incident_opened",
        EventKind::IncidentClosed { .. } => "incident_closed",
        EventKind::AlarmNoted { .. } => "alarm_noted",
        EventKind::CanaryReplaced { .. } => "canary_replaced",
        EventKind::RehearsalBegan { .. } => "rehearsal_began",
        EventKind::RehearsalEnded(_) => "rehearsal_ended",
        EventKind::Restarted { .. } => "restarted",
        EventKind::FleetNoted { .. } => "fleet_noted",
        EventKind::ClockJumped { .. } => "clock_jumped",
        EventKind::Scheduled { .. } => "scheduled",
        EventKind::ApprovalAsked { .. } => "approval_asked",
        EventKind::Approved { .. } => "approved",
        EventKind::ApprovalsVoided { .. } => "approvals_voided",
        EventKind::Waits { .. } => "waits",
        EventKind::Frozen { .. } => "frozen",
        EventKind::Unfrozen => "unfrozen",
        EventKind::LevelBegan { .. } => "level_began",
        EventKind::DayBegan { .. } => "day_began",
        EventKind::StabilizationRestarted { .. } => "stabilization_restarted",
        EventKind::Reminded { .. } => "reminded",
        EventKind::HookStarted { .. } => "hook_started",
        EventKind::HookEnded { .. } => "hook_ended",
    }
}

pub(crate) fn span(text: &str) -> Duration {
    parse_duration(text).expect(text)
}
