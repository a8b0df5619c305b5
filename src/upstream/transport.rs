//! How the endpoints of a pool are reached: in the clear or over TLS, for HTTP/1.1 or HTTP/2.
//!
//! Opens one connection when it is asked to, and says whose it is where the endpoints want to know (PROXY protocol).
//! Keeps none, and never looks at what is sent over it.

use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use http::uri::Scheme;
use rustls::pki_types::ServerName;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, TlsStream};

use super::endpoint::{Address, Endpoint};
use crate::clock;
use crate::config::{self, Protocol};
use crate::proxy_protocol::{self, Introduction, Version};
use crate::tls::{Connector, Watched};
use crate::wire::Wire;

/// From one warning of a failed handshake to the next, in milliseconds: every attempt fails where one does.
const WARN_AGAIN_MS: i64 = 10_000;

/// Why no connection was made.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("cannot connect to {address}: {why}")]
    Refused { address: String, why: String },
    #[error("no TLS with {address}: {why}")]
    Tls { address: String, why: String },
    #[error("no HTTP connection to {address}: {why}")]
    Handshake { address: String, why: String },
    #[error("no connection to {address} in time")]
    Timeout { address: String },
}

/// How the endpoints of one pool are reached.
#[derive(Debug)]
pub struct Transport {
    protocol: Protocol,
    tls: Option<Secure>,
    proxy_protocol: Option<Version>,
}

#[derive(Debug)]
struct Secure {
    connector: Arc<Connector>,
    /// Whom a certificate has to be for; `None` = the endpoint's host.
    server_name: Option<ServerName<'static>>,
    /// Unix milliseconds of the last warning.
    warned: AtomicI64,
}

// === impl Transport ===

impl Transport {
    /// Builds a transport; where the files say what those of `previous` say, it keeps the sessions that were made.
    pub(super) fn build(config: &config::Transport, previous: Option<&Self>) -> Self {
        let known = previous.and_then(|previous| previous.tls.as_ref());
        let tls = config.tls.as_ref().map(|tls| Secure {
            connector: match known {
                Some(known) if known.connector.says(&tls.loaded) => Arc::clone(&known.connector),
                _ => Connector::new(tls.loaded.clone()),
            },
            server_name: tls.server_name.clone(),
            warned: AtomicI64::new(0),
        });
        Self {
            protocol: config.protocol,
            tls,
            proxy_protocol: config.proxy_protocol,
        }
    }

    /// Whether requests share connections, as streams of HTTP/2.
    pub const fn is_http2(&self) -> bool {
        self.protocol.is_http2()
    }

    /// The client, where the endpoints are told whose a connection is: then it is of no use to another one.
    pub(super) fn tells_of<'a>(&self, whose: &'a Introduction) -> Option<&'a Introduction> {
        self.proxy_protocol.map(|_| whose)
    }

    pub fn scheme(&self) -> Scheme {
        match self.tls {
            Some(_) => Scheme::HTTPS,
            None => Scheme::HTTP,
        }
    }

    /// What is read again when its files change.
    pub fn watched(&self) -> Option<Arc<dyn Watched>> {
        let secure = self.tls.as_ref()?;
        Some(Arc::clone(&secure.connector) as Arc<dyn Watched>)
    }

    /// Opens a connection, for a client or for nobody but ourselves. Names are resolved now.
    pub(super) async fn open(
        &self,
        endpoint: &Endpoint,
        whose: Option<&Introduction>,
    ) -> Result<Wire, ConnectError> {
        let refused = |why: io::Error| ConnectError::Refused {
            address: endpoint.address().to_owned(),
            why: why.to_string(),
        };
        let mut stream = connect(endpoint).await.map_err(refused)?;
        if let Some(version) = self.proxy_protocol {
            let header = proxy_protocol::write(version, whose);
            stream.write_all(&header).await.map_err(refused)?;
        }
        match &self.tls {
            None => Ok(Wire::Plain(stream)),
            Some(secure) => self.secure(secure, endpoint, stream).await,
        }
    }

    async fn secure(
        &self,
        secure: &Secure,
        endpoint: &Endpoint,
        stream: TcpStream,
    ) -> Result<Wire, ConnectError> {
        let name = secure.server_name.clone();
        let Some(name) = name.or_else(|| config::host_of(endpoint.address())) else {
            return Err(secure.failed(endpoint, "no certificate can be for its name"));
        };
        let connector = TlsConnector::from(secure.connector.config());
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(|why| secure.failed(endpoint, why))?;
        let chosen = stream.get_ref().1.alpn_protocol();
        if self.is_http2() && chosen != Some(b"h2") {
            return Err(secure.failed(endpoint, "it does not choose HTTP/2 (ALPN h2)"));
        }
        Ok(Wire::Tls(Box::new(TlsStream::Client(stream))))
    }
}

// === impl Secure ===

impl Secure {
    fn failed(&self, endpoint: &Endpoint, why: impl Display) -> ConnectError {
        let error = ConnectError::Tls {
            address: endpoint.address().to_owned(),
            why: why.to_string(),
        };
        let now = clock::wall().as_unix_millis();
        let warned = self.warned.load(Ordering::Relaxed);
        if now.saturating_sub(warned) >= WARN_AGAIN_MS {
            self.warned.store(now, Ordering::Relaxed);
            tracing::warn!(%error, "a handshake failed");
        }
        error
    }
}

async fn connect(endpoint: &Endpoint) -> io::Result<TcpStream> {
    let stream = match endpoint.destination() {
        Address::Socket(address) => TcpStream::connect(address).await?,
        Address::Name(name) => TcpStream::connect(name.as_str()).await?,
    };
    stream.set_nodelay(true)?;
    Ok(stream)
}
