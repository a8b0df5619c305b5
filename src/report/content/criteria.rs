//! What was asked and what was achieved: stages with what was counted in them, criteria, checkpoints.

use super::{code, head, ms, share, table};
use crate::records::evaluation::{EvaluationRecord, UnitWord};
use crate::report::findings::Findings;
use crate::report::page::{Block, Cell, Column, NOTHING, Section, Table, Tone};
use crate::report::stages::{CheckpointFindings, StageCounted, StageFindings};
use crate::report::wording::{figure_text, grouped, place, seen, span, verdict_text};
use crate::rollout::gate::Level;
use crate::rollout::verdict::Verdict;

pub(super) fn stages(findings: &Findings) -> Section {
    let pools = &findings.pools;
    let mut columns = head(&["stage", "outcome", "confidence"], &[]);
    columns.extend(["from", "took"].map(Column::labels));
    for figure in ["requests", "errors", "P99"] {
        columns.extend(
            [&pools.canary, &pools.baseline]
                .map(|pool| Column::numbers(format!("{figure}, {pool}"))),
        );
    }
    let width = columns.len();
    let rows = findings
        .stages
        .iter()
        .flat_map(|stage| rows_of(stage, width));
    let blocks = vec![Block::table_or(
        Table::new(columns, rows),
        "No stage was recorded.",
    )];
    Section::new("stages", "Stages", blocks)
}

fn rows_of(stage: &StageFindings, width: usize) -> Vec<Vec<Cell>> {
    if stage.spans.is_empty() {
        let mut row = named(stage);
        row.resize(width, Cell::from(NOTHING));
        return vec![row];
    }
    let of = |counted: &StageCounted| {
        let (canary, baseline) = (&counted.arms.canary, &counted.arms.baseline);
        let mut row = named(stage);
        row.extend([
            Cell::from(counted.from.to_string()),
            Cell::from(span(counted.took_ms)),
            Cell::from(grouped(canary.requests)),
            Cell::from(grouped(baseline.requests)),
            share(canary.error_rate),
            share(baseline.error_rate),
            ms(canary.p99_ms),
            ms(baseline.p99_ms),
        ]);
        row
    };
    stage.spans.iter().map(of).collect()
}

fn named(stage: &StageFindings) -> Vec<Cell> {
    vec![
        Cell::from(&stage.name),
        Cell::from(&stage.outcome),
        level(stage),
    ]
}

fn level(stage: &StageFindings) -> Cell {
    let level = stage.confidence.as_ref().map(|confidence| confidence.level);
    Cell::from(level.map_or(NOTHING, Level::as_str))
}

pub(super) fn criteria(findings: &Findings) -> Section {
    let rows = findings.stages.iter().flat_map(|stage| {
        let judged = stage.criteria.iter().map(|one| criterion(stage, one));
        judged.collect::<Vec<_>>()
    });
    let mut columns = head(&["stage", "outcome", "confidence", "criterion"], &[]);
    columns.extend(["achieved", "baseline", "requests"].map(Column::numbers));
    columns.push(Column::words("verdict"));
    let blocks = vec![Block::table_or(
        table(columns, rows),
        "No criterion was judged.",
    )];
    Section::new("criteria", "Criteria against achieved", blocks)
}

fn criterion(stage: &StageFindings, one: &EvaluationRecord) -> Vec<Cell> {
    let baseline = one.baseline.map_or_else(
        || NOTHING.to_owned(),
        |figure| figure_text(UnitWord::of_metric(one.metric), figure),
    );
    let note = match one.note.as_str() {
        "" => String::new(),
        note => format!(" ({note})"),
    };
    let mut row = named(stage);
    row.extend([
        Cell::from(code(&one.condition)),
        Cell::from(format!("{}{}", seen(one), place(one))),
        Cell::from(baseline),
        Cell::from(grouped(one.requests)),
        Cell::toned(
            format!("{}{note}", verdict_text(one.verdict)),
            tone(one.verdict),
        ),
    ]);
    row
}

const fn tone(verdict: Verdict) -> Tone {
    match verdict {
        Verdict::Pass => Tone::Good,
        Verdict::Fail => Tone::Bad,
        Verdict::Unproven | Verdict::NoData => Tone::Doubtful,
    }
}

pub(super) fn checkpoints(findings: &Findings) -> Section {
    let rows = findings.stages.iter().flat_map(|stage| {
        let recorded = stage.checkpoints.iter();
        recorded.map(|checkpoint| checkpoint_row(&stage.name, checkpoint))
    });
    let columns = vec![
        Column::words("stage"),
        Column::labels("checkpoint"),
        Column::labels("recorded"),
        Column::numbers("requests"),
        Column::words("figures"),
    ];
    let blocks = vec![Block::table_or(table(columns, rows), "None was reached.")];
    Section::new("checkpoints", "Checkpoints", blocks)
}

fn checkpoint_row(stage: &str, checkpoint: &CheckpointFindings) -> Vec<Cell> {
    let figures: Vec<String> = checkpoint
        .evaluations
        .iter()
        .map(|one| {
            format!(
                "{}: {}{} {}",
                code(&one.condition),
                seen(one),
                place(one),
                verdict_text(one.verdict)
            )
        })
        .collect();
    let requests = checkpoint.evaluations.iter().map(|one| one.requests).max();
    let late = if checkpoint.late { " (late)" } else { "" };
    vec![
        Cell::from(stage),
        Cell::from(format!("{}{late}", span(checkpoint.due_ms))),
        Cell::from(checkpoint.at.to_string()),
        Cell::from(requests.map_or_else(|| NOTHING.to_owned(), grouped)),
        Cell::from(figures.join("; ")),
    ]
}
