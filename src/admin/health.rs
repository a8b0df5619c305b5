//! Whether the process lives, and whether it should be given traffic.

use axum::extract::State;
use axum::http::StatusCode;

use super::problem::Problem;
use super::routes::App;
use crate::shutdown::Stage;

pub(super) async fn alive() -> &'static str {
    "alive\n"
}

/// 503 as soon as the process is on its way out, while it still accepts.
pub(super) async fn ready(State(app): State<App>) -> Result<&'static str, Problem> {
    match app.shutdown.stage() {
        Stage::Running => Ok("ready\n"),
        Stage::Leaving | Stage::Draining | Stage::Stopped => Err(Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "shutting down",
        )),
    }
}
