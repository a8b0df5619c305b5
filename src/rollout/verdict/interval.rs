//! What a condition's figure may be in truth, and what all of that says of the condition.
//!
//! Owns the 95 % intervals that hold at all times together (gate.md, "Evidence", 7): a share of requests by the two-sided
//! beta-binomial mixture, a business mean by its own. A percentile's limit is read as the share of requests above it,
//! from the exact counter. A comparison of two shares takes half of the level for each, so that both hold together.
//! What is a fact (probes, throughput, incidents) or was read elsewhere has none.

use super::{Sample, Verdict, asked, delta};
use crate::rollout::condition::{Condition, Metric, Op, Selector};
use crate::rollout::name::Arm;
use crate::rollout::stats::interval::{Interval, rate};

/// The chance that the truth ever lies outside.
const ALPHA: f64 = 0.05;

/// What the data leave possible.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bounds {
    /// Of the figure, in the condition's unit; `None` for a percentile, and where an end is infinite.
    pub(super) shown: Option<(f64, f64)>,
    /// `Pass` where the condition is true of all of it, `Fail` where of none of it.
    pub(super) says: Verdict,
    /// What is possible, as a sentence.
    pub(super) note: String,
}

impl Condition {
    /// `None` where the figure has no interval.
    pub(super) fn bounds(&self, sample: &Sample<'_>) -> Option<Bounds> {
        if let (Some(limit_us), Some(one_in)) =
            (self.latency_limit_us(), self.metric.one_above_in())
        {
            return self.latency_bounds(limit_us, one_in, sample);
        }
        if self.metric.signal().is_some() {
            return self
                .interval(sample)
                .map(|interval| self.bounds_of(interval));
        }
        let interval = match self.selector {
            Selector::Canary => self.share(sample, Arm::Canary, ALPHA),
            Selector::Baseline => self.share(sample, Arm::Baseline, ALPHA),
            Selector::Delta => {
                let canary = self.share(sample, Arm::Canary, ALPHA / 2.0)?;
                let baseline = self.share(sample, Arm::Baseline, ALPHA / 2.0)?;
                Some((delta(canary.0, baseline.1), delta(canary.1, baseline.0)))
            }
        };
        interval.map(|interval| self.bounds_of(interval))
    }

    /// The interval of a business figure, where there are results enough for one.
    pub fn interval(&self, sample: &Sample<'_>) -> Option<(f64, f64)> {
        sample.outside?.interval(self.metric.signal()?)
    }

    fn bounds_of(&self, interval: (f64, f64)) -> Bounds {
        let finite = interval.0.is_finite() && interval.1.is_finite();
        Bounds {
            shown: finite.then_some(interval),
            says: self.whole(interval),
            note: self.straddles(interval),
        }
    }

    // The share of requests that the metric counts on one arm.
    fn share(&self, sample: &Sample<'_>, arm: Arm, alpha: f64) -> Option<(f64, f64)> {
        let counts = sample.measured.counts(arm);
        let of = |part: u64, whole: u64| rate(part, whole, alpha);
        let (low, high) = match self.metric {
            Metric::ErrorRate => ends(of(counts.errors, counts.counted)),
            Metric::ClientErrorRate => ends(of(counts.client_errors, counts.counted)),
            Metric::Abandoned => ends(of(counts.abandoned, asked(counts))),
            Metric::Availability => {
                let failed = of(counts.failed, counts.counted);
                (1.0 - failed.upper, 1.0 - failed.lower)
            }
            Metric::Uptime
            | Metric::Throughput
            | Metric::Incidents
            | Metric::SegmentVariance
            | Metric::Regression(_)
            | Metric::Signal(_)
            | Metric::P50
            | Metric::P95
            | Metric::P99
            | Metric::P999 => return None,
        };
        Some((low, high))
    }

    // The percentile keeps its limit exactly if at most one in `one_in` requests exceeds it.
    fn latency_bounds(&self, limit_us: u64, one_in: u64, sample: &Sample<'_>) -> Option<Bounds> {
        let timed = sample.measured.counts(self.arm()).timed;
        let above = rate(sample.measured.above(self.arm(), limit_us), timed, ALPHA);
        let allowed = 1.0 / one_in as f64;
        let kept = match (above.upper <= allowed, above.lower > allowed) {
            (true, _) => Verdict::Pass,
            (false, true) => Verdict::Fail,
            (false, false) => Verdict::Unproven,
        };
        let says = match (self.op, kept) {
            (Op::Equal, _) => return None,
            (Op::Less | Op::LessOrEqual, kept) => kept,
            (Op::Greater | Op::GreaterOrEqual, Verdict::Pass) => Verdict::Fail,
            (Op::Greater | Op::GreaterOrEqual, Verdict::Fail) => Verdict::Pass,
            (Op::Greater | Op::GreaterOrEqual, open @ (Verdict::Unproven | Verdict::NoData)) => {
                open
            }
        };
        let percent = |share: f64| format!("{:.4}", 100.0 * share);
        let percent = |share: f64| trimmed(percent(share));
        Some(Bounds {
            shown: None,
            says,
            note: format!(
                "{}% to {}% of requests may be above it, {}% are allowed",
                percent(above.lower),
                percent(above.upper),
                percent(allowed)
            ),
        })
    }

