//! The charts: which lines, which limits, and the table of the same numbers behind each.

use crate::records::evaluation::UnitWord;
use crate::records::sample::SampleRecord;
use crate::records::status::SpanRecord;
use crate::report::chart::{Chart, Decision, Limit, Line, Look, pieces};
use crate::report::findings::Findings;
use crate::report::page::{Block, Cell, Column, NOTHING, Table};
use crate::report::series::{LimitFindings, LimitList, SeriesFindings};
use crate::report::wording::{figure_text, grouped, span, weight_text};
use crate::rollout::condition::Metric;
use crate::rollout::name::Arm;

/// Reads one figure of one arm.
type Figure = fn(&SpanRecord) -> Option<f64>;

/// What a chart of samples is made of.
struct Spec {
    id: &'static str,
    title: &'static str,
    /// What it shows, in a sentence.
    says: &'static str,
    unit: UnitWord,
    least: f64,
    /// Metrics whose limits are drawn.
    limits: &'static [Metric],
    figures: &'static [(&'static str, Figure, bool)],
}

const SPECS: [Spec; 3] = [
    Spec {
        id: "errors",
        title: "Error rate",
        says: "The share of requests that failed, on both arms",
        unit: UnitWord::Share,
        least: 0.001,
        limits: &[Metric::ErrorRate],
        figures: &[("error rate", |span| span.error_rate, true)],
    },
    Spec {
        id: "latency",
        title: "Latency: P50 and P99",
        says: "The median and the 99th percentile of latency, on both arms",
        unit: UnitWord::Ms,
        least: 10.0,
        limits: &[Metric::P50, Metric::P99],
        figures: &[
            ("P99", |span| span.p99_ms, true),
            ("P50", |span| span.p50_ms, false),
        ],
    },
    Spec {
        id: "throughput",
        title: "Requests per second",
        says: "Requests per second, on both arms",
        unit: UnitWord::PerSecond,
        least: 1.0,
        limits: &[],
        figures: &[("requests/s", |span| Some(span.throughput), true)],
    },
];

/// The canary's weight, which holds from one event to the next.
pub(super) fn weight(findings: &Findings) -> Option<Block> {
    let series = findings.series.as_ref()?;
    let mut line = Vec::new();
    let mut before = None;
    for step in &findings.weights {
        line.extend(before.map(|before| (step.clock_ms, before)));
        line.push((step.clock_ms, step.weight));
        before = Some(step.weight);
    }
    line.extend(before.map(|before| (series.to_clock_ms, before)));
    let rows = findings.weights.iter().map(|step| {
        vec![
            Cell::from(step.at.to_string()),
            Cell::from(weight_text(step.weight_ppm)),
        ]
    });
    let columns = vec![
        Column::labels("from"),
        Column::numbers(findings.pools.canary.clone()),
    ];
    Some(Block::Chart(Box::new(Chart {
        least: 0.01,
        lines: vec![Line {
            name: format!("{}, share of learners", findings.pools.canary),
            look: Look::Canary,
            pieces: vec![line],
        }],
        table: Table::new(columns, rows),
        ..frame(
            series,
            "weight",
            "Weight of the canary",
            "The share of learners that is sent to the canary".to_owned(),
            UnitWord::Share,
        )
    })))
}

/// What was counted of both arms.
pub(super) fn figures(findings: &Findings, series: &SeriesFindings) -> Vec<Block> {
    let charts = SPECS.iter().map(|spec| of_samples(spec, findings, series));
    let drawn = charts.filter(|chart| !chart.is_empty());
    drawn.map(|chart| Block::Chart(Box::new(chart))).collect()
}

