//! What is there for people and for machines that look around: the front page and the description of the API.

use axum::http::header::CONTENT_TYPE;
use axum::response::{Html, IntoResponse};

/// The API's description, OpenAPI 3.1.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

const FRONT: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<title>serin</title>
<h1>serin</h1>
<p>This is the admin port. The API is described in <a href=\"/api/openapi.json\">/api/openapi.json</a>;
<a href=\"/api/rollouts\">/api/rollouts</a> shows how the rollouts stand, <a href=\"/metrics\">/metrics</a> has the counters.
In a terminal: <code>serin status</code>.</p>
</html>
";

pub(super) async fn front() -> Html<&'static str> {
    Html(FRONT)
}

pub(super) async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], OPENAPI)
}
