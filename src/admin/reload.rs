//! Reading proxy.toml again.

use axum::extract::State;
use axum::{Extension, Json};

use super::guard::Caller;
use super::problem::Problem;
use super::routes::App;
use crate::control::Reloaded;

pub(super) async fn reload(
    State(app): State<App>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<Reloaded>, Problem> {
    Ok(Json(app.control.reload(&caller.by).await?))
}
