//! One rollout under the virtual clock: start, a tick a second, what people do, until nothing more can happen.
//!
//! The gate is the real one; the driver gives it four ticks a second and this one gives it one, so that what takes a
//! moment takes up to a second. The disk always works and answers at once.

mod outside;

use std::time::Duration;

use super::chance::Dice;
use super::scenario::{Conduct, Scenario};
use super::traffic::{SECOND, Traffic};
use crate::rollout::gate::{
    Action, Command, Effect, Event, EventId, EventKind, Gate, HookEnd, Input, Observed, Phase,
    PoolHealth, RollbackCause,
};
use crate::rollout::name::Arm;
use crate::rollout::plan::Plan;
use crate::rollout::time::{Now, Timestamp, WallTime, millis};
use crate::rollout::weight::Weight;

/// A second later than the beginning of gate time, so that no moment is the default one.
const START: Timestamp = Timestamp::from_millis(1_000);
/// Probes of an endpoint come so far apart.
const PROBES: u64 = 5;
/// A hold that only a person ends is watched for so long: triggers stay armed.
const HELD: Duration = Duration::from_secs(30 * 60);
/// Beyond the plan's own time: outages, holds that end by themselves, waiting for first requests.
const PATIENCE: Duration = Duration::from_secs(6 * 3600);

/// What is rolled back so long after canary was cured is a false alarm: by then its failures have left every window.
const CURED: Duration = Duration::from_secs(10 * 60);

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Completed,
    RolledBack,
    Aborted,
    /// Held, paused or at a weight by hand, and nobody came.
    Held,
    /// Still on its way when its time was over.
    Unfinished,
}

/// What one run brought.
#[derive(Clone, Debug)]
pub struct Ran {
    pub end: End,
    /// Why it stands where it stands, in the gate's words.
    pub outlook: String,
    pub lasted: Duration,
    pub events: Vec<Event>,
    /// Requests by `Arm::index`.
    pub requests: [u64; 2],
    /// Failed requests by `Arm::index`.
    pub errors: [u64; 2],
    /// Requests that failed on canary and would not have on baseline.
    pub harmed: u64,
    /// Segments that were lowered by themselves.
    pub lowered: Vec<String>,
    /// The gate took weight back although canary was no worse than baseline so far.
    pub false_alarm: bool,
    /// How the gate found that canary is worse; `None` where it is not, or was not found.
    pub found: Option<Found>,
}

/// From the fault's beginning, or canary's first request where that came later, to the retreat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    pub after: Duration,
    pub canary_requests: u64,
}

/// Plays a plan in a world. Runs of one seed differ by their number.
pub fn run(plan: &Plan, scenario: &Scenario, seed: u64, number: u64) -> Ran {
    let mut dice = Dice::new(seed, number);
    let traffic = Traffic::new(plan, scenario, &mut dice);
    let mut play = Play {
        scenario,
        gate: Gate::at_rest(Weight::ZERO),
        traffic,
        dice,
        now: Now {
            mono: START,
            wall: scenario.start,
        },
        stepped: START,
        held: None,
        fault: None,
        hooks: Vec::new(),
        asked: None,
        ran: Ran {
            end: End::Unfinished,
            outlook: String::new(),
            lasted: Duration::ZERO,
            events: Vec::new(),
            requests: [0; 2],
            errors: [0; 2],
            harmed: 0,
            lowered: Vec::new(),
            false_alarm: false,
            found: None,
        },
    };
    play.order(
        Action::Start {
            plan: Box::new(plan.clone()),
            baseline_endpoints: scenario.endpoints[0],
        },
        false,
    );
    play.until_its_end(plan)
}

struct Play<'a> {
    scenario: &'a Scenario,
    gate: Gate,
    traffic: Traffic<'a>,
    dice: Dice,
    now: Now,
    /// When the weight last went up.
    stepped: Timestamp,
    /// Since when only a person can go on.
    held: Option<Timestamp>,
    /// Since when canary has been worse, with traffic on it, and its requests until then.
    fault: Option<(Timestamp, u64)>,
    /// Hooks under way, with the moment of their end.
    hooks: Vec<(Timestamp, HookEnd)>,
    /// Since when approvals are asked for.
    asked: Option<Timestamp>,
    ran: Ran,
}

