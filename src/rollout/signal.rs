//! Signals: figures that the proxy cannot see, as their sources said them, and when.
//!
//! Owns what a plan declares, the recent readings, and when a reading is no data: never made, failed, not a number, or
//! older than three of its intervals. Never asks a source, and never judges a condition.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::name::{Arm, SignalName};
use super::time::{Timestamp, format_duration};

/// A reading older than so many of its intervals is no data (gate.md, "Windows and data").
pub const STALE_AFTER_INTERVALS: u32 = 3;
/// A window `over` a signal holds at most so many intervals, so that what is kept stays small.
pub const MAX_INTERVALS_OVER: u32 = 240;
/// Segments told apart for one signal on one arm; readings of further ones are refused.
pub const MAX_SIGNAL_SEGMENTS: usize = 64;
/// The outcome-based figure that needs no declaration.
pub const REVENUE_IMPACT: &str = "revenue_impact";
/// What the name of a figure from outcomes ends with: `revenue_impact` compares outcomes named `revenue`.
pub const IMPACT: &str = "_impact";
/// The share of mirrored requests that canary answered otherwise than baseline; it needs no declaration.
pub const MIRROR_DIFFERENCE: &str = "mirror_difference";
/// Of that figure: where nothing was compared for three of them there is no data, and a window `over` it holds up to 4h.
pub const MIRROR_INTERVAL: Duration = Duration::from_secs(60);
/// A source that said nothing for so long, and for ten of its intervals, is not shown any more.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

/// A signal as a plan declares it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalSpec {
    pub name: SignalName,
    pub kind: SignalKind,
    /// `unproven = "pass"`: a criterion that is unproven lets the stage go on. Never one without data.
    pub unproven_passes: bool,
}

/// Where a signal's figure comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalKind {
    /// A source says a value for each arm, or for the canary alone.
    Read { interval: Duration, arms: ArmsRead },
    /// Results of single learners: mean per outcome on canary / on baseline - 1.
    Outcomes,
}

/// The arms that a source has a value for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArmsRead {
    Both,
    Canary,
}

/// What a source said at one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    pub of: SeriesKey,
    pub at: Timestamp,
    /// Of the source, as it is asked now.
    pub interval: Duration,
    pub said: Said,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Said {
    Value {
        value: f64,
        /// How many measurements it stands for; 1 where nothing is said.
        count: u64,
    },
    /// Why there is no value, in words.
    Failed(String),
}

/// One signal on one arm, of all learners or of one segment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SeriesKey {
    pub name: SignalName,
    pub arm: Arm,
    pub segment: Option<Arc<str>>,
}

/// What was said of late, by signal, arm and segment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Readings(pub BTreeMap<SeriesKey, Series>);

/// The recent past of one signal on one arm.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    pub interval: Duration,
    /// The last value.
    pub latest: Option<Reading>,
    /// The last failure, while no value came after it.
    pub failed: Option<(Timestamp, String)>,
    /// Values of the last window that any condition asks for, oldest first.
    pub past: VecDeque<Reading>,
}

/// One value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reading {
    pub at: Timestamp,
    pub value: f64,
    pub count: u64,
}

/// Why there is no figure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    Never,
    /// Nothing was read since the windows began: the step, or the end of the warm-up.
    NotYet,
    Stale {
        age: Duration,
        interval: Duration,
    },
    Failed(String),
}

// === impl SignalSpec ===

impl SignalSpec {
    /// The outcome that a figure's name compares: `revenue` for `revenue_impact`.
    pub fn outcome(&self) -> Option<SignalName> {
        match self.kind {
            SignalKind::Outcomes => outcome_of(self.name),
            SignalKind::Read { .. } => None,
        }
    }
}

/// `revenue` for `revenue_impact`; `None` for a name that does not end so.
pub fn outcome_of(figure: SignalName) -> Option<SignalName> {
    let outcome = figure.as_str().strip_suffix(IMPACT)?;
    SignalName::parse(outcome).ok()
}

