//! After a rollback to 0: whether baseline is well again, and how long each step took since the alarm.
//!
//! The client's sequence: weights, hooks, then health, errors and latency of baseline. What each condition said of canary
//! is asked of baseline; that moves no weight, whatever the answer. Owns what "well" means and how long it is waited for.

use std::time::Duration;

use super::Gate;
use super::effect::{Effect, EventKind, HookOutcome};
use super::emit::Author;
use super::hooks::HookTask;
use super::input::EventId;
use super::state::Phase;
use crate::rollout::condition::{Condition, Metric, Selector};
use crate::rollout::plan::{DEFAULT_OVER, HookKind, Stage};
use crate::rollout::time::{Now, Timestamp};
use crate::rollout::verdict::Purpose;

/// Errors and latency are read over this span after the weights were back; where it has too few requests, over the
/// window of any trigger.
const OVER: Duration = Duration::from_secs(5);
/// The client's limit for a whole rollback: what is not back by then is told, and a person has to look.
const WITHIN: Duration = Duration::from_secs(300);

/// A rollback whose consequences are watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The event of the rollback.
    pub rollback: EventId,
    /// Since when its condition was true; where there was none, when it was decided.
    pub alarm: Now,
    /// When it was decided, and the weights were back.
    pub back: Now,
    /// Place of the stage whose limits baseline has to keep.
    pub stage: usize,
    /// Hooks of the rollback that have ended, in their order.
    pub hooks: Vec<EndedHook>,
    /// Since when each is seen to be back; `None` while it is not.
    pub health: Option<Timestamp>,
    pub errors: Option<Timestamp>,
    pub latency: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndedHook {
    pub name: String,
    pub outcome: HookOutcome,
    pub at: Timestamp,
}

/// What a rollback led to, as recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub rollback: EventId,
    pub alarm: Now,
    /// In the order of the client's sequence.
    pub steps: Vec<RecoveryStep>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryStep {
    /// `decided`, `weights`, `hook NAME`, `health`, `errors` or `latency`.
    pub step: String,
    /// Since the alarm; `None` for what is not back.
    pub after: Option<Duration>,
    /// How a hook ended, or what is asked of baseline.
    pub note: String,
}

/// What is asked of baseline beside its health.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Errors,
    Latency,
}

impl Gate {
    /// A rollback to 0 is about to be recorded: what follows it is watched from now on.
    pub(super) fn begin_recovery(&mut self, now: Now, breached_since: Option<Now>) {
        let carried = !self.state.split.weight.is_zero() && self.state.rehearsal.is_none();
        let in_a_run = self.state.phase.is_in_a_run();
        self.state.recovery = self
            .state
            .run
            .as_ref()
            .filter(|_| carried)
            .map(|run| Recovery {
                rollback: EventId(self.state.last_event.0 + 1),
                alarm: breached_since.unwrap_or(now),
                back: now,
                stage: if in_a_run { run.stage.index } else { 0 },
                hooks: Vec::new(),
                health: None,
                errors: None,
                latency: None,
            });
    }

    /// A hook of the rollback came to its end.
    pub(super) fn note_rollback_hook(&mut self, now: Now, task: &HookTask, outcome: HookOutcome) {
        let name = self.name_of(task).map(|hook| hook.name);
        if let (HookKind::Rollback, Some(name), Some(recovery)) =
            (task.kind, name, &mut self.state.recovery)
        {
            recovery.hooks.push(EndedHook {
                name,
                outcome,
                at: now.mono,
            });
        }
    }

    /// What a tick does after a rollback: looks at baseline, and tells when all is back or the time is up.
    pub(super) fn recover(&mut self, now: Now, out: &mut Vec<Effect>) {
        if !matches!(self.state.phase, Phase::RollingBack | Phase::RolledBack) {
            self.state.recovery = None;
        }
        let Some(mut recovery) = self.state.recovery.take() else {
            return;
        };
        let health = self.baseline_usable() > 0 && self.baseline_shortage().is_none();
        mark(&mut recovery.health, health, now);
        if now.mono.since(recovery.back.mono) >= OVER {
            let [errors, latency] =
                [Asked::Errors, Asked::Latency].map(|asked| self.keeps(now, recovery.stage, asked));
            mark(&mut recovery.errors, errors, now);
            mark(&mut recovery.latency, latency, now);
        }
        let seen = [recovery.health, recovery.errors, recovery.latency];
        let all_back = seen.iter().all(Option::is_some) && self.rollback_hook().is_none();
        let time_is_up = now.mono.since(recovery.back.mono) >= WITHIN;
        // The rollback's own event comes first, on disk too.
        if self.state.phase == Phase::RollingBack || !(all_back || time_is_up) {
            self.state.recovery = Some(recovery);
            return;
        }
        let recovered = self.recovered(&recovery);
        let kind = match all_back {
            true => EventKind::Recovered(recovered),
            false => EventKind::NotRecovered(recovered),
        };
        self.tell(now, Author::GATE, kind, out);
    }

    /// What is not back yet, for a sentence; empty where nothing is watched.
    pub(super) fn not_back_yet(&self) -> Vec<String> {
        let recovered = self
            .state
            .recovery
            .as_ref()
            .map(|recovery| self.recovered(recovery));
        let steps = recovered.into_iter().flat_map(|recovered| recovered.steps);
        steps
            .filter(|step| step.after.is_none())
            .map(|step| step.step)
            .collect()
    }

