//! The client's own call: the share of each pool, read and set.

use axum::extract::State;
use axum::{Extension, Json};

use super::ask::{Body, Query};
use super::guard::Caller;
use super::problem::Problem;
use super::routes::App;
use super::wire::{self, Weights};
use crate::control::{Order, RolloutView, Verb};
use crate::rollout::name::Arm;
use crate::rollout::weight::Weight;

pub(super) async fn show(State(app): State<App>, query: Query) -> Result<Json<Weights>, Problem> {
    let view = query.only(&["rollout"])?.rollout(&app)?;
    Ok(Json(in_force(&view)))
}

/// Sets them, and answers when they are in force. Every fault is found before anything changes.
pub(super) async fn set(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    query: Query,
    Body(body): Body,
) -> Result<Json<Weights>, Problem> {
    let query = query.only(&["rollout", "guard", "reason"])?;
    let guarded = match query.text("guard")? {
        None | Some("true") => true,
        Some("false") => false,
        Some(other) => {
            return Err(Problem::invalid(format!(
                "guard = {other:?} is neither true nor false"
            )));
        }
    };
    let reason = query.text("reason")?.unwrap_or_default().to_owned();
    let view = query.rollout(&app)?;
    let weight = weight(&view, &wire::read(&body).map_err(Problem::invalid)?)?;
    let verb = Verb::SetWeight { weight, guarded };
    let order = Order {
        by: caller.by,
        reason,
        force: false,
        verb,
    };
    let view = app.control.order(&view.rollout, order).await?;
    Ok(Json(in_force(&view)))
}

/// The canary's weight that the two pools' numbers mean.
fn weight(view: &RolloutView, asked: &Weights) -> Result<Weight, Problem> {
    let pools = Arm::ALL.map(|arm| view.pool(arm).as_str());
    if let Some((unknown, _)) = asked
        .0
        .iter()
        .find(|(pool, _)| !pools.contains(&pool.as_str()))
    {
        let detail = format!(
            "{unknown:?} is no pool of {}; its pools are {:?} and {:?}",
            view.rollout, pools[0], pools[1]
        );
        return Err(Problem::invalid(detail));
    }
    let part = |pool: &str| {
        let named = asked.0.iter().find(|(name, _)| name == pool);
        named
            .map(|(_, part)| *part)
            .ok_or_else(|| Problem::invalid(format!("{pool:?} is missing: both pools are named")))
    };
    let (baseline, canary) = (part(pools[0])?, part(pools[1])?);
    Weight::from_parts(baseline, canary).map_err(|error| Problem::invalid(error.to_string()))
}

pub(super) fn in_force(view: &RolloutView) -> Weights {
    let shares = view.shares();
    Weights(
        Arm::ALL
            .map(|arm| (view.pool(arm).to_string(), shares[arm.index()]))
            .into(),
    )
}
