//! The corpus of requests that a proxy must not guess at: read from `tests/data/strictness`, played on real sockets.
//!
//! Knows no proxy: the tests play it against serin, `load-tests/strictness` against others as well.

pub(crate) mod corpus;
pub(crate) mod http1;
pub(crate) mod http2;
pub(crate) mod recorder;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A client's connection: plain, or TLS over it.
pub(crate) trait Wire: Read + Write {
    /// The longest wait of a read.
    fn set_patience(&mut self, patience: Duration);
}

impl Wire for TcpStream {
    fn set_patience(&mut self, patience: Duration) {
        self.set_read_timeout(Some(patience)).expect("a timeout");
    }
}

impl Wire for rustls::StreamOwned<rustls::ClientConnection, TcpStream> {
    fn set_patience(&mut self, patience: Duration) {
        self.sock.set_patience(patience);
    }
}

/// What a read found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Got {
    Bytes,
    /// A reset included.
    End,
    Nothing,
}

/// Reads what is there, or waits for it as long as the connection's patience lasts.
pub(crate) fn read(wire: &mut dyn Wire, into: &mut Vec<u8>) -> Got {
    let mut piece = [0; 16 * 1024];
    match wire.read(&mut piece) {
        Ok(0) => Got::End,
        Ok(len) => {
            into.extend_from_slice(&piece[..len]);
            Got::Bytes
        }
        Err(error) => match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => Got::Nothing,
            ErrorKind::Interrupted => read(wire, into),
            _ => Got::End,
        },
    }
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
