//! The command line's side of the admin port: one small HTTP client, and how its answers become exit codes.
//!
//! Knows URLs, the token, problem documents and, by `https`, whom to believe; knows nothing of what the resources mean.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::secure::{Secure, SecureError, Trust};

/// Where the admin port is looked for when nothing is said.
pub(super) const DEFAULT_ADMIN: &str = "http://127.0.0.1:9901";
/// An operator who waits longer than this wants to know that nothing answers.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Longest answer read into memory: a report with its whole history.
const MAX_ANSWER: usize = 64 << 20;

/// How to reach the admin port; shared by every command that does.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct ClientArgs {
    /// URL of the admin port [default: $SERIN_ADMIN, else http://127.0.0.1:9901]
    #[arg(long, value_name = "URL", global = true)]
    pub(super) admin: Option<String>,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    pub(super) json: bool,
}

/// Why a call did not give a result.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("{url:?} is not the URL of an admin port: {why}")]
    Url { url: String, why: &'static str },
    #[error("the token in SERIN_TOKEN cannot be sent in a header")]
    Token,
    #[error("{0}")]
    Tls(#[from] SecureError),
    #[error(
        "no answer from {authority}: {why} (is serin running? --admin or SERIN_ADMIN names its admin port)"
    )]
    Unreachable { authority: String, why: String },
    #[error("{message}")]
    Refused { status: StatusCode, message: String },
    #[error("{authority} answered with something that is not serin's: {why}")]
    Strange { authority: String, why: String },
}

/// Where the admin port is: as said, as the environment says, or where it is usually.
pub(super) fn admin_url(said: Option<&str>) -> String {
    said.map(str::to_owned)
        .or_else(|| std::env::var("SERIN_ADMIN").ok())
        .unwrap_or_else(|| DEFAULT_ADMIN.to_owned())
}

/// A client of one admin port.
#[derive(Clone, Debug)]
pub(super) struct Client {
    authority: String,
    token: Option<HeaderValue>,
    /// Where the URL begins with https.
    secure: Option<Secure>,
}

impl Client {
    /// From the arguments and the environment (`SERIN_ADMIN`, `SERIN_TOKEN`, and what `Trust` reads).
    pub(super) fn from_args(args: &ClientArgs) -> Result<Self, ClientError> {
        let url = admin_url(args.admin.as_deref());
        let token = std::env::var("SERIN_TOKEN").ok();
        Self::new(&url, token.as_deref(), &Trust::from_env())
    }

    pub(super) fn new(url: &str, token: Option<&str>, trust: &Trust) -> Result<Self, ClientError> {
        let fault = |why| ClientError::Url {
            url: url.to_owned(),
            why,
        };
        let parsed: Uri = url.parse().map_err(|_| fault("it cannot be read"))?;
        let default_port = match parsed.scheme_str() {
            Some("http") => 80,
            Some("https") => 443,
            Some(_) | None => return Err(fault("it must begin with http:// or https://")),
        };
        if !matches!(parsed.path(), "" | "/") {
            return Err(fault("it must not have a path"));
        }
        let host = parsed.host().ok_or_else(|| fault("it has no host"))?;
        let authority = format!("{host}:{}", parsed.port_u16().unwrap_or(default_port));
        let secure = (default_port == 443)
            .then(|| Secure::new(host, trust))
            .transpose()?;
        let token = token
            .map(|token| {
                HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| ClientError::Token)
            })
            .transpose()?;
        Ok(Self {
            authority,
            token,
            secure,
        })
    }

    /// Fetches a JSON document.
    pub(super) async fn get(&self, path: &str) -> Result<Value, ClientError> {
        let body = self
            .call(Method::GET, path, "application/json", None)
            .await?;
        self.parse(&body)
    }

    /// Fetches text in the form asked for.
    pub(super) async fn get_text(
        &self,
        path: &str,
        accept: &'static str,
    ) -> Result<Bytes, ClientError> {
        self.call(Method::GET, path, accept, None).await
    }

    /// Sends a JSON document and reads the answer's.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        self.send_json(Method::POST, path, body).await
    }

    /// The same with another method.
    pub(super) async fn send_json(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> Result<Value, ClientError> {
        let answer = self
            .call(method, path, "application/json", Some(body.to_string()))
            .await?;
        self.parse(&answer)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        accept: &'static str,
        body: Option<String>,
    ) -> Result<Bytes, ClientError> {
        let request = self.request(method, path, accept, body)?;
        self.within(async {
            let mut sender = self.connect().await?;
            let answer = sender.send_request(request).await;
            let answer = answer.map_err(|why| self.unreachable(why.to_string()))?;
            self.read(answer).await
        })
        .await
    }

    /// Waits for a part of a call, and not for ever.
    pub(super) async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        match tokio::time::timeout(TIMEOUT, work).await {
            Ok(result) => result,
            Err(_) => Err(self.unreachable("it took longer than 15 s".to_owned())),
        }
    }

    /// The body of a good answer, or what a bad one says.
    pub(super) async fn read(&self, answer: Response<Incoming>) -> Result<Bytes, ClientError> {
        let status = answer.status();
        let body = http_body_util::Limited::new(answer.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|why| self.cut_short(why.as_ref()))?
            .to_bytes();
        if status.is_success() {
            Ok(body)
        } else {
            Err(refusal(status, &body))
        }
    }

    pub(super) fn request(
        &self,
        method: Method,
        path: &str,
        accept: &'static str,
        body: Option<String>,
    ) -> Result<Request<Full<Bytes>>, ClientError> {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.authority)
            .header(ACCEPT, accept);
        if let Some(token) = &self.token {
            request = request.header(AUTHORIZATION, token);
        }
        if body.is_some() {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        request
            .body(Full::from(body.unwrap_or_default()))
            .map_err(|why| self.strange(why.to_string()))
    }

    /// A connection of its own, for as long as somebody keeps its sender.
    pub(super) async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, ClientError> {
        let stream = TcpStream::connect(&self.authority)
            .await
            .map_err(|why| self.unreachable(why.to_string()))?;
        match &self.secure {
            None => self.speak_over(stream).await,
            Some(secure) => {
                let shaken = secure.shake_hands(stream).await;
                let stream = shaken.map_err(|why| self.unreachable(why.to_string()))?;
                self.speak_over(stream).await
            }
        }
    }

    async fn speak_over<S>(&self, stream: S) -> Result<SendRequest<Full<Bytes>>, ClientError>
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|why| self.unreachable(why.to_string()))?;
        tokio::spawn(async move {
            if let Err(why) = connection.await {
                tracing::debug!(%why, "the connection to the admin port ended");
            }
        });
        Ok(sender)
    }

    pub(super) fn parse(&self, body: &[u8]) -> Result<Value, ClientError> {
        serde_json::from_slice(body).map_err(|why| self.strange(why.to_string()))
    }

    pub(super) fn unreachable(&self, why: String) -> ClientError {
        ClientError::Unreachable {
            authority: self.authority.clone(),
            why,
        }
    }

    // A process that ends takes its answers with it; one that is too long is not serin's.
    fn cut_short(&self, why: &(dyn std::error::Error + Send + Sync + 'static)) -> ClientError {
        match why.is::<hyper::Error>() {
            true => self.unreachable(why.to_string()),
            false => self.strange(why.to_string()),
        }
    }

    pub(super) fn strange(&self, why: String) -> ClientError {
        ClientError::Strange {
            authority: self.authority.clone(),
            why,
        }
    }
}

