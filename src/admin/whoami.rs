//! `GET /api/whoami`: what a token may do, so that a page offers nothing that would be refused. Without one the answer is `nobody`
//! where tokens are configured, so that a page knows that it has to ask for one.

use axum::{Extension, Json};

use super::guard::Caller;
use super::wire::WhoamiAnswer;

pub(super) async fn show(Extension(caller): Extension<Caller>) -> Json<WhoamiAnswer> {
    let approves = caller.speaks_for;
    Json(WhoamiAnswer {
        by: caller.by,
        tokens: approves.is_some(),
        read: caller.reads,
        operate: caller.operates,
        approves: approves.map(|roles| roles.iter().map(ToString::to_string).collect()),
    })
}
