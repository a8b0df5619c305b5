//! What is there for people and for machines that look around: the dashboard with its files, and the description of the API.
//!
//! The page may run its own scripts and ask this port, and nothing else: no other address, no frame around it, no form that is sent.

use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH,
    REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

use super::ask::Place;
use super::problem::Problem;
use crate::console::{self, File};

/// The API's description, OpenAPI 3.1.
pub(super) const OPENAPI: &str = include_str!("openapi.json");

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

pub(super) async fn front(headers: HeaderMap) -> Response {
    serve(&console::PAGE, &headers)
}

/// `GET /console/FILE`.
pub(super) async fn file(place: Place, headers: HeaderMap) -> Result<Response, Problem> {
    let name = place.text(1);
    let file = console::find(&name)
        .ok_or_else(|| Problem::not_found(format!("the dashboard has no file {name:?}")))?;
    Ok(serve(file, &headers))
}

pub(super) async fn openapi() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], OPENAPI)
}

/// A file, or that the one the browser has is still the same: each time it is asked, so that a page never runs with files of two versions.
fn serve(file: &'static File, headers: &HeaderMap) -> Response {
    let tag = format!("\"{:.16}\"", hex(&Sha256::digest(file.text)));
    let with = [
        (CONTENT_TYPE, file.content_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (CROSS_ORIGIN_RESOURCE, "same-origin"),
        (CACHE_CONTROL, "no-cache"),
    ];
    let known = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|one| one.trim().trim_start_matches("W/") == tag);
    let tag = [(ETAG, tag)];
    match known {
        true => (StatusCode::NOT_MODIFIED, with, tag).into_response(),
        false => (with, tag, file.text).into_response(),
    }
}

const CROSS_ORIGIN_RESOURCE: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
