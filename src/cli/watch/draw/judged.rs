//! Conditions with what was seen, and the evidence: a line each, the worst first; and all that is said of them, wrapped.

use std::time::Duration;

use ratatui::text::{Line, Span};

use super::look::{Look, Tone, of_verdict};
use super::text::{cut, line, paragraph, span};
use crate::cli::figures::{self, value};
use crate::records::evaluation::{EvaluationRecord, UnitWord};
use crate::records::evidence::EvidenceRecord;
use crate::records::status::StatusRecord;
use crate::rollout::condition::Condition;
use crate::rollout::time::{format_duration, millis};
use crate::rollout::verdict::{Purpose, Verdict};

const VERDICT: usize = 9;
const LIST: usize = 9;
const FIGURE: usize = 9;

/// A head line, then a line a condition.
pub(super) fn short(look: Look, status: &StatusRecord, width: usize) -> Vec<Line<'static>> {
    let judged = sorted(status);
    if judged.is_empty() {
        return Vec::new();
    }
    let condition = columns(status, width);
    let head = format!(
        "{:<VERDICT$}{:<LIST$}{:<condition$} {:>FIGURE$} {:>FIGURE$}",
        "verdict", "list", "condition", "canary", "baseline"
    );
    let mut lines = vec![line(look, Tone::Dim, head)];
    lines.extend(
        judged
            .iter()
            .flat_map(|one| row(look, one, condition, width)),
    );
    lines
}

/// How wide the conditions are.
fn columns(status: &StatusRecord, width: usize) -> usize {
    let widths = status.evaluations.iter();
    let longest = widths.map(|one| one.condition.chars().count()).max();
    let room = width.saturating_sub(VERDICT + LIST + 2 * (FIGURE + 1));
    longest.unwrap_or_default().max(9).min(room.max(12))
}

/// How many of those lines are of what is breached or not met, with the head line.
pub(super) fn urgent(look: Look, status: &StatusRecord, width: usize) -> usize {
    let columns = columns(status, width);
    let failed = status.evaluations.iter();
    let failed = failed.filter(|one| one.verdict == Verdict::Fail);
    let lines: usize = failed.map(|one| row(look, one, columns, width).len()).sum();
    // Below them is said how many more there are.
    (lines + 2).max(3)
}

fn row(look: Look, one: &EvaluationRecord, condition: usize, width: usize) -> Vec<Line<'static>> {
    let baseline = value(one.baseline, UnitWord::of_metric(one.metric));
    let text = format!(
        "{:<LIST$}{:<condition$} {:>FIGURE$} {:>FIGURE$}",
        figures::purpose(one.purpose),
        cut(look, &one.condition, condition),
        value(one.figure, one.unit),
        baseline,
    );
    let verdict = format!("{:<VERDICT$}", figures::verdict(one.verdict));
    let mut spans = vec![
        span(look, of_verdict(one.verdict), verdict),
        Span::raw(text),
    ];
    let clock = clock(one);
    let mut lines = Vec::new();
    // The clock of a breach is what somebody runs against: it is never cut off.
    let is_wide = VERDICT + LIST + condition + 2 * (FIGURE + 1) + 2 + clock.len() <= width;
    match (clock.is_empty(), is_wide) {
        (true, _) => lines.push(Line::from(spans)),
        (false, true) => {
            spans.push(span(look, Tone::Bad, format!("  {clock}")));
            lines.push(Line::from(spans));
        }
        (false, false) => {
            lines.push(Line::from(spans));
            let indent = " ".repeat(VERDICT);
            lines.push(line(look, Tone::Bad, format!("{indent}{clock}")));
        }
    }
    lines
}

/// `breached for 40s of 5m`, while it is.
fn clock(one: &EvaluationRecord) -> String {
    let Some(breached) = one.breached_for_ms else {
        return String::new();
    };
    let whole = Condition::parse(&one.condition).map(|condition| condition.sustained);
    match whole {
        Ok(whole) if whole > Duration::ZERO => format!(
            "breached for {} of {}",
            figures::span(breached.min(millis(whole))),
            format_duration(whole)
        ),
        Ok(_) | Err(_) => format!("breached for {}", figures::span(breached)),
    }
}

/// Breached triggers, then what a stage lacks, then the rest; as the plan has them otherwise.
fn sorted(status: &StatusRecord) -> Vec<&EvaluationRecord> {
    let mut judged: Vec<&EvaluationRecord> = status.evaluations.iter().collect();
    judged.sort_by_key(|one| match (one.verdict, one.purpose) {
        (Verdict::Fail, Purpose::Rollback | Purpose::Tripwire) => 0,
        (Verdict::Fail, Purpose::Hold) => 1,
        (Verdict::Fail, Purpose::Advance) => 2,
        (Verdict::Unproven | Verdict::NoData, Purpose::Advance) => 3,
        (Verdict::Unproven, Purpose::Hold | Purpose::Rollback | Purpose::Tripwire) => 4,
        (Verdict::Pass, Purpose::Advance) => 5,
        (Verdict::NoData | Verdict::Pass, Purpose::Rollback) => 6,
        (Verdict::NoData | Verdict::Pass, Purpose::Hold | Purpose::Tripwire) => 7,
    });
    judged
}

/// The weighted evidence as a bar to its limit, then each process.
pub(super) fn evidence(
    look: Look,
    status: &StatusRecord,
    evidence: &EvidenceRecord,
    width: usize,
) -> Vec<Line<'static>> {
    let bar = width.saturating_sub(66).clamp(12, 42);
    let tone = match (
        evidence.alarm,
        evidence.ln_weighted > evidence.ln_limit / 2.0,
    ) {
        (true, _) => Tone::Bad,
        (false, true) => Tone::Warn,
        (false, false) => Tone::Plain,
    };
    let text = format!("evidence {}", figures::evidence(status, evidence, bar));
    let mut lines = vec![line(look, tone, cut(look, &text, width))];
    let processes = evidence.processes.iter().map(|process| {
        let share = process.ln_weighted / evidence.ln_limit;
        let text = format!(
            "  {:<14}{} ln(w E) {:>6.2}, {} failing learners, {} s",
            process.name,
            figures::bar(share, 12),
            process.ln_weighted,
            process.failing_learners,
            process.blocks
        );
        line(look, Tone::Dim, cut(look, &text, width))
    });
    lines.extend(processes.filter(|_| !evidence.by_request_alone));
    lines
}

/// All that is known of each condition, of the evidence and of figures from outside.
pub(super) fn whole(look: Look, status: &StatusRecord, width: usize) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for one in sorted(status) {
        let text = format!(
            "{} {}",
            figures::purpose(one.purpose),
            figures::evaluation_line(one)
        );
        let tone = match one.verdict {
            Verdict::Pass => Tone::Plain,
            Verdict::Fail | Verdict::Unproven | Verdict::NoData => of_verdict(one.verdict),
        };
        lines.extend(paragraph(look, tone, &text, width, 4));
    }
    if let Some(evidence) = &status.evidence {
        lines.push(Line::default());
        for text in evidence.sentences() {
            lines.extend(paragraph(look, Tone::Plain, &text, width, 4));
        }
    }
    if let Some(confidence) = &status.confidence {
        let text = format!("confidence of the last decision: {}", confidence.in_words());
        lines.push(Line::default());
        lines.extend(paragraph(look, Tone::Plain, &text, width, 4));
    }
    for text in figures::outside(status).lines() {
        lines.extend(paragraph(look, Tone::Plain, text, width, 4));
    }
    lines
}
