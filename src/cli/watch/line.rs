//! A rollout in one line, for logs: how it stands, both pools, what is breached or not met, and what happened since the last line.

use crate::admin::wire::RolloutAnswer;
use crate::cli::figures::{self, time_of_day};
use crate::records::Moment;
use crate::records::evaluation::EvaluationRecord;
use crate::records::event::EventRecord;
use crate::rollout::name::Arm;
use crate::rollout::time::WallTime;
use crate::rollout::verdict::{Purpose, Verdict};

pub(super) fn state(answer: &RolloutAnswer, events: &[EventRecord]) -> String {
    let status = &answer.status;
    let mut parts = vec![format!(
        "{} {}",
        time_of_day(status.at),
        figures::headline(status)
    )];
    parts.extend(Arm::ALL.map(|arm| figures::brief(status, arm)));
    if let Some(evidence) = &status.evidence {
        let alarm = if evidence.alarm { " ALARM" } else { "" };
        parts.push(format!(
            "ln(E) {:.2} of {:.2}{alarm}",
            evidence.ln_weighted, evidence.ln_limit
        ));
    }
    parts.extend(status.evaluations.iter().filter_map(lack));
    if let Some(fault) = &answer.store_fault {
        parts.push(format!("THE JOURNAL CANNOT BE WRITTEN: {fault}"));
    }
    if !status.guarded {
        parts.push("NOT GUARDED".to_owned());
    }
    parts.extend(events.iter().map(|event| {
        let mark = if figures::is_alarm(event) { "!" } else { "" };
        format!("{mark}event {}: {}", event.id, figures::event_line(event))
    }));
    parts.join(" | ")
}

/// A trigger that is breached, or a criterion that is not met.
fn lack(one: &EvaluationRecord) -> Option<String> {
    let words = match (one.purpose, one.verdict) {
        (Purpose::Advance, Verdict::Pass) => return None,
        (Purpose::Advance, verdict) => format!("{} ", figures::verdict(verdict)),
        (Purpose::Hold | Purpose::Rollback | Purpose::Tripwire, Verdict::Fail) => {
            format!("BREACHED {} ", figures::purpose(one.purpose))
        }
        (
            Purpose::Hold | Purpose::Rollback | Purpose::Tripwire,
            Verdict::Pass | Verdict::Unproven | Verdict::NoData,
        ) => return None,
    };
    let clock = one.breached_for_ms.map_or_else(String::new, |breached| {
        format!(" for {}", figures::span(breached))
    });
    let figure = figures::value(one.figure, one.unit);
    Some(format!("{words}{} with {figure}{clock}", one.condition))
}

pub(super) fn lost(rollout: &str, now: WallTime, since: WallTime, why: &str) -> String {
    let seconds = (now.as_unix_millis() - since.as_unix_millis()) / 1_000;
    format!(
        "{} {rollout}: NO CONNECTION since {}, {seconds} s: {why}",
        time_of_day(Moment(now)),
        time_of_day(Moment(since))
    )
}

#[cfg(test)]
mod tests {
    use super::super::examples::{answer, at, event};
    use super::*;

    #[test]
    fn a_line_says_how_it_stands_and_what_is_wrong() {
        let mut answer = answer();
        let line = state(&answer, &[event(12)]);
        assert_eq!(
            line,
            "14:00:00Z analyzer: running, stage ramp, ultra_fast 10%, 43m of 4h | original 2677 req/s, 0.01% errors, p99 111ms \
             | ultra_fast 305 req/s, 0.02% errors, p99 231ms | ln(E) 1.20 of 4.61 | FAIL p99 < 200ms with 231ms \
             | BREACHED rollback p99 > 220ms for 5m with 231ms for 40s | event 12: paused at 10% [ops]"
        );
        answer.store_fault = Some("disk full".to_owned());
        answer.status.guarded = false;
        let line = state(&answer, &[]);
        assert!(
            line.ends_with("| THE JOURNAL CANNOT BE WRITTEN: disk full | NOT GUARDED"),
            "{line}"
        );
    }

    #[test]
    fn a_lost_connection_is_a_line_as_well() {
        let line = lost("analyzer", at(42).wall, at(30).wall, "refused");
        assert_eq!(
            line,
            "14:00:42Z analyzer: NO CONNECTION since 14:00:30Z, 12 s: refused"
        );
    }
}
