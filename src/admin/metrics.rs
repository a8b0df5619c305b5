//! `GET /metrics`: the counters of the data path, and how rollouts, pools, the store and the process stand.
//!
//! docs/METRICS.md lists every family; `tests/acceptance/metrics.rs` holds the two together.

mod fleet;
mod form;
mod outside;
pub(super) mod own;
mod pools;
mod process;
mod segments;

use std::time::Duration;

use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;

use super::routes::App;
use crate::control::RolloutView;
use crate::live::CertificateView;
use crate::rollout::gate::{ArmFigures, Cause, Phase, process_name};
use crate::rollout::name::Arm;
use crate::telemetry::prometheus::Exposition;

pub(super) async fn show(State(app): State<App>, headers: HeaderMap) -> impl IntoResponse {
    let form = form::asked(&headers);
    let mut out = Exposition::new(form);
    out.gauge("serin_build_info", "1, with the version as a label.")
        .count(&[("version", env!("CARGO_PKG_VERSION"))], 1);
    app.telemetry.expose(&mut out);
    let rollouts = app.control.rollouts();
    let views: Vec<&RolloutView> = rollouts.values().map(|view| &**view).collect();
    state(&views, &mut out);
    figures(&views, &mut out);
    outside::show(&views, &mut out);
    segments::show(&views, &mut out);
    pools::show(&app.control.pools(), &mut out);
    certificates(&app.control.certificates(), &mut out);
    own::show(&app, &views, &mut out);
    fleet::show(app.control.fleet().as_deref(), &mut out);
    process::show(&mut out);
    ([(CONTENT_TYPE, form.content_type())], out.finish())
}

/// What a gauge of a rollout shows.
type OfRollout = fn(&RolloutView) -> f64;

const GAUGES: [(&str, &str, OfRollout); 13] = [
    (
        "serin_rollout_weight",
        "Share of learners on canary that is in force, 0 to 1.",
        |view| view.shares()[1],
    ),
    (
        "serin_rollout_weight_decided",
        "The same as last decided; it may wait for the journal.",
        |view| view.status.weight.share(),
    ),
    (
        "serin_rollout_run",
        "Number of the present or last run; 0 before any.",
        |view| view.status.run as f64,
    ),
    (
        "serin_rollout_stage",
        "Number of the present stage, 1 = the first; 0 outside a run.",
        |view| {
            view.status
                .stage_index
                .map_or(0.0, |index| index as f64 + 1.0)
        },
    ),
    (
        "serin_rollout_stage_time_seconds",
        "Observed time of the present stage.",
        |view| view.status.stage_time.as_secs_f64(),
    ),
    (
        "serin_rollout_stage_planned_seconds",
        "Duration of the present stage by its plan; 0 outside a run.",
        |view| {
            let stage = view.status.stage_index;
            let stage = stage.and_then(|index| view.plan.stage(index));
            stage.map_or(0.0, |stage| stage.duration.as_secs_f64())
        },
    ),
    (
        "serin_rollout_incidents",
        "Incidents that are open.",
        |view| view.status.incidents.len() as f64,
    ),
    ("serin_rollout_pins", "Learners that are pinned.", |view| {
        view.split.pins.len() as f64
    }),
    (
        "serin_rollout_awaiting_store",
        "1 while a step waits for the journal.",
        |view| truth(view.status.awaiting_store.is_some()),
    ),
    (
        "serin_rollout_frozen",
        "1 while nothing may go towards canary.",
        |view| truth(view.status.people.frozen.is_some()),
    ),
    (
        "serin_rollout_approvals_missing",
        "Roles whose approval is asked for.",
        |view| {
            let approval = view.status.people.approval.as_ref();
            approval.map_or(0.0, |approval| approval.missing.len() as f64)
        },
    ),
    (
        "serin_rollout_next_start_seconds",
        "When the stage to come is planned to start, in seconds since 1970; 0 where nothing is planned.",
        |view| {
            let start = view.status.people.next_start;
            start.map_or(0.0, |at| at.as_unix_millis() as f64 / 1000.0)
        },
    ),
    (
        "serin_store_works",
        "0 while the journal cannot be written.",
        |view| truth(view.store_fault.is_none()),
    ),
];

fn state(views: &[&RolloutView], out: &mut Exposition) {
    for (name, help, read) in GAUGES {
        let mut family = out.gauge(name, help);
        for view in views {
            family.sample(&[("rollout", view.rollout.as_str())], read(view));
        }
    }
    let mut phases = out.gauge(
        "serin_rollout_phase",
        "1 for the phase that the rollout is in.",
    );
    for view in views {
        for phase in Phase::ALL {
            let labels = [
                ("rollout", view.rollout.as_str()),
                ("phase", phase.as_str()),
            ];
            phases.sample(&labels, truth(view.status.phase == phase));
        }
    }
    evidence(views, out);
    let mut causes = out.gauge(
        "serin_rollout_held",
        "1 for each cause that the rollout is held for.",
    );
    for view in views {
        for cause in Cause::ALL {
            let held = view.status.causes.iter().any(|held| held.cause == cause);
            causes.sample(
                &[
                    ("rollout", view.rollout.as_str()),
                    ("cause", cause.as_str()),
                ],
                truth(held),
            );
        }
    }
}

