//! Breach clocks: how long a hold condition or trigger has been true, on whom, and whether that proves it.
//!
//! A clock runs only over ticks with data. Finds what is breached and hands it on; moves no weight itself.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::Gate;
use super::effect::Effect;
use super::evidence::takes_back;
use super::judge::add;
use super::proof::Tally;
use super::snapshot::Breach;
use super::state::Cause;
use crate::rollout::assign::LearnerHash;
use crate::rollout::condition::{Condition, Metric, Selector};
use crate::rollout::name::Arm;
use crate::rollout::plan::Stage;
use crate::rollout::slot::{Cell, MAX_FAILING_LEARNERS};
use crate::rollout::time::{Now, Timestamp};
use crate::rollout::verdict::{Purpose, Sample};
use crate::rollout::window::{Part, View};

/// A breach whose time has come and that is not proven yet holds after this.
const UNPROVEN_FOR: Duration = Duration::from_secs(1);
/// A breach without data is dropped after this, or after its `for` if that is longer.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(300);

/// How long a trigger on everybody gives way to those of single segments (gate.md, "Evidence", 5).
const GIVES_WAY: Duration = Duration::from_secs(2);

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
    arms: [FailingOn; 2],
    segments: BTreeMap<Arc<str>, [FailingOn; 2]>,
}

/// Who failed on one arm.
#[derive(Debug, Default)]
struct FailingOn {
    learners: BTreeSet<LearnerHash>,
    others: u64,
}

// What one condition's clock is moved by.
struct Tick<'a> {
    now: Now,
    passed: Passed,
    failing: &'a Failing,
    view: &'a View<'a>,
}

// What a guard reads, of everybody or of one segment.
type SegmentView<'a> = (Option<Arc<str>>, View<'a>);

// A hold condition or trigger with its place, for everybody or for one segment.
struct Guard<'a> {
    purpose: Purpose,
    index: usize,
    condition: &'a Condition,
    segment: Option<Arc<str>>,
}

impl Failing {
    pub(super) fn add(&mut self, part: &Part) {
        for arm in Arm::ALL {
            self.arms[arm.index()].add(part.arm(arm));
        }
        for (name, arms) in part.segments() {
            let known = self.segments.entry(Arc::clone(name)).or_default();
            for (failing, cell) in known.iter_mut().zip(arms) {
                failing.add(cell);
            }
        }
    }

    fn on(&self, segment: &Option<Arc<str>>, arm: Arm) -> Option<&FailingOn> {
        match segment {
            None => Some(&self.arms[arm.index()]),
            Some(name) => self.segments.get(name).map(|arms| &arms[arm.index()]),
        }
    }
}

