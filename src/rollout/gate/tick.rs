//! A tick: what was observed is taken in, time is credited, then triggers and the stage are looked at.
//!
//! Owns the order of a tick, gaps, the warm-up and the totals. Judges nothing itself.

use std::time::Duration;

use super::Gate;
use super::effect::{Effect, EventKind};
use super::emit::Author;
use super::input::{Observed, PoolHealth};
use super::judge::add;
use super::snapshot::Watch;
use super::state::Phase;
use super::watch::{Failing, Passed};
use crate::rollout::learners::LearnerSketch;
use crate::rollout::name::Arm;
use crate::rollout::slot::Slot;
use crate::rollout::time::{Now, Timestamp};
use crate::rollout::window::{Counts, Part, Probes, Totals};

/// Ticks come every 250 ms; from this distance on, the time between them was not observed.
const LONGEST_TICK: Duration = Duration::from_secs(2);
/// A jump of the wall clock beyond this is an event (gate.md, "Clocks").
const CLOCK_JUMP_MS: i64 = 5_000;
/// Where no plan says them.
const DEFAULT_MAX_GAP: Duration = Duration::from_secs(300);
const DEFAULT_WARMUP: Duration = Duration::from_secs(60);

impl Gate {
    pub(super) fn tick(&mut self, now: Now, mut observed: Observed, out: &mut Vec<Effect>) {
        if self.unusable.is_some() {
            return;
        }
        let passed = self.passed(now, observed.gap);
        self.note_clock_jump(now, out);
        self.end_freeze(now, out);
        if passed.gap > self.max_gap() {
            self.begin_windows(now);
            if self.carries_canary() {
                let kind = EventKind::Restarted {
                    gap: passed.gap,
                    windows_kept: false,
                };
                self.tell(now, Author::GATE, kind, out);
            }
        }
        self.take_health(now, &observed);
        let began = self.begin(now, &observed, out);
        let failing = self.take_slots(now, std::mem::take(&mut observed.slots));
        let observed = &observed;
        self.add_learners(observed);
        // The tick that saw the first request stands for time before it.
        let passed = if began {
            Passed {
                observed: Duration::ZERO,
                ..passed
            }
        } else {
            passed
        };
        let credited = self.credit(now, passed, observed);
        self.state.last_tick = Some(now);
        self.take_blocks(observed);
        self.take_shares(now, observed, out);
        if self.carries_canary() {
            self.watch(now, passed, &failing, out);
        }
        if self.state.phase.is_in_a_run() {
            self.note_thin_baseline(now, out);
            self.run_stage(now, credited, out);
        } else if self.state.phase == Phase::Scheduled {
            self.await_start(now, out);
        }
        self.rehearse(now, out);
        self.recover(now, out);
        self.remind(now, out);
    }

    /// Windows and `for` start over.
    pub(super) fn begin_windows(&mut self, now: Now) {
        self.window.clear();
        self.state.probes.clear();
        self.state.watch.since = now.mono;
        self.state.watch.breaches.clear();
    }

    pub(super) fn max_gap(&self) -> Duration {
        self.plan()
            .map_or(DEFAULT_MAX_GAP, |plan| plan.gate.max_gap)
    }

    // Phases in which a split is guarded.
    fn carries_canary(&self) -> bool {
        match self.state.phase {
            Phase::Scheduled
            | Phase::Running
            | Phase::AwaitingApproval
            | Phase::Waiting
            | Phase::Stabilizing
            | Phase::Held
            | Phase::Paused
            | Phase::Manual => true,
            Phase::Idle
            | Phase::RollingBack
            | Phase::RolledBack
            | Phase::Aborted
            | Phase::Complete => false,
        }
    }

    fn passed(&self, now: Now, gap: Duration) -> Passed {
        let since_last = self
            .state
            .last_tick
            .map_or(Duration::ZERO, |last| now.mono.since(last.mono));
        let observed = since_last.saturating_sub(gap);
        if observed > LONGEST_TICK {
            return Passed {
                observed: Duration::ZERO,
                gap: gap + observed,
            };
        }
        Passed { observed, gap }
    }

