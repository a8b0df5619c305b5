//! Learners forced to one pool. A learner id is bytes: percent-encoded in the path, as it comes.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;

use super::ask::{Body, Place};
use super::guard::Caller;
use super::problem::Problem;
use super::routes::App;
use super::wire::{self, PinBody};
use crate::control::{Order, Verb};

/// Longest learner id that may be pinned, in bytes.
const LEARNER_BYTES: usize = 1024;

pub(super) async fn put(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    place: Place,
    Body(body): Body,
) -> Result<StatusCode, Problem> {
    let view = place.rollout(&app)?;
    let PinBody { pool, reason } = wire::read(&body).map_err(Problem::invalid)?;
    let unknown = || Problem::invalid(format!("{pool:?} is no pool of {}", view.rollout));
    let arm = view.arm(&pool).ok_or_else(unknown)?;
    let verb = Verb::Pin {
        learner: learner(&place)?,
        arm,
    };
    app.control
        .order(
            &view.rollout,
            Order {
                by: caller.by,
                reason,
                force: false,
                verb,
            },
        )
        .await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn remove(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    place: Place,
) -> Result<StatusCode, Problem> {
    let view = place.rollout(&app)?;
    let learner = learner(&place)?;
    if !view.split.pins.contains_key(&learner) {
        return Err(Problem::not_found(format!(
            "{:?} is not pinned",
            String::from_utf8_lossy(&learner)
        )));
    }
    let order = Order {
        by: caller.by,
        reason: String::new(),
        force: false,
        verb: Verb::Unpin { learner },
    };
    app.control.order(&view.rollout, order).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn learner(place: &Place) -> Result<Box<[u8]>, Problem> {
    match place.bytes(4) {
        [] => Err(Problem::invalid("the learner's id is empty")),
        id if id.len() > LEARNER_BYTES => Err(Problem::invalid(format!(
            "a learner's id may have {LEARNER_BYTES} bytes"
        ))),
        id => Ok(id.into()),
    }
}