/// The sentence of a problem document, or the status where there is none.
fn refusal(status: StatusCode, body: &[u8]) -> ClientError {
    let problem: Option<Value> = serde_json::from_slice(body).ok();
    let text = |key: &str| {
        problem
            .as_ref()
            .and_then(|problem| problem.get(key))
            .and_then(Value::as_str)
    };
    let message = match (text("title"), text("detail")) {
        (_, Some(detail)) => detail.to_owned(),
        (Some(title), None) => title.to_owned(),
        (None, None) => format!("refused with {status}"),
    };
    let message = match status {
        StatusCode::UNAUTHORIZED => format!("{message} (serin sends the one in SERIN_TOKEN)"),
        _ => message,
    };
    ClientError::Refused { status, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_url_of_an_admin_port_is_taken() {
        for (url, authority) in [
            ("http://127.0.0.1:9901", "127.0.0.1:9901"),
            ("http://localhost/", "localhost:80"),
            ("http://[::1]:9901", "[::1]:9901"),
            ("https://serin.example", "serin.example:443"),
            ("https://[::1]:9901/", "[::1]:9901"),
        ] {
            let client = Client::new(url, None, &Trust::default()).expect(url);
            assert_eq!(client.authority, authority);
            assert_eq!(client.secure.is_some(), url.starts_with("https"));
        }
        for url in [
            "",
            "127.0.0.1:9901",
            "https://x:1/path",
            "https://a..b",
            "http://",
            "http://x/path",
            "ftp://x",
        ] {
            let taken = Client::new(url, None, &Trust::default());
            assert!(taken.is_err(), "{url:?} was taken");
        }
        assert!(Client::new("http://x", Some("a\nb"), &Trust::default()).is_err());
    }

    #[test]
    fn a_problem_documents_detail_is_what_the_operator_reads() {
        let check = |body: &str, message: &str| {
            assert_eq!(
                refusal(StatusCode::CONFLICT, body.as_bytes()).to_string(),
                message
            );
        };
        check(
            r#"{"title": "Conflict", "detail": "cannot pause"}"#,
            "cannot pause",
        );
        check(r#"{"title": "Conflict"}"#, "Conflict");
        check("<html>", "refused with 409 Conflict");
        let refused = refusal(
            StatusCode::UNAUTHORIZED,
            br#"{"detail": "a token is needed"}"#,
        );
        assert_eq!(
            refused.to_string(),
            "a token is needed (serin sends the one in SERIN_TOKEN)"
        );
    }
}
