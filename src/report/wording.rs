//! Numbers and events in words: one sentence for each kind of event.

use std::time::Duration;

use crate::records::evaluation::{EvaluationRecord, UnitWord};
use crate::records::event::{Detail, EventRecord, RollbackWord, RolledBack};
use crate::records::recovery::RecoveryRecord;
use crate::records::rehearsal::RehearsalRecord;
use crate::records::status::SpanRecord;
use crate::rollout::time::format_duration;
use crate::rollout::verdict::Verdict;
use crate::rollout::weight::Weight;

/// So many failures a trigger needs, of as many learners.
const TELLING: u64 = 3;

/// What happened, without when and by whom: `advanced from canary to ramp: 10% of learners`.
pub fn sentence(event: &EventRecord) -> String {
    let weight = weight_text(event.weight_ppm);
    match &event.detail {
        // While hooks run before the first stage, its weight is not in force yet.
        Detail::Started { stages } if event.weight_ppm == 0 => {
            format!("started: {}, none in force yet", stage_count(*stages))
        }
        Detail::Started { stages } => {
            format!("started: {}, the first at {weight}", stage_count(*stages))
        }
        Detail::StageBegan => format!(
            "stage {} began: the first canary request at {weight}",
            stage(event)
        ),
        Detail::Checkpoint {
            due_ms,
            late,
            evaluations,
        } => {
            let late = if *late { " (late)" } else { "" };
            format!("checkpoint {}{late}: {}", span(*due_ms), tally(evaluations))
        }
        Detail::IntervalFailed {
            from_ms,
            to_ms,
            evaluations,
        } => {
            format!(
                "the interval from {} to {} failed: {}",
                span(*from_ms),
                span(*to_ms),
                failures(evaluations)
            )
        }
        Detail::Advanced {
            from, to, forced, ..
        } => {
            format!(
                "advanced from {from} to {to}{}: {weight} of learners",
                forced_text(*forced)
            )
        }
        Detail::Completed { forced, .. } => {
            format!("completed{} at {weight} of learners", forced_text(*forced))
        }
        Detail::Extended {
            until_ms, missing, ..
        } => {
            format!(
                "stage {} extended to at most {}: {}",
                stage(event),
                span(*until_ms),
                missing.join("; ")
            )
        }
        Detail::Held { cause, .. } => format!("held at {weight} ({})", cause.as_str()),
        Detail::CauseEnded { cause } => format!("the cause {} of the hold ended", cause.as_str()),
        Detail::Resumed => format!("resumed at {weight}"),
        Detail::Retried => format!("stage {} begun again", stage(event)),
        Detail::Paused => format!("paused at {weight}"),
        Detail::RolledBack(back) => rolled_back(event, back),
        Detail::Recovered(recovery) => format!("baseline is well again: {}", steps(recovery)),
        Detail::NotRecovered(recovery) => format!(
            "BASELINE IS NOT WELL after the rollback: {}",
            steps(recovery)
        ),
        Detail::Aborted {
            from_weight_ppm, ..
        } => format!("aborted from {}", weight_text(*from_weight_ppm)),
        Detail::WeightSet {
            from_weight_ppm,
            guarded,
            ..
        } => {
            let unguarded = if *guarded { "" } else { ", WITHOUT GUARD" };
            format!(
                "weight set by hand from {} to {weight}{unguarded}",
                weight_text(*from_weight_ppm)
            )
        }
        Detail::Pinned { learner, pool } => format!("learner {learner} pinned to {pool}"),
        Detail::Unpinned { learner } => format!("learner {learner} no longer pinned"),
        Detail::CeilingSet {
            segment,
            from_ceiling_ppm,
            ceiling_ppm,
            ..
        } => format!(
            "ceiling of segment {segment} set from {} to {}",
            weight_text(*from_ceiling_ppm),
            weight_text(*ceiling_ppm)
        ),
        Detail::CeilingLifted {
            segment,
            from_ceiling_ppm,
            ..
        } => format!(
            "ceiling of segment {segment} lifted from {}",
            weight_text(*from_ceiling_ppm)
        ),
        Detail::SegmentLowered(lowered) => format!(
            "segment {} lowered to 0%: `{}` was true; the rest goes on",
            lowered.segment, lowered.trigger
        ),
        Detail::IncidentOpened { incident, summary } => {
            format!("incident {incident} opened: {summary}")
        }
        Detail::IncidentClosed { incident } => format!("incident {incident} closed"),
        Detail::AlarmNoted { why, evaluations } if evaluations.is_empty() => {
            format!("alarm noted: {why}")
        }
        Detail::AlarmNoted { why, evaluations } => {
            format!("alarm without effect ({why}): {}", failures(evaluations))
        }
        Detail::CanaryReplaced { what } => {
            format!("canary replaced ({what}): the stage begins anew")
        }
        Detail::RehearsalBegan { fault, .. } => format!("rehearsal began: {}", fault.text),
        Detail::RehearsalEnded(outcome) => rehearsed(outcome),
        Detail::Restarted {
            gap_ms,
            windows_kept,
        } => {
            let windows = if *windows_kept { "kept" } else { "begun anew" };
            let gap = span(*gap_ms);
            match event.reason.as_str() {
                "" => format!("serin came back after {gap}; windows {windows}"),
                reason => format!("{reason}, after {gap}; windows {windows}"),
            }
        }
        Detail::HookStarted { hook, again } => {
            let again = if *again { " again" } else { "" };
            format!("{} began{again}", hook.in_words())
        }
        Detail::HookEnded { hook, ending } => format!(
            "{} {} after {}: {}",
            hook.in_words(),
            ending.outcome.as_str(),
            format_duration(ending.took()),
            ending.why
        ),
        Detail::FleetNoted { what } => what.clone(),
        Detail::ClockJumped { by_ms } => format!("the wall clock jumped by {by_ms} ms"),
        Detail::Scheduled { stages, start_at } => {
            format!(
                "scheduled: {}, the first from {start_at} on",
                stage_count(*stages)
            )
        }
        Detail::ApprovalAsked { roles, .. } => {
            format!(
                "stage {} passed; the approval of {} is asked for",
                stage(event),
                roles.join(", ")
            )
        }
        Detail::Approved { role, missing, .. } if missing.is_empty() => {
            format!("approved for {role}; nobody is missing")
        }
        Detail::Approved { role, missing, .. } => {
            format!("approved for {role}; missing: {}", missing.join(", "))
        }
        Detail::ApprovalsVoided { roles, why } => {
            format!("the approval of {} is void: {why}", roles.join(", "))
        }
        Detail::Waits { .. } => format!("waits at {weight}"),
        Detail::Frozen { until: Some(until) } => format!("frozen at {weight} until {until}"),
        Detail::Frozen { until: None } => format!("frozen at {weight}"),
        Detail::Unfrozen => "the freeze is over".to_owned(),
        Detail::LevelBegan { level, report_ms } => {
            let report = report_ms.map_or_else(String::new, |report_ms| {
                format!(", a report every {}", span(report_ms))
            });
            format!("stabilization is watched as {level}{report}")
        }
        Detail::DayBegan {
            day, days, alpha, ..
        } => format!(
            "day {day} of {days} of the stabilization began; evidence begins anew at alpha {}",
            trimmed(*alpha, 6)
        ),
        Detail::StabilizationRestarted {
            after_ms,
            evaluations,
        } => format!(
            "stabilization begins anew after {}: {}",
            span(*after_ms),
            failures(evaluations)
        ),
        Detail::Reminded { since, times, .. } => {
            format!("reminder {times}: it has waited for a person since {since}")
        }
        Detail::Unknown => "an event that this version does not know".to_owned(),
    }
}

