//! One condition judged on what was measured: the figure, what it was compared with, and the verdict.
//!
//! Owns the data rules and `Evaluation`, which every decision carries. Never moves a weight.

mod outside;

use std::time::Duration;

pub use outside::Outside;

use super::condition::{Condition, Metric, Op, Selector};
use super::name::Arm;
use super::window::{Counts, Measured};

/// A percentile says nothing below so many latencies (gate.md, "Windows and data").
const P99_NEEDS: u64 = 100;
const P999_NEEDS: u64 = 1000;
/// A throughput is read from this span on.
const THROUGHPUT_NEEDS: Duration = Duration::from_secs(1);
/// Answers 4xx are compared only when canary has more than a point above baseline: 0.02 % against 0.01 % is a
/// doubling and means nothing.
const CLIENT_ERRORS_APART: f64 = 0.01;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    Pass,
    Fail,
    /// Too few requests to decide.
    Unproven,
    /// Nothing, or too little, was measured. Never a pass.
    NoData,
}

/// The list of a stage that a condition stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    Advance,
    Hold,
    Rollback,
    Tripwire,
}

/// A condition with what was seen. For `Advance`, `Pass` means that the condition is true; for
/// `Hold`, `Rollback` and `Tripwire`, `Fail` means that it is true: breached.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluation {
    pub purpose: Purpose,
    pub condition: Condition,
    /// In the condition's unit; `None` without data.
    pub figure: Option<f64>,
    /// Where a figure can be bounded: all of its values that the data do not rule out, at any time (gate.md,
    /// "Evidence", 7).
    pub interval: Option<(f64, f64)>,
    /// Baseline's figure for the same metric and window, where it has data.
    pub baseline: Option<f64>,
    /// Counted requests in the window on the arm judged.
    pub requests: u64,
    pub window: Duration,
    pub verdict: Verdict,
    /// How long the condition has been breached (hold and rollback).
    pub breached_for: Option<Duration>,
    /// Distinct learners on the wrong side within the breach, where failures are what is counted.
    pub learners: Option<u64>,
    /// What is missing for a decision, as a sentence with numbers; empty if nothing is.
    pub note: String,
}

/// What conditions are judged on.
#[derive(Clone, Copy)]
pub struct Sample<'a> {
    pub measured: &'a dyn Measured,
    /// Open now, or at most so many at once within the span.
    pub incidents: u64,
    pub min_window_requests: u64,
    /// What is known beside the counts; `None` where nothing is.
    pub outside: Option<Outside<'a>>,
}

// === impl Condition ===

impl Condition {
    /// Whether it is true; `None` without data. Latency limits are read from exact counts, so that a
    /// histogram's bucket never decides.
    pub fn truth(&self, purpose: Purpose, sample: &Sample<'_>) -> Option<bool> {
        if let (Some(limit_us), Some(one_in)) =
            (self.latency_limit_us(), self.metric.one_above_in())
        {
            return self.latency_truth(limit_us, one_in, sample);
        }
        let figure = self.figure(sample)?;
        let apart = match (self.metric, self.selector, purpose) {
            (
                Metric::ClientErrorRate,
                Selector::Delta,
                Purpose::Hold | Purpose::Rollback | Purpose::Tripwire,
            ) => {
                let rate = |arm| sample.figure(Metric::ClientErrorRate, arm);
                rate(Arm::Canary)? - rate(Arm::Baseline)? > CLIENT_ERRORS_APART
            }
            _ => true,
        };
        Some(apart && self.holds(figure))
    }

    /// The figure in the condition's unit; `None` without data on an arm that it reads.
    pub fn figure(&self, sample: &Sample<'_>) -> Option<f64> {
        match self.selector {
            Selector::Canary if self.metric == Metric::Throughput => sample.rate(&Arm::ALL),
            Selector::Canary => self.figure_of(sample, Arm::Canary),
            Selector::Baseline => self.figure_of(sample, Arm::Baseline),
            Selector::Delta => Some(delta(
                self.figure_of(sample, Arm::Canary)?,
                self.figure_of(sample, Arm::Baseline)?,
            )),
        }
    }

    // The metric's own figure on one arm.
    fn figure_of(&self, sample: &Sample<'_>, arm: Arm) -> Option<f64> {
        match self.metric {
            Metric::Signal(name) => sample.outside?.figure(name, arm, self.over),
            metric => sample.figure(metric, arm),
        }
    }

    /// The arm whose requests decide: canary for `delta`.
    pub const fn arm(&self) -> Arm {
        match self.selector {
            Selector::Canary | Selector::Delta => Arm::Canary,
            Selector::Baseline => Arm::Baseline,
        }
    }