    fn recovered(&self, recovery: &Recovery) -> Recovered {
        let since = |at: Timestamp| at.since(recovery.alarm.mono);
        let step = |step: &str, at: Option<Timestamp>, note: String| RecoveryStep {
            step: step.to_owned(),
            after: at.map(since),
            note,
        };
        let back = Some(recovery.back.mono);
        let mut steps = vec![
            step("decided", back, String::new()),
            step("weights", back, String::new()),
        ];
        steps.extend(recovery.hooks.iter().map(|hook| {
            let name = format!("hook {}", hook.name);
            step(&name, Some(hook.at), hook.outcome.as_str().to_owned())
        }));
        if let Some(name) = self.rollback_hook() {
            steps.push(step(&format!("hook {name}"), None, String::new()));
        }
        steps.push(step("health", recovery.health, self.health_in_words()));
        for (word, asked, at) in [
            ("errors", Asked::Errors, recovery.errors),
            ("latency", Asked::Latency, recovery.latency),
        ] {
            let limits = self.limits(recovery.stage, asked);
            if !limits.is_empty() {
                let mut note = in_words(&limits);
                if at.is_none() {
                    note.push_str(&format!("; {}", self.seen_of(&limits)));
                }
                steps.push(step(word, at, note));
            }
        }
        Recovered {
            rollback: recovery.rollback,
            alarm: recovery.alarm,
            steps,
        }
    }

    fn health_in_words(&self) -> String {
        let usable = self.baseline_usable();
        self.baseline_shortage()
            .unwrap_or_else(|| format!("{usable} usable endpoints"))
    }

    // Each figure as it stands, or what it lacks.
    fn seen_of(&self, limits: &[(Purpose, Condition)]) -> String {
        let now = self.state.last_tick.unwrap_or_default();
        let since = self.state.watch.since;
        let view = self
            .window
            .view(now.mono, DEFAULT_OVER, since, &self.state.probes);
        let seen = limits.iter().map(|(purpose, condition)| {
            let evaluation = condition.evaluate(*purpose, &self.sample(&view), DEFAULT_OVER);
            match evaluation.figure {
                Some(figure) => condition.unit().show(figure),
                None => evaluation.note,
            }
        });
        format!("now {}", seen.collect::<Vec<_>>().join(", "))
    }

    // No data is never well. What no limit is given for is not asked.
    fn keeps(&self, now: Now, stage: usize, asked: Asked) -> bool {
        let limits = self.limits(stage, asked);
        limits
            .iter()
            .all(|(purpose, condition)| self.is_kept(now, *purpose, condition) == Some(true))
    }

    fn is_kept(&self, now: Now, purpose: Purpose, condition: &Condition) -> Option<bool> {
        let truth = |over| {
            let since = self.state.watch.since;
            let view = self.window.view(now.mono, over, since, &self.state.probes);
            condition.truth(purpose, &self.sample(&view))
        };
        let truth = truth(OVER).or_else(|| truth(DEFAULT_OVER))?;
        Some(truth == (purpose == Purpose::Advance))
    }

    // The first of these that says something: the triggers of the stage, those of the first, the stage's criteria, the
    // tripwire.
    fn limits(&self, stage: usize, asked: Asked) -> Vec<(Purpose, Condition)> {
        let Some(plan) = self.plan() else {
            return Vec::new();
        };
        let none: &[Condition] = &[];
        let of =
            |index: usize, list: fn(&Stage) -> &[Condition]| plan.stage(index).map_or(none, list);
        let lists = [
            (Purpose::Rollback, of(stage, |stage| &stage.rollback)),
            (Purpose::Rollback, of(0, |stage| &stage.rollback)),
            (Purpose::Advance, of(stage, |stage| &stage.advance)),
            (Purpose::Tripwire, plan.gate.tripwire.as_slice()),
        ];
        let of_baseline = |(purpose, list): (Purpose, &[Condition])| {
            let named = list.iter().filter(|condition| asked.is_of(condition));
            let limits = named.map(|condition| (purpose, turned(condition)));
            limits.collect::<Vec<_>>()
        };
        let mut found = lists.into_iter().map(of_baseline);
        found.find(|limits| !limits.is_empty()).unwrap_or_default()
    }
}

impl Asked {
    // Limits that each arm can keep by itself.
    fn is_of(self, condition: &Condition) -> bool {
        let of = match condition.metric {
            Metric::ErrorRate | Metric::Availability => Some(Self::Errors),
            Metric::P50 | Metric::P95 | Metric::P99 | Metric::P999 => Some(Self::Latency),
            Metric::ClientErrorRate
            | Metric::Abandoned
            | Metric::Uptime
            | Metric::Throughput
            | Metric::Incidents
            | Metric::SegmentVariance
            | Metric::Regression(_)
            | Metric::Signal(_) => None,
        };
        condition.selector == Selector::Canary && of == Some(self)
    }
}

// The same of all of baseline, now.
fn turned(condition: &Condition) -> Condition {
    Condition {
        selector: Selector::Baseline,
        sustained: Duration::ZERO,
        over: None,
        throughout: false,
        per_segment: false,
        ..condition.clone()
    }
}

fn in_words(limits: &[(Purpose, Condition)]) -> String {
    let words = limits.iter().map(|(purpose, condition)| match purpose {
        Purpose::Advance => condition.to_string(),
        Purpose::Hold | Purpose::Rollback | Purpose::Tripwire => format!("not {condition}"),
    });
    words.collect::<Vec<_>>().join(", ")
}

// The moment since which it is so.
fn mark(since: &mut Option<Timestamp>, is_so: bool, now: Now) {
    *since = match is_so {
        true => Some(since.unwrap_or(now.mono)),
        false => None,
    };
}