impl FailingOn {
    fn add(&mut self, cell: &Cell) {
        self.learners.extend(cell.failing.keys());
        self.others += cell.failing_others;
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

    fn respond(&mut self, now: Now, breach: &Breach, out: &mut Vec<Effect>) {
        let Some(condition) = self.condition(breach.purpose, breach.index).cloned() else {
            return;
        };
        if breach.purpose == Purpose::Hold {
            let why = format!("{condition} is true{}", breach.place());
            self.hold_for(now, Cause::Condition, &why, out);
            return;
        }
        if self.compares_equals() && takes_back(breach.purpose) {
            let why = format!("fault of the measurement: {condition} is breached in an A/A run");
            self.note_once(now, breach, &why, out);
            return;
        }
        match self.unproven(now, breach) {
            None => self.act(now, breach, out),
            // What both arms break together is looked into as an outage, proven or not.
            Some(_) if breach.shared_since.is_some() => self.hold_in_an_outage(now, breach, out),
            // The next ticks may prove it: nobody is told of a hold that lasts a quarter of a second.
            Some(_) if breach.stands() < condition.sustained + UNPROVEN_FOR => {}
            Some(missing) => {
                let place = breach.place();
                let why = format!("{condition} is breached{place} but not proven: {missing}");
                self.note_once(now, breach, &why, out);
                self.hold_for(now, Cause::Alarm, &why, out);
            }
        }
    }

    fn reached(&self) -> Vec<Breach> {
        let due = |breach: &&Breach| {
            let condition = self.condition(breach.purpose, breach.index);
            breach.without_data.is_zero()
                && condition.is_some_and(|condition| {
                    breach.stands() >= condition.sustained + self.gives_way(breach)
                })
        };
        self.state
            .watch
            .breaches
            .iter()
            .filter(due)
            .cloned()
            .collect()
    }

    // Where segments have triggers of their own, those of everybody let them go first. The tripwire does not.
    fn gives_way(&self, breach: &Breach) -> Duration {
        let single = self.watched_stage().is_some_and(Stage::lowers_segments);
        match (breach.purpose, &breach.segment) {
            (Purpose::Rollback, None) if single => GIVES_WAY,
            (Purpose::Rollback | Purpose::Hold | Purpose::Tripwire | Purpose::Advance, _) => {
                Duration::ZERO
            }
        }
    }

    fn next_breaches(&self, now: Now, passed: Passed, failing: &Failing) -> Vec<Breach> {
        // Most conditions read the same few windows.
        let mut views: Vec<((Duration, Timestamp), SegmentView<'_>)> = Vec::with_capacity(4);
        let mut split_views = BTreeMap::new();
        let mut breaches = Vec::new();
        for (purpose, index, condition) in self.guards() {
            let (over, since) = self.guard_span(purpose, condition);
            let known = views.iter().position(|(of, _)| *of == (over, since));
            let place = known.unwrap_or_else(|| {
                let view = self.window.view(now.mono, over, since, &self.state.probes);
                views.push(((over, since), (None, view)));
                views.len() - 1
            });
            let whole = &views[place].1;
            let each: &[SegmentView<'_>] = match condition.per_segment {
                false => std::slice::from_ref(whole),
                true => split_views
                    .entry((over, since))
                    .or_insert_with(|| self.segment_views(whole.1)),
            };
            for (segment, view) in each {
                let tick = Tick {
                    now,
                    passed,
                    failing,
                    view,
                };
                let guard = Guard {
                    purpose,
                    index,
                    condition,
                    segment: segment.clone(),
                };
                breaches.extend(self.next_breach(&tick, &guard));
            }
        }
        breaches
    }

    // Those that were seen, and those whose breach stands still because they were not.
    fn segment_views<'a>(&'a self, whole: View<'a>) -> Vec<SegmentView<'a>> {
        let mut views: BTreeMap<&Arc<str>, View<'a>> = whole.by_segment().into_iter().collect();
        for breach in &self.state.watch.breaches {
            if let Some(name) = &breach.segment {
                views.entry(name).or_insert_with(|| whole.segment(name));
            }
        }
        let present = views
            .into_iter()
            .filter(|(name, _)| !self.is_left_out(name));
        present
            .map(|(name, view)| (Some(Arc::clone(name)), view))
            .collect()
    }

    fn next_breach(&self, tick: &Tick<'_>, guard: &Guard<'_>) -> Option<Breach> {
        let Guard {
            purpose,
            index,
            condition,
            ref segment,
        } = *guard;
        if self.lacks_baseline(condition) {
            return None;
        }
        let Tick {
            now,
            passed,
            failing,
            view,
        } = *tick;
        let old = self.breach_of(purpose, index, segment.as_ref()).cloned();
        let (_, since) = self.guard_span(purpose, condition);
        let sample = match segment {
            Some(_) => self.segment_sample(purpose, view),
            None => self.sample_since(view, now, since),
        };
        let truth = match condition.regression() {
            Some(which) => self.regression_truth(which),
            None => condition.truth(purpose, &sample),
        };
        let tally = |view: &View<'_>| Tally::of(condition, &sample, view);
        let mut breach = match (truth, old) {
            (Some(false), _) | (None, None) => return None,
            (None, Some(mut old)) => {
                add(&mut old.without_data, passed.observed);
                let kept = old.without_data <= condition.sustained.max(FORGOTTEN_AFTER);
                return kept.then_some(old);
            }
            (Some(true), Some(mut old)) => {
                old.without_data = Duration::ZERO;
                old.take_in(condition.arm(), failing);
                let probes = &self.state.probes;
                let tick = self.window.view(now.mono, passed.observed, since, probes);
                old.count(tally(&match segment {
                    Some(name) => tick.segment(name),
                    None => tick,
                }));
                old
            }
            (Some(true), None) => {
                let mut breach = Breach::begun(guard, now);
                breach.prove_by(condition.arm(), *view);
                breach.count(tally(view));
                breach
            }
        };
        breach.share(now, passed, broken_by_baseline(purpose, condition, &sample));
        Some(breach)
    }
}

// === impl Breach ===

impl Breach {
    fn begun(guard: &Guard<'_>, now: Now) -> Self {
        Self {
            purpose: guard.purpose,
            index: guard.index,
            segment: guard.segment.clone(),
            since: now,
            lasted: Duration::ZERO,
            without_data: Duration::ZERO,
            shared: Duration::ZERO,
            shared_since: None,
            learners: BTreeSet::new(),
            others: 0,
            wrong: 0,
            seen: 0,
            told: false,
        }
    }

    pub(super) fn is_of(&self, purpose: Purpose, index: usize, segment: Option<&Arc<str>>) -> bool {
        (self.purpose, self.index) == (purpose, index) && self.segment.as_ref() == segment
    }

    /// ` in segment eu`, for a sentence.
    pub(super) fn place(&self) -> String {
        let segment = self.segment.as_ref();
        segment.map_or_else(String::new, |name| format!(" in segment {name}"))
    }

    /// Takes those who failed within a view for its proof.
    pub(super) fn prove_by(&mut self, arm: Arm, view: View<'_>) {
        let learners = &mut self.learners;
        learners.clear();
        self.others = view.failing(arm, |learner| insert(learners, learner));
    }

    fn take_in(&mut self, arm: Arm, failing: &Failing) {
        let Some(failing) = failing.on(&self.segment, arm) else {
            return;
        };
        for &learner in &failing.learners {
            insert(&mut self.learners, learner);
        }
        self.others += failing.others;
    }

    /// Its counts begin again with these.
    pub(super) fn recount(&mut self, tally: Tally) {
        (self.wrong, self.seen) = (tally.wrong, tally.seen);
    }

    fn count(&mut self, tally: Tally) {
        self.wrong += tally.wrong;
        self.seen += tally.seen;
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
        || condition.metric.is_impact()
        || matches!(
            condition.metric,
            Metric::Throughput | Metric::Incidents | Metric::SegmentVariance
        )
    {
        return false;
    }
    let baseline = Condition {
        selector: Selector::Baseline,
        ..condition.clone()
    };
    baseline.truth(purpose, sample) == Some(true)
}
