//! A rollout in lines of text: its headline, its figures, its conditions, its events.
//!
//! Used by `status`, `watch`, the actions and the demo, so that they speak alike. Prints only what the records hold.

mod bars;
mod outside;
mod pools;
mod standing;

use std::time::Duration;

pub(super) use bars::{bar, evidence, progress};
pub(super) use outside::outside;
pub(super) use pools::{Span, brief, lines, segments, table};
pub(super) use standing::{checkpoints, stages, warnings};

use crate::records::Moment;
use crate::records::evaluation::{EvaluationRecord, UnitWord};
use crate::records::event::{Detail, EventRecord};
use crate::records::people::PeopleRecord;
use crate::records::status::StatusRecord;
use crate::report::sentence;
use crate::rollout::condition::Op;
use crate::rollout::gate::Phase;
use crate::rollout::time::format_duration;
use crate::rollout::verdict::{Purpose, Verdict};

/// `analyzer: running, stage ramp, ultra_fast 10%, 12m of 4h`.
pub(super) fn headline(status: &StatusRecord) -> String {
    let mut parts = vec![format!(
        "{}: {}",
        status.rollout,
        status.phase.as_str().replace('_', " ")
    )];
    if let Some(stage) = &status.stage
        && !status.phase.is_ended()
    {
        parts.push(format!("stage {stage}"));
    }
    parts.push(format!(
        "{} {}",
        status.pools.canary,
        percent(status.weight)
    ));
    if let Some(end) = status.stage_ends_at_ms {
        parts.push(format!("{} of {}", span(status.stage_time_ms), span(end)));
    }
    parts.extend(people(&status.people));
    for cause in &status.causes {
        parts.push(format!("{}: {}", cause.cause.as_str(), cause.why));
    }
    if let Some(event) = status.awaiting_store {
        parts.push(format!("waiting for event {event} to be on disk"));
    }
    parts.join(", ")
}

/// `frozen by ops: fair`, `approval of finance missing`, `watched as close`.
fn people(people: &PeopleRecord) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(frozen) = &people.frozen {
        let until = frozen
            .until
            .map_or_else(String::new, |until| format!(" until {until}"));
        parts.push(format!("frozen{until} by {}: {}", frozen.by, frozen.reason));
    }
    if let Some(approval) = people
        .approval
        .as_ref()
        .filter(|one| !one.missing.is_empty())
    {
        parts.push(format!(
            "approval of {} missing (event {})",
            approval.missing.join(", "),
            approval.asked
        ));
    }
    if !people.waits_for.is_empty() {
        let words: Vec<&str> = people
            .waits_for
            .iter()
            .map(|word| word.0.as_str())
            .collect();
        parts.push(format!("waiting for {}", words.join(", ")));
    }
    if let Some(start) = people.next_start {
        parts.push(format!("next stage at {start}"));
    }
    if let Some(level) = &people.level {
        parts.push(format!("watched as {level}"));
    }
    parts
}

/// `pass      error_rate < 1%            0.12% of 4312 requests`.
pub(super) fn evaluation_line(evaluation: &EvaluationRecord) -> String {
    let verdict = verdict(evaluation.verdict);
    let counted = match evaluation.metric.signal() {
        Some(_) if evaluation.requests == 1 => "value",
        Some(_) => "values",
        None => "requests",
    };
    let place = evaluation.segment.as_ref();
    let place = place.map_or_else(String::new, |name| format!(" in {name}"));
    let mut line = format!(
        "{verdict:<9} {:<44} {:>9} of {} {counted}{place}",
        evaluation.condition,
        value(evaluation.figure, evaluation.unit),
        evaluation.requests
    );
    if let Some([low, high]) = evaluation.interval {
        let bound = |bound| value(Some(bound), evaluation.unit);
        line.push_str(&format!(", {} to {}", bound(low), bound(high)));
    }
    if let Some(breached) = evaluation.breached_for_ms {
        line.push_str(&format!(", breached for {}", span(breached)));
    }
    if !evaluation.note.is_empty() {
        line.push_str(&format!(" ({})", evaluation.note));
    }
    line
}

/// A verdict as people scan for it.
pub(super) const fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail => "FAIL",
        Verdict::Unproven => "unproven",
        Verdict::NoData => "no data",
    }
}

/// The list of a stage that a condition stands in, as a plan calls it.
pub(super) const fn purpose(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Advance => "advance",
        Purpose::Hold => "hold",
        Purpose::Rollback => "rollback",
        Purpose::Tripwire => "tripwire",
    }
}

/// What happened, in the report's words, with the figures it rests on, by whom and why.
pub(super) fn event_line(event: &EventRecord) -> String {
    let mut line = sentence(event);
    let decisive = decisive(event);
    if !decisive.is_empty() {
        line.push_str(&format!("; {}", verdicts(&decisive)));
    }
    if event.by != "gate" {
        line.push_str(&format!(" [{}]", event.by));
    }
    if !event.reason.is_empty() {
        line.push_str(&format!(" ({})", event.reason));
    }
    line
}

