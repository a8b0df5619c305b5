//! Notices in words: one short text for people, from the records alone.

use std::time::Duration;

use super::wording::{sentence, weight_text};
use crate::records::event::EventRecord;
use crate::records::status::{SpanRecord, StatusRecord};
use crate::rollout::time::format_duration;

/// An event with what a person needs to place it.
pub fn event_notice(event: &EventRecord) -> String {
    let mut text = format!("{}: {}", event.rollout, sentence(event));
    if !event.reason.is_empty() {
        text.push_str(&format!(" ({})", event.reason));
    }
    text.push_str(&format!(
        "\n{} at {} of learners, by {}, {}, event {}/{}",
        event.phase.as_words(),
        weight_text(event.weight_ppm),
        event.by,
        event.at,
        event.rollout,
        event.id
    ));
    text
}

/// How far a run is, in two or three lines.
pub fn progress(status: &StatusRecord) -> String {
    let mut text = format!(
        "{}: {} at {} of learners{}\ncanary: {}\nbaseline: {}",
        status.rollout,
        status.phase.as_words(),
        weight_text(status.weight_ppm),
        stage(status),
        span(&status.figures.canary.recent),
        span(&status.figures.baseline.recent),
    );
    if !status.outlook.is_empty() {
        text.push('\n');
        text.push_str(&status.outlook);
    }
    text
}

/// That nobody acted on a hold for so long.
pub fn reminder(status: &StatusRecord, held: Duration) -> String {
    let causes: Vec<String> = status
        .causes
        .iter()
        .map(|cause| format!("{} ({})", cause.cause.as_str(), cause.why))
        .collect();
    format!(
        "{}: held for {} and nobody acted: {}\nat {} of learners{}",
        status.rollout,
        whole_seconds(held),
        causes.join("; "),
        weight_text(status.weight_ppm),
        stage(status),
    )
}

fn stage(status: &StatusRecord) -> String {
    let Some(stage) = &status.stage else {
        return String::new();
    };
    let time = whole_seconds(Duration::from_millis(status.stage_time_ms));
    match status.stage_ends_at_ms.map(Duration::from_millis) {
        Some(end) => format!(", stage {stage}, {time} of {}", whole_seconds(end)),
        None => format!(", stage {stage}, {time}"),
    }
}

fn span(figures: &SpanRecord) -> String {
    let share = |share: Option<f64>| {
        share.map_or_else(
            || "no data".to_owned(),
            |share| format!("{:.2} %", share * 100.0),
        )
    };
    let p99 = figures
        .p99_ms
        .map_or_else(|| "no data".to_owned(), |ms| format!("{ms:.0} ms"));
    format!(
        "{} requests in the last 60 s, errors {}, p99 {p99}, availability {}",
        figures.requests,
        share(figures.error_rate),
        share(figures.availability),
    )
}

fn whole_seconds(span: Duration) -> String {
    format_duration(Duration::from_secs(span.as_secs()))
}
