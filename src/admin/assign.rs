//! Where a learner goes now, and why.

use axum::Json;
use axum::extract::State;

use super::ask::Query;
use super::problem::Problem;
use super::routes::App;
use super::wire::AssignAnswer;

pub(super) async fn show(
    State(app): State<App>,
    query: Query,
) -> Result<Json<AssignAnswer>, Problem> {
    let query = query.only(&["rollout", "learner", "segment"])?;
    let view = query.rollout(&app)?;
    let learner = query.bytes("learner").filter(|id| !id.is_empty());
    let learner = learner.ok_or_else(|| Problem::invalid("say who: ?learner=ID"))?;
    let found = app
        .control
        .assign(&view, Some(learner), query.text("segment")?);
    Ok(Json(AssignAnswer {
        rollout: view.rollout.to_string(),
        learner: String::from_utf8_lossy(learner).into_owned(),
        bucket: found.bucket,
        arm: found.arm.to_string(),
        pool: found.pool.to_string(),
        why: found.why.to_string(),
        row: found.why.row(),
    }))
}
