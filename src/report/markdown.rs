//! The findings as Markdown: headings, tables, sentences. Adds no number of its own.

use std::fmt::Write as _;

use super::findings::{CheckpointFindings, Entry, Findings, StageFindings};
use super::wording::{
    figure_text, grouped, one_learners, place, seen, share_text, span, verdict_text, weight_text,
};
use crate::records::Moment;
use crate::records::confidence::ConfidenceRecord;
use crate::records::evaluation::{EvaluationRecord, UnitWord};
use crate::records::plan::PlanRecord;
use crate::records::recovery::RecoveryRecord;
use crate::records::status::{FiguresRecord, PerArm, SegmentRecord, SpanRecord};
use crate::rollout::gate::Level;
use crate::rollout::name::Arm;

/// A text that grows; writing into it cannot fail.
#[derive(Default)]
struct Page(String);

pub(super) fn write(findings: &Findings) -> String {
    let mut page = Page::default();
    page.line(&format!(
        "# Rollout {}, run {}",
        findings.rollout, findings.run
    ));
    summary(&mut page, findings);
    page.section("Decision");
    page.line(&format!("{}.", findings.decision.trim_end_matches('.')));
    if let Some(confidence) = &findings.confidence {
        self::confidence(&mut page, confidence);
    }
    if let Some(recovery) = &findings.recovery {
        self::recovery(&mut page, recovery);
    }
    if let Some(plan) = &findings.plan {
        plan_section(&mut page, plan);
    }
    criteria(&mut page, &findings.stages);
    checkpoints(&mut page, &findings.stages);
    weights(&mut page, findings);
    if let Some(figures) = &findings.figures {
        figures_section(&mut page, figures, &findings.pools);
        learners(&mut page, figures, &findings.pools);
    }
    if !findings.segments.is_empty() {
        segments(&mut page, &findings.segments, &findings.pools);
    }
    entries(
        &mut page,
        "Timeline",
        &findings.timeline,
        "Nothing was recorded.",
    );
    entries(&mut page, "Operators' actions", &findings.actions, "None.");
    list(
        &mut page,
        "What this sample can and cannot show",
        &findings.sample,
    );
    list(&mut page, "Next steps", &findings.next_steps);
    page.0
}

fn summary(page: &mut Page, findings: &Findings) {
    let moment = |at: Option<Moment>| at.map_or_else(|| "-".to_owned(), |at| at.to_string());
    page.section("Summary");
    page.table(
        &["", ""],
        [
            vec!["phase".to_owned(), findings.phase.to_owned()],
            vec![
                "canary".to_owned(),
                format!(
                    "{} at {}",
                    findings.pools.canary,
                    weight_text(findings.weight_ppm)
                ),
            ],
            vec!["baseline".to_owned(), findings.pools.baseline.clone()],
            vec!["version".to_owned(), or_dash(&findings.version)],
            vec!["started".to_owned(), moment(findings.started)],
            vec!["ended".to_owned(), moment(findings.ended)],
            vec![
                "took".to_owned(),
                findings.took_ms.map_or_else(|| "-".to_owned(), span),
            ],
            vec![
                "plan".to_owned(),
                findings.plan_hash.clone().unwrap_or_else(|| "-".to_owned()),
            ],
        ],
    );
}

fn confidence(page: &mut Page, confidence: &ConfidenceRecord) {
    page.line("");
    page.line(&format!("Confidence: {}.", cell(&confidence.in_words())));
    let Some(sensitivity) = confidence.sensitivity else {
        return;
    };
    let base = share_text(sensitivity.base_rate);
    let chance = share_text(sensitivity.chance);
    page.line("");
    page.line(&match (sensitivity.error_rate, sensitivity.ratio) {
        (Some(rate), Some(ratio)) => format!(
            "Against a baseline of {base} errors the stage's requests show {} or more ({ratio:.1} times as many) with {chance} chance.",
            share_text(rate)
        ),
        (_, _) => format!(
            "Against a baseline of {base} errors the stage's requests are too few to show even a canary that always fails."
        ),
    });
}

fn recovery(page: &mut Page, recovery: &RecoveryRecord) {
    page.section("After the rollback");
    page.table(
        &["step", "since the alarm", ""],
        recovery.steps.iter().map(|step| {
            vec![
                cell(&step.step),
                step.after_ms.map_or_else(|| "NOT BACK".to_owned(), span),
                or_dash(&cell(&step.note)),
            ]
        }),
    );
    page.line("");
    page.line(&format!("The alarm was at {}.", recovery.alarm));
}