// === impl Readings ===

impl Readings {
    /// Takes what a source said; values are kept for `keep` where a condition asks for a window.
    pub fn take(&mut self, now: Timestamp, observation: Observation, keep: Duration) {
        if !self.has_room(&observation.of, &[]) {
            return;
        }
        let series = self.0.entry(observation.of).or_default();
        series.interval = observation.interval;
        match observation.said {
            Said::Value { value, count } if value.is_finite() => {
                let at = observation.at;
                series.take(Reading {
                    at,
                    value,
                    count: count.max(1),
                });
            }
            Said::Value { .. } => {
                series.fail(observation.at, "it is not a finite number".to_owned())
            }
            Said::Failed(why) => series.fail(observation.at, why),
        }
        let oldest = now.before(keep);
        while series.past.len() > 1 && series.past.front().is_some_and(|first| first.at <= oldest) {
            series.past.pop_front();
        }
    }

    /// Forgets sources that say nothing any more.
    pub fn forget(&mut self, now: Timestamp) {
        self.0.retain(|_, series| {
            let heard = series.heard().unwrap_or_default();
            now.since(heard) <= FORGOTTEN_AFTER.max(series.interval * 10)
        });
    }

    /// The figure at `now`: the latest value, or the mean of the values of the last `over`, each weighted by its count.
    /// What was read before `since` is left out.
    pub fn figure(
        &self,
        of: &SeriesKey,
        now: Timestamp,
        since: Timestamp,
        over: Option<Duration>,
    ) -> Result<Reading, Lack> {
        let series = self.0.get(of).ok_or(Lack::Never)?;
        let latest = series.fresh(now)?;
        if latest.at < since {
            return Err(Lack::NotYet);
        }
        let Some(over) = over else {
            return Ok(latest);
        };
        let after = now.before(over);
        let within = |reading: &&Reading| reading.at > after && reading.at >= since;
        let (mut count, mut sum) = (0_u64, 0.0);
        for reading in series.past.iter().filter(within) {
            count += reading.count;
            sum += reading.value * reading.count as f64;
        }
        match count {
            0 => Err(Lack::NotYet),
            count => Ok(Reading {
                at: latest.at,
                value: sum / count as f64,
                count,
            }),
        }
    }

    /// Whether one more series can be kept, after those that are coming.
    pub fn has_room(&self, of: &SeriesKey, coming: &[Observation]) -> bool {
        let same =
            |key: &&SeriesKey| key.name == of.name && key.arm == of.arm && key.segment.is_some();
        let coming = coming.iter().map(|observation| &observation.of);
        let segments: BTreeSet<&SeriesKey> = self.0.keys().chain(coming).filter(same).collect();
        of.segment.is_none() || segments.contains(of) || segments.len() < MAX_SIGNAL_SEGMENTS
    }
}

// === impl Series ===

impl Series {
    /// The latest value, if it still says something.
    pub fn fresh(&self, now: Timestamp) -> Result<Reading, Lack> {
        if let Some((_, why)) = &self.failed {
            return Err(Lack::Failed(why.clone()));
        }
        let latest = self.latest.ok_or(Lack::Never)?;
        let age = now.since(latest.at);
        if age > self.interval * STALE_AFTER_INTERVALS {
            return Err(Lack::Stale {
                age,
                interval: self.interval,
            });
        }
        Ok(latest)
    }

    /// When the source last said anything.
    pub fn heard(&self) -> Option<Timestamp> {
        let failed = self.failed.as_ref().map(|(at, _)| *at);
        self.latest.map(|latest| latest.at).max(failed)
    }

    // Values within one interval's quarter are one: who pushes often is not kept more often.
    fn take(&mut self, reading: Reading) {
        if self.latest.is_none_or(|latest| latest.at <= reading.at) {
            self.latest = Some(reading);
            self.failed = self.failed.take().filter(|(at, _)| *at > reading.at);
        }
        let near = self.interval / 4;
        match self.past.back_mut() {
            Some(last) if reading.at < last.at.after(near) => last.join(reading),
            Some(_) | None => self.past.push_back(reading),
        }
    }