    fn note_clock_jump(&mut self, now: Now, out: &mut Vec<Effect>) {
        let Some(last) = self.state.last_tick else {
            return;
        };
        let by_wall = now
            .wall
            .as_unix_millis()
            .saturating_sub(last.wall.as_unix_millis());
        let passed = i64::try_from(now.mono.since(last.mono).as_millis()).unwrap_or(i64::MAX);
        let by_ms = by_wall.saturating_sub(passed);
        if by_ms.abs() > CLOCK_JUMP_MS {
            self.tell(now, Author::GATE, EventKind::ClockJumped { by_ms }, out);
        }
    }

    fn take_health(&mut self, now: Now, observed: &Observed) {
        self.state.pools = observed.pools;
        let probes = observed.pools.map(probes_of);
        let keep_from = now.mono.before(self.memory());
        Probes::push(&mut self.state.probes, now.mono, probes, keep_from);
    }

    // The first canary request under the present split begins the warm-up, and the stage whose weight it is.
    fn begin(&mut self, now: Now, observed: &Observed, out: &mut Vec<Effect>) -> bool {
        let warmup = self.warmup();
        let in_a_run = self.state.phase.is_in_a_run();
        let watch = &mut self.state.watch;
        let first = observed.slots.iter().find(|slot| has_canary(slot, watch));
        let (Some(first), None, true) = (
            first,
            watch.began,
            in_a_run || matches!(self.state.phase, Phase::Manual | Phase::Scheduled),
        ) else {
            return false;
        };
        watch.began = Some(now);
        if warmup.is_zero() {
            watch.warm_until = Some(first.start);
        }
        let begins = self.stage_can_begin();
        if let Some(run) = self.state.run.as_mut().filter(|_| begins) {
            run.stage.began = Some(now);
            self.tell(now, Author::GATE, EventKind::StageBegan, out);
        }
        true
    }

    // Whether requests from now on are the stage's. What a weight by hand brings is not, and what comes while the rollout is
    // held before its first step, whose hooks may not have passed.
    fn stage_can_begin(&self) -> bool {
        let Some(run) = &self.state.run else {
            return false;
        };
        let is_held_before = self.state.phase == Phase::Held && run.stage.index == 0;
        self.state.phase.is_in_a_run()
            && run.stage.began.is_none()
            && self.state.awaiting.is_none()
            && self.state.split.weight == self.stage_weight()
            && !is_held_before
    }

    fn take_slots(&mut self, now: Now, slots: Vec<Slot>) -> Failing {
        let keep = self.memory();
        let mut failing = Failing::default();
        for mut slot in slots {
            let ceilings = &self.state.split.ceilings;
            let mut part = Part::take(&mut slot, self.state.watch.epoch, ceilings);
            self.add_to_totals(&slot, &part);
            if part.start() >= self.state.watch.since {
                if !self.tells_segments() {
                    part.forget_segments();
                }
                failing.add(&part);
                self.window
                    .push(part, now.mono, keep, self.state.watch.warm_until);
            }
        }
        failing
    }

    // The run counts everything, and after a retreat what had begun before it (`earlier`); the stage what began under its split
    // and after its warm-up.
    fn add_to_totals(&mut self, earlier: &Slot, part: &Part) {
        let collects = self.collects(part.start());
        let phase = self.state.phase;
        let counts = phase.is_in_a_run() || phase == Phase::RollingBack;
        let was_left = matches!(phase, Phase::RolledBack | Phase::Aborted);
        let tells_segments = self.tells_segments();
        let Some(run) = self.state.run.as_mut().filter(|_| counts || was_left) else {
            return;
        };
        let ceilings = &self.state.split.ceilings;
        if counts {
            run.totals.add_everything(part, ceilings);
            run.totals.segments.count_part(part);
        }
        for (key, cell) in &earlier.cells {
            run.totals.add(key.arm, cell);
            if let Some(segment) = &key.segment {
                let counts = Counts::of(cell);
                run.totals.segments.count(segment, key.arm, counts);
            }
        }
        if collects {
            run.stage.totals.add_part(part);
            run.stage.totals.segments.add_part(part);
            if run.judges_throughout() {
                run.stage.interval.add_part(part);
                if tells_segments {
                    run.stage.interval.segments.add_part(part);
                }
            }
        }
    }

