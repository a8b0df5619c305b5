//! One `GET` of a source, with a time limit and a size limit.
//!
//! No redirects. A connection for each question: sources are asked a few times a minute, and a kept connection would hide
//! that the source is gone. What goes wrong is told with the host alone: the rest of an address may be a secret.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode, Uri};

use crate::outbound::{Call, CallError, Client};

/// The largest answer: a Prometheus text of an instance with very many series.
const LARGEST: usize = 16 << 20;

/// An answer, read whole.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Bytes,
}

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("{0:?} is not an address")]
    Address(String),
    #[error("{0}: {1}")]
    Call(String, CallError),
    #[error("the answer of {0} is larger than {LARGEST} bytes")]
    Large(String),
}

pub(super) async fn get(
    client: &Client,
    url: &str,
    timeout: Duration,
) -> Result<Answer, FetchError> {
    let no_address = || FetchError::Address(url.to_owned());
    let url: Uri = url.parse().map_err(|_| no_address())?;
    let host = url.authority().ok_or_else(no_address)?.to_string();
    let call = Call {
        method: Method::GET,
        url,
        headers: Vec::new(),
        body: Bytes::new(),
        timeout,
        limit: LARGEST,
    };
    match client.call(call).await {
        Ok(answer) if answer.cut => Err(FetchError::Large(host)),
        Ok(answer) => Ok(Answer {
            status: answer.status,
            body: answer.body,
        }),
        Err(why) => Err(FetchError::Call(host, why)),
    }
}