    /// Judges it with everything that is to be shown. `window` is what `sample` spans by name.
    pub fn evaluate(&self, purpose: Purpose, sample: &Sample<'_>, window: Duration) -> Evaluation {
        let truth = self.truth(purpose, sample);
        let interval = self.interval(sample);
        let verdict = match (purpose, truth) {
            (_, None) => Verdict::NoData,
            (Purpose::Advance, Some(true)) => Verdict::Pass,
            (Purpose::Advance, Some(false)) => Verdict::Fail,
            (Purpose::Hold | Purpose::Rollback | Purpose::Tripwire, Some(true)) => Verdict::Fail,
            (Purpose::Hold | Purpose::Rollback | Purpose::Tripwire, Some(false)) => Verdict::Pass,
        };
        let verdict = match (purpose, interval) {
            (Purpose::Advance, Some(interval)) => self.whole(interval),
            (Purpose::Advance, None)
            | (Purpose::Hold | Purpose::Rollback | Purpose::Tripwire, _) => verdict,
        };
        Evaluation {
            purpose,
            condition: self.clone(),
            figure: self.figure(sample),
            interval,
            baseline: self.figure_of(sample, Arm::Baseline),
            requests: sample.requests(self),
            window: sample.window(self, window),
            verdict,
            breached_for: None,
            learners: None,
            note: match (truth, interval, verdict) {
                (None, _, _) => self.lacks(sample),
                (Some(_), Some(interval), Verdict::Unproven) => self.straddles(interval),
                (Some(_), _, _) => String::new(),
            },
        }
    }

    // The smallest value that at most one in `one_in` exceeds is at most the limit exactly if at most one in
    // `one_in` exceeds the limit.
    fn latency_truth(&self, limit_us: u64, one_in: u64, sample: &Sample<'_>) -> Option<bool> {
        let timed = sample.measured.counts(self.arm()).timed;
        if timed < sample.needs(self.metric) {
            return None;
        }
        let within = sample.measured.above(self.arm(), limit_us) * one_in <= timed;
        match self.op {
            Op::Less | Op::LessOrEqual => Some(within),
            Op::Greater | Op::GreaterOrEqual => Some(!within),
            Op::Equal => self.figure(sample).map(|figure| self.holds(figure)),
        }
    }

    fn lacks(&self, sample: &Sample<'_>) -> String {
        let arms: &[Arm] = match self.selector {
            Selector::Canary => &[Arm::Canary],
            Selector::Baseline => &[Arm::Baseline],
            Selector::Delta => &[Arm::Canary, Arm::Baseline],
        };
        let lacking = arms
            .iter()
            .filter(|&&arm| self.figure_of(sample, arm).is_none());
        let sentences: Vec<String> = lacking
            .map(|&arm| match (self.metric, sample.outside) {
                (Metric::Signal(name), Some(outside)) => outside.lack(name, arm),
                (metric, _) => sample.lack(metric, arm),
            })
            .collect();
        sentences.join("; ")
    }
}

// === impl Sample ===