    // Whether what began at this moment belongs to the stage's figures.
    fn collects(&self, at: Timestamp) -> bool {
        let begun = self
            .state
            .run
            .as_ref()
            .is_some_and(|run| run.stage.began.is_some());
        let warm = self
            .state
            .watch
            .warm_until
            .is_some_and(|warm_until| at >= warm_until);
        self.state.phase.is_in_a_run() && self.state.awaiting.is_none() && begun && warm
    }

    fn add_learners(&mut self, observed: &Observed) {
        let collects = self.collects(Timestamp::from_millis(u64::MAX));
        let in_a_run = self.state.phase.is_in_a_run();
        let Some(run) = self.state.run.as_mut().filter(|_| in_a_run) else {
            return;
        };
        for arm in Arm::ALL.map(Arm::index) {
            if observed.learners[arm].is_empty() {
                continue;
            }
            merge(&mut run.learners[arm], &observed.learners[arm]);
            if collects {
                merge(&mut run.stage.learners[arm], &observed.learners[arm]);
            }
        }
    }

    // Warm-up first, in any phase; what is left is stage time, in phases running and stabilizing alone and while
    // nothing is frozen. Answers with that.
    fn credit(&mut self, now: Now, passed: Passed, observed: &Observed) -> Duration {
        let collects = self.collects(Timestamp::from_millis(u64::MAX));
        let moves = matches!(self.state.phase, Phase::Running | Phase::Stabilizing);
        let runs = moves && self.state.freeze.is_none() && collects;
        let warmup = self.warmup();
        let watch = &mut self.state.watch;
        let cold = warmup.saturating_sub(watch.warmed).min(passed.observed);
        if watch.began.is_some() {
            watch.warmed += cold;
            if watch.warmed >= warmup && watch.warm_until.is_none() {
                watch.warm_until = Some(now.mono);
            }
        }
        let probes = observed.pools.map(probes_of);
        let in_a_run = self.state.phase.is_in_a_run();
        let Some(run) = self.state.run.as_mut().filter(|_| in_a_run) else {
            return Duration::ZERO;
        };
        span(&mut run.totals, passed.observed, probes);
        if !collects {
            return Duration::ZERO;
        }
        let warm = passed.observed - cold;
        let open = self.state.incidents.len() as u64;
        span(&mut run.stage.totals, warm, probes);
        if run.judges_throughout() {
            span(&mut run.stage.interval, warm, probes);
            run.stage.interval_incidents = run.stage.interval_incidents.max(open);
        }
        if !runs {
            return Duration::ZERO;
        }
        add(&mut run.stage.time, warm);
        warm
    }

    fn warmup(&self) -> Duration {
        self.watched_stage()
            .map_or(DEFAULT_WARMUP, |stage| stage.warmup)
    }
}

fn has_canary(slot: &Slot, watch: &Watch) -> bool {
    slot.cells.iter().any(|(key, cell)| {
        key.arm == Arm::Canary && key.epoch >= watch.epoch && cell.counted + cell.abandoned > 0
    })
}

fn span(totals: &mut Totals, observed: Duration, probes: [Probes; 2]) {
    add(&mut totals.span, observed);
    for (sum, probes) in totals.probes.iter_mut().zip(probes) {
        sum.add(probes);
    }
}

fn probes_of(pool: PoolHealth) -> Probes {
    Probes {
        sent: pool.probes_sent,
        answered: pool.probes_answered,
    }
}

fn merge(sum: &mut LearnerSketch, seen: &LearnerSketch) {
    sum.merge(seen);
}
