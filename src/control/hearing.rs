//! What is posted from outside: readings that are pushed, and business results of learners.
//!
//! Checks each item against the rollout that it names. Readings are taken all or none. A result that is well formed and
//! belongs to no arm (too late, before the run, of a pinned learner) is left out by name, and the others are counted.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::driver::{Driver, pool_of};
use super::fleet::Duty;
use crate::config::{Rollout, Signal, SignalSource};
use crate::rollout::gate::{Heard, Input};
use crate::rollout::name::{Arm, RolloutName, SignalName};
use crate::rollout::outcome::{Asked, Credited, id_hash};
use crate::rollout::plan::Plan;
use crate::rollout::segments::MAX_SEGMENT_LEN;
use crate::rollout::signal::{
    MAX_SIGNAL_SEGMENTS, Observation, REVENUE_IMPACT, STALE_AFTER_INTERVALS, Said, SeriesKey,
    SignalKind, outcome_of,
};
use crate::rollout::time::{Now, Timestamp, WallTime, format_duration};
use crate::signals::Word;

/// Clocks of other machines are taken to be at most so much ahead of ours.
const AHEAD: Duration = Duration::from_secs(5);
/// Larger results are a mistake, and their sums would lose the others' digits.
const LARGEST_RESULT: f64 = 1e15;

/// A reading that is pushed.
#[derive(Clone, Debug, PartialEq)]
pub struct PushedReading {
    pub rollout: String,
    pub name: String,
    pub pool: String,
    pub segment: Option<String>,
    pub value: f64,
    pub count: Option<u64>,
    pub at: Option<WallTime>,
}

/// A business result of one learner.
#[derive(Clone, Debug, PartialEq)]
pub struct PostedOutcome {
    pub rollout: String,
    pub learner: String,
    pub segment: Option<String>,
    pub name: String,
    pub value: f64,
    pub at: Option<WallTime>,
    pub id: Option<String>,
}

/// What is wrong with one item, and with which part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemFault {
    pub item: usize,
    pub key: &'static str,
    pub why: String,
}

/// What became of results that were all well formed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OutcomesTaken {
    pub counted: usize,
    /// Of an id that was counted before.
    pub duplicates: usize,
    /// By place, with the reason.
    pub left_out: Vec<(usize, String)>,
}