    fn fail(&mut self, at: Timestamp, why: String) {
        if self.heard().is_none_or(|heard| heard <= at) {
            self.failed = Some((at, why));
        }
    }
}

// === impl Reading ===

impl Reading {
    // The mean of both, at the earlier moment, so that a stream of them does not grow one value without end.
    fn join(&mut self, other: Self) {
        let count = self.count.saturating_add(other.count);
        let share = other.count as f64 / count as f64;
        // Not by their difference, which may be larger than a number can be.
        self.value = self.value * (1.0 - share) + other.value * share;
        self.count = count;
    }
}

// === impl Lack ===

impl Lack {
    /// As a sentence about a signal on an arm.
    pub fn sentence(&self, name: SignalName, arm: Arm) -> String {
        match self {
            Self::Never => format!("{name} was never read on {arm}"),
            Self::NotYet => format!("{name} was not read on {arm} since the windows began"),
            Self::Stale { age, interval } => {
                let age = format_duration(Duration::from_secs(age.as_secs()));
                let interval = format_duration(*interval);
                format!(
                    "{name} on {arm} is {age} old, more than {STALE_AFTER_INTERVALS} intervals of {interval}"
                )
            }
            Self::Failed(why) => format!("{name} on {arm} cannot be read: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> SignalName {
        SignalName::parse(text).expect(text)
    }

    fn key() -> SeriesKey {
        SeriesKey {
            name: name("memory"),
            arm: Arm::Canary,
            segment: None,
        }
    }

    fn at(s: u64) -> Timestamp {
        Timestamp::from_millis(s * 1000)
    }

    fn said(seconds: u64, said: Said) -> Observation {
        Observation {
            of: key(),
            at: at(seconds),
            interval: Duration::from_secs(10),
            said,
        }
    }

    fn value(seconds: u64, value: f64) -> Observation {
        said(seconds, Said::Value { value, count: 1 })
    }

    fn read(observations: Vec<Observation>) -> Readings {
        let mut readings = Readings::default();
        for observation in observations {
            readings.take(observation.at, observation, Duration::from_secs(60));
        }
        readings
    }

    fn figure(readings: &Readings, now: u64, over: Option<u64>) -> Result<f64, Lack> {
        let over = over.map(Duration::from_secs);
        let found = readings.figure(&key(), at(now), at(0), over);
        found.map(|reading| reading.value)
    }

    #[test]
    fn readings_far_apart_join_to_a_number() {
        let reading = |value: f64, count: u64| Reading {
            at: Timestamp::default(),
            value,
            count,
        };
        let mut joined = reading(1.7e308, 1);
        joined.join(reading(-1.7e308, 1));
        assert_eq!(joined.value, 0.0);
        let mut joined = reading(3.0, 2);
        joined.join(reading(9.0, 1));
        assert!((joined.value - 5.0).abs() < 1e-12, "{}", joined.value);
        assert_eq!(joined.count, 3);
    }

    #[test]
    fn a_value_says_something_for_three_intervals() {
        let readings = read(vec![value(100, 5.0)]);
        assert_eq!(figure(&readings, 100, None), Ok(5.0));
        assert_eq!(figure(&readings, 130, None), Ok(5.0));
        let stale = Lack::Stale {
            age: Duration::from_secs(31),
            interval: Duration::from_secs(10),
        };
        assert_eq!(figure(&readings, 131, None), Err(stale.clone()));
        let words = stale.sentence(name("memory"), Arm::Canary);
        assert_eq!(
            words,
            "memory on canary is 31s old, more than 3 intervals of 10s"
        );
        assert_eq!(figure(&Readings::default(), 1, None), Err(Lack::Never));
    }

    #[test]
    fn a_failure_is_no_data_at_once_and_a_value_ends_it() {
        let down = |s| said(s, Said::Failed("refused".to_owned()));
        let mut readings = read(vec![value(100, 5.0), down(110)]);
        let failed = Err(Lack::Failed("refused".to_owned()));
        assert_eq!(figure(&readings, 111, None), failed);
        assert_eq!(figure(&readings, 111, Some(60)), failed);
        readings.take(at(120), value(120, 6.0), Duration::ZERO);
        assert_eq!(figure(&readings, 121, None), Ok(6.0));
        for number in [f64::NAN, f64::INFINITY] {
            let readings = read(vec![value(100, 5.0), value(110, number)]);
            assert!(
                matches!(figure(&readings, 111, None), Err(Lack::Failed(_))),
                "{number}"
            );
        }
    }

    #[test]
    fn a_window_is_the_mean_weighted_by_counts() {
        let weighted = |s, value, count| said(s, Said::Value { value, count });
        let readings = read(vec![
            weighted(100, 1.0, 3),
            weighted(110, 5.0, 1),
            weighted(120, 2.0, 4),
        ]);
        // (1 * 3 + 5 + 2 * 4) / 8, (5 + 8) / 5, and the last alone.
        assert_eq!(figure(&readings, 120, Some(60)), Ok(2.0));
        assert_eq!(figure(&readings, 120, Some(20)), Ok(2.6));
        assert_eq!(figure(&readings, 120, Some(10)), Ok(2.0));
        assert_eq!(figure(&readings, 120, None), Ok(2.0));
    }

    #[test]
    fn what_was_read_before_the_windows_began_is_left_out() {
        let readings = read(vec![value(100, 1.0), value(110, 3.0)]);
        let since = |since: u64, over: Option<u64>| {
            let over = over.map(Duration::from_secs);
            readings
                .figure(&key(), at(115), at(since), over)
                .map(|reading| reading.value)
        };
        assert_eq!(since(105, None), Ok(3.0));
        assert_eq!(since(105, Some(60)), Ok(3.0));
        assert_eq!(since(111, None), Err(Lack::NotYet));
        assert_eq!(since(u64::MAX / 1000, None), Err(Lack::NotYet));
    }

    #[test]
    fn a_late_value_does_not_replace_a_newer_one() {
        let readings = read(vec![value(100, 1.0), value(120, 3.0), value(110, 2.0)]);
        assert_eq!(figure(&readings, 121, None), Ok(3.0));
    }

    #[test]
    fn segments_have_a_bound() {
        let of = |n: usize| {
            let mut pushed = value(1, 1.0);
            pushed.of.segment = Some(Arc::from(format!("s{n}")));
            pushed
        };
        let mut readings = Readings::default();
        for n in 0..MAX_SIGNAL_SEGMENTS {
            assert!(readings.has_room(&of(n).of, &[]), "{n}");
            readings.take(at(1), of(n), Duration::ZERO);
        }
        assert!(readings.has_room(&of(0).of, &[]) && readings.has_room(&key(), &[]));
        assert!(!readings.has_room(&of(MAX_SIGNAL_SEGMENTS).of, &[]));
        readings.take(at(1), of(MAX_SIGNAL_SEGMENTS), Duration::ZERO);
        assert_eq!(readings.0.len(), MAX_SIGNAL_SEGMENTS);
        let coming: Vec<Observation> = (0..MAX_SIGNAL_SEGMENTS).map(of).collect();
        assert!(!Readings::default().has_room(&of(MAX_SIGNAL_SEGMENTS).of, &coming));
    }

    #[test]
    fn what_is_kept_stays_small() {
        let mut readings = Readings::default();
        for tenth in 0..100_000_u64 {
            let now = Timestamp::from_millis(tenth * 100);
            let mut pushed = value(0, 1.0);
            pushed.at = now;
            readings.take(now, pushed, Duration::from_secs(60));
        }
        let kept = readings.0[&key()].past.len();
        assert!((24..=26).contains(&kept), "{kept} values for 60 s at 10 s");
        readings.forget(at(10_000 + 3_600));
        assert!(readings.0.is_empty());
    }
}
