//! The upstream: every head that ends is answered, in order. Bodies of requests are not expected.

use std::io::{self, Read, Write};

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use slab::Slab;

use super::{PIECE, Service, unless_blocked};

/// What is answered where no size is asked for.
const USUAL: usize = 1024;
const END: &[u8] = b"\r\n\r\n";

pub(super) struct Upstream {
    connections: Slab<Connection>,
    scratch: Vec<u8>,
}

struct Connection {
    stream: TcpStream,
    /// The beginning of a head that has not ended.
    begun: Vec<u8>,
    /// What the kernel did not take yet.
    waiting: Vec<u8>,
    sent: usize,
}

impl Default for Upstream {
    fn default() -> Self {
        Self {
            connections: Slab::new(),
            scratch: vec![0; PIECE],
        }
    }
}

impl Service for Upstream {
    fn accepted(&mut self, mut stream: TcpStream, registry: &Registry) -> io::Result<()> {
        let place = self.connections.vacant_entry();
        let both = Interest::READABLE | Interest::WRITABLE;
        registry.register(&mut stream, Token(place.key() + 1), both)?;
        place.insert(Connection {
            stream,
            begun: Vec::new(),
            waiting: Vec::new(),
            sent: 0,
        });
        Ok(())
    }

    fn ready(&mut self, token: Token, _: &Registry) {
        let key = token.0 - 1;
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        if !connection.serve(&mut self.scratch).unwrap_or(false) {
            self.connections.remove(key);
        }
    }
}

impl Connection {
    // Whether it goes on.
    fn serve(&mut self, scratch: &mut [u8]) -> io::Result<bool> {
        self.flush()?;
        while let Some(read) = unless_blocked(self.stream.read(scratch))? {
            if read == 0 {
                return Ok(false);
            }
            self.begun.extend_from_slice(&scratch[..read]);
            self.answer();
            self.flush()?;
            if read < scratch.len() {
                break;
            }
        }
        Ok(true)
    }

    fn answer(&mut self) {
        let mut from = 0;
        while let Some(end) = memchr::memmem::find(&self.begun[from..], END) {
            let bytes = size(&self.begun[from..from + end]).unwrap_or(USUAL);
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {bytes}\r\n\r\n"
            );
            self.waiting.extend_from_slice(head.as_bytes());
            self.waiting.resize(self.waiting.len() + bytes, b'x');
            from += end + END.len();
        }
        self.begun.drain(..from);
    }

    fn flush(&mut self) -> io::Result<()> {
        while self.sent < self.waiting.len() {
            match unless_blocked(self.stream.write(&self.waiting[self.sent..]))? {
                Some(written) => self.sent += written,
                None => return Ok(()),
            }
        }
        self.waiting.clear();
        self.sent = 0;
        Ok(())
    }
}

// Of `GET /bytes/N HTTP/1.1`.
fn size(head: &[u8]) -> Option<usize> {
    let target = head.split(|&byte| byte == b' ').nth(1)?;
    let digits = target.strip_prefix(b"/bytes/")?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