impl Sample<'_> {
    fn figure(&self, metric: Metric, arm: Arm) -> Option<f64> {
        let counts = self.measured.counts(arm);
        let share = |part: u64, whole: u64| {
            (whole >= self.needs(metric)).then(|| part as f64 / whole as f64)
        };
        match metric {
            Metric::ErrorRate => share(counts.errors, counts.counted),
            Metric::ClientErrorRate => share(counts.client_errors, counts.counted),
            Metric::Abandoned => share(counts.abandoned, asked(counts)),
            Metric::Availability => {
                share(counts.counted.saturating_sub(counts.failed), counts.counted)
            }
            Metric::Uptime => {
                let probes = self.measured.probes(arm);
                (probes.sent > 0)
                    .then(|| probes.answered.min(probes.sent) as f64 / probes.sent as f64)
            }
            Metric::Throughput => self.rate(&[arm]),
            Metric::Incidents => Some(self.incidents as f64),
            Metric::SegmentVariance | Metric::Regression(_) | Metric::Signal(_) => None,
            Metric::P50 | Metric::P95 | Metric::P99 | Metric::P999 => {
                let one_in = metric.one_above_in()?;
                let enough = counts.timed >= self.needs(metric);
                let latency = enough.then(|| self.measured.percentile_us(arm, one_in))?;
                latency.map(|us| us as f64)
            }
        }
    }

    // A signal's figure is of a moment, unless a window is named.
    fn window(&self, condition: &Condition, named: Duration) -> Duration {
        match (condition.metric, self.outside) {
            (Metric::Signal(name), Some(outside)) => outside.window(name, condition.over),
            (_, _) => named,
        }
    }

    fn rate(&self, arms: &[Arm]) -> Option<f64> {
        let span = self.measured.span();
        let counted: u64 = arms
            .iter()
            .map(|&arm| self.measured.counts(arm).counted)
            .sum();
        (span >= THROUGHPUT_NEEDS).then(|| counted as f64 / span.as_secs_f64())
    }

    /// How many requests (latencies for a percentile, probes for uptime) a figure needs.
    fn needs(&self, metric: Metric) -> u64 {
        match metric {
            Metric::ErrorRate
            | Metric::ClientErrorRate
            | Metric::Abandoned
            | Metric::Availability
            | Metric::P50
            | Metric::P95 => self.min_window_requests.max(1),
            Metric::P99 => self.min_window_requests.max(P99_NEEDS),
            Metric::P999 => self.min_window_requests.max(P999_NEEDS),
            Metric::Uptime => 1,
            Metric::Throughput
            | Metric::Incidents
            | Metric::SegmentVariance
            | Metric::Regression(_)
            | Metric::Signal(_) => 0,
        }
    }

    fn requests(&self, condition: &Condition) -> u64 {
        let counted = |arm| self.measured.counts(arm).counted;
        match (condition.metric, condition.selector) {
            (Metric::Throughput, Selector::Canary) => counted(Arm::Canary) + counted(Arm::Baseline),
            (Metric::Signal(name), _) => self.outside.map_or(0, |outside| {
                outside.count(name, condition.arm(), condition.over)
            }),
            _ => counted(condition.arm()),
        }
    }

    fn lack(&self, metric: Metric, arm: Arm) -> String {
        let counts = self.measured.counts(arm);
        let seen = match metric {
            Metric::Uptime => return format!("no health check of {arm} was sent"),
            Metric::Throughput => return "observed for less than 1s".to_owned(),
            Metric::P50 | Metric::P95 | Metric::P99 | Metric::P999 => counts.timed,
            Metric::Abandoned => asked(counts),
            Metric::ErrorRate
            | Metric::ClientErrorRate
            | Metric::Availability
            | Metric::Incidents
            | Metric::SegmentVariance
            | Metric::Regression(_)
            | Metric::Signal(_) => counts.counted,
        };
        match seen {
            0 => format!("no traffic on {arm}"),
            seen => format!("{seen} of {} requests on {arm}", self.needs(metric)),
        }
    }
}

impl Condition {
    // What the figure's whole interval says: true of all of it, of none of it, or of a part.
    fn whole(&self, (low, high): (f64, f64)) -> Verdict {
        let edges = if self.absolute {
            [-self.value, self.value]
        } else {
            [self.value; 2]
        };
        let split = edges.iter().any(|edge| (low..=high).contains(edge));
        match (split, self.holds(low)) {
            (true, _) => Verdict::Unproven,
            (false, true) => Verdict::Pass,
            (false, false) => Verdict::Fail,
        }
    }

    fn straddles(&self, (low, high): (f64, f64)) -> String {
        let show = |bound| self.unit().show(bound);
        format!("it may be anything from {} to {}", show(low), show(high))
    }

    /// The interval of the figure, where it has one.
    pub fn interval(&self, sample: &Sample<'_>) -> Option<(f64, f64)> {
        sample.outside?.interval(self.metric.signal()?)
    }
}

/// canary / baseline - 1: nothing against nothing is no change, something against nothing is infinitely more.
pub fn delta(canary: f64, baseline: f64) -> f64 {
    if baseline == 0.0 {
        return if canary == 0.0 { 0.0 } else { f64::INFINITY };
    }
    canary / baseline - 1.0
}

