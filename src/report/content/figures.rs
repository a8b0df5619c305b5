//! What was measured: the weight and the figures over time, both arms over the run, segments, learners, business figures.

use super::{charts, head, ms, share, table};
use crate::records::evaluation::UnitWord;
use crate::records::sample::SampleRecord;
use crate::records::status::{
    FiguresRecord, OutcomeRecord, PerArm, SegmentRecord, SignalFigureRecord, SpanRecord,
};
use crate::report::findings::Findings;
use crate::report::page::{Block, Cell, Column, NOTHING, Section, Table, Tone};
use crate::report::series::SeriesFindings;
use crate::report::wording::{
    figure_text, grouped, number_text, one_learners, share_text, span, weight_text,
};
use crate::rollout::name::Arm;

pub(super) fn weights(findings: &Findings) -> Section {
    let rows = findings.weights.iter().map(|step| {
        vec![
            Cell::from(step.at.to_string()),
            Cell::from(weight_text(step.weight_ppm)),
            Cell::from(&step.because),
        ]
    });
    let columns = vec![
        Column::labels("at"),
        Column::labels("canary"),
        Column::words("because"),
    ];
    let steps = Block::table_or(table(columns, rows), "No change was recorded.");
    let mut blocks: Vec<Block> = charts::weight(findings).into_iter().collect();
    blocks.push(steps);
    Section::new("weight", "Weight over time", blocks)
}

pub(super) fn over_time(findings: &Findings) -> Section {
    let title = "Figures over time";
    let series = findings.series.as_ref();
    let Some(series) = series.filter(|series| !series.samples.is_empty()) else {
        let none = Block::text("Nothing was counted over time.");
        return Section::new("series", title, vec![none]);
    };
    let mut blocks = charts::figures(findings, series);
    blocks.push(Block::Table(overview(series, &findings.pools)));
    Section::new("series", title, blocks)
}

fn overview(series: &SeriesFindings, pools: &PerArm<String>) -> Table {
    let mut columns = vec![Column::labels("from"), Column::labels("over")];
    for figure in ["requests", "errors", "P50", "P99", "requests/s"] {
        columns.extend(
            [&pools.canary, &pools.baseline]
                .map(|pool| Column::numbers(format!("{figure}, {pool}"))),
        );
    }
    let step = span(series.overview_step_ms);
    table(columns, series.overview.iter().map(overview_row)).folded(format!("In steps of {step}"))
}

fn overview_row(sample: &SampleRecord) -> Vec<Cell> {
    let arms = [&sample.arms.canary, &sample.arms.baseline];
    let mut row = vec![
        Cell::from(sample.at.to_string()),
        Cell::from(span(sample.width_ms)),
    ];
    row.extend(arms.map(|arm| Cell::from(grouped(arm.requests))));
    row.extend(arms.map(|arm| share(arm.error_rate)));
    row.extend(arms.map(|arm| ms(arm.p50_ms)));
    row.extend(arms.map(|arm| ms(arm.p99_ms)));
    row.extend(arms.map(|arm| Cell::from(figure_text(UnitWord::PerSecond, arm.throughput))));
    row
}

pub(super) fn figures(findings: &Findings) -> Option<Section> {
    let (figures, pools) = (findings.figures.as_ref()?, &findings.pools);
    let spans = |arm: &FiguresRecord| [arm.run.clone(), arm.stage.clone(), arm.recent.clone()];
    let (baseline, canary) = (spans(&figures.baseline), spans(&figures.canary));
    let columns: Vec<&SpanRecord> = baseline
        .iter()
        .zip(&canary)
        .flat_map(|(one, other)| [one, other])
        .collect();
    let mut names = vec![Column::words("")];
    for name in ["run", "stage", "last 60 s"] {
        let of = |pool: &String| Column::numbers(format!("{pool}, {name}"));
        names.extend([of(&pools.baseline), of(&pools.canary)]);
    }
    let row = |name: &str, figure: &dyn Fn(&SpanRecord) -> Cell| -> Vec<Cell> {
        std::iter::once(Cell::from(name))
            .chain(columns.iter().map(|span| figure(span)))
            .collect()
    };
    let rows = [
        row("requests", &|span| grouped(span.requests).into()),
        row("errors", &|span| grouped(span.errors).into()),
        row("error rate", &|span| share(span.error_rate)),
        row("client errors", &|span| share(span.client_error_rate)),
        row("availability", &|span| share(span.availability)),
        row("uptime", &|span| share(span.uptime)),
        row("abandoned", &|span| grouped(span.abandoned).into()),
        row("P50", &|span| ms(span.p50_ms)),
        row("P95", &|span| ms(span.p95_ms)),
        row("P99", &|span| ms(span.p99_ms)),
        row("P99.9", &|span| ms(span.p999_ms)),
        row("throughput", &|span| {
            figure_text(UnitWord::PerSecond, span.throughput).into()
        }),
    ];
    let blocks = vec![Block::Table(table(names, rows))];
    Some(Section::new("figures", "Figures", blocks))
}

