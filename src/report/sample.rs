//! What the requests that were counted can show, and what they cannot, in plain words.

use super::bound::upper_bound;
use super::stages::StageFindings;
use super::wording::{grouped, one_learners, place, share_text};
use crate::records::evaluation::EvaluationRecord;
use crate::records::evidence::EvidenceRecord;
use crate::records::status::{SpanRecord, StatusRecord};
use crate::rollout::condition::{Metric, Op, Selector};
use crate::rollout::gate::SUPPOSED_RATE;
use crate::rollout::plan::EvidenceParts;
use crate::rollout::stats::detectable::{CHANCE, Sample, Test, smallest};

pub(super) fn sample(
    status: &StatusRecord,
    stages: &[StageFindings],
    current: bool,
) -> Vec<String> {
    let mut lines = Vec::new();
    if current {
        lines.push(whole_run(&status.figures.canary.run));
        lines.extend(without_worst(&status.figures.canary.run));
        lines.extend(status.evidence.iter().flat_map(EvidenceRecord::sentences));
        lines.extend(regression_shown(
            &status.figures.baseline.run,
            &status.figures.canary.run,
            evidence(status),
        ));
    }
    for stage in stages {
        lines.extend(
            stage
                .criteria
                .iter()
                .filter_map(|one| criterion_shown(&stage.name, one)),
        );
    }
    lines.push(
        "What does not pass through the proxy is not in these figures, and a difference between the pools that is smaller than \
         these bounds cannot be seen in them."
            .to_owned(),
    );
    lines
}

// The run's own, where its plan says them.
fn evidence(status: &StatusRecord) -> EvidenceParts {
    let gate = status.plan.as_ref().map(|plan| &plan.gate);
    gate.map_or(EvidenceParts::DEFAULT, |gate| EvidenceParts {
        alpha: gate.alpha,
        odds_margin: gate.odds_margin,
    })
}

fn whole_run(run: &SpanRecord) -> String {
    if run.requests == 0 {
        return "No canary request was counted: the run shows nothing about the canary.".to_owned();
    }
    let bound = upper_bound(run.errors, run.requests);
    format!(
        "Over the run {} of {} canary requests failed. With that many requests a true error rate of up to {} cannot be excluded \
         (exact binomial upper bound, 95%).",
        grouped(run.errors),
        grouped(run.requests),
        share_text(bound)
    )
}

/// Where most of canary's failures are one learner's: what the others met.
fn without_worst(run: &SpanRecord) -> Option<String> {
    let said = one_learners(run)?;
    let worst = run.errors_of_one_learner?;
    let errors = run.errors.checked_sub(worst).filter(|&rest| rest < worst)?;
    let requests = run.requests.checked_sub(worst)?;
    let of_others = match requests {
        0 => "there were no other requests".to_owned(),
        _ => format!(
            "without these {} of {} canary requests failed, {}",
            grouped(errors),
            grouped(requests),
            share_text(errors as f64 / requests as f64)
        ),
    };
    Some(format!(
        "On canary {said}: that is one learner's failures and no fault of the release by itself. Evidence counts him once, and a \
         threshold that he alone breaks rolls nothing back; {of_others}."
    ))
}

/// The smallest regression of errors that the run's requests would have revealed; `None` where an arm had none. The split of
/// the arms is taken as if it had been one over the whole run, so this is said with "about".
fn regression_shown(
    baseline: &SpanRecord,
    canary: &SpanRecord,
    evidence: EvidenceParts,
) -> Option<String> {
    if baseline.requests == 0 || canary.requests == 0 {
        return None;
    }
    let (base_rate, of_baseline) = match baseline.errors {
        0 => (
            SUPPOSED_RATE,
            format!("{} on baseline, which had none,", share_text(SUPPOSED_RATE)),
        ),
        errors => {
            let rate = errors as f64 / baseline.requests as f64;
            (rate, format!("baseline's {}", share_text(rate)))
        }
    };
    let sample = Sample {
        baseline: baseline.requests,
        canary: canary.requests,
        base_rate,
        blocks: 1,
        blocks_before: 0,
    };
    let test = Test::of_errors(evidence.odds_margin, evidence.alpha);
    Some(match smallest(test, sample) {
        Some(found) => format!(
            "Against {of_baseline} these requests show a canary that fails from the beginning at about {} or more ({:.1} times as \
             often) with {} chance.",
            share_text(found.rate),
            found.ratio,
            share_text(CHANCE),
        ),
        None => format!(
            "Against {of_baseline} these requests are too few to show even a canary that always fails."
        ),
    })
}

/// For a limit on the canary's error rate: whether the requests seen can show it; for a percentile: what it rests on.
fn criterion_shown(stage: &str, one: &EvaluationRecord) -> Option<String> {
    let figure = one
        .figure
        .filter(|figure| figure.is_finite() && one.selector == Selector::Canary)?;
    let n = one.requests;
    match one.metric {
        Metric::ErrorRate if matches!(one.op, Op::Less | Op::LessOrEqual) => {
            let failures = (figure * n as f64).round() as u64;
            let bound = upper_bound(failures, n);
            let shown = if bound <= one.limit {
                "shown"
            } else {
                "NOT shown by this sample"
            };
            Some(format!(
                "Stage {stage}{}: {} errors in {} requests leave error rates up to {} possible; `{}` is {shown}.",
                place(one),
                grouped(failures),
                grouped(n),
                share_text(bound),
                one.condition
            ))
        }
        Metric::P99 => Some(slowest(stage, one, n, 100)),
        Metric::P999 => Some(slowest(stage, one, n, 1000)),
        Metric::ErrorRate
        | Metric::ClientErrorRate
        | Metric::Abandoned
        | Metric::P50
        | Metric::P95
        | Metric::Availability
        | Metric::Uptime
        | Metric::Throughput
        | Metric::Incidents
        | Metric::SegmentVariance
        | Metric::Regression(_)
        | Metric::Signal(_) => None,
    }
}

fn slowest(stage: &str, one: &EvaluationRecord, requests: u64, one_in: u64) -> String {
    format!(
        "Stage {stage}{}: `{}` rests on the slowest {} of {} requests.",
        place(one),
        one.condition,
        grouped(requests / one_in),
        grouped(requests)
    )
}
