//! Breach clocks: how long a hold condition or trigger has been true, on whom, and whether that proves it.
//!
//! A clock runs only over ticks with data. Finds what is breached and hands it on; moves no weight itself.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Gate;
use super::effect::Effect;
use super::judge::{add, names_learners};
use super::snapshot::Breach;
use super::state::Cause;
use crate::rollout::assign::LearnerHash;
use crate::rollout::condition::{Condition, Metric, Op, Selector};
use crate::rollout::name::Arm;
use crate::rollout::slot::MAX_FAILING_LEARNERS;
use crate::rollout::time::Now;
use crate::rollout::verdict::{Purpose, Sample};
use crate::rollout::window::{Part, View};

/// How many must be on the wrong side: a single bot that always fails is no release fault (gate.md).
const PROOF: u64 = 3;
/// A breach without data is dropped after this, or after its `for` if that is longer.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(300);

/// How much time a tick stands for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passed {
    pub(super) observed: Duration,
    /// Before it, nothing was observed for so long.
    pub(super) gap: Duration,
}

/// Who failed since the last tick, by `Arm::index`.
#[derive(Debug, Default)]
pub(super) struct Failing {
    learners: [BTreeSet<LearnerHash>; 2],
    others: [u64; 2],
}

// What one condition's clock is moved by.
struct Tick<'a> {
    now: Now,
    passed: Passed,
    failing: &'a Failing,
    view: &'a View<'a>,
}

impl Failing {
    pub(super) fn add(&mut self, part: &Part) {
        for arm in Arm::ALL {
            let learners = &mut self.learners[arm.index()];
            self.others[arm.index()] += part.arm(arm).failing(|learner| {
                learners.insert(learner);
            });
        }
    }
}

impl Gate {
    /// Moves the breach clocks on and acts on what has run out.
    pub(super) fn watch(
        &mut self,
        now: Now,
        passed: Passed,
        failing: &Failing,
        out: &mut Vec<Effect>,
    ) {
        if !self.state.guarded || self.state.split.weight.is_zero() {
            self.state.watch.breaches.clear();
            return;
        }
        self.state.watch.breaches = self.next_breaches(now, passed, failing);
        if self.act_on_decided(now, out) {
            return;
        }
        let epoch = self.state.split.epoch;
        for breach in self.reached() {
            self.respond(now, &breach, out);
            if self.state.split.epoch != epoch {
                return;
            }
        }
    }

    /// Whether a trigger is due that baseline breaks as well.
    pub(super) fn outage_lasts(&self) -> bool {
        let shared =
            |breach: &Breach| breach.purpose != Purpose::Hold && breach.shared_since.is_some();
        self.reached().iter().any(shared)
    }

    /// What is missing to prove a trigger's breach, in numbers; `None` if nothing is.
    pub(super) fn unproven(&self, now: Now, breach: &Breach) -> Option<String> {
        let condition = self.condition(breach.purpose, breach.index)?;
        if names_learners(condition.metric) {
            let seen = breach.learners.len() as u64 + breach.others;
            return (seen < PROOF).then(|| format!("{seen} of {PROOF} failing learners"));
        }
        let view = self.guard_view(now, breach.purpose, condition);
        if condition.metric.is_impact() {
            let (_, since) = self.guard_span(breach.purpose, condition);
            let sample = self.sample_since(&view, now, since);
            return unproven_impact(condition, &sample);
        }
        let seen = on_the_wrong_side(condition, &self.sample(&view))?;
        (seen < PROOF).then(|| format!("{seen} of {PROOF} requests on the wrong side"))
    }

    fn respond(&mut self, now: Now, breach: &Breach, out: &mut Vec<Effect>) {
        let Some(condition) = self.condition(breach.purpose, breach.index).cloned() else {
            return;
        };
        if breach.purpose == Purpose::Hold {
            self.hold_for(now, Cause::Condition, &format!("{condition} is true"), out);
            return;
        }
        match self.unproven(now, breach) {
            None => self.act(now, breach, out),
            Some(missing) => {
                let why = format!("{condition} is breached but not proven: {missing}");
                self.note_once(now, breach, &why, out);
                self.hold_for(now, Cause::Alarm, &why, out);
            }
        }
    }

    fn reached(&self) -> Vec<Breach> {
        let due = |breach: &&Breach| {
            let condition = self.condition(breach.purpose, breach.index);
            breach.without_data.is_zero()
                && condition.is_some_and(|condition| breach.stands() >= condition.sustained)
        };
        self.state
            .watch
            .breaches
            .iter()
            .filter(due)
            .cloned()
            .collect()
    }

    fn next_breaches(&self, now: Now, passed: Passed, failing: &Failing) -> Vec<Breach> {
        // Most conditions read the same few windows.
        let mut views = BTreeMap::new();
        let mut breaches = Vec::new();
        for (purpose, index, condition) in self.guards() {
            let (over, since) = self.guard_span(purpose, &condition);
            let view = views
                .entry((over, since))
                .or_insert_with(|| self.window.view(now.mono, over, since, &self.state.probes));
            let tick = Tick {
                now,
                passed,
                failing,
                view,
            };
            breaches.extend(self.next_breach(&tick, (purpose, index, &condition)));
        }
        breaches
    }

