//! The report of the present or last run.

use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};

use super::ask::{Place, Query};
use super::problem::Problem;
use super::rollouts::status;
use super::routes::App;
use crate::control::RolloutView;
use crate::records::event::EventRecord;
use crate::report::{self, ReportInput};

/// Events read at once.
const PAGE: usize = 1000;

pub(super) async fn show(
    State(app): State<App>,
    place: Place,
    query: Query,
) -> Result<Response, Problem> {
    let view = place.rollout(&app)?;
    let query = query.only(&["format"])?;
    let (kind, render): (_, fn(&ReportInput) -> String) = match query.text("format")? {
        None | Some("md") => ("text/markdown; charset=utf-8", report::markdown),
        Some("json") => ("application/json", report::json),
        Some("html") => return Err(Problem::invalid("format html: not in this version")),
        Some(other) => {
            return Err(Problem::invalid(format!(
                "format {other:?} is neither md nor json"
            )));
        }
    };
    let events = events_of_run(&app, &view).await?;
    let input = ReportInput {
        rollout: view.rollout.clone(),
        status: status(&view),
        events,
    };
    Ok(([(CONTENT_TYPE, kind)], render(&input)).into_response())
}

/// Every event of the present or last run, oldest first.
async fn events_of_run(app: &App, view: &RolloutView) -> Result<Vec<EventRecord>, Problem> {
    let mut events = Vec::new();
    let mut after = 0;
    loop {
        let page = app.control.history(view, after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(events);
        };
        after = last.id;
        events.extend(
            page.iter()
                .filter(|event| event.run == view.status.run)
                .map(|event| EventRecord::clone(event)),
        );
    }
}
