//! The report of the present or last run, in three forms.

use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};

use super::ask::{Place, Query};
use super::problem::Problem;
use super::routes::App;
use crate::report::{self, ReportInput};

/// What a browser lets the page do: nothing but its own style.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// A form with its type and what writes it.
type Form = (&'static str, fn(&ReportInput) -> String);

pub(super) async fn show(
    State(app): State<App>,
    place: Place,
    query: Query,
) -> Result<Response, Problem> {
    let view = place.rollout(&app)?;
    let query = query.only(&["format"])?;
    let (kind, write) = form(query.text("format")?)?;
    let input = app.control.report(&view).await?;
    let written = tokio::task::spawn_blocking(move || write(&input)).await;
    let text = written.map_err(|ended| {
        tracing::error!(%ended, rollout = %view.rollout, "a report could not be written");
        Problem::internal("the report could not be written; the log says why")
    })?;
    let headers = [(CONTENT_TYPE, kind), (CONTENT_SECURITY_POLICY, POLICY)];
    Ok((headers, text).into_response())
}

fn form(name: Option<&str>) -> Result<Form, Problem> {
    match name {
        None | Some("md") => Ok(("text/markdown; charset=utf-8", report::markdown)),
        Some("json") => Ok(("application/json", report::json)),
        Some("html") => Ok(("text/html; charset=utf-8", report::html)),
        Some(other) => Err(Problem::invalid(format!(
            "format {other:?} is neither md, json nor html"
        ))),
    }
}
