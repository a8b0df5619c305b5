//! Pools and endpoints as they are, and taking one out of use by hand.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};

use super::ask::{Body, Place};
use super::guard::Caller;
use super::problem::Problem;
use super::routes::App;
use super::wire::{self, ActionBody, EjectionRecord, EndpointRecord, PoolRecord, PoolsAnswer};
use crate::live::{EndpointView, PoolView};

pub(super) async fn show(State(app): State<App>) -> Json<PoolsAnswer> {
    Json(PoolsAnswer {
        pools: app
            .control
            .pools()
            .into_iter()
            .map(PoolRecord::from)
            .collect(),
    })
}

pub(super) async fn drain(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    place: Place,
    Body(body): Body,
) -> Result<StatusCode, Problem> {
    let reason = reason(&body)?;
    app.control
        .drain(&place.text(2), &place.text(4), &caller.by, &reason)?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn undrain(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    place: Place,
    Body(body): Body,
) -> Result<StatusCode, Problem> {
    let reason = reason(&body)?;
    app.control
        .undrain(&place.text(2), &place.text(4), &caller.by, &reason)?;
    Ok(StatusCode::NO_CONTENT)
}

/// The body may be left out, or say why.
fn reason(body: &[u8]) -> Result<String, Problem> {
    if body.trim_ascii().is_empty() {
        return Ok(String::new());
    }
    let said: ActionBody = wire::read(body).map_err(Problem::invalid)?;
    Ok(said.reason)
}

impl From<PoolView> for PoolRecord {
    fn from(pool: PoolView) -> Self {
        Self {
            name: pool.name.to_string(),
            never_healthy: pool.never_healthy,
            dns: pool.dns,
            dns_fault: pool.dns_fault,
            limit: pool.limit,
            queued: pool.queued,
            endpoints: pool
                .endpoints
                .into_iter()
                .map(EndpointRecord::from)
                .collect(),
        }
    }
}

impl From<EndpointView> for EndpointRecord {
    fn from(endpoint: EndpointView) -> Self {
        Self {
            address: endpoint.address,
            healthy: endpoint.healthy,
            fault: endpoint.fault,
            drained: endpoint.drained,
            in_flight: endpoint.in_flight,
            connections_idle: endpoint.connections_idle,
            probes_sent: endpoint.probes_sent,
            probes_answered: endpoint.probes_answered,
            requests: endpoint.requests,
            weight: endpoint.weight,
            zone: endpoint.zone,
            warmth: endpoint.warmth,
            latency_ms: endpoint.latency.map(|span| span.as_secs_f64() * 1000.0),
            ejected: endpoint.ejected.map(|ejected| EjectionRecord {
                reason: ejected.reason,
                left_ms: u64::try_from(ejected.left.as_millis()).unwrap_or(u64::MAX),
            }),
            ejections: endpoint.ejections,
        }
    }
}