pub(super) fn learners(findings: &Findings) -> Option<Section> {
    let (figures, pools) = (findings.figures.as_ref()?, &findings.pools);
    let lines = [
        (&pools.baseline, &figures.baseline),
        (&pools.canary, &figures.canary),
    ]
    .map(|(pool, arm)| {
        let count = arm.run.learners.map_or_else(
            || "not counted".to_owned(),
            |learners| format!("about {} distinct learners in the run", grouped(learners)),
        );
        let worst = one_learners(&arm.run).map_or_else(String::new, |said| format!("; {said}"));
        format!("{pool}: {count}{worst}")
    });
    let blocks = vec![Block::List(lines.to_vec())];
    Some(Section::new("learners", "Learners", blocks))
}

pub(super) fn segments(findings: &Findings) -> Section {
    let pools = &findings.pools;
    let rows = findings.segments.iter().flat_map(|segment| {
        [
            (Arm::Baseline, &pools.baseline),
            (Arm::Canary, &pools.canary),
        ]
        .map(|(arm, pool)| segment_row(segment, arm, pool))
    });
    let mut columns = head(&["segment", "ceiling", "pool"], &[]);
    columns.extend(
        [
            "requests, run",
            "error rate, run",
            "availability, run",
            "requests, stage",
            "error rate, stage",
            "P50",
            "P95",
            "P99",
            "success against baseline",
        ]
        .map(Column::numbers),
    );
    let mut blocks = vec![Block::table_or(
        table(columns, rows),
        "No segment was told apart.",
    )];
    blocks.extend(findings.segments.iter().filter_map(|segment| {
        let trigger = segment.lowered_by.as_ref()?;
        let name = &segment.segment;
        Some(Block::text(format!(
            "Segment {name} was lowered to 0%: `{trigger}` was true."
        )))
    }));
    Section::new("segments", "Segments", blocks)
}

fn segment_row(segment: &SegmentRecord, arm: Arm, pool: &str) -> Vec<Cell> {
    let figures = segment.of(arm);
    let delta = match arm {
        Arm::Baseline => None,
        Arm::Canary => segment.delta,
    };
    let tone = match segment.lowered_by {
        Some(_) => Tone::Bad,
        None => Tone::Plain,
    };
    let ceiling = segment.max_weight_ppm.map(weight_text);
    vec![
        Cell::toned(&segment.segment, tone),
        Cell::toned(ceiling.unwrap_or_default(), tone),
        Cell::from(pool),
        Cell::from(grouped(figures.run.requests)),
        share(figures.run.error_rate),
        share(figures.run.availability),
        Cell::from(grouped(figures.stage.requests)),
        share(figures.stage.error_rate),
        ms(figures.stage.p50_ms),
        ms(figures.stage.p95_ms),
        ms(figures.stage.p99_ms),
        share(delta),
    ]
}

pub(super) fn business(findings: &Findings) -> Section {
    let mut blocks = Vec::new();
    if !findings.outcomes.is_empty() {
        blocks.push(Block::Table(outcomes(findings)));
    }
    if !findings.signals.is_empty() {
        blocks.push(Block::Table(signals(&findings.signals)));
    }
    if blocks.is_empty() {
        blocks.push(Block::text(
            "No business figure was posted, pushed or read.",
        ));
    }
    Section::new("business", "Business figures", blocks)
}

fn outcomes(findings: &Findings) -> Table {
    let pools = &findings.pools;
    let mut columns = vec![Column::words("result")];
    for figure in ["results", "mean"] {
        columns.extend(
            [&pools.canary, &pools.baseline]
                .map(|pool| Column::numbers(format!("{figure}, {pool}"))),
        );
    }
    columns.extend(["impact", "95% interval at any time"].map(Column::numbers));
    table(columns, findings.outcomes.iter().map(outcome_row))
}

fn outcome_row(outcome: &OutcomeRecord) -> Vec<Cell> {
    let mean = |mean: Option<f64>| mean.map_or_else(|| NOTHING.to_owned(), number_text);
    let interval = outcome.interval.map_or_else(
        || "too few results".to_owned(),
        |[low, high]| format!("{} to {}", share_text(low), share_text(high)),
    );
    vec![
        Cell::from(&outcome.name),
        Cell::from(grouped(outcome.counted.canary)),
        Cell::from(grouped(outcome.counted.baseline)),
        Cell::from(mean(outcome.mean.canary)),
        Cell::from(mean(outcome.mean.baseline)),
        share(outcome.impact),
        Cell::from(interval),
    ]
}

fn signals(signals: &[SignalFigureRecord]) -> Table {
    let mut columns = head(&["signal", "pool", "segment"], &[]);
    columns.extend(["value", "readings", "age"].map(Column::numbers));
    columns.push(Column::words("state"));
    let rows = signals.iter().map(|signal| {
        let state = match (signal.stale, signal.note.as_str()) {
            (false, "") => Cell::from("fresh"),
            (false, note) => Cell::from(note),
            (true, "") => Cell::toned("no data", Tone::Doubtful),
            (true, note) => Cell::toned(format!("no data: {note}"), Tone::Doubtful),
        };
        vec![
            Cell::from(&signal.name),
            Cell::from(&signal.pool),
            Cell::from(signal.segment.as_deref().unwrap_or("all learners")),
            Cell::from(signal.value.map_or_else(|| NOTHING.to_owned(), number_text)),
            Cell::from(grouped(signal.count)),
            Cell::from(signal.age_ms.map_or_else(|| NOTHING.to_owned(), span)),
            state,
        ]
    });
    table(columns, rows)
}