// Those who left early are not counted; those who left late are, and stand in both terms.
fn asked(counts: Counts) -> u64 {
    counts.counted + counts.abandoned
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::window::{Probes, Totals};

    fn totals(change: impl FnOnce(&mut Totals)) -> Totals {
        let mut totals = Totals {
            span: Duration::from_secs(60),
            ..Totals::default()
        };
        change(&mut totals);
        totals
    }

    fn truth(text: &str, totals: &Totals) -> Option<bool> {
        let condition = Condition::parse(text).expect(text);
        let sample = Sample {
            measured: totals,
            incidents: 0,
            min_window_requests: 20,
            outside: None,
        };
        condition.truth(Purpose::Rollback, &sample)
    }

    fn errors(baseline: (u64, u64), canary: (u64, u64)) -> Totals {
        totals(|t| {
            for (cell, (errors, counted)) in t.cells.iter_mut().zip([baseline, canary]) {
                (cell.errors, cell.failed, cell.client_errors, cell.counted) =
                    (errors, errors, errors, counted);
            }
        })
    }

    #[test]
    fn without_data_nothing_is_true_or_false() {
        let check = |text: &str, counted: u64, wanted: Option<bool>| {
            assert_eq!(
                truth(text, &errors((0, 1000), (counted, counted))),
                wanted,
                "{text} on {counted}"
            );
        };
        check("error_rate > 1%", 0, None);
        check("error_rate > 1%", 19, None);
        check("error_rate > 1%", 20, Some(true));
        check("availability < 99%", 19, None);
        check("availability < 99%", 20, Some(true));
        check("error_rate{delta} > 1%", 19, None);
        assert_eq!(
            truth("error_rate{delta} > 1%", &errors((0, 19), (20, 20))),
            None
        );
        assert_eq!(truth("uptime < 99%", &totals(|_| ())), None);
        assert_eq!(
            truth(
                "throughput < 1",
                &totals(|t| t.span = Duration::from_millis(999))
            ),
            None
        );
        assert_eq!(truth("throughput < 1", &totals(|_| ())), Some(true));
        assert_eq!(truth("incidents > 0", &totals(|_| ())), Some(false));
    }

    #[test]
    fn a_percentile_is_decided_by_the_exact_count() {
        let check = |text: &str, timed: u64, above: u64, wanted: Option<bool>| {
            let totals = totals(|t| {
                let cell = &mut t.cells[1];
                cell.counted = timed;
                // One bucket for all: at this resolution the histogram cannot tell them apart.
                cell.latency.saturating_record_n(200_000, timed);
                cell.over_limit.insert(200_000, above);
            });
            assert_eq!(truth(text, &totals), wanted, "{text}: {above} of {timed}");
        };
        check("p99 < 200ms", 99, 0, None);
        check("p99 < 200ms", 100, 1, Some(true));
        check("p99 < 200ms", 100, 2, Some(false));
        check("p99 > 200ms", 100, 1, Some(false));
        check("p99 > 200ms", 100, 2, Some(true));
        check("p99 <= 200ms", 199, 1, Some(true));
        check("p99 <= 200ms", 199, 2, Some(false));
        check("p999 < 200ms", 999, 0, None);
        check("p999 < 200ms", 1000, 1, Some(true));
        check("p999 < 200ms", 1000, 2, Some(false));
        check("p95 < 200ms", 20, 1, Some(true));
        check("p95 < 200ms", 20, 2, Some(false));
        check("p50 < 200ms", 19, 0, None);
        check("p50 < 200ms", 21, 10, Some(true));
        check("p50 < 200ms", 21, 11, Some(false));
    }

    #[test]
    fn a_comparison_with_nothing_is_never_nan() {
        let check = |canary: f64, baseline: f64, wanted: f64| {
            assert_eq!(
                delta(canary, baseline),
                wanted,
                "{canary} against {baseline}"
            );
        };
        check(0.0, 0.0, 0.0);
        check(0.1, 0.0, f64::INFINITY);
        check(0.0, 0.1, -1.0);
        check(0.5, 0.25, 1.0);
        assert_eq!(
            truth("error_rate{delta} > 50%", &errors((0, 1000), (0, 1000))),
            Some(false)
        );
        assert_eq!(
            truth("error_rate{delta} > 50%", &errors((0, 1000), (1, 1000))),
            Some(true)
        );
    }

    #[test]
    fn client_errors_count_only_when_a_point_apart() {
        // 4xx are what is set as errors here.
        let check = |baseline: u64, canary: u64, wanted: bool| {
            let totals = errors((baseline, 10_000), (canary, 10_000));
            assert_eq!(
                truth("client_error_rate{delta} > 50%", &totals),
                Some(wanted),
                "{canary} against {baseline}"
            );
        };
        check(10, 100, false);
        check(0, 100, false);
        check(0, 101, true);
        check(1000, 1500, false);
        check(1000, 1501, true);
    }

    #[test]
    fn each_figure_has_its_formula() {
        let totals = totals(|t| {
            for (arm, cell) in t.cells.iter_mut().enumerate() {
                let arm = arm as u64;
                cell.counted = 600 + 600 * arm;
                cell.errors = 6;
                cell.failed = 3;
                cell.abandoned = 200;
                t.probes[arm as usize] = Probes {
                    sent: 40,
                    answered: 39 - arm,
                };
            }
        });
        let figure = |text: &str| {
            let sample = Sample {
                measured: &totals,
                incidents: 2,
                min_window_requests: 20,
                outside: None,
            };
            Condition::parse(text)
                .expect(text)
                .figure(&sample)
                .expect("there is data")
        };
        let check =
            |text: &str, wanted: f64| assert!((figure(text) - wanted).abs() < 1e-12, "{text}");
        check("error_rate < 1%", 0.005);
        check("error_rate{baseline} < 1%", 0.01);
        check("error_rate{delta} < 1%", -0.5);
        check("availability > 1%", 0.9975);
        check("abandoned < 1%", 1.0 / 7.0);
        check("uptime > 1%", 0.95);
        check("throughput > 1", 30.0);
        check("throughput{baseline} > 1", 10.0);
        check("throughput{delta} > 1%", 1.0);
        check("incidents == 0", 2.0);
    }
}