    fn next_breach(
        &self,
        tick: &Tick<'_>,
        (purpose, index, condition): (Purpose, usize, &Condition),
    ) -> Option<Breach> {
        if self.lacks_baseline(condition) {
            return None;
        }
        let Tick {
            now,
            passed,
            failing,
            view,
        } = *tick;
        let old = self.breach(purpose, index).cloned();
        let (_, since) = self.guard_span(purpose, condition);
        let sample = self.sample_since(view, now, since);
        let mut breach = match (condition.truth(purpose, &sample), old) {
            (Some(false), _) | (None, None) => return None,
            (None, Some(mut old)) => {
                add(&mut old.without_data, passed.observed);
                let kept = old.without_data <= condition.sustained.max(FORGOTTEN_AFTER);
                return kept.then_some(old);
            }
            (Some(true), Some(mut old)) => {
                old.without_data = Duration::ZERO;
                old.take_in(condition.arm(), failing);
                old
            }
            (Some(true), None) => {
                let mut breach = Breach::begun(purpose, index, now);
                let learners = &mut breach.learners;
                breach.others = view.failing(condition.arm(), |learner| insert(learners, learner));
                breach
            }
        };
        breach.share(now, passed, broken_by_baseline(purpose, condition, &sample));
        Some(breach)
    }
}

// === impl Breach ===

impl Breach {
    fn begun(purpose: Purpose, index: usize, now: Now) -> Self {
        Self {
            purpose,
            index,
            since: now,
            lasted: Duration::ZERO,
            without_data: Duration::ZERO,
            shared: Duration::ZERO,
            shared_since: None,
            learners: BTreeSet::new(),
            others: 0,
            told: false,
        }
    }

    fn take_in(&mut self, arm: Arm, failing: &Failing) {
        for &learner in &failing.learners[arm.index()] {
            insert(&mut self.learners, learner);
        }
        self.others += failing.others[arm.index()];
    }

    /// Compared with `for`.
    pub(super) fn stands(&self) -> Duration {
        self.lasted.saturating_add(self.shared)
    }

    // Time shared with baseline is no proof against canary: when the outage ends and its last seconds leave canary's
    // window later than baseline's, the clock stands where it stood before the outage.
    fn share(&mut self, now: Now, passed: Passed, shared: bool) {
        let begun_now = self.since == now;
        match (shared, self.shared_since) {
            (true, Some(_)) => add(&mut self.shared, passed.observed),
            (true, None) => {
                self.shared_since = Some(now.mono);
                if !begun_now {
                    add(&mut self.lasted, passed.observed);
                }
            }
            (false, _) => {
                self.shared_since = None;
                self.shared = Duration::ZERO;
                if !begun_now {
                    add(&mut self.lasted, passed.observed);
                }
            }
        }
    }
}

fn insert(learners: &mut BTreeSet<LearnerHash>, learner: LearnerHash) {
    if learners.len() < MAX_FAILING_LEARNERS {
        learners.insert(learner);
    }
}

// Only a limit that each arm can break by itself tells an outage.
fn broken_by_baseline(purpose: Purpose, condition: &Condition, sample: &Sample<'_>) -> bool {
    if condition.selector != Selector::Canary
        || matches!(condition.metric, Metric::Throughput | Metric::Incidents)
        || condition.metric.is_impact()
    {
        return false;
    }
    let baseline = Condition {
        selector: Selector::Baseline,
        ..condition.clone()
    };
    baseline.truth(purpose, sample) == Some(true)
}

// A business figure takes the weight down only when its whole interval lies on the limit's side of 0 (gate.md,
// "Evidence", 7). One that is read, and not counted here, has none: its source's word is proof enough.
fn unproven_impact(condition: &Condition, sample: &Sample<'_>) -> Option<String> {
    let (low, high) = condition.interval(sample)?;
    (low <= 0.0 && high >= 0.0).then(|| {
        let show = |bound| condition.unit().show(bound);
        format!("its interval from {} to {} holds 0", show(low), show(high))
    })
}

// For metrics that name no learners but count requests; `None` where data is proof enough.
fn on_the_wrong_side(condition: &Condition, sample: &Sample<'_>) -> Option<u64> {
    let above_is_wrong = match condition.op {
        Op::Greater | Op::GreaterOrEqual => true,
        Op::Less | Op::LessOrEqual | Op::Equal => false,
    };
    if !above_is_wrong {
        return None;
    }
    let arm = condition.arm();
    match condition.metric {
        Metric::ClientErrorRate => Some(sample.measured.counts(arm).client_errors),
        Metric::P50 | Metric::P95 | Metric::P99 | Metric::P999 => {
            let limit_us = match condition.latency_limit_us() {
                Some(limit_us) => limit_us,
                None => {
                    let baseline = Condition {
                        selector: Selector::Baseline,
                        ..condition.clone()
                    };
                    (baseline.figure(sample)? * (1.0 + condition.value)) as u64
                }
            };
            Some(sample.measured.above(arm, limit_us))
        }
        Metric::ErrorRate
        | Metric::Availability
        | Metric::Abandoned
        | Metric::Uptime
        | Metric::Throughput
        | Metric::Incidents
        | Metric::SegmentVariance
        | Metric::Regression(_)
        | Metric::Signal(_) => None,
    }
}