fn evidence(views: &[&RolloutView], out: &mut Exposition) {
    let mut sums = out.gauge(
        "serin_rollout_evidence",
        "ln of the weighted sum of all evidence; an alarm from ln(1 / alpha) on.",
    );
    for view in views {
        if let Some(evidence) = &view.status.evidence {
            let labels = [("rollout", view.rollout.as_str())];
            sums.sample(&labels, evidence.ln_weighted);
        }
    }
    let mut limits = out.gauge(
        "serin_rollout_evidence_limit",
        "ln(1 / alpha) of the plan: evidence of regression at it is an alarm.",
    );
    for view in views {
        if let Some(evidence) = &view.status.evidence {
            let labels = [("rollout", view.rollout.as_str())];
            limits.sample(&labels, evidence.ln_limit);
        }
    }
    let mut processes = out.gauge(
        "serin_rollout_evidence_process",
        "ln(w E) of one process of the evidence.",
    );
    for view in views {
        let evidence = view.status.evidence.iter();
        for reading in evidence.flat_map(|evidence| &evidence.processes) {
            let labels = [
                ("rollout", view.rollout.as_str()),
                ("process", process_name(reading.part)),
            ];
            processes.sample(&labels, reading.ln_weighted());
        }
    }
}

/// What a gauge of an arm shows, over the last 60 s; left out where nothing was measured.
type OfArm = fn(&ArmFigures) -> Option<f64>;

const ARM_GAUGES: [(&str, &str, OfArm); 7] = [
    (
        "serin_rollout_error_rate",
        "Errors / counted requests over the last 60 s.",
        |figures| figures.error_rate,
    ),
    (
        "serin_rollout_client_error_rate",
        "Answers 4xx / counted requests over the last 60 s.",
        |figures| figures.client_error_rate,
    ),
    (
        "serin_rollout_availability",
        "1 - unavailable / counted requests over the last 60 s.",
        |figures| figures.availability,
    ),
    (
        "serin_rollout_uptime",
        "Probes answered / probes sent over the last 60 s.",
        |figures| figures.uptime,
    ),
    (
        "serin_rollout_throughput",
        "Counted requests per second over the last 60 s.",
        |figures| Some(figures.throughput),
    ),
    (
        "serin_rollout_window_requests",
        "Counted requests of the last 60 s.",
        |figures| Some(figures.requests as f64),
    ),
    (
        "serin_rollout_abandoned",
        "Learners who left before the answer, over the last 60 s.",
        |figures| Some(figures.abandoned as f64),
    ),
];

fn figures(views: &[&RolloutView], out: &mut Exposition) {
    let arms = || {
        views
            .iter()
            .flat_map(|view| Arm::ALL.map(|arm| (*view, arm)))
    };
    for (name, help, read) in ARM_GAUGES {
        let mut family = out.gauge(name, help);
        for (view, arm) in arms() {
            if let Some(figure) = read(&view.status.recent[arm.index()]) {
                family.sample(
                    &[("rollout", view.rollout.as_str()), ("arm", arm.as_str())],
                    figure,
                );
            }
        }
    }
    let mut latency = out.gauge(
        "serin_rollout_latency_quantile_seconds",
        "Latency over the last 60 s, by percentile.",
    );
    for (view, arm) in arms() {
        let figures = &view.status.recent[arm.index()];
        let percentiles = [
            ("p50", figures.p50),
            ("p95", figures.p95),
            ("p99", figures.p99),
            ("p999", figures.p999),
        ];
        for (percentile, value) in percentiles {
            let labels = [
                ("rollout", view.rollout.as_str()),
                ("arm", arm.as_str()),
                ("percentile", percentile),
            ];
            if let Some(seconds) = value.as_ref().map(Duration::as_secs_f64) {
                latency.sample(&labels, seconds);
            }
        }
    }
}

fn certificates(certificates: &[CertificateView], out: &mut Exposition) {
    let mut family = out.gauge(
        "serin_certificate_not_after_seconds",
        "Unix time of the last second at which a certificate is valid.",
    );
    for view in certificates {
        let cert = view.cert.display().to_string();
        family.sample(&[("cert", &cert)], view.not_after as f64);
    }
}

fn truth(what: bool) -> f64 {
    f64::from(u8::from(what))
}