fn rehearsed(outcome: &RehearsalRecord) -> String {
    let steps = [
        ("found", outcome.detected_ms),
        ("weights back", outcome.back_ms),
        ("recovered", outcome.recovered_ms),
    ];
    let seen: Vec<String> = steps
        .iter()
        .filter_map(|(step, at)| at.map(|at| format!("{step} after {}", span(at))))
        .collect();
    let seen = match seen.is_empty() {
        true => "nothing was found".to_owned(),
        false => seen.join(", "),
    };
    match outcome.why.as_str() {
        "" => format!("rehearsal passed: {seen}"),
        why => format!("rehearsal failed ({why}): {seen}"),
    }
}

// Each step with its time since the alarm, or that it is not back.
fn steps(recovery: &RecoveryRecord) -> String {
    let words = recovery.steps.iter().map(|step| match step.after_ms {
        Some(after) => format!("{} after {}", step.step, span(after)),
        None => format!("{} not back ({})", step.step, step.note),
    });
    words.collect::<Vec<_>>().join(", ")
}

fn rolled_back(event: &EventRecord, back: &RolledBack) -> String {
    let (from, to) = (
        weight_text(back.from_weight_ppm),
        weight_text(event.weight_ppm),
    );
    // Most members had gone back alone: nobody was asked.
    let why = match event.by.as_str() {
        "fleet" => event.reason.clone(),
        _ => rollback_reason(back),
    };
    if event.weight_ppm == 0 {
        format!("rolled back from {from}: {why}")
    } else {
        format!("fell back from {from} to {to}: {why}")
    }
}

/// Why the weight was taken down.
pub(super) fn rollback_reason(back: &RolledBack) -> String {
    match (back.cause, &back.trigger) {
        (RollbackWord::Trigger, Some(condition)) => format!("`{condition}` was true"),
        (RollbackWord::Trigger, None) => "a trigger was true".to_owned(),
        (RollbackWord::Tripwire, _) => "the tripwire was touched".to_owned(),
        (RollbackWord::Criteria, _) => "the criteria were not met at the stage's end".to_owned(),
        (RollbackWord::Operator, _) => "an operator asked for it".to_owned(),
    }
}

