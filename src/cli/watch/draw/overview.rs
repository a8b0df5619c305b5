//! The first page: what is happening, whether it is safe, why, and what can be done, in as much height as there is.

use ratatui::text::{Line, Span};

use super::fit::Block;
use super::look::{Look, Tone, of_phase};
use super::text::{cut, line, paragraph, span, width as wide};
use super::{history, judged, past};
use crate::admin::wire::RolloutAnswer;
use crate::cli::figures::{self, Span as Over, percent, time_of_day};
use crate::cli::watch::model::{At, Model};
use crate::records::status::StatusRecord;

/// Who it is, how it stands, and of when that is.
pub(super) fn title(look: Look, now: At, model: &Model, width: usize) -> Line<'static> {
    let Some(answer) = &model.answer else {
        return line(
            look,
            Tone::Strong,
            format!("{}: no answer yet", model.rollout),
        );
    };
    let status = &answer.status;
    let mut spans = vec![
        span(look, Tone::Strong, format!("{} ", status.rollout)),
        span(
            look,
            of_phase(status.phase),
            status.phase.as_words().to_uppercase(),
        ),
    ];
    let mut rest = String::new();
    if let (Some(stage), false) = (&status.stage, status.phase.is_ended()) {
        rest.push_str(&format!("  stage {stage}{}", place(status)));
    }
    rest.push_str(&format!(
        "  {} {}",
        status.pools.canary,
        percent(status.weight)
    ));
    let is_old = model.is_old(now);
    let age = model.age(now).unwrap_or_default();
    let when = match is_old {
        true => format!("{} OLD", figures::span(age.as_secs() * 1_000)),
        false => time_of_day(status.at),
    };
    // The age of the figures is never cut off.
    let used: usize = spans.iter().map(Span::width).sum();
    let rest = cut(look, &rest, width.saturating_sub(used + wide(&when) + 2));
    let used = used + wide(&rest);
    spans.push(Span::raw(rest));
    let blank = width.saturating_sub(used + wide(&when)).max(2);
    let tone = if is_old { Tone::Bad } else { Tone::Dim };
    spans.push(Span::raw(" ".repeat(blank)));
    spans.push(span(look, tone, when));
    Line::from(spans)
}

/// `, 2 of 3`.
fn place(status: &StatusRecord) -> String {
    match (&status.plan, status.stage_index) {
        (Some(plan), Some(index)) => format!(", {} of {}", index + 1, plan.stages.len()),
        (Some(_) | None, Some(_) | None) => String::new(),
    }
}

/// That the connection is lost, or is back.
pub(super) fn connection(look: Look, now: At, model: &Model, width: usize) -> Vec<Line<'static>> {
    if let Some(lost) = &model.lost {
        let since = time_of_day(lost.since.wall.into());
        let text = format!(
            "NO CONNECTION since {since}; what is shown is of then. Trying again: {}",
            lost.why
        );
        return paragraph(look, Tone::Bad, &text, width, 2);
    }
    let Some((at, after)) = model.back(now) else {
        return Vec::new();
    };
    let text = format!(
        "connected again since {}, after {} s without",
        time_of_day(at),
        after.as_secs()
    );
    vec![line(look, Tone::Warn, cut(look, &text, width))]
}

/// The parts of the page between the title and the keys.
pub(super) fn blocks(
    look: Look,
    model: &Model,
    answer: &RolloutAnswer,
    (width, height): (usize, usize),
) -> Vec<Block> {
    let status = &answer.status;
    let spans: &[Over] = match height {
        0..16 => &[Over::Recent],
        16..30 => &[Over::Recent, Over::Stage],
        30.. => &Over::ALL,
    };
    let mut blocks = vec![
        whole(warnings(look, answer, width), 1),
        whole(progress(look, status, width), 2),
        whole(outlook(look, status, width), 5),
        apart(whole(pools(look, status, spans, width), 3)),
        apart(pair(past::errors(look, model, status, width), 7)),
        pair(past::latencies(look, model, status, width), 8),
        apart(with_page(
            judged::short(look, status, width),
            judged::urgent(look, status, width),
            4,
        )),
    ];
    if let Some(evidence) = &status.evidence {
        blocks.push(apart(with_page(
            judged::evidence(look, status, evidence, width),
            1,
            4,
        )));
    }
    // Of a run that is over people want to know why.
    let (least, rank) = match (status.phase.is_ended(), height) {
        (true, _) => (8, 4),
        (false, 34..) => (6, 6),
        (false, 0..34) => (3, 6),
    };
    let history = history::short(look, model, width);
    blocks.push(apart(with_page(history, least, rank)));
    blocks
}

/// A part that is of use as a whole.
fn whole(lines: Vec<Line<'static>>, rank: u8) -> Block {
    Block {
        least: lines.len(),
        lines,
        rank,
        is_apart: false,
        has_page: false,
        is_one: false,
    }
}

/// Both pools, to be compared.
fn pair(lines: Vec<Line<'static>>, rank: u8) -> Block {
    Block {
        is_one: true,
        ..whole(lines, rank)
    }
}

/// A list that begins with what matters, and has a page of its own.
fn with_page(lines: Vec<Line<'static>>, least: usize, rank: u8) -> Block {
    Block {
        lines,
        least,
        rank,
        is_apart: false,
        has_page: true,
        is_one: false,
    }
}

fn apart(block: Block) -> Block {
    Block {
        is_apart: true,
        ..block
    }
}

fn warnings(look: Look, answer: &RolloutAnswer, width: usize) -> Vec<Line<'static>> {
    let warnings = figures::warnings(answer).into_iter();
    warnings
        .flat_map(|text| {
            let is_loud = text.split(' ').next().is_some_and(|word| {
                word.len() > 1 && word.chars().all(|c| c.is_ascii_uppercase() || c == ':')
            });
            let tone = if is_loud { Tone::Bad } else { Tone::Warn };
            paragraph(look, tone, &text, width, 2)
        })
        .collect()
}

fn progress(look: Look, status: &StatusRecord, width: usize) -> Vec<Line<'static>> {
    let bar = width.saturating_sub(40).clamp(12, 62);
    let mut lines = Vec::new();
    if let Some(text) = figures::progress(status, bar) {
        lines.push(line(look, Tone::Strong, cut(look, &text, width)));
    }
    let mut stages = figures::stages(status);
    if let Some(checkpoints) = figures::checkpoints(status) {
        stages.push_str(&format!("; {checkpoints}"));
    }
    if !stages.is_empty() {
        lines.push(line(look, Tone::Plain, cut(look, &stages, width)));
    }
    lines
}

fn outlook(look: Look, status: &StatusRecord, width: usize) -> Vec<Line<'static>> {
    if status.outlook.is_empty() {
        return Vec::new();
    }
    paragraph(
        look,
        Tone::Plain,
        &format!("next: {}", status.outlook),
        width,
        6,
    )
}

fn pools(look: Look, status: &StatusRecord, spans: &[Over], width: usize) -> Vec<Line<'static>> {
    let lines = figures::lines(status, spans, width).into_iter();
    lines
        .enumerate()
        .map(|(index, text)| {
            let tone = if index == 0 { Tone::Dim } else { Tone::Plain };
            line(look, tone, cut(look, &text, width))
        })
        .collect()
}
