//! Why the run stands where it stands, in a sentence, and what a person may do next.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::wording::{figure_text, grouped, rollback_reason, seen, sentence, span, weight_text};
use crate::records::evaluation::EvaluationRecord;
use crate::records::event::{Detail, EventRecord, RollbackWord, RolledBack};
use crate::records::status::StatusRecord;
use crate::rollout::gate::Phase;
use crate::rollout::verdict::{Purpose, Verdict};

/// What stands for itself in a path; the rest is encoded.
const IN_A_PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

pub(super) fn decision(
    status: &StatusRecord,
    events: &[EventRecord],
    phase: Phase,
    current: bool,
) -> String {
    match phase {
        Phase::Complete => completed(events),
        Phase::RolledBack | Phase::RollingBack => rolled_back(events),
        Phase::Held => held(status, events, current),
        Phase::Aborted => last_sentence(events, "aborted"),
        Phase::Scheduled
        | Phase::Running
        | Phase::AwaitingApproval
        | Phase::Waiting
        | Phase::Stabilizing
        | Phase::Paused
        | Phase::Manual
        | Phase::Idle => {
            let outlook = match current && !status.outlook.is_empty() {
                true => format!(": {}", status.outlook),
                false => String::new(),
            };
            format!("Not decided ({}){outlook}", phase.as_str())
        }
    }
}

fn completed(events: &[EventRecord]) -> String {
    let end = events
        .iter()
        .rev()
        .find(|event| matches!(event.detail, Detail::Completed { .. }));
    let Some(event) = end else {
        return "Completed".to_owned();
    };
    let at = weight_text(event.weight_ppm);
    if matches!(event.detail, Detail::Completed { forced: true, .. }) {
        return format!(
            "Completed at {at} by {} over what was not met: {}",
            event.by, event.reason
        );
    }
    format!("Completed at {at}: every criterion of the last stage was met and no trigger was true")
}

fn rolled_back(events: &[EventRecord]) -> String {
    let last = events
        .iter()
        .rev()
        .find_map(|event| event.rollback().map(|back| (event, back)));
    let Some((event, back)) = last else {
        return "Rolled back".to_owned();
    };
    let mut text = format!(
        "Rolled back from {} because {}",
        weight_text(back.from_weight_ppm),
        rollback_reason(back)
    );
    if let Some(proof) = proof(back) {
        text.push_str(&format!(
            ": {} over {} requests (limit {})",
            seen(proof),
            grouped(proof.requests),
            figure_text(proof.unit, proof.limit)
        ));
    }
    if let Some(since) = back.breached_since_clock_ms {
        text.push_str(&format!(
            "; decided {} after the condition was first seen true",
            span(event.clock_ms.saturating_sub(since))
        ));
    }
    if !event.reason.is_empty() && event.by != "gate" {
        text.push_str(&format!("; {}: {}", event.by, event.reason));
    }
    text
}

/// The evaluation that took the weight down; `None` where a person did.
fn proof(back: &RolledBack) -> Option<&EvaluationRecord> {
    let find =
        |is_it: &dyn Fn(&EvaluationRecord) -> bool| back.evaluations.iter().find(|one| is_it(one));
    match back.cause {
        RollbackWord::Trigger => find(&|one| {
            one.purpose == Purpose::Rollback && Some(&one.condition) == back.trigger.as_ref()
        }),
        RollbackWord::Tripwire => find(&|one| one.purpose == Purpose::Tripwire),
        RollbackWord::Criteria => {
            find(&|one| one.purpose == Purpose::Advance && one.verdict == Verdict::Fail)
        }
        RollbackWord::Operator => None,
    }
}

fn held(status: &StatusRecord, events: &[EventRecord], current: bool) -> String {
    if !current || status.causes.is_empty() {
        return last_sentence(events, "held");
    }
    let causes: Vec<String> = status
        .causes
        .iter()
        .map(|one| format!("{} since {}: {}", one.cause.as_str(), one.since, one.why))
        .collect();
    format!(
        "Held at {} ({})",
        weight_text(status.weight_ppm),
        causes.join("; ")
    )
}

