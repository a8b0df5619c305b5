//! A rollout as it stands, and what operators may do with it.

use axum::extract::State;
use axum::{Extension, Json};

use super::ask::{Body, Place, Query};
use super::guard::Caller;
use super::problem::Problem;
use super::routes::App;
use super::weights;
use super::wire::{self, ActionBody, AllowedRecord, RolloutAnswer, RolloutsAnswer};
use crate::control::{Order, RolloutView, Verb};
use crate::records::status::StatusRecord;
use crate::rollout::gate::{Rule, rules_in};
use crate::rollout::name::Arm;

pub(super) async fn list(
    State(app): State<App>,
    query: Query,
) -> Result<Json<RolloutsAnswer>, Problem> {
    query.only(&[])?;
    let rollouts = app
        .control
        .rollouts()
        .values()
        .map(|view| answer(view))
        .collect();
    Ok(Json(RolloutsAnswer { rollouts }))
}

pub(super) async fn show(
    State(app): State<App>,
    place: Place,
) -> Result<Json<RolloutAnswer>, Problem> {
    Ok(Json(answer(&*place.rollout(&app)?)))
}

/// One of the actions; the body may be left out.
pub(super) async fn act(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    place: Place,
    Body(body): Body,
    verb: Verb,
) -> Result<Json<RolloutAnswer>, Problem> {
    let view = place.rollout(&app)?;
    let said = if body.trim_ascii().is_empty() {
        ActionBody::default()
    } else {
        read(&body)?
    };
    let order = Order {
        by: caller.by,
        reason: said.reason,
        force: said.force,
        verb,
    };
    let view = app.control.order(&view.rollout, order).await?;
    Ok(Json(answer(&view)))
}

fn read(body: &[u8]) -> Result<ActionBody, Problem> {
    wire::read(body).map_err(Problem::invalid)
}

pub(super) fn status(view: &RolloutView) -> StatusRecord {
    StatusRecord::new(
        &view.rollout,
        Arm::ALL.map(|arm| view.pool(arm)),
        &view.status,
        Some(&view.plan),
    )
}

pub(super) fn answer(view: &RolloutView) -> RolloutAnswer {
    RolloutAnswer {
        status: status(view),
        weights_in_force: weights::in_force(view),
        plan_pending: view.plan_pending,
        store_fault: view.store_fault.clone(),
        allowed: rules_in(view.status.phase)
            .map(AllowedRecord::from)
            .collect(),
    }
}

impl From<&Rule> for AllowedRecord {
    fn from(rule: &Rule) -> Self {
        Self {
            action: rule.name.to_owned(),
            does: rule.does.to_owned(),
        }
    }
}
