//! Ceilings of segments: the highest weight that one segment of learners may have. `other` is the rest, beyond
//! `max_segments`.
//!
//! Lower is in force when the answer comes; higher as soon as it is recorded.

use std::sync::Arc;

use axum::Extension;
use axum::Json;
use axum::extract::State;

use super::ask::{Body, Place};
use super::guard::Caller;
use super::problem::Problem;
use super::rollouts::status;
use super::routes::App;
use super::wire::{self, ActionBody, CeilingAnswer, CeilingBody, SegmentsAnswer};
use crate::control::{Order, RolloutView, Verb};

pub(super) async fn list(
    State(app): State<App>,
    place: Place,
) -> Result<Json<SegmentsAnswer>, Problem> {
    let view = place.rollout(&app)?;
    let segments = status(&view).segments;
    Ok(Json(SegmentsAnswer { segments }))
}

pub(super) async fn put(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    place: Place,
    Body(body): Body,
) -> Result<Json<CeilingAnswer>, Problem> {
    let view = place.rollout(&app)?;
    let segment = segment(&view, &place)?;
    let CeilingBody { max_weight, reason } = wire::read(&body).map_err(Problem::invalid)?;
    let ceiling = max_weight
        .weight()
        .map_err(|why| Problem::invalid(why.to_string()))?;
    let verb = Verb::SetCeiling {
        segment: Arc::clone(&segment),
        ceiling,
    };
    order(&app, &view, caller, reason, verb).await?;
    answer(&app, &place, &segment)
}

pub(super) async fn remove(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    place: Place,
    Body(body): Body,
) -> Result<Json<CeilingAnswer>, Problem> {
    let view = place.rollout(&app)?;
    let segment = segment(&view, &place)?;
    let reason = match body.is_empty() {
        true => String::new(),
        false => {
            wire::read::<ActionBody>(&body)
                .map_err(Problem::invalid)?
                .reason
        }
    };
    let known = view.status.segments.iter();
    let mut capped = known.filter(|known| known.ceiling.is_some());
    if !capped.any(|known| *known.name == *segment) {
        return Err(Problem::not_found(format!(
            "segment {segment:?} has no ceiling"
        )));
    }
    let verb = Verb::LiftCeiling {
        segment: Arc::clone(&segment),
    };
    order(&app, &view, caller, reason, verb).await?;
    answer(&app, &place, &segment)
}

async fn order(
    app: &App,
    view: &RolloutView,
    caller: Caller,
    reason: String,
    verb: Verb,
) -> Result<(), Problem> {
    let order = Order {
        by: caller.by,
        reason,
        force: false,
        verb,
    };
    app.control.order(&view.rollout, order).await?;
    Ok(())
}

/// As it stands after the order, whose record the disk has by now.
fn answer(app: &App, place: &Place, segment: &str) -> Result<Json<CeilingAnswer>, Problem> {
    let view = place.rollout(app)?;
    let in_force = view.split.ceilings.get(segment);
    let decided = view.status.segments.iter().find(|one| one.name == segment);
    let decided = decided.and_then(|one| one.ceiling);
    Ok(Json(CeilingAnswer {
        segment: segment.to_owned(),
        max_weight: in_force.map(|ceiling| ceiling.share()),
        decided: decided.map(|ceiling| ceiling.share()),
    }))
}

fn segment(view: &RolloutView, place: &Place) -> Result<Arc<str>, Problem> {
    if view.plan.identity.segment.is_none() {
        let why = format!("{} tells no segments apart", view.rollout);
        return Err(Problem::invalid(why));
    }
    let name = std::str::from_utf8(place.bytes(4));
    name.map(Arc::from)
        .map_err(|_| Problem::invalid("the segment's name is not UTF-8"))
}
