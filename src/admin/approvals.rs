//! `POST …/approve` and `…/reject`: what somebody says whose approval is asked for.
//!
//! A token speaks for the roles that it has as `approve:<role>`. Where no tokens are configured the port is on loopback
//! and anybody there speaks for each role; nobody can be told apart then, so one caller may give several.

use axum::extract::State;
use axum::{Extension, Json};

use super::ask::{Body, Place};
use super::guard::Caller;
use super::problem::Problem;
use super::rollouts;
use super::routes::App;
use super::wire::{self, RolloutAnswer, SayBody};
use crate::control::{Order, Said, Verb};
use crate::rollout::gate::EventId;
use crate::rollout::name::RoleName;

/// The body may be left out where only one role can be meant.
pub(super) async fn say(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    place: Place,
    Body(body): Body,
    verb: fn(Said) -> Verb,
) -> Result<Json<RolloutAnswer>, Problem> {
    let view = place.rollout(&app)?;
    let body = if body.trim_ascii().is_empty() {
        SayBody::default()
    } else {
        wire::read(&body).map_err(Problem::invalid)?
    };
    let role = body.role.as_deref().map(RoleName::parse).transpose();
    let said = Said {
        role: role.map_err(|why| Problem::invalid(format!("role: {why}")))?,
        holds: caller.speaks_for,
        seen: body.seen.map(EventId),
        plan_hash: body.plan_hash,
    };
    let order = Order {
        by: caller.by,
        reason: body.reason,
        force: false,
        verb: verb(said),
    };
    let view = app.control.order(&view.rollout, order).await?;
    Ok(Json(rollouts::answer(&view)))
}