impl Play<'_> {
    fn until_its_end(mut self, plan: &Plan) -> Ran {
        let planned: Duration = plan
            .stages
            .iter()
            .map(|stage| stage.warmup + stage.duration + stage.max_extension)
            .sum();
        let settling = plan.stage(plan.stages.len());
        let planned = planned + settling.map_or(Duration::ZERO, |stage| stage.duration);
        let at_most = self.scenario.at_most.unwrap_or(planned + PATIENCE);
        let mut orders = self.scenario.orders.iter().peekable();
        while self.since_start() < at_most {
            while let Some(order) = orders.next_if(|order| order.at <= self.since_start()) {
                self.order(order.action.clone(), order.force);
            }
            self.second();
            let ended = self.gate.phase().is_ended();
            if ended || (orders.peek().is_none() && self.nobody_comes()) {
                break;
            }
        }
        self.ran.end = match self.gate.phase() {
            Phase::Complete => End::Completed,
            Phase::RollingBack | Phase::RolledBack => End::RolledBack,
            Phase::Aborted => End::Aborted,
            Phase::Held | Phase::Paused | Phase::Manual => End::Held,
            Phase::Idle
            | Phase::Scheduled
            | Phase::Running
            | Phase::AwaitingApproval
            | Phase::Waiting
            | Phase::Stabilizing => End::Unfinished,
        };
        self.ran.outlook = self.gate.status(self.now).outlook;
        self.ran.lasted = self.since_start();
        self.ran
    }

    fn second(&mut self) {
        let begin = self.now.mono;
        let since_step = begin.since(self.stepped);
        let conduct = self.traffic.conduct(self.since_start(), since_step);
        let split = self.gate.split();
        let drawn = self.traffic.second(begin, &split, &mut self.dice);
        self.note_fault();
        for (key, cell) in &drawn.slot.cells {
            self.ran.requests[key.arm.index()] += cell.counted;
            self.ran.errors[key.arm.index()] += cell.errors;
        }
        self.ran.harmed += drawn.harmed;
        self.now = Now {
            mono: begin.after(SECOND),
            wall: WallTime::from_unix_millis(
                self.now.wall.as_unix_millis() + millis(SECOND) as i64,
            ),
        };
        self.end_hooks();
        self.read_sources();
        let observed = Observed {
            slots: vec![drawn.slot],
            pools: self.health(conduct),
            learners: Default::default(),
            blocks: vec![drawn.block],
            gap: Duration::ZERO,
        };
        self.handle(Input::Tick(Box::new(observed)));
        self.approve();
    }

    fn health(&self, conduct: [Conduct; 2]) -> [PoolHealth; 2] {
        let probed = self.now.mono.second().is_multiple_of(PROBES);
        Arm::ALL.map(|arm| {
            let endpoints = self.scenario.endpoints[arm.index()];
            let usable = if conduct[arm.index()].down {
                0
            } else {
                endpoints
            };
            let probes = |endpoints: u32| if probed { u64::from(endpoints) } else { 0 };
            PoolHealth {
                endpoints,
                usable,
                probes_sent: probes(endpoints),
                probes_answered: probes(usable),
            }
        })
    }

    fn order(&mut self, action: Action, force: bool) {
        let command = Command {
            by: "operator".to_owned(),
            reason: "the scenario says so".to_owned(),
            force,
            action,
        };
        self.handle(Input::Command(command));
    }

    fn handle(&mut self, input: Input) {
        let effects = self.gate.handle(self.now, input);
        let mut recorded = self.carry_out(effects);
        while let Some(id) = recorded {
            let more = self.gate.handle(self.now, Input::Stored(id));
            recorded = self.carry_out(more);
        }
    }

    fn carry_out(&mut self, effects: Vec<Effect>) -> Option<EventId> {
        let mut recorded = None;
        for effect in effects {
            match effect {
                Effect::Publish(_) => self.stepped = self.now.mono,
                Effect::Record(event) => {
                    recorded = Some(event.id);
                    self.judge(&event);
                    self.ran.events.push(event);
                }
                Effect::RunHook(order) => self.run_hook(&order),
                Effect::Announce(_) | Effect::Refuse(_) => {}
            }
        }
        recorded
    }

    // Whether a retreat is an answer to canary's fault, or a false alarm.
    fn judge(&mut self, event: &Event) {
        match &event.kind {
            EventKind::RolledBack { cause, .. } if *cause == RollbackCause::Operator => return,
            EventKind::RolledBack { .. } => {}
            EventKind::SegmentLowered { segment, .. } => self.ran.lowered.push(segment.clone()),
            EventKind::AlarmNoted { why, .. } if why.starts_with("fault of the measurement") => {}
            _ => return,
        }
        let is_over = self.scenario.fault_over();
        let cured = is_over.is_some_and(|over| self.since_start() > over + CURED);
        match self.fault {
            None => self.ran.false_alarm = true,
            Some(_) if cured => self.ran.false_alarm = true,
            Some((since, requests)) => {
                let found = Found {
                    after: event.at.mono.since(since),
                    canary_requests: self.ran.requests[Arm::Canary.index()] - requests,
                };
                self.ran.found.get_or_insert(found);
            }
        }
    }

    fn note_fault(&mut self) {
        let began = self
            .scenario
            .fault_at()
            .is_some_and(|at| self.since_start() >= at);
        if began && self.fault.is_none() && !self.gate.split().weight.is_zero() {
            self.fault = Some((self.now.mono, self.ran.requests[Arm::Canary.index()]));
        }
    }

    // Whether nothing will happen any more without a person; a person of the scenario comes after a while.
    fn nobody_comes(&mut self) -> bool {
        let waits = match self.gate.phase() {
            Phase::Paused | Phase::Manual => true,
            Phase::Held => !self.gate.hold_ends_by_itself(),
            Phase::AwaitingApproval => self.scenario.approve_after.is_none(),
            Phase::Idle
            | Phase::Scheduled
            | Phase::Running
            | Phase::Waiting
            | Phase::Stabilizing
            | Phase::RollingBack
            | Phase::RolledBack
            | Phase::Aborted
            | Phase::Complete => false,
        };
        if !waits {
            self.held = None;
            return false;
        }
        let held = self.now.mono.since(*self.held.get_or_insert(self.now.mono));
        if self
            .scenario
            .resume_after
            .is_some_and(|after| held >= after)
        {
            self.held = None;
            self.order(Action::Resume, true);
            return false;
        }
        self.scenario.resume_after.is_none() && held >= HELD
    }

    fn since_start(&self) -> Duration {
        self.now.mono.since(START)
    }
}
