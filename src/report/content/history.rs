//! What happened, in its order: approvals, hooks, the timeline, what operators did.

use super::{head, table};
use crate::records::Moment;
use crate::report::findings::{Entry, Findings};
use crate::report::page::{Block, Cell, Column, NOTHING, Section, Tone};
use crate::report::people::{ApprovalFindings, ApprovalWord, HookFindings};
use crate::report::wording::{grouped, span};
use crate::rollout::gate::HookOutcome;

/// Of what a hook printed this much is shown; the JSON form has all of it.
const OUTPUT: usize = 200;

pub(super) fn approvals(findings: &Findings) -> Section {
    let rows = findings.approvals.iter().map(approval_row);
    let mut columns = vec![Column::numbers("#"), Column::labels("at")];
    columns.extend(head(
        &[
            "stage",
            "what",
            "by",
            "roles",
            "missing",
            "criteria then",
            "reason",
        ],
        &[],
    ));
    let blocks = vec![Block::table_or(table(columns, rows), "None was asked for.")];
    Section::new("approvals", "Approvals", blocks)
}

fn approval_row(approval: &ApprovalFindings) -> Vec<Cell> {
    let tone = match approval.what {
        ApprovalWord::Asked | ApprovalWord::Void => Tone::Doubtful,
        ApprovalWord::Approved => Tone::Good,
        ApprovalWord::Rejected => Tone::Bad,
    };
    vec![
        Cell::from(approval.event.to_string()),
        Cell::from(approval.at.to_string()),
        Cell::from(approval.stage.as_deref().unwrap_or(NOTHING)),
        Cell::toned(approval.what.as_str(), tone),
        Cell::from(&approval.by),
        Cell::from(approval.roles.join(", ")),
        Cell::from(approval.missing.join(", ")),
        Cell::from(&approval.figures),
        Cell::from(&approval.reason),
    ]
}

pub(super) fn hooks(findings: &Findings) -> Section {
    let rows = findings.hooks.iter().map(hook_row);
    let mut columns = vec![Column::labels("began"), Column::words("hook")];
    columns.extend(head(&["outcome"], &["took", "attempts"]));
    columns.extend(head(&["why", "output"], &[]));
    let blocks = vec![Block::table_or(table(columns, rows), "None was run.")];
    Section::new("hooks", "Hooks", blocks)
}

fn hook_row(hook: &HookFindings) -> Vec<Cell> {
    let moment = |at: Option<Moment>| at.map_or_else(|| NOTHING.to_owned(), |at| at.to_string());
    let mut row = vec![
        Cell::from(moment(hook.started.or(hook.ended))),
        Cell::from(hook.hook.in_words()),
    ];
    match &hook.ending {
        Some(ending) => row.extend([
            Cell::toned(
                ending.outcome.as_str(),
                match ending.outcome {
                    HookOutcome::Passed => Tone::Good,
                    HookOutcome::Skipped => Tone::Plain,
                    HookOutcome::Failed | HookOutcome::Unknown => Tone::Bad,
                },
            ),
            Cell::from(span(ending.took_ms)),
            Cell::from(grouped(u64::from(ending.attempts))),
            Cell::from(&ending.why),
            Cell::from(shortened(&ending.output)),
        ]),
        None => {
            row.push(Cell::toned("under way", Tone::Doubtful));
            row.resize(7, Cell::from(NOTHING));
        }
    }
    row
}

fn shortened(output: &str) -> String {
    let output = output.trim();
    match output.char_indices().nth(OUTPUT) {
        Some((end, _)) => format!("{} ...", &output[..end]),
        None => output.to_owned(),
    }
}

pub(super) fn timeline(findings: &Findings) -> Section {
    let blocks = entries(&findings.timeline, "Nothing was recorded.");
    Section::new("timeline", "Timeline", blocks)
}

pub(super) fn actions(findings: &Findings) -> Section {
    let blocks = entries(&findings.actions, "None.");
    Section::new("actions", "Operators' actions", blocks)
}

fn entries(entries: &[Entry], none: &str) -> Vec<Block> {
    let mut columns = vec![Column::numbers("#"), Column::labels("at")];
    columns.extend(head(&["by", "what", "reason"], &[]));
    let rows = entries.iter().map(|entry| {
        vec![
            Cell::from(entry.id.to_string()),
            Cell::from(entry.at.to_string()),
            Cell::from(&entry.by),
            Cell::from(&entry.what),
            Cell::from(&entry.reason),
        ]
    });
    vec![Block::table_or(table(columns, rows), none)]
}
