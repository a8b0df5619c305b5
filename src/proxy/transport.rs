//! What carries a client's bytes: the socket itself, or TLS over it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::tls;

/// A client's connection as bytes in the clear.
#[derive(Debug)]
pub(super) enum Transport {
    Plain(TcpStream),
    /// On the heap: a connection without TLS is not as large.
    Tls(Box<TlsStream<TcpStream>>),
}

/// What a handshake settled.
#[derive(Clone, Debug)]
pub(super) struct Secured {
    listener: Arc<tls::Listener>,
    /// The name that the client asked for, in lower case; `None` where it named nobody.
    server_name: Option<Box<str>>,
}

impl Transport {
    /// Makes TLS of a connection; what a client that speaks something else gets is an alert.
    pub(super) async fn secure(stream: TcpStream, listener: &tls::Listener) -> io::Result<Self> {
        let acceptor = TlsAcceptor::from(listener.config());
        let stream = acceptor.accept(stream).await?;
        Ok(Self::Tls(Box::new(stream)))
    }

    pub(super) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
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
        match self {
            Self::Plain(_) => None,
            Self::Tls(stream) => {
                let name = stream.get_ref().1.server_name();
                Some(Secured {
                    listener: Arc::clone(listener?),
                    server_name: name.map(|name| name.to_ascii_lowercase().into()),
                })
            }
        }
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

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
