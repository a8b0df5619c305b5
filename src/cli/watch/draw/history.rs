//! Events, the newest first: what happened, by whom and why. Decisions in full, the rest in a line.

use ratatui::text::Line;

use super::look::{Look, Tone};
use super::text::{cut, line, paragraph};
use crate::cli::figures::{self, event_line, is_alarm};
use crate::cli::watch::model::Model;
use crate::records::event::{Detail, EventRecord};

/// Behind the time of day.
const INDENT: usize = 10;

/// A head line, then the events: each in one line but for decisions.
pub(super) fn short(look: Look, model: &Model, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![head(look, model, width)];
    for event in model.events.iter().rev() {
        match is_alarm(event) || is_step(event) {
            true => lines.extend(paragraph(look, tone(event), &text(event), width, INDENT)),
            false => lines.push(line(look, tone(event), cut(look, &text(event), width))),
        }
    }
    lines
}

/// Every event that is known, in full.
pub(super) fn whole(look: Look, model: &Model, width: usize) -> Vec<Line<'static>> {
    let mut lines = vec![head(look, model, width)];
    for event in model.events.iter().rev() {
        lines.extend(paragraph(look, tone(event), &text(event), width, INDENT));
    }
    lines
}

fn head(look: Look, model: &Model, width: usize) -> Line<'static> {
    let text = match &model.events_lost {
        None => "events, the newest first".to_owned(),
        Some(lost) => {
            let since = figures::time_of_day(lost.since.wall.into());
            format!("events, NONE HEARD since {since}: {}", lost.why)
        }
    };
    let tone = if model.events_lost.is_some() {
        Tone::Warn
    } else {
        Tone::Dim
    };
    line(look, tone, cut(look, &text, width))
}

fn text(event: &EventRecord) -> String {
    let mark = if is_alarm(event) { "! " } else { "" };
    format!(
        "{} {mark}{}",
        figures::time_of_day(event.at),
        event_line(event)
    )
}

fn tone(event: &EventRecord) -> Tone {
    match (is_alarm(event), is_step(event)) {
        (true, _) => Tone::Bad,
        (false, true) => Tone::Strong,
        (false, false) => Tone::Plain,
    }
}

/// Decisions towards canary, and what is asked of people.
const fn is_step(event: &EventRecord) -> bool {
    matches!(
        event.detail,
        Detail::Advanced { .. } | Detail::Completed { .. } | Detail::ApprovalAsked { .. }
    )
}