/// The part of an item that is at fault, with the reason.
type Fault = (&'static str, String);

impl Driver {
    /// Takes what the sources said, and gives it to the gates.
    pub(super) fn hear_sources(&mut self, now: Now) {
        let words = self
            .signals
            .as_ref()
            .map(|signals| signals.take())
            .unwrap_or_default();
        if self.duty() == Duty::Follows {
            // Whoever leads asks the same sources.
            return;
        }
        let mut heard: BTreeMap<RolloutName, Heard> = BTreeMap::new();
        for word in words {
            let Word {
                rollout,
                of,
                interval,
                age,
                said,
            } = word;
            let at = now.mono.before(age);
            heard.entry(rollout).or_default().signals.push(Observation {
                of,
                at,
                interval,
                said,
            });
        }
        self.give(now, heard);
    }

    pub(super) fn take_readings(
        &mut self,
        now: Now,
        readings: Vec<PushedReading>,
    ) -> Result<usize, Vec<ItemFault>> {
        let many = readings.len();
        let mut heard: BTreeMap<RolloutName, Heard> = BTreeMap::new();
        let mut faults = Vec::new();
        for (item, reading) in readings.into_iter().enumerate() {
            let checked = self.reading(now, reading).and_then(|(rollout, observation)| {
                let signals = &mut heard.entry(rollout.clone()).or_default().signals;
                let charge = self.rollouts.get(&rollout);
                if charge.is_some_and(|charge| !charge.gate.has_room(&observation.of, signals)) {
                    let why = format!("a signal is told apart for {MAX_SIGNAL_SEGMENTS} segments, and those are others");
                    return Err(("segment", why));
                }
                signals.push(observation);
                Ok(())
            });
            if let Err((key, why)) = checked {
                faults.push(ItemFault { item, key, why });
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        self.give(now, heard);
        Ok(many)
    }

    pub(super) fn take_outcomes(
        &mut self,
        now: Now,
        outcomes: Vec<PostedOutcome>,
    ) -> Result<OutcomesTaken, Vec<ItemFault>> {
        let mut taken = OutcomesTaken::default();
        let mut heard: BTreeMap<RolloutName, Heard> = BTreeMap::new();
        let mut ids = BTreeSet::new();
        let mut faults = Vec::new();
        for (item, outcome) in outcomes.into_iter().enumerate() {
            let (rollout, name, at) = match self.outcome(now, &outcome) {
                Ok(known) => known,
                Err((key, why)) => {
                    faults.push(ItemFault { item, key, why });
                    continue;
                }
            };
            let id = outcome.id.as_deref().map(id_hash);
            let known = |id| {
                let before = self
                    .rollouts
                    .get(&rollout)
                    .is_some_and(|charge| charge.gate.counted(id));
                before || ids.contains(&(rollout.clone(), id))
            };
            if id.is_some_and(known) {
                taken.duplicates += 1;
                continue;
            }
            match self.credited(&rollout, name, at, id, &outcome) {
                Ok(credited) => {
                    taken.counted += 1;
                    ids.extend(id.map(|id| (rollout.clone(), id)));
                    heard.entry(rollout).or_default().outcomes.push(credited);
                }
                Err(why) => taken.left_out.push((item, why)),
            }
        }
        if !faults.is_empty() {
            return Err(faults);
        }
        self.give(now, heard);
        Ok(taken)
    }

    fn give(&mut self, now: Now, heard: BTreeMap<RolloutName, Heard>) {
        for (name, heard) in heard {
            self.tell(now, &name, Input::Heard(Box::new(heard)));
        }
    }

    fn reading(
        &self,
        now: Now,
        reading: PushedReading,
    ) -> Result<(RolloutName, Observation), Fault> {
        let (rollout, settings) = self.named(&reading.rollout)?;
        let signal = pushed_signal(settings, &reading.name).map_err(|why| ("name", why))?;
        let identity = &settings.plan.identity;
        let arm = Arm::ALL
            .into_iter()
            .find(|&arm| pool_of(identity, arm).as_str() == reading.pool);
        let arm = arm.ok_or_else(|| {
            let [baseline, canary] = Arm::ALL.map(|arm| pool_of(identity, arm));
            let why = format!(
                "{:?} is no pool of {rollout}; its pools are {baseline} and {canary}",
                reading.pool
            );
            ("pool", why)
        })?;
        if !reading.value.is_finite() {
            return Err(("value", format!("{} is not a finite number", reading.value)));
        }
        if reading.count == Some(0) {
            return Err(("count", "a value of 0 measurements says nothing".to_owned()));
        }
        let age = ago(now, reading.at)?;
        if age > signal.interval * STALE_AFTER_INTERVALS {
            let (age, interval) = (
                format_duration(Duration::from_secs(age.as_secs())),
                format_duration(signal.interval),
            );
            return Err((
                "at",
                format!(
                    "{age} old: older than {STALE_AFTER_INTERVALS} intervals of {interval} is no data"
                ),
            ));
        }
        let observation = Observation {
            of: SeriesKey {
                name: signal.name,
                arm,
                segment: segment(reading.segment)?.map(Arc::from),
            },
            at: now.mono.before(age),
            interval: signal.interval,
            said: Said::Value {
                value: reading.value,
                count: reading.count.unwrap_or(1),
            },
        };
        Ok((rollout, observation))
    }

    /// The rollout, the outcome and the moment that an item names, if all of it is well formed.
    fn outcome(
        &self,
        now: Now,
        outcome: &PostedOutcome,
    ) -> Result<(RolloutName, SignalName, Timestamp), Fault> {
        let (rollout, settings) = self.named(&outcome.rollout)?;
        let gate = self.rollouts.get(&rollout).map(|charge| &charge.gate);
        let plan = gate.and_then(|gate| gate.plan()).unwrap_or(&settings.plan);
        let known = outcomes_of(plan);
        let name = known.iter().find(|name| name.as_str() == outcome.name);
        let name = *name.ok_or_else(|| {
            let known: Vec<&str> = known.iter().map(SignalName::as_str).collect();
            (
                "name",
                format!(
                    "{rollout} takes no outcomes {:?}; it takes {}",
                    outcome.name,
                    known.join(", ")
                ),
            )
        })?;
        if outcome.learner.is_empty() {
            return Err(("learner", "empty".to_owned()));
        }
        segment(outcome.segment.clone())?;
        if outcome.value.is_nan() || outcome.value.abs() > LARGEST_RESULT {
            return Err((
                "value",
                format!("{} is not a number up to 1e15", outcome.value),
            ));
        }
        Ok((rollout, name, now.mono.before(ago(now, outcome.at)?)))
    }

    fn credited(
        &self,
        rollout: &RolloutName,
        name: SignalName,
        at: Timestamp,
        id: Option<u64>,
        outcome: &PostedOutcome,
    ) -> Result<Credited, String> {
        let charge = self
            .rollouts
            .get(rollout)
            .ok_or_else(|| "the rollout is gone".to_owned())?;
        let asked = Asked {
            learner: outcome.learner.as_bytes(),
            segment: outcome.segment.as_deref(),
            at,
        };
        let (arm, learner) = charge
            .gate
            .credited_arm(&asked)
            .map_err(|why| why.to_string())?;
        Ok(Credited {
            name,
            arm,
            learner,
            value: outcome.value,
            id,
        })
    }

    fn named(&self, rollout: &str) -> Result<(RolloutName, &Rollout), Fault> {
        let found = self.config.rollouts.get_key_value(rollout);
        let found = found.map(|(name, settings)| (name.clone(), settings));
        found.ok_or_else(|| ("rollout", format!("there is no rollout {rollout:?}")))
    }
}

/// The signal of this name, if values of it are pushed.
fn pushed_signal<'a>(settings: &'a Rollout, name: &str) -> Result<&'a Signal, String> {
    let signal = settings
        .signals
        .iter()
        .find(|signal| signal.name.as_str() == name);
    let signal = signal.ok_or_else(|| {
        let pushed = settings
            .signals
            .iter()
            .filter(|signal| signal.source == SignalSource::Push);
        let pushed: Vec<&str> = pushed.map(|signal| signal.name.as_str()).collect();
        match pushed.is_empty() {
            true => format!("{name:?} is not declared: no signal has source \"push\""),
            false => format!(
                "{name:?} is not declared; with source \"push\" are {}",
                pushed.join(", ")
            ),
        }
    })?;
    match signal.source {
        SignalSource::Push => Ok(signal),
        SignalSource::Prometheus { .. }
        | SignalSource::Json { .. }
        | SignalSource::Scrape { .. }
        | SignalSource::Outcomes => Err(format!(
            "{name:?} is not pushed: its source is {:?}",
            signal.source.as_str()
        )),
    }
}

/// The outcomes that a plan compares: those it declares, and `revenue`.
fn outcomes_of(plan: &Plan) -> Vec<SignalName> {
    let declared = plan.signals.iter().filter_map(|spec| spec.outcome());
    let revenue = SignalName::parse(REVENUE_IMPACT)
        .ok()
        .and_then(|name| plan.signal(name));
    let revenue = revenue
        .filter(|spec| spec.kind == SignalKind::Outcomes)
        .and_then(|spec| outcome_of(spec.name));
    let mut names: Vec<SignalName> = declared.chain(revenue).collect();
    names.sort_unstable();
    names.dedup();
    names
}

fn segment(segment: Option<String>) -> Result<Option<String>, Fault> {
    match segment {
        Some(name) if name.is_empty() || name.len() > MAX_SEGMENT_LEN => Err((
            "segment",
            format!("a segment's name has 1 to {MAX_SEGMENT_LEN} bytes"),
        )),
        segment => Ok(segment),
    }
}

/// How long ago a wall time was that an author gave; now if none.
fn ago(now: Now, at: Option<WallTime>) -> Result<Duration, Fault> {
    let Some(at) = at else {
        return Ok(Duration::ZERO);
    };
    let ago_ms = now
        .wall
        .as_unix_millis()
        .saturating_sub(at.as_unix_millis());
    match u64::try_from(ago_ms) {
        Ok(ago_ms) => Ok(Duration::from_millis(ago_ms)),
        Err(_) if u128::from(ago_ms.unsigned_abs()) <= AHEAD.as_millis() => Ok(Duration::ZERO),
        Err(_) => Err(("at", "it lies in the future".to_owned())),
    }
}
