//! TLS towards a client: the handshake, and what it settled.

use std::io;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsStream};

use crate::tls;
use crate::wire::Wire;

/// What a handshake settled.
#[derive(Clone, Debug)]
pub(super) struct Secured {
    listener: Arc<tls::Listener>,
    /// The name that the client asked for, in lower case; `None` where it named nobody.
    server_name: Option<Box<str>>,
}

impl Wire {
    /// Makes TLS of a connection; what a client that speaks something else gets is an alert.
    pub(super) async fn secure(stream: TcpStream, listener: &tls::Listener) -> io::Result<Self> {
        let acceptor = TlsAcceptor::from(listener.config());
        let stream = acceptor.accept(stream).await?;
        Ok(Self::Tls(Box::new(TlsStream::Server(stream))))
    }

    /// Whether both sides agreed on HTTP/2.
    pub(super) fn chose_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }

    /// What the handshake settled, where there was one.
    pub(super) fn secured(&self, listener: Option<&Arc<tls::Listener>>) -> Option<Secured> {
        let Self::Tls(stream) = self else { return None };
        let TlsStream::Server(stream) = &**stream else {
            return None;
        };
        let name = stream.get_ref().1.server_name();
        Some(Secured {
            listener: Arc::clone(listener?),
            server_name: name.map(|name| name.to_ascii_lowercase().into()),
        })
    }
}

impl Secured {
    /// Whether a request for this host may come over the connection: the client asked for that name, or for none, or
    /// holds a certificate of ours that is for it as well.
    pub(super) fn is_for(&self, host: &str) -> bool {
        self.server_name
            .as_ref()
            .is_none_or(|name| name.eq_ignore_ascii_case(host) || self.listener.covers(host))
    }
}