/// The evaluations that an event rests on: criteria where something was passed, what was breached where it was not.
fn decisive(event: &EventRecord) -> Vec<&EvaluationRecord> {
    let of = |purpose: fn(&EvaluationRecord) -> bool| -> Vec<&EvaluationRecord> {
        event
            .evaluations()
            .iter()
            .filter(move |one| purpose(one))
            .collect()
    };
    match &event.detail {
        Detail::Checkpoint { .. } | Detail::Advanced { .. } | Detail::Completed { .. } => {
            of(|one| one.purpose == Purpose::Advance)
        }
        Detail::RolledBack(_) | Detail::SegmentLowered(_) | Detail::Held { .. } => {
            let breached =
                of(|one| one.verdict == Verdict::Fail && one.purpose != Purpose::Advance);
            if breached.is_empty() {
                of(|one| one.verdict == Verdict::Fail)
            } else {
                breached
            }
        }
        _ => Vec::new(),
    }
}

/// Whether an event is bad news, for colours.
pub(super) fn is_alarm(event: &EventRecord) -> bool {
    matches!(
        event.detail,
        Detail::RolledBack(_)
            | Detail::SegmentLowered(_)
            | Detail::Held { .. }
            | Detail::AlarmNoted { .. }
            | Detail::Aborted { .. }
    )
}

/// `error_rate 0.12% < 1%, p99 41ms < 200ms`: each figure beside its limit.
fn verdicts(evaluations: &[&EvaluationRecord]) -> String {
    let line = |evaluation: &&EvaluationRecord| {
        let mark = match (evaluation.purpose, evaluation.verdict) {
            (Purpose::Advance, Verdict::Fail) => " UNMET",
            (Purpose::Advance, Verdict::Unproven) => " (unproven)",
            (Purpose::Advance, Verdict::NoData) => " (no data)",
            (Purpose::Advance, Verdict::Pass)
            | (Purpose::Hold | Purpose::Rollback | Purpose::Tripwire, _) => "",
        };
        let (figure, limit) = (
            value(evaluation.figure, evaluation.unit),
            value(Some(evaluation.limit), evaluation.unit),
        );
        let metric = evaluation
            .condition
            .split([' ', '|'])
            .find(|word| !word.is_empty())
            .unwrap_or_default();
        format!("{metric} {figure} {} {limit}{mark}", sign(evaluation.op))
    };
    evaluations.iter().map(line).collect::<Vec<_>>().join(", ")
}

const fn sign(op: Op) -> &'static str {
    match op {
        Op::Less => "<",
        Op::LessOrEqual => "<=",
        Op::Greater => ">",
        Op::GreaterOrEqual => ">=",
        Op::Equal => "==",
    }
}

/// Phases in which nothing moves any more.
pub(super) fn is_over(phase: Phase) -> bool {
    matches!(phase, Phase::Complete | Phase::RolledBack | Phase::Aborted)
}

pub(super) fn value(figure: Option<f64>, unit: UnitWord) -> String {
    match (figure, unit) {
        (None, _) => "-".to_owned(),
        (figure, UnitWord::Share) => rate(figure),
        (figure, UnitWord::Ms) => latency(figure),
        (Some(figure), UnitWord::PerSecond) => format!("{figure:.1}/s"),
        (Some(figure), UnitWord::Count) => format!("{figure}"),
        (Some(figure), UnitWord::Number) => format!("{figure:.2}"),
    }
}

/// A share as a percentage, to the ppm, without closing zeros.
pub(super) fn percent(share: f64) -> String {
    let text = format!("{:.4}", share * 100.0);
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

pub(super) fn rate(share: Option<f64>) -> String {
    match share {
        None => "-".to_owned(),
        Some(share) if share.is_infinite() => "inf".to_owned(),
        Some(share) => format!("{:.2}%", share * 100.0),
    }
}

pub(super) fn latency(ms: Option<f64>) -> String {
    match ms {
        None => "-".to_owned(),
        Some(ms) if ms < 10.0 => format!("{ms:.1}ms"),
        Some(ms) => format!("{ms:.0}ms"),
    }
}

/// Milliseconds as people write them, to the tenth of a second below a minute.
pub(super) fn span(ms: u64) -> String {
    if ms < 1_000 {
        format!("{ms}ms")
    } else if ms < 60_000 {
        format!("{:.1}s", ms as f64 / 1_000.0).replace(".0s", "s")
    } else {
        format_duration(Duration::from_secs(ms / 1_000))
    }
}

/// `14:05:09Z`, without the day.
pub(super) fn time_of_day(at: Moment) -> String {
    let text = at.to_string();
    text.get(11..19)
        .map_or_else(|| text.clone(), |time| format!("{time}Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_printed_in_their_units() {
        assert_eq!(percent(0.000_001), "0.0001%");
        assert_eq!(percent(1.0), "100%");
        assert_eq!(rate(Some(0.001_234)), "0.12%");
        assert_eq!(latency(Some(4.26)), "4.3ms");
        assert_eq!(latency(Some(199.6)), "200ms");
        assert_eq!(value(None, UnitWord::Ms), "-");
        for (ms, text) in [
            (5, "5ms"),
            (1_500, "1.5s"),
            (15_000, "15s"),
            (90_000, "1m30s"),
            (7_200_000, "2h"),
        ] {
            assert_eq!(span(ms), text);
        }
    }
}
