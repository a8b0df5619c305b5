//! One condition judged on counts.

use super::*;
use crate::rollout::slot::Cell;
use crate::rollout::weight::Weight;
use crate::rollout::window::{Probes, Totals};

fn totals(change: impl FnOnce(&mut Totals)) -> Totals {
    let mut totals = Totals {
        span: Duration::from_secs(60),
        ..Totals::default()
    };
    change(&mut totals);
    totals
}

fn rule() -> SegmentRule<'static> {
    static NONE: Ceilings = Ceilings::new();
    SegmentRule {
        min_requests: 100,
        ceilings: &NONE,
    }
}

fn truth(text: &str, totals: &Totals) -> Option<bool> {
    let condition = Condition::parse(text).expect(text);
    let sample = Sample {
        measured: totals,
        incidents: 0,
        min_window_requests: 20,
        outside: None,
        segments: rule(),
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
            cell.latency.record(200_000, timed);
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

/// Errors of so many requests of one segment, on baseline and canary.
type SegmentErrors = (&'static str, (u64, u64), (u64, u64));

fn variance(segments: &[SegmentErrors], left_out: &[&str]) -> Option<f64> {
    let totals = totals(|t| {
        for &(name, baseline, canary) in segments {
            let sums = [baseline, canary].map(|(errors, counted)| Cell {
                errors,
                counted,
                ..Cell::default()
            });
            for (whole, cell) in t.cells.iter_mut().zip(&sums) {
                whole.merge(cell);
            }
            t.segments.insert(Arc::from(name), sums);
        }
    });
    let ceilings = left_out
        .iter()
        .map(|&name| (Arc::from(name), Weight::ZERO))
        .collect();
    let sample = Sample {
        measured: &totals,
        incidents: 0,
        min_window_requests: 20,
        segments: SegmentRule {
            min_requests: 100,
            ceilings: &ceilings,
        },
        outside: None,
    };
    let condition = Condition::parse("segment_variance < 5%").expect("a condition");
    condition.figure(&sample)
}

#[test]
fn segment_variance_is_the_largest_distance_from_the_whole() {
    let check = |segments: &[SegmentErrors], left_out: &[&str], wanted: Option<f64>| {
        let seen = variance(segments, left_out);
        let near = match (seen, wanted) {
            (Some(seen), Some(wanted)) => (seen - wanted).abs() < 1e-12,
            (seen, wanted) => seen == wanted,
        };
        assert!(near, "{segments:?}: {seen:?} is not {wanted:?}");
    };
    // eu: 0.9 / 1.0 - 1 = -0.1; us: 0; overall: (190/200) / 1 - 1 = -0.05. Both are 0.05 off.
    let eu = ("eu", (0, 100), (10, 100));
    let us = ("us", (0, 100), (0, 100));
    check(&[eu, us], &[], Some(0.05));
    // Three times us: overall 390/400 - 1 = -0.025, eu is 0.075 off.
    let wide = ("us", (0, 300), (0, 300));
    check(&[eu, wide], &[], Some(0.075));
    // One below the least on one arm does not qualify, though it is in the whole.
    check(
        &[("eu", (0, 100), (10, 99)), ("us", (0, 99), (0, 100))],
        &[],
        None,
    );
    check(&[], &[], None);
    // Left out by its ceiling.
    check(&[eu, us], &["eu"], Some(0.05));
    check(&[eu], &["eu"], None);
    // A baseline that answers nobody well is no number.
    check(&[("eu", (100, 100), (0, 100))], &[], None);
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
            segments: rule(),
        };
        Condition::parse(text)
            .expect(text)
            .figure(&sample)
            .expect("there is data")
    };
    let check = |text: &str, wanted: f64| assert!((figure(text) - wanted).abs() < 1e-12, "{text}");
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
