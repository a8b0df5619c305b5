//! Incidents: while one is open, a condition on `incidents` fails.

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};

use super::ask::{Body, Place};
use super::guard::Caller;
use super::problem::Problem;
use super::routes::App;
use super::wire::{self, IncidentAnswer, IncidentBody};
use crate::control::{Order, Verb};

/// Longest summary, in characters: it stands in events, notices and reports.
const SUMMARY_CHARS: usize = 1000;

pub(super) async fn open(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    place: Place,
    Body(body): Body,
) -> Result<(StatusCode, Json<IncidentAnswer>), Problem> {
    let view = place.rollout(&app)?;
    let IncidentBody { summary } = wire::read(&body).map_err(Problem::invalid)?;
    if summary.trim().is_empty() {
        return Err(Problem::invalid("the summary is empty"));
    }
    if summary.chars().count() > SUMMARY_CHARS {
        return Err(Problem::invalid(format!(
            "the summary is longer than {SUMMARY_CHARS} characters"
        )));
    }
    let verb = Verb::OpenIncident {
        summary: summary.clone(),
    };
    let order = Order {
        by: caller.by,
        reason: String::new(),
        force: false,
        verb,
    };
    let view = app.control.order(&view.rollout, order).await?;
    // Orders are carried out one by one, and this view was made right after ours.
    let opened = view
        .status
        .incidents
        .iter()
        .max_by_key(|incident| incident.id);
    let id = opened.map_or(0, |incident| incident.id);
    Ok((StatusCode::CREATED, Json(IncidentAnswer { id, summary })))
}

pub(super) async fn close(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
    place: Place,
) -> Result<StatusCode, Problem> {
    let view = place.rollout(&app)?;
    let text = place.text(4);
    let open = text.parse().ok().filter(|id| {
        view.status
            .incidents
            .iter()
            .any(|incident| incident.id == *id)
    });
    let id = open.ok_or_else(|| Problem::not_found(format!("no incident {text:?} is open")))?;
    let order = Order {
        by: caller.by,
        reason: String::new(),
        force: false,
        verb: Verb::CloseIncident { id },
    };
    app.control.order(&view.rollout, order).await?;
    Ok(StatusCode::NO_CONTENT)
}
