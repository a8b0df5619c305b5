//! What came out, as text and as JSON. Every number from the run.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::many::{Spread, Summary};
use super::run::{End, Ran};
use super::scenario::Scenario;
use crate::records::event::EventRecord;
use crate::report::{sentence, share_text, upper_bound_beyond};
use crate::rollout::gate::Event;
use crate::rollout::name::RolloutName;
use crate::rollout::time::format_duration;

impl End {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::RolledBack => "rolled_back",
            Self::Aborted => "aborted",
            Self::Held => "held",
            Self::Unfinished => "unfinished",
        }
    }
}

/// The decisions of one run as a timeline, and its end.
pub fn one_as_text(rollout: &RolloutName, scenario: &Scenario, seed: u64, ran: &Ran) -> String {
    let mut text = title(&scenario.name, &scenario.about, seed, 1);
    for event in &ran.events {
        let at = format_duration(since_start(ran, event));
        let said = sentence(&EventRecord::new(rollout, event));
        let reason = match (event.by.as_str(), event.reason.as_str()) {
            ("gate", reason) if !reason.is_empty() && !said.contains(reason) => {
                format!(" ({reason})")
            }
            _ => String::new(),
        };
        line(
            &mut text,
            format_args!("{at:>12}  {:>6}  {said}{reason}", event.weight.to_string()),
        );
    }
    let lasted = format_duration(ran.lasted);
    line(
        &mut text,
        format_args!("\n{} after {lasted}: {}", ran.end.as_str(), ran.outlook),
    );
    let [baseline, canary] = ran.requests;
    line(
        &mut text,
        format_args!(
            "requests: {canary} on canary, {baseline} on baseline; {} failed because of canary",
            ran.harmed
        ),
    );
    let errors = ran.errors[1];
    let bound = |beyond| share_text(upper_bound_beyond(beyond, errors, canary));
    let (likely, sure) = (bound(0.05), bound(0.01));
    line(
        &mut text,
        format_args!(
            "what that shows: {errors} of {canary} failed on canary, so its error rate is below {likely} with 95 % confidence and below {sure} with 99 %"
        ),
    );
    match (ran.found, ran.false_alarm) {
        (Some(found), _) => line(
            &mut text,
            format_args!(
                "the fault was found after {} and {} canary requests",
                format_duration(found.after),
                found.canary_requests
            ),
        ),
        (None, true) => line(
            &mut text,
            format_args!("a false alarm: canary was no worse than baseline"),
        ),
        (None, false) if scenario.fault_at().is_some_and(|at| at < ran.lasted) => {
            line(
                &mut text,
                format_args!("canary was worse than baseline and no weight was taken back for it"),
            );
        }
        (None, false) => {}
    }
    text
}

/// The same for programs.
pub fn one_as_json(rollout: &RolloutName, scenario: &Scenario, seed: u64, ran: &Ran) -> Value {
    let events: Vec<EventRecord> = ran
        .events
        .iter()
        .map(|event| EventRecord::new(rollout, event))
        .collect();
    let found = ran.found.map(|found| {
        json!({
            "after_ms": found.after.as_millis() as u64,
            "canary_requests": found.canary_requests,
        })
    });
    json!({
        "scenario": scenario.name,
        "seed": seed,
        "end": ran.end.as_str(),
        "outlook": ran.outlook,
        "lasted_ms": ran.lasted.as_millis() as u64,
        "baseline_requests": ran.requests[0],
        "canary_requests": ran.requests[1],
        "baseline_errors": ran.errors[0],
        "canary_errors": ran.errors[1],
        "harmed": ran.harmed,
        "lowered_segments": ran.lowered,
        "false_rollback": ran.false_alarm,
        "found": found,
        "events": events,
    })
}

/// What many runs say together.
pub fn summary_as_text(about: &str, summary: &Summary) -> String {
    let mut text = title(&summary.scenario, about, summary.seed, summary.runs);
    let share = |count: u64| {
        format!(
            "{count:>7}  {:.2} %",
            100.0 * count as f64 / summary.runs.max(1) as f64
        )
    };
    for (name, count) in [
        ("completed", summary.completed),
        ("rolled back", summary.rolled_back),
        ("held", summary.held),
        ("aborted", summary.aborted),
        ("unfinished", summary.unfinished),
    ] {
        line(&mut text, format_args!("{name:<18}{}", share(count)));
    }
    let [low, high] = summary.false_rollback_interval.map(|bound| 100.0 * bound);
    line(
        &mut text,
        format_args!(
            "{:<18}{}  (95 % interval {low:.3} % to {high:.3} %)",
            "false rollbacks",
            share(summary.false_rollbacks)
        ),
    );
    line(
        &mut text,
        format_args!("{:<18}{}", "faults found", share(summary.found)),
    );
    if summary.lowered_alone > 0 {
        line(
            &mut text,
            format_args!(
                "{:<18}{}",
                "segment lowered alone",
                share(summary.lowered_alone)
            ),
        );
    }
    let rows = [
        ("seconds to find", summary.detection_seconds),
        (
            "canary requests until then",
            summary.canary_requests_to_detection,
        ),
        ("requests failed because of canary", Some(summary.harmed)),
        ("canary requests", Some(summary.canary_requests)),
    ];
    for (name, spread) in rows {
        if let Some(Spread { median, p90, most }) = spread {
            line(
                &mut text,
                format_args!("{name:<34}median {median}, p90 {p90}, most {most}"),
            );
        }
    }
    text
}

fn title(name: &str, about: &str, seed: u64, runs: u64) -> String {
    let name = if name.is_empty() { "scenario" } else { name };
    let runs = if runs == 1 {
        String::new()
    } else {
        format!(", {runs} runs")
    };
    let about = if about.is_empty() {
        String::new()
    } else {
        format!("{}\n", about.trim_end())
    };
    format!("{name}, seed {seed}{runs}\n{about}\n")
}

fn since_start(ran: &Ran, event: &Event) -> Duration {
    ran.events
        .first()
        .map_or(Duration::ZERO, |first| event.at.mono.since(first.at.mono))
}

fn line(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a text in memory cannot fail.
    writeln!(text, "{what}").expect("a text grows");
}