fn stage(event: &EventRecord) -> &str {
    event.stage.as_deref().unwrap_or("-")
}

const fn forced_text(forced: bool) -> &'static str {
    if forced { " (forced)" } else { "" }
}

/// `5 pass, 1 fail`.
pub(super) fn tally(evaluations: &[EvaluationRecord]) -> String {
    let each = [
        (Verdict::Pass, "pass"),
        (Verdict::Fail, "fail"),
        (Verdict::Unproven, "unproven"),
        (Verdict::NoData, "no data"),
    ];
    let parts: Vec<String> = each
        .iter()
        .map(|(verdict, word)| {
            (
                evaluations
                    .iter()
                    .filter(|one| one.verdict == *verdict)
                    .count(),
                word,
            )
        })
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    if parts.is_empty() {
        "nothing judged".to_owned()
    } else {
        parts.join(", ")
    }
}

fn failures(evaluations: &[EvaluationRecord]) -> String {
    let failed = evaluations
        .iter()
        .filter(|one| one.verdict == Verdict::Fail);
    let parts: Vec<String> = failed
        .map(|one| format!("`{}` with {}{}", one.condition, seen(one), place(one)))
        .collect();
    if parts.is_empty() {
        tally(evaluations)
    } else {
        parts.join("; ")
    }
}

/// ` in segment eu`, where one was judged by itself.
pub(super) fn place(evaluation: &EvaluationRecord) -> String {
    let segment = evaluation.segment.as_ref();
    segment.map_or_else(String::new, |name| format!(" in segment {name}"))
}

/// The figure of an evaluation.
pub(super) fn seen(evaluation: &EvaluationRecord) -> String {
    evaluation.figure.map_or_else(
        || "no data".to_owned(),
        |figure| {
            let figure = figure_text(evaluation.unit, figure);
            let bound = |bound| figure_text(evaluation.unit, bound);
            match evaluation.interval {
                Some([low, high]) => format!("{figure} ({} to {})", bound(low), bound(high)),
                None => figure,
            }
        },
    )
}

pub(super) const fn verdict_text(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::Unproven => "unproven",
        Verdict::NoData => "no data",
    }
}

pub(super) fn figure_text(unit: UnitWord, figure: f64) -> String {
    if figure.is_infinite() {
        return if figure > 0.0 {
            "beyond any limit".to_owned()
        } else {
            "below any limit".to_owned()
        };
    }
    match unit {
        UnitWord::Share => share_text(figure),
        UnitWord::Ms => format!("{} ms", trimmed(figure, 1)),
        UnitWord::PerSecond => format!("{}/s", trimmed(figure, 1)),
        UnitWord::Count => trimmed(figure, 0),
        UnitWord::Number => number_text(figure),
    }
}

/// A number that is in nobody's unit but its source's.
pub(super) fn number_text(figure: f64) -> String {
    trimmed(figure, 4)
}

/// A share as percent, to 4 places: `0.079%`.
pub fn share_text(share: f64) -> String {
    format!("{}%", trimmed(share * 100.0, 4))
}

fn trimmed(number: f64, places: usize) -> String {
    let text = format!("{number:.places$}");
    if text.contains('.') {
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    } else {
        text
    }
}

pub(super) fn weight_text(ppm: u32) -> String {
    Weight::from_ppm(ppm).map_or_else(|| format!("{ppm} ppm"), |weight| weight.to_string())
}

pub(super) fn span(ms: u64) -> String {
    format_duration(Duration::from_millis(ms))
}

/// `12345` as `12,345`.
/// How many of an arm's failures one learner caused; `None` for so few that it says nothing.
pub(super) fn one_learners(run: &SpanRecord) -> Option<String> {
    let worst = run
        .errors_of_one_learner
        .filter(|&worst| worst >= TELLING)?;
    Some(format!(
        "one learner caused {} of {} failures",
        grouped(worst),
        grouped(run.errors)
    ))
}

pub(super) fn grouped(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn stage_count(stages: usize) -> String {
    match stages {
        1 => "1 stage".to_owned(),
        _ => format!("{stages} stages"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_exact_enough() {
        for (count, text) in [
            (0, "0"),
            (999, "999"),
            (1_000, "1,000"),
            (1_234_567, "1,234,567"),
        ] {
            assert_eq!(grouped(count), text);
        }
        for (share, text) in [
            (0.0, "0%"),
            (0.00079, "0.079%"),
            (0.9997, "99.97%"),
            (1.0, "100%"),
            (-0.03, "-3%"),
        ] {
            assert_eq!(share_text(share), text);
        }
        assert_eq!(figure_text(UnitWord::Ms, 46.08), "46.1 ms");
        assert_eq!(figure_text(UnitWord::Count, 100.0), "100");
        assert_eq!(
            figure_text(UnitWord::Share, f64::INFINITY),
            "beyond any limit"
        );
    }
}
