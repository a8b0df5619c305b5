//! `PUT` and `DELETE …/freeze`: while it lasts nothing goes towards canary, and every way back stays open.

use axum::extract::State;
use axum::{Extension, Json};

use super::ask::{Body, Place};
use super::guard::Caller;
use super::problem::Problem;
use super::rollouts;
use super::routes::App;
use super::wire::{self, ActionBody, FreezeBody, RolloutAnswer};
use crate::control::{Order, Verb};

pub(super) async fn put(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    place: Place,
    Body(body): Body,
) -> Result<Json<RolloutAnswer>, Problem> {
    let view = place.rollout(&app)?;
    let FreezeBody { until, reason } = wire::read(&body).map_err(Problem::invalid)?;
    let order = Order {
        by: caller.by,
        reason,
        force: false,
        verb: Verb::Freeze {
            until: until.map(|until| until.0),
        },
    };
    let view = app.control.order(&view.rollout, order).await?;
    Ok(Json(rollouts::answer(&view)))
}

/// The body may be left out, or say why.
pub(super) async fn remove(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    place: Place,
    Body(body): Body,
) -> Result<Json<RolloutAnswer>, Problem> {
    let view = place.rollout(&app)?;
    let said = if body.trim_ascii().is_empty() {
        ActionBody::default()
    } else {
        wire::read(&body).map_err(Problem::invalid)?
    };
    let order = Order {
        by: caller.by,
        reason: said.reason,
        force: said.force,
        verb: Verb::Unfreeze,
    };
    let view = app.control.order(&view.rollout, order).await?;
    Ok(Json(rollouts::answer(&view)))
}