    // What the figure's whole interval says: true of all of it, of none of it, or of a part.
    pub(super) fn whole(&self, (low, high): (f64, f64)) -> Verdict {
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
}

fn ends(interval: Interval) -> (f64, f64) {
    (interval.lower, interval.upper)
}

fn trimmed(text: String) -> String {
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::{Purpose, SegmentRule};
    use super::*;
    use crate::rollout::assign::Ceilings;
    use crate::rollout::verdict::Evaluation;
    use crate::rollout::window::Totals;

    fn judged(purpose: Purpose, text: &str, arms: [(u64, u64); 2]) -> Evaluation {
        static NONE: Ceilings = Ceilings::new();
        let mut totals = Totals::default();
        for (cell, (wrong, counted)) in totals.cells.iter_mut().zip(arms) {
            (cell.errors, cell.failed, cell.client_errors) = (wrong, wrong, wrong);
            cell.counted = counted;
            cell.latency.record(200_000, counted);
            cell.over_limit.insert(200_000, wrong);
        }
        let sample = Sample {
            measured: &totals,
            incidents: 0,
            min_window_requests: 20,
            outside: None,
            segments: SegmentRule {
                min_requests: 100,
                ceilings: &NONE,
            },
        };
        let condition = Condition::parse(text).expect(text);
        condition.evaluate(purpose, &sample, Duration::from_secs(60))
    }

    fn of_1000(text: &str, wrong: u64) -> (Verdict, Option<Verdict>) {
        let evaluation = judged(Purpose::Advance, text, [(0, 0), (wrong, 1_000)]);
        (evaluation.verdict, evaluation.interval_says)
    }

    #[test]
    fn a_criterion_missed_by_chance_is_unproven_and_beyond_it_fails() {
        use Verdict::{Fail, Pass, Unproven};
        // By the same mixture in Python's own log-gamma: 21 of 1,000 leave 0.956 % possible, 22 of 1,000 nothing below
        // 1.024 %; of 0 at most 0.44 %.
        for (text, met) in [
            ("error_rate < 1%", "error_rate"),
            ("availability > 99%", "availability"),
            ("client_error_rate <= 1%", "client_error_rate"),
            ("p99 < 200ms", "p99"),
        ] {
            assert_eq!(of_1000(text, 0), (Pass, Some(Pass)), "{met}");
            assert_eq!(of_1000(text, 9), (Pass, Some(Unproven)), "{met}");
            assert_eq!(of_1000(text, 21), (Unproven, Some(Unproven)), "{met}");
            assert_eq!(of_1000(text, 22), (Fail, Some(Fail)), "{met}");
        }
        let evaluation = judged(Purpose::Advance, "p99 < 200ms", [(0, 0), (21, 1_000)]);
        assert_eq!(
            evaluation.note,
            "0.9561% to 3.7579% of requests may be above it, 1% are allowed"
        );
        assert_eq!(evaluation.interval, None, "no latency is bounded");
    }

    #[test]
    fn the_interval_is_that_of_the_vectors() {
        // C2.1 of the vectors: 15 errors in 1,000 requests, 95 %.
        let evaluation = judged(Purpose::Advance, "error_rate < 1%", [(0, 0), (15, 1_000)]);
        let (low, high) = evaluation.interval.expect("a rate has one");
        assert!((low - 0.005_667_863_340_732_993).abs() < 1e-9, "{low}");
        assert!((high - 0.029_519_256_225_220_614).abs() < 1e-9, "{high}");
        assert_eq!(evaluation.verdict, Verdict::Unproven);
    }

    #[test]
    fn a_comparison_holds_for_all_that_both_arms_may_be() {
        let check = |arms, verdict: Verdict, says: Verdict| {
            let evaluation = judged(Purpose::Advance, "error_rate{delta} < 50%", arms);
            assert_eq!(
                (evaluation.verdict, evaluation.interval_says),
                (verdict, Some(says)),
                "{arms:?}: {:?}",
                evaluation.interval
            );
        };
        check(
            [(1_000, 100_000), (1_000, 100_000)],
            Verdict::Pass,
            Verdict::Pass,
        );
        check(
            [(1_000, 100_000), (12, 1_000)],
            Verdict::Pass,
            Verdict::Unproven,
        );
        check(
            [(1_000, 100_000), (18, 1_000)],
            Verdict::Unproven,
            Verdict::Unproven,
        );
        check(
            [(1_000, 100_000), (60, 1_000)],
            Verdict::Fail,
            Verdict::Fail,
        );
        // Nothing on baseline leaves any ratio possible; JSON has no infinity.
        let endless = judged(
            Purpose::Advance,
            "error_rate{delta} < 50%",
            [(0, 100), (1, 100)],
        );
        assert_eq!(
            (endless.verdict, endless.interval),
            (Verdict::Unproven, None)
        );
    }

    #[test]
    fn a_guard_acts_by_its_figure_and_shows_what_its_interval_says() {
        let check = |wrong: u64, verdict: Verdict, says: Option<Verdict>| {
            let evaluation = judged(
                Purpose::Rollback,
                "error_rate > 1% for 2m",
                [(0, 0), (wrong, 1_000)],
            );
            assert_eq!(
                (evaluation.verdict, evaluation.interval_says),
                (verdict, says)
            );
        };
        check(9, Verdict::Pass, None);
        check(21, Verdict::Fail, Some(Verdict::Unproven));
        check(22, Verdict::Fail, Some(Verdict::Fail));
    }

    #[test]
    fn a_fact_has_no_interval() {
        let evaluation = judged(Purpose::Advance, "incidents == 0", [(0, 0), (0, 1_000)]);
        assert_eq!(
            (evaluation.verdict, evaluation.interval_says),
            (Verdict::Pass, None)
        );
    }
}
