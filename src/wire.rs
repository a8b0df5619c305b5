//! What carries a connection's bytes, a client's or an endpoint's: the socket itself, or TLS over it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsStream;

/// Pieces that are no longer than this together are copied into one: the kernel takes one piece for less than a list of them.
const SMALL: usize = 2048;

/// A connection as bytes in the clear.
#[derive(Debug)]
pub enum Wire {
    Plain(TcpStream),
    /// On the heap: a connection without TLS is not as large.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Wire {
    pub fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(stream) => stream,
            Self::Tls(stream) => stream.get_ref().0,
        }
    }

    /// Whether bytes, or the end, have come from the socket that nobody has read yet: TLS unwraps whole records.
    pub fn has_unread(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => !stream.get_ref().1.wants_read(),
        }
    }
}

impl AsyncRead for Wire {
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

impl AsyncWrite for Wire {
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
            Self::Plain(stream) => match bufs {
                [only] => Pin::new(stream).poll_write(cx, only),
                _ => {
                    let mut space = [0; SMALL];
                    match joined(bufs, &mut space) {
                        Some(bytes) => Pin::new(stream).poll_write(cx, bytes),
                        None => Pin::new(stream).poll_write_vectored(cx, bufs),
                    }
                }
            },
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

// All pieces in one, if there is room for them.
fn joined<'a>(pieces: &[io::IoSlice<'_>], space: &'a mut [u8]) -> Option<&'a [u8]> {
    let mut len = 0;
    for piece in pieces {
        space
            .get_mut(len..len + piece.len())?
            .copy_from_slice(piece);
        len += piece.len();
    }
    space.get(..len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_joined_in_order_where_there_is_room() {
        let mut space = [0; 6];
        let pieces = |texts: &[&'static str]| -> Vec<io::IoSlice<'static>> {
            let each = texts.iter();
            each.map(|text| io::IoSlice::new(text.as_bytes())).collect()
        };
        assert_eq!(
            joined(&pieces(&["ab", "", "cdef"]), &mut space),
            Some(&b"abcdef"[..])
        );
        assert_eq!(joined(&pieces(&["abc", "defg"]), &mut space), None);
        assert_eq!(joined(&[], &mut space), Some(&b""[..]));
    }
}
