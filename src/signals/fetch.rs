//! One HTTP/1.1 `GET` over a fresh connection, with a time limit and a size limit.
//!
//! Plain http only, no redirects. A connection for each question: sources are asked a few times a minute, and a kept
//! connection would hide that the source is gone.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, HOST, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The largest answer: a Prometheus text of an instance with very many series.
const LARGEST: usize = 16 << 20;
const HTTP_PORT: u16 = 80;

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
    #[error("cannot connect to {0}: {1}")]
    Connect(String, io::Error),
    #[error("{0} does not speak HTTP: {1}")]
    Http(String, hyper::Error),
    #[error("the answer of {0} cannot be read: {1}")]
    Body(String, Box<dyn std::error::Error + Send + Sync>),
    #[error("no answer within {} ms", .0.as_millis())]
    Timeout(Duration),
}

pub(super) async fn get(url: &str, limit: Duration) -> Result<Answer, FetchError> {
    match timeout(limit, exchange(url)).await {
        Ok(outcome) => outcome,
        Err(_) => Err(FetchError::Timeout(limit)),
    }
}

async fn exchange(url: &str) -> Result<Answer, FetchError> {
    let no_address = || FetchError::Address(url.to_owned());
    let uri: Uri = url.parse().map_err(|_| no_address())?;
    let authority = uri.authority().ok_or_else(no_address)?;
    let host = format!(
        "{}:{}",
        authority.host(),
        authority.port_u16().unwrap_or(HTTP_PORT)
    );
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let request = Request::get(target)
        .header(HOST, authority.as_str())
        .header(USER_AGENT, "serin-signals")
        .header(CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|_| no_address())?;

    let stream = TcpStream::connect(&host)
        .await
        .map_err(|why| FetchError::Connect(host.clone(), why))?;
    let (mut sender, driver) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|why| FetchError::Http(host.clone(), why))?;
    let talk = async {
        let answer = sender
            .send_request(request)
            .await
            .map_err(|why| FetchError::Http(host.clone(), why))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST).collect().await;
        let body = body.map_err(|why| FetchError::Body(host.clone(), why))?;
        Ok(Answer {
            status,
            body: body.to_bytes(),
        })
    };
    // The connection's own end is told by the answer's.
    let mut talk = std::pin::pin!(talk);
    tokio::select! {
        answer = &mut talk => answer,
        _ = driver => talk.await,
    }
}
