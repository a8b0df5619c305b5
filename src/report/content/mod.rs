//! The findings as sections: what is said, in which order, and in which words. Computes nothing: every number is a finding.
//!
//! One file for each kind of thing that is told.

mod charts;
mod criteria;
mod figures;
mod history;
mod summary;

use super::findings::Findings;
use super::page::{Block, Cell, Column, NOTHING, Page, Section, Table, Tone};
use super::wording::{figure_text, share_text};
use crate::records::evaluation::UnitWord;
use crate::rollout::gate::Phase;

/// The report, laid out.
pub(super) fn page(findings: &Findings) -> Page {
    let mut sections = vec![summary::facts(findings), summary::decision(findings)];
    sections.extend(summary::recovery(findings));
    sections.push(list("next", "Next steps", &findings.next_steps));
    sections.push(criteria::stages(findings));
    sections.push(criteria::criteria(findings));
    sections.extend(summary::plan(findings));
    sections.push(criteria::checkpoints(findings));
    sections.push(figures::weights(findings));
    sections.push(figures::over_time(findings));
    sections.extend(figures::figures(findings));
    sections.push(figures::segments(findings));
    sections.extend(figures::learners(findings));
    sections.push(figures::business(findings));
    sections.push(history::approvals(findings));
    sections.push(history::hooks(findings));
    sections.push(history::timeline(findings));
    sections.push(history::actions(findings));
    sections.push(list(
        "sample",
        "What this sample can and cannot show",
        &findings.sample,
    ));
    Page {
        title: format!("Rollout {}, run {}", findings.rollout, findings.run),
        badge: findings.phase.as_words().to_owned(),
        tone: tone(findings.phase),
        sections,
    }
}

const fn tone(phase: Phase) -> Tone {
    match phase {
        Phase::Complete => Tone::Good,
        Phase::RollingBack | Phase::RolledBack | Phase::Aborted => Tone::Bad,
        Phase::Held | Phase::Paused | Phase::Manual | Phase::AwaitingApproval | Phase::Waiting => {
            Tone::Doubtful
        }
        Phase::Idle | Phase::Scheduled | Phase::Running | Phase::Stabilizing => Tone::Plain,
    }
}

fn list(id: &'static str, title: &'static str, lines: &[String]) -> Section {
    Section::new(id, title, vec![Block::List(lines.to_vec())])
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

/// Conditions, or a dash.
fn conditions(texts: &[String]) -> Cell {
    let quoted: Vec<String> = texts.iter().map(|text| code(text)).collect();
    Cell::from(quoted.join(", "))
}

fn share(figure: Option<f64>) -> Cell {
    or_nothing(figure.map(share_text))
}

fn ms(figure: Option<f64>) -> Cell {
    or_nothing(figure.map(|figure| figure_text(UnitWord::Ms, figure)))
}

fn or_nothing(text: Option<String>) -> Cell {
    Cell::from(text.unwrap_or_else(|| NOTHING.to_owned()))
}

/// A table's head whose names are all words, but for the numbers that follow.
fn head(words: &[&str], numbers: &[&str]) -> Vec<Column> {
    let words = words.iter().map(|name| Column::words(*name));
    let numbers = numbers.iter().map(|name| Column::numbers(*name));
    words.chain(numbers).collect()
}

fn table(head: Vec<Column>, rows: impl IntoIterator<Item = Vec<Cell>>) -> Table {
    Table::new(head, rows)
}
