//! What is read first: the facts, the decision with its confidence, what followed a rollback, the plan.

use super::{code, conditions, head, ms, share, table};
use crate::records::Moment;
use crate::records::confidence::{ConfidenceRecord, SensitivityRecord};
use crate::records::status::{FiguresRecord, PerArm};
use crate::report::findings::Findings;
use crate::report::page::{Block, Cell, Column, NOTHING, Section, Table, Tone};
use crate::report::wording::{grouped, share_text, span, weight_text};
use crate::rollout::name::Arm;

pub(super) fn facts(findings: &Findings) -> Section {
    let moment = |at: Option<Moment>| at.map_or_else(|| NOTHING.to_owned(), |at| at.to_string());
    let or_dash = |text: &str| match text {
        "" => NOTHING.to_owned(),
        text => text.to_owned(),
    };
    let pools = &findings.pools;
    let canary = format!("{} at {}", pools.canary, weight_text(findings.weight_ppm));
    let mut facts = vec![
        ("phase", findings.phase.as_str().to_owned()),
        ("canary", canary),
        ("baseline", pools.baseline.clone()),
        ("version", or_dash(&findings.version)),
        ("started", moment(findings.started)),
        ("ended", moment(findings.ended)),
        (
            "took",
            findings.took_ms.map_or_else(|| NOTHING.to_owned(), span),
        ),
    ];
    if findings.ended.is_none() {
        facts.push(("as of", findings.at.to_string()));
    }
    let open: Vec<String> = findings
        .incidents
        .iter()
        .map(|incident| format!("{} ({})", incident.summary, incident.opened))
        .collect();
    if !open.is_empty() {
        facts.push(("open incidents", open.join("; ")));
    }
    facts.push(("plan", or_dash(findings.plan_hash.as_deref().unwrap_or(""))));
    let facts = facts.into_iter();
    let facts = facts.map(|(name, text)| (name.to_owned(), text)).collect();
    let mut blocks = vec![Block::Facts(facts)];
    let figures = findings.figures.as_ref();
    blocks.extend(figures.map(|figures| Block::Table(glance(figures, pools))));
    Section::new("summary", "Summary", blocks)
}

/// Both arms over the run, in a line each.
fn glance(figures: &PerArm<FiguresRecord>, pools: &PerArm<String>) -> Table {
    let row = |arm: Arm| {
        let run = &figures.of(arm).run;
        let learners = run
            .learners
            .map(|count| format!("about {}", grouped(count)));
        vec![
            Cell::from(arm.as_str()),
            Cell::from(pools.of(arm)),
            Cell::from(grouped(run.requests)),
            share(run.error_rate),
            ms(run.p50_ms),
            ms(run.p99_ms),
            Cell::from(learners.unwrap_or_else(|| "not counted".to_owned())),
        ]
    };
    let mut columns = head(&["over the run", "pool"], &[]);
    columns.extend(["requests", "error rate", "P50", "P99", "learners"].map(Column::numbers));
    table(columns, [Arm::Canary, Arm::Baseline].map(row))
}

pub(super) fn decision(findings: &Findings) -> Section {
    let mut blocks = vec![Block::text(format!(
        "{}.",
        findings.decision.trim_end_matches('.')
    ))];
    if let Some(confidence) = &findings.confidence {
        blocks.push(Block::text(format!(
            "Confidence: {}.",
            confidence.in_words()
        )));
        blocks.extend(sensitivity(confidence));
    }
    Section::new("decision", "Decision", blocks)
}

fn sensitivity(confidence: &ConfidenceRecord) -> Option<Block> {
    let SensitivityRecord {
        base_rate,
        chance,
        error_rate,
        ratio,
        ..
    } = confidence.sensitivity?;
    let (base, chance) = (share_text(base_rate), share_text(chance));
    Some(Block::text(match (error_rate, ratio) {
        (Some(rate), Some(ratio)) => format!(
            "Against a baseline of {base} errors the stage's requests show {} or more ({ratio:.1} times as many) with {chance} chance.",
            share_text(rate)
        ),
        (_, _) => format!(
            "Against a baseline of {base} errors the stage's requests are too few to show even a canary that always fails."
        ),
    }))
}

pub(super) fn recovery(findings: &Findings) -> Option<Section> {
    let recovery = findings.recovery.as_ref()?;
    let rows = recovery.steps.iter().map(|step| {
        let after = match step.after_ms {
            Some(after) => Cell::from(span(after)),
            None => Cell::toned("NOT BACK", Tone::Bad),
        };
        vec![Cell::from(&step.step), after, Cell::from(&step.note)]
    });
    let blocks = vec![
        Block::Table(table(head(&["step", "since the alarm", ""], &[]), rows)),
        Block::text(format!("The alarm was at {}.", recovery.alarm)),
    ];
    Some(Section::new("recovery", "After the rollback", blocks))
}

pub(super) fn plan(findings: &Findings) -> Option<Section> {
    let plan = findings.plan.as_ref()?;
    let rows = plan.stages.iter().map(|stage| {
        vec![
            Cell::from(&stage.name),
            Cell::from(&stage.weight),
            Cell::from(&stage.duration),
            Cell::from(grouped(stage.min_requests)),
            conditions(&stage.advance),
            conditions(&stage.hold),
            conditions(&stage.rollback),
        ]
    });
    let columns = [
        "stage",
        "weight",
        "duration",
        "minimum of requests",
        "advance if",
        "hold if",
        "roll back if",
    ];
    let tripwire = plan.gate.tripwire.as_deref();
    let tripwire = tripwire.map_or_else(|| "off".to_owned(), code);
    let mut blocks = vec![
        Block::Table(table(head(&columns, &[]), rows)),
        Block::text(format!("Tripwire: {tripwire}.")),
    ];
    if plan.gate.speed != 1.0 {
        let speed = plan.gate.speed;
        blocks.push(Block::text(format!(
            "All durations are divided by {speed}."
        )));
    }
    Some(Section::new("plan", "Plan", blocks))
}