fn last_sentence(events: &[EventRecord], word: &str) -> String {
    let last = events.iter().rev().find(|event| event.kind() == word);
    let Some(event) = last else {
        return capitalised(word);
    };
    let text = capitalised(&sentence(event));
    if event.reason.is_empty() {
        text
    } else {
        format!("{text}; {}: {}", event.by, event.reason)
    }
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(letters).collect()
    })
}

pub(super) fn next_steps(phase: Phase, status: &StatusRecord) -> Vec<String> {
    let canary = &status.pools.canary;
    let steps: &[&str] = match phase {
        Phase::Complete => &[
            "Keep the baseline pool running until you are sure: a rollback needs it.",
            "Before the next rollout make the new version the baseline pool.",
        ],
        Phase::RolledBack | Phase::RollingBack => &[
            "Find the cause in the canary's logs at the moments in the timeline; the evidence is in the rollback's event.",
            "Nothing starts again by itself: `serin start` begins a new run when the canary is repaired.",
        ],
        Phase::Held => &[
            "Look into the causes above; those that end by themselves resume the stage.",
            "Then `serin resume`, `serin retry`, `serin advance --force --reason ...`, or `serin rollback`.",
        ],
        Phase::Running => &[
            "Nothing to do: the gate decides when the stage ends. `serin watch` and `serin status` show it.",
        ],
        Phase::AwaitingApproval => &[
            "The roles that are asked say `serin approve` or `serin reject`; triggers stay armed meanwhile.",
        ],
        Phase::Scheduled | Phase::Waiting => &[
            "Nothing to do where a time, a window or a freeze is waited for; where a start was missed, `serin advance`.",
        ],
        Phase::Stabilizing => &[
            "Nothing to do: it is complete at the end, and begins anew after a day that fails what is required.",
        ],
        Phase::Paused => &["`serin resume` goes on; triggers stay armed meanwhile."],
        Phase::Manual => &[
            "The weight was set by hand: `serin weights` sets it back, `serin start` begins a run.",
        ],
        Phase::Aborted => {
            &["The run is over: `serin start` begins a new one, with the plan in the file."]
        }
        Phase::Idle => &["`serin start` begins a run."],
    };
    let mut steps: Vec<String> = steps.iter().map(|step| (*step).to_owned()).collect();
    for segment in status
        .segments
        .iter()
        .filter(|one| one.lowered_by.is_some())
    {
        steps.push(format!(
            "Segment {} stays on baseline: when the cause is found and gone, lift its ceiling with `DELETE /api/rollouts/{}/segments/{}`.",
            segment.segment,
            status.rollout,
            utf8_percent_encode(&segment.segment, IN_A_PATH)
        ));
    }
    if status.weight_ppm > 0 && !status.guarded {
        steps.push(format!(
            "No trigger guards {canary} now: set the weight with the guard on, or take it to 0."
        ));
    }
    steps
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rollback_rests_on_what_caused_it() {
        let evaluation = |purpose: &str, condition: &str| {
            serde_json::json!({
                "purpose": purpose, "condition": condition, "metric": "error_rate", "selector": "canary", "op": ">",
                "limit": 0.5, "figure": 0.6, "unit": "share", "requests": 100, "window_ms": 1000, "verdict": "fail",
            })
        };
        let check = |cause: &str, expected: Option<&str>| {
            let back: RolledBack = serde_json::from_value(serde_json::json!({
                "cause": cause, "trigger": (cause == "trigger").then_some("error_rate > 1.5%"),
                "from_weight": 0.1, "from_weight_ppm": 100_000, "breached_since": null, "breached_since_clock_ms": null,
                "evaluations": [
                    evaluation("advance", "error_rate < 1%"),
                    evaluation("rollback", "error_rate > 1.5%"),
                    evaluation("tripwire", "error_rate > 50% over 1s"),
                ],
            }))
            .expect("the published form");
            assert_eq!(
                proof(&back).map(|one| one.condition.as_str()),
                expected,
                "{cause}"
            );
        };
        check("trigger", Some("error_rate > 1.5%"));
        check("tripwire", Some("error_rate > 50% over 1s"));
        check("criteria", Some("error_rate < 1%"));
        check("operator", None);
    }
}
