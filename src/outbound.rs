//! One HTTP call to somebody outside: http and https, a deadline for all of it, a bounded answer.
//!
//! Certificates are checked against the roots that browsers ship, and against those in the file that the environment
//! names in `SSL_CERT_FILE`, where authorities of one's own belong. Each call has a connection of its own and is made
//! once: who may repeat it is the caller's to know. What goes wrong is told without the URL, which may be a secret.

use std::time::Duration;

use bytes::Bytes;
use http::header::{HOST, HeaderName, HeaderValue, RETRY_AFTER, USER_AGENT};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::{ClientConfig, RootCertStore};

use crate::tls::roots;

/// What is read of an answer that is kept to be shown: enough to see what was said.
pub const ANSWER_LIMIT: usize = 16 << 10;

/// Makes calls. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client(legacy::Client<HttpsConnector<HttpConnector>, Full<Bytes>>);

#[derive(Clone, Debug)]
pub struct Call {
    pub method: Method,
    pub url: Uri,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: Bytes,
    pub timeout: Duration,
    /// Bytes read of the answer; the rest is cut.
    pub limit: usize,
}

#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    /// How long the server asks to be left alone.
    pub retry_after: Option<Duration>,
    /// At most `limit` bytes.
    pub body: Bytes,
    /// Whether there was more.
    pub cut: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Not reached, or not the server that its certificate says.
    #[error("cannot connect: {0}")]
    Connect(String),
    #[error("{0}")]
    Failed(String),
    #[error("no answer within {}", crate::rollout::time::format_duration(*.0))]
    Timeout(Duration),
}

impl Client {
    /// With the authorities that the environment names. A file of them that cannot be read is told, and calls go on
    /// with the others: whoever needs it learns so from the calls.
    pub fn new() -> Self {
        Self::trusting(roots::public())
    }

    fn trusting(roots: RootCertStore) -> Self {
        let provider = rustls::crypto::ring::default_provider();
        let tls = ClientConfig::builder_with_provider(provider.into())
            .with_safe_default_protocol_versions()
            .expect("the provider knows the default versions of TLS")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut plain = HttpConnector::new();
        plain.enforce_http(false);
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(tls)
            .https_or_http()
            .enable_http1()
            .wrap_connector(plain);
        let client = legacy::Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(0)
            .retry_canceled_requests(false)
            .build(connector);
        Self(client)
    }

    /// Makes a call; any status is an answer.
    pub async fn call(&self, call: Call) -> Result<Answer, CallError> {
        let timeout = call.timeout;
        match tokio::time::timeout(timeout, self.exchange(call)).await {
            Ok(answer) => answer,
            Err(_) => Err(CallError::Timeout(timeout)),
        }
    }

    async fn exchange(&self, call: Call) -> Result<Answer, CallError> {
        let failed = |error: &dyn std::error::Error| CallError::Failed(chain(error));
        let limit = call.limit;
        let mut request = Request::new(Full::new(call.body));
        *request.method_mut() = call.method;
        let host = call.url.authority().map(|at| at.as_str().to_owned());
        *request.uri_mut() = call.url;
        let headers = request.headers_mut();
        headers.insert(
            USER_AGENT,
            HeaderValue::from_static(concat!("serin/", env!("CARGO_PKG_VERSION"))),
        );
        if let Some(host) = host.and_then(|host| HeaderValue::from_str(&host).ok()) {
            headers.insert(HOST, host);
        }
        headers.extend(call.headers);
        let answer = self.0.request(request).await;
        let (head, body) = answer.map_err(|error| unanswered(&error))?.into_parts();
        let retry_after = head
            .headers
            .get(RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let read = bounded(body, limit).await;
        let (body, cut) = read.map_err(|error| failed(&error))?;
        Ok(Answer {
            status: head.status,
            retry_after,
            body,
            cut,
        })
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

fn unanswered(error: &legacy::Error) -> CallError {
    match (error.is_connect(), std::error::Error::source(error)) {
        (true, Some(cause)) => CallError::Connect(chain(cause)),
        (true, None) | (false, _) => CallError::Failed(chain(error)),
    }
}

/// The beginning of a body, and whether there was more.
async fn bounded(mut body: Incoming, limit: usize) -> Result<(Bytes, bool), hyper::Error> {
    let mut read = Vec::new();
    while read.len() <= limit
        && let Some(frame) = body.frame().await
    {
        if let Ok(data) = frame?.into_data() {
            read.extend_from_slice(&data);
        }
    }
    let cut = read.len() > limit;
    read.truncate(limit);
    Ok((read.into(), cut))
}

/// An error with what caused it: the outermost alone says too little.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
