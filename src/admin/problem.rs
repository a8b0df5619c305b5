//! Errors as RFC 9457 problem documents, and the one place where a refusal becomes a status.

use axum::Json;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};

use super::wire::{FaultRecord, ProblemRecord};
use crate::config::Fault;
use crate::control::{DrainError, HistoryError, OrderError, ReloadError};

/// One refusal.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Problem {
    pub(super) status: StatusCode,
    pub(super) detail: String,
    pub(super) faults: Vec<FaultRecord>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            faults: Vec::new(),
        }
    }

    /// 422: the request is understood and wrong; nothing changed.
    pub(super) fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// 500: what went wrong is ours, and in the log.
    pub(super) fn internal(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
    }

    pub(super) fn not_found(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status;
        let record = ProblemRecord {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            detail: self.detail,
            faults: self.faults,
        };
        let mut response = (status, Json(record)).into_response();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

impl From<OrderError> for Problem {
    fn from(error: OrderError) -> Self {
        let status = match &error {
            OrderError::UnknownRollout(_) => StatusCode::NOT_FOUND,
            OrderError::Phase(_) => StatusCode::CONFLICT,
            OrderError::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            OrderError::Waiting(_) | OrderError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.to_string())
    }
}

impl From<DrainError> for Problem {
    fn from(error: DrainError) -> Self {
        Self::not_found(error.to_string())
    }
}

impl From<HistoryError> for Problem {
    fn from(error: HistoryError) -> Self {
        tracing::warn!(%error, "the history cannot be read");
        Self::internal("the history cannot be read; the log says why")
    }
}

impl From<ReloadError> for Problem {
    fn from(error: ReloadError) -> Self {
        match error {
            ReloadError::Faults(faults) => {
                let detail = match faults.len() {
                    1 => "the file has a fault; the configuration in force stays".to_owned(),
                    count => {
                        format!("the file has {count} faults; the configuration in force stays")
                    }
                };
                Self {
                    faults: faults.iter().map(FaultRecord::from).collect(),
                    ..Self::invalid(detail)
                }
            }
            ReloadError::Thread(why) => Self::new(StatusCode::INTERNAL_SERVER_ERROR, why),
            ReloadError::Stopped => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "serin is shutting down")
            }
        }
    }
}

impl From<&Fault> for FaultRecord {
    fn from(fault: &Fault) -> Self {
        Self {
            file: fault.file.clone(),
            line: fault.line,
            key: fault.key.clone(),
            message: fault.message.clone(),
        }
    }
}