fn of_samples(spec: &Spec, findings: &Findings, series: &SeriesFindings) -> Chart {
    let mut lines = Vec::new();
    for &(name, figure, is_main) in spec.figures {
        for arm in [Arm::Canary, Arm::Baseline] {
            let of = |sample: &SampleRecord| {
                let value = figure(sample.arms.of(arm)).filter(|value| value.is_finite());
                (sample.clock_ms, sample.width_ms, value)
            };
            lines.push(Line {
                name: format!("{}, {name}", findings.pools.of(arm)),
                look: look(arm, is_main),
                pieces: pieces(series.samples.iter().map(of)),
            });
        }
    }
    let is_shown = |limit: &&LimitFindings| {
        let named = |metric: &Metric| metric.as_str() == limit.metric;
        spec.limits.iter().any(named)
    };
    let limits: Vec<&LimitFindings> = series.limits.iter().filter(is_shown).collect();
    let step = span(series.step_ms);
    let description = format!("{}, in steps of {step}{}", spec.says, said(&limits));
    Chart {
        least: spec.least,
        lines,
        limits: limits.iter().map(|limit| Limit::from(*limit)).collect(),
        table: numbers(spec, findings, series),
        ..frame(series, spec.id, spec.title, description, spec.unit)
    }
}

fn said(limits: &[&LimitFindings]) -> String {
    let texts: Vec<String> = limits
        .iter()
        .map(|limit| {
            let list = match limit.list {
                LimitList::Advance => "advances",
                LimitList::Rollback => "rolls back",
            };
            format!("{} {list} if {}", limit.stage, limit.condition)
        })
        .collect();
    match texts.is_empty() {
        true => String::new(),
        false => format!("; limits: {}", texts.join("; ")),
    }
}

const fn look(arm: Arm, is_main: bool) -> Look {
    match (arm, is_main) {
        (Arm::Baseline, true) => Look::Baseline,
        (Arm::Canary, true) => Look::Canary,
        (Arm::Baseline, false) => Look::BaselineFaint,
        (Arm::Canary, false) => Look::CanaryFaint,
    }
}

/// A chart of the run's span with its decisions, and nothing in it yet.
fn frame(
    series: &SeriesFindings,
    id: &'static str,
    title: &str,
    description: String,
    unit: UnitWord,
) -> Chart {
    let decisions = series.decisions.iter();
    Chart {
        id,
        title: title.to_owned(),
        description,
        unit,
        from_ms: series.from_clock_ms,
        to_ms: series.to_clock_ms,
        wall_ms: series.from.unix_millis(),
        least: 0.0,
        lines: Vec::new(),
        limits: Vec::new(),
        decisions: decisions
            .filter(|decision| decision.clock_ms <= series.to_clock_ms)
            .map(|decision| Decision {
                event: decision.event,
                at_ms: decision.clock_ms,
            })
            .collect(),
        table: Table::new([], []),
    }
}

fn numbers(spec: &Spec, findings: &Findings, series: &SeriesFindings) -> Table {
    let arms = [Arm::Canary, Arm::Baseline];
    let mut columns = vec![Column::labels("from"), Column::labels("over")];
    columns.extend(arms.map(|arm| {
        let pool = findings.pools.of(arm);
        Column::numbers(format!("requests, {pool}"))
    }));
    for &(name, _, _) in spec.figures {
        columns.extend(arms.map(|arm| {
            let pool = findings.pools.of(arm);
            Column::numbers(format!("{name}, {pool}"))
        }));
    }
    let rows = series.samples.iter().map(|sample| {
        let mut row = vec![
            Cell::from(sample.at.to_string()),
            Cell::from(span(sample.width_ms)),
        ];
        row.extend(arms.map(|arm| Cell::from(grouped(sample.arms.of(arm).requests))));
        for &(_, figure, _) in spec.figures {
            row.extend(arms.map(|arm| {
                let value = figure(sample.arms.of(arm));
                let text = value.map(|value| figure_text(spec.unit, value));
                Cell::from(text.unwrap_or_else(|| NOTHING.to_owned()))
            }));
        }
        row
    });
    Table::new(columns, rows)
}

impl From<&LimitFindings> for Limit {
    fn from(limit: &LimitFindings) -> Self {
        Self {
            list: limit.list,
            value: limit.limit,
            from_ms: limit.from_clock_ms,
            to_ms: limit.to_clock_ms,
        }
    }
}