fn plan_section(page: &mut Page, plan: &PlanRecord) {
    page.section("Plan");
    page.table(
        &[
            "stage",
            "weight",
            "duration",
            "minimum of requests",
            "advance if",
            "hold if",
            "roll back if",
        ],
        plan.stages.iter().map(|stage| {
            vec![
                stage.name.clone(),
                stage.weight.clone(),
                stage.duration.clone(),
                grouped(stage.min_requests),
                conditions(&stage.advance),
                conditions(&stage.hold),
                conditions(&stage.rollback),
            ]
        }),
    );
    let tripwire = plan
        .gate
        .tripwire
        .as_ref()
        .map_or_else(|| "off".to_owned(), |text| format!("`{text}`"));
    page.line("");
    page.line(&format!("Tripwire: {tripwire}."));
    if plan.gate.speed != 1.0 {
        page.line("");
        page.line(&format!(
            "All durations are divided by {}.",
            plan.gate.speed
        ));
    }
}

fn conditions(texts: &[String]) -> String {
    let quoted: Vec<String> = texts
        .iter()
        .map(|text| format!("`{}`", text.replace('|', "\\|")))
        .collect();
    or_dash(&quoted.join(", "))
}

fn criteria(page: &mut Page, stages: &[StageFindings]) {
    page.section("Criteria against achieved");
    let mut rows = Vec::new();
    for stage in stages {
        if stage.criteria.is_empty() {
            let mut row = vec![stage.name.clone(), stage.outcome.clone(), level(stage)];
            row.resize(8, "-".to_owned());
            rows.push(row);
        }
        rows.extend(stage.criteria.iter().map(|one| criterion(stage, one)));
    }
    page.table(
        &[
            "stage",
            "outcome",
            "confidence",
            "criterion",
            "achieved",
            "baseline",
            "requests",
            "verdict",
        ],
        rows,
    );
}

fn level(stage: &StageFindings) -> String {
    let level = stage.confidence.as_ref().map(|confidence| confidence.level);
    level.map_or("-", Level::as_str).to_owned()
}

fn criterion(stage: &StageFindings, one: &EvaluationRecord) -> Vec<String> {
    let baseline = one.baseline.map_or_else(
        || "-".to_owned(),
        |figure| figure_text(UnitWord::of_metric(one.metric), figure),
    );
    let note = if one.note.is_empty() {
        String::new()
    } else {
        format!(" ({})", cell(&one.note))
    };
    vec![
        stage.name.clone(),
        stage.outcome.clone(),
        level(stage),
        conditions(std::slice::from_ref(&one.condition)),
        format!("{}{}", seen(one), cell(&place(one))),
        baseline,
        grouped(one.requests),
        format!("{}{note}", verdict_text(one.verdict)),
    ]
}

fn checkpoints(page: &mut Page, stages: &[StageFindings]) {
    page.section("Checkpoints");
    let rows: Vec<Vec<String>> = stages
        .iter()
        .flat_map(|stage| {
            stage
                .checkpoints
                .iter()
                .map(|checkpoint| checkpoint_row(&stage.name, checkpoint))
        })
        .collect();
    if rows.is_empty() {
        page.line("None was reached.");
    } else {
        page.table(
            &["stage", "checkpoint", "recorded", "requests", "figures"],
            rows,
        );
    }
}

fn checkpoint_row(stage: &str, checkpoint: &CheckpointFindings) -> Vec<String> {
    let figures: Vec<String> = checkpoint
        .evaluations
        .iter()
        .map(|one| {
            format!(
                "{}: {}{} {}",
                conditions(std::slice::from_ref(&one.condition)),
                seen(one),
                cell(&place(one)),
                verdict_text(one.verdict)
            )
        })
        .collect();
    let requests = checkpoint.evaluations.iter().map(|one| one.requests).max();
    let late = if checkpoint.late { " (late)" } else { "" };
    vec![
        stage.to_owned(),
        format!("{}{late}", span(checkpoint.due_ms)),
        checkpoint.at.to_string(),
        requests.map_or_else(|| "-".to_owned(), grouped),
        or_dash(&figures.join("; ")),
    ]
}

fn weights(page: &mut Page, findings: &Findings) {
    page.section("Weight over time");
    if findings.weights.is_empty() {
        page.line("No change was recorded.");
        return;
    }
    page.table(
        &["at", "canary", "because"],
        findings.weights.iter().map(|step| {
            vec![
                step.at.to_string(),
                weight_text(step.weight_ppm),
                cell(&step.because),
            ]
        }),
    );
}

