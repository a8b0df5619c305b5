//! What both pools counted, as a table: over the last minute, the stage and the run, as wide as there is room.

use super::{latency, percent, rate};
use crate::records::status::{FiguresRecord, SpanRecord, StatusRecord};
use crate::rollout::name::Arm;

/// Over which time something was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum Span {
    Recent,
    Stage,
    Run,
}

/// One line of the table.
struct Row<'a> {
    pool: &'a str,
    /// `None` below a line that says it.
    weight: Option<f64>,
    span: Span,
    figures: &'a FiguresRecord,
    /// The line is the only one of its pool.
    alone: bool,
}

/// One column of the table; `rank` is the order in which columns stay where there is little room, 0 first.
struct Column {
    head: &'static str,
    width: usize,
    rank: u8,
    cell: fn(&Row<'_>) -> String,
}

/// In the order shown. The pool and the span stand before them.
const COLUMNS: [Column; 9] = [
    column("weight", 7, 1, |row| {
        row.weight.map_or_else(String::new, percent)
    }),
    column("requests", 10, 2, |row| row.counted().requests.to_string()),
    column("errors", 9, 0, |row| rate(row.counted().error_rate)),
    column("avail.", 9, 6, |row| rate(row.counted().availability)),
    column("p50", 8, 5, |row| latency(row.counted().p50_ms)),
    column("p95", 8, 4, |row| latency(row.counted().p95_ms)),
    column("p99", 8, 0, |row| latency(row.counted().p99_ms)),
    column("req/s", 9, 3, |row| row.throughput()),
    column("learners", 9, 7, |row| row.learners()),
];
const POOL_WIDTH: usize = 14;
const SPAN_WIDTH: usize = 8;

/// One line an arm, with a head line: the stage so far, and the requests per second of now.
pub(in crate::cli) fn table(status: &StatusRecord) -> String {
    let mut text = String::new();
    for line in lines(status, &[Span::Stage], usize::MAX) {
        text.push_str(&format!("{line}\n"));
    }
    text
}

/// A head line, then a line for each arm and span, without the columns that a line of `width` has no room for.
pub(in crate::cli) fn lines(status: &StatusRecord, spans: &[Span], width: usize) -> Vec<String> {
    let alone = spans.len() == 1;
    let columns = fitting(width, alone);
    let begin = |pool: &str, span: &str| match alone {
        true => format!("{pool:<POOL_WIDTH$}"),
        false => format!("{pool:<POOL_WIDTH$} {span:<SPAN_WIDTH$}"),
    };
    let head = columns.iter().fold(begin("pool", "over"), |line, column| {
        format!("{line} {:>1$}", column.head, column.width)
    });
    let rows = Arm::ALL.into_iter().flat_map(|arm| {
        spans.iter().enumerate().map(move |(index, span)| Row {
            pool: status.pools.of(arm),
            weight: (index == 0).then(|| share(status, arm)),
            span: *span,
            figures: status.figures.of(arm),
            alone,
        })
    });
    let rows = rows.map(|row| {
        let pool = if row.weight.is_some() { row.pool } else { "" };
        columns
            .iter()
            .fold(begin(pool, row.span.as_str()), |line, column| {
                format!("{line} {:>1$}", (column.cell)(&row), column.width)
            })
    });
    std::iter::once(head).chain(rows).collect()
}

fn share(status: &StatusRecord, arm: Arm) -> f64 {
    let share = status.weights.get(status.pools.of(arm));
    share.copied().unwrap_or_default()
}

fn fitting(width: usize, alone: bool) -> Vec<&'static Column> {
    let begin = POOL_WIDTH + if alone { 0 } else { SPAN_WIDTH + 1 };
    let mut columns: Vec<&Column> = COLUMNS.iter().collect();
    let wide = |columns: &[&Column]| columns.iter().map(|column| column.width + 1).sum::<usize>();
    while begin + wide(&columns) > width {
        let last = columns.iter().map(|column| column.rank).max();
        let Some(last) = last.filter(|rank| *rank > 0) else {
            break;
        };
        columns.retain(|column| column.rank != last);
    }
    columns
}

const fn column(
    head: &'static str,
    width: usize,
    rank: u8,
    cell: fn(&Row<'_>) -> String,
) -> Column {
    Column {
        head,
        width,
        rank,
        cell,
    }
}

/// One line an arm of each segment, with a head line: the stage so far. Empty where no segments are known.
pub(in crate::cli) fn segments(status: &StatusRecord) -> String {
    if status.segments.is_empty() {
        return String::new();
    }
    let mut text = format!(
        "{:<18} {:<14} {:>7} {:>10} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8}\n",
        "segment", "pool", "ceiling", "requests", "errors", "avail.", "p50", "p95", "p99", "delta"
    );
    for segment in &status.segments {
        for arm in Arm::ALL {
            let (figures, pool) = (&segment.of(arm).stage, status.pools.of(arm));
            let (name, ceiling, delta) = match arm {
                Arm::Baseline => ("", None, None),
                Arm::Canary => (
                    segment.segment.as_str(),
                    segment.max_weight.map(percent),
                    segment.delta,
                ),
            };
            text.push_str(&format!(
                "{name:<18} {pool:<14} {:>7} {:>10} {:>9} {:>9} {:>8} {:>8} {:>8} {:>8}\n",
                ceiling.unwrap_or_default(),
                figures.requests,
                rate(figures.error_rate),
                rate(figures.availability),
                latency(figures.p50_ms),
                latency(figures.p95_ms),
                latency(figures.p99_ms),
                delta.map_or_else(String::new, |delta| rate(Some(delta))),
            ));
        }
        if let Some(trigger) = &segment.lowered_by {
            text.push_str(&format!("{:<18} lowered: {trigger}\n", ""));
        }
    }
    text
}

/// `ultra_fast 305 req/s, 0.02% errors, p99 48ms`: the last minute of one pool.
pub(in crate::cli) fn brief(status: &StatusRecord, arm: Arm) -> String {
    let (pool, recent) = (status.pools.of(arm), &status.figures.of(arm).recent);
    format!(
        "{pool} {:.0} req/s, {} errors, p99 {}",
        recent.throughput,
        rate(recent.error_rate),
        latency(recent.p99_ms)
    )
}

impl Span {
    pub(in crate::cli) const ALL: [Self; 3] = [Self::Recent, Self::Stage, Self::Run];

    pub(in crate::cli) const fn as_str(self) -> &'static str {
        match self {
            Self::Recent => "last 60s",
            Self::Stage => "stage",
            Self::Run => "run",
        }
    }
}

impl Row<'_> {
    const fn counted(&self) -> &SpanRecord {
        match self.span {
            Span::Recent => &self.figures.recent,
            Span::Stage => &self.figures.stage,
            Span::Run => &self.figures.run,
        }
    }

    // Of one line alone people want to know what comes now.
    fn throughput(&self) -> String {
        let counted = match self.alone {
            true => &self.figures.recent,
            false => self.counted(),
        };
        format!("{:.0}", counted.throughput)
    }

    // Learners are told apart over a stage or a run; a line alone falls back on the run's.
    fn learners(&self) -> String {
        let learners = match self.alone {
            true => self.counted().learners.or(self.figures.run.learners),
            false => self.counted().learners,
        };
        learners.map_or_else(|| "-".to_owned(), |count| count.to_string())
    }
}
