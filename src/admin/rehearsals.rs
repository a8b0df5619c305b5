//! Rehearsals: faults injected on purpose, to see the rollback. Started here; what came of one is an event.

use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};

use super::ask::{Body, named_or_only};
use super::guard::Caller;
use super::problem::Problem;
use super::routes::App;
use super::wire::{self, RehearsalAnswer, RehearsalBody, RehearsalKind};
use crate::control::{Order, Verb};
use crate::records::rehearsal::FaultRecord;
use crate::rollout::rehearsal::{Fault, Injection};
use crate::rollout::time::parse_duration;
use crate::rollout::weight::Weight;

/// What the client rehearses: 800 ms on half of canary's requests, over within 2 minutes.
const LATENCY: Duration = Duration::from_millis(800);
const SHARE: &str = "50%";
const WITHIN: Duration = Duration::from_secs(120);

pub(super) async fn start(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    Body(body): Body,
) -> Result<(StatusCode, Json<RehearsalAnswer>), Problem> {
    let said: RehearsalBody = wire::read(&body).map_err(Problem::invalid)?;
    let injection = injection(&said).map_err(Problem::invalid)?;
    let within = span("within", said.within.as_deref(), WITHIN).map_err(Problem::invalid)?;
    let view = named_or_only(&app, said.rollout.as_deref())?;
    let order = Order {
        by: caller.by,
        reason: said.reason.clone(),
        force: false,
        verb: Verb::Rehearse { injection, within },
    };
    let view = app.control.order(&view.rollout, order).await?;
    let answer = RehearsalAnswer {
        rollout: view.rollout.to_string(),
        fault: FaultRecord::from(injection),
        after: view.status.last_event.0,
    };
    Ok((StatusCode::ACCEPTED, Json(answer)))
}

fn injection(said: &RehearsalBody) -> Result<Injection, String> {
    let fault = match said.fault {
        RehearsalKind::Latency => {
            Fault::Latency(span("latency", said.latency.as_deref(), LATENCY)?)
        }
        RehearsalKind::Errors | RehearsalKind::Resets if said.latency.is_some() => {
            return Err("latency goes with the fault \"latency\" alone".to_owned());
        }
        RehearsalKind::Errors => Fault::Error,
        RehearsalKind::Resets => Fault::Reset,
    };
    let share = said.share.as_deref().unwrap_or(SHARE);
    let share = Weight::parse(share).map_err(|why| format!("share: {why}"))?;
    Ok(Injection { fault, share })
}

fn span(name: &str, text: Option<&str>, default: Duration) -> Result<Duration, String> {
    text.map_or(Ok(default), |text| {
        parse_duration(text).map_err(|why| format!("{name}: {why}"))
    })
}