fn figures_section(page: &mut Page, figures: &PerArm<FiguresRecord>, pools: &PerArm<String>) {
    page.section("Figures");
    let spans = |arm: &FiguresRecord| [arm.run.clone(), arm.stage.clone(), arm.recent.clone()];
    let (baseline, canary) = (spans(&figures.baseline), spans(&figures.canary));
    let columns: Vec<&SpanRecord> = baseline
        .iter()
        .zip(&canary)
        .flat_map(|(one, other)| [one, other])
        .collect();
    let heads: Vec<String> = ["run", "stage", "last 60 s"]
        .iter()
        .flat_map(|name| {
            [
                format!("{}, {name}", pools.baseline),
                format!("{}, {name}", pools.canary),
            ]
        })
        .collect();
    let mut head = vec![""];
    head.extend(heads.iter().map(String::as_str));
    let row = |name: &str, figure: &dyn Fn(&SpanRecord) -> String| -> Vec<String> {
        std::iter::once(name.to_owned())
            .chain(columns.iter().map(|span| figure(span)))
            .collect()
    };
    page.table(
        &head,
        [
            row("requests", &|span| grouped(span.requests)),
            row("errors", &|span| grouped(span.errors)),
            row("error rate", &|span| share(span.error_rate)),
            row("client errors", &|span| share(span.client_error_rate)),
            row("availability", &|span| share(span.availability)),
            row("uptime", &|span| share(span.uptime)),
            row("abandoned", &|span| grouped(span.abandoned)),
            row("P50", &|span| ms(span.p50_ms)),
            row("P95", &|span| ms(span.p95_ms)),
            row("P99", &|span| ms(span.p99_ms)),
            row("P99.9", &|span| ms(span.p999_ms)),
            row("throughput", &|span| {
                figure_text(UnitWord::PerSecond, span.throughput)
            }),
        ],
    );
}

fn share(figure: Option<f64>) -> String {
    figure.map_or_else(|| "-".to_owned(), share_text)
}

fn ms(figure: Option<f64>) -> String {
    figure.map_or_else(
        || "-".to_owned(),
        |figure| figure_text(UnitWord::Ms, figure),
    )
}

fn learners(page: &mut Page, figures: &PerArm<FiguresRecord>, pools: &PerArm<String>) {
    page.section("Learners");
    for (pool, arm) in [
        (&pools.baseline, &figures.baseline),
        (&pools.canary, &figures.canary),
    ] {
        let count = arm.run.learners.map_or_else(
            || "not counted".to_owned(),
            |learners| format!("about {} distinct learners in the run", grouped(learners)),
        );
        let worst = one_learners(&arm.run).map_or_else(String::new, |said| format!("; {said}"));
        page.line(&format!("- {pool}: {count}{worst}"));
    }
}

fn segments(page: &mut Page, segments: &[SegmentRecord], pools: &PerArm<String>) {
    page.section("Segments");
    let rows = segments.iter().flat_map(|segment| {
        [
            (Arm::Baseline, &pools.baseline),
            (Arm::Canary, &pools.canary),
        ]
        .map(|(arm, pool)| segment_row(segment, arm, pool))
    });
    page.table(
        &[
            "segment",
            "ceiling",
            "pool",
            "requests, run",
            "error rate, run",
            "availability, run",
            "requests, stage",
            "error rate, stage",
            "P50",
            "P95",
            "P99",
            "success against baseline",
        ],
        rows,
    );
    for segment in segments {
        if let Some(trigger) = &segment.lowered_by {
            page.line("");
            page.line(&format!(
                "Segment {} was lowered to 0%: {} was true.",
                cell(&segment.segment),
                conditions(std::slice::from_ref(trigger))
            ));
        }
    }
}

fn segment_row(segment: &SegmentRecord, arm: Arm, pool: &str) -> Vec<String> {
    let figures = segment.of(arm);
    let delta = match arm {
        Arm::Baseline => None,
        Arm::Canary => segment.delta,
    };
    let ceiling = segment.max_weight_ppm.map(weight_text);
    vec![
        cell(&segment.segment),
        ceiling.unwrap_or_else(|| "-".to_owned()),
        pool.to_owned(),
        grouped(figures.run.requests),
        share(figures.run.error_rate),
        share(figures.run.availability),
        grouped(figures.stage.requests),
        share(figures.stage.error_rate),
        ms(figures.stage.p50_ms),
        ms(figures.stage.p95_ms),
        ms(figures.stage.p99_ms),
        share(delta),
    ]
}

fn entries(page: &mut Page, title: &str, entries: &[Entry], none: &str) {
    page.section(title);
    if entries.is_empty() {
        page.line(none);
        return;
    }
    page.table(
        &["#", "at", "by", "what", "reason"],
        entries.iter().map(|entry| {
            vec![
                entry.id.to_string(),
                entry.at.to_string(),
                cell(&entry.by),
                cell(&entry.what),
                or_dash(&cell(&entry.reason)),
            ]
        }),
    );
}

fn list(page: &mut Page, title: &str, lines: &[String]) {
    page.section(title);
    for line in lines {
        page.line(&format!("- {line}"));
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text.to_owned()
    }
}

// What a person wrote must not break the table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

impl Page {
    fn line(&mut self, text: &str) {
        writeln!(self.0, "{text}").expect("a text grows");
    }

    fn section(&mut self, title: &str) {
        self.line(&format!("\n## {title}\n"));
    }

    fn table(&mut self, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        self.line(&format!("| {} |", head.join(" | ")));
        self.line(&format!("|{}", " --- |".repeat(head.len())));
        for row in rows {
            self.line(&format!("| {} |", row.join(" | ")));
        }
    }
}
