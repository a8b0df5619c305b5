//! The floor: bytes of a client to an upstream connection of its own, and back.

use std::io::{self, Read, Write};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use slab::Slab;

use super::{PIECE, Service, unless_blocked};

pub(super) struct Floor {
    to: SocketAddr,
    pairs: Slab<Pair>,
    scratch: Vec<u8>,
    /// Heads that ended, so that looking for them cannot be left out.
    heads: u64,
}

struct Pair {
    /// The client and its upstream.
    ends: [TcpStream; 2],
    /// For each of them: what its kernel did not take yet.
    waiting: [Vec<u8>; 2],
}

impl Floor {
    pub(super) fn new(to: SocketAddr) -> Self {
        Self {
            to,
            pairs: Slab::new(),
            scratch: vec![0; PIECE],
            heads: 0,
        }
    }
}

impl Service for Floor {
    fn accepted(&mut self, client: TcpStream, registry: &Registry) -> io::Result<()> {
        let upstream = TcpStream::connect(self.to)?;
        upstream.set_nodelay(true)?;
        let place = self.pairs.vacant_entry();
        let mut ends = [client, upstream];
        let both = Interest::READABLE | Interest::WRITABLE;
        for (end, stream) in ends.iter_mut().enumerate() {
            registry.register(stream, Token(1 + 2 * place.key() + end), both)?;
        }
        place.insert(Pair {
            ends,
            waiting: [Vec::new(), Vec::new()],
        });
        Ok(())
    }

    fn ready(&mut self, token: Token, _: &Registry) {
        let (key, end) = ((token.0 - 1) / 2, (token.0 - 1) % 2);
        let Some(pair) = self.pairs.get_mut(key) else {
            return;
        };
        let goes_on = pair
            .flush(end)
            .and_then(|()| pair.pass(end, &mut self.scratch, &mut self.heads));
        if !goes_on.unwrap_or(false) {
            self.pairs.remove(key);
        }
    }
}

impl Pair {
    // Whether it goes on.
    fn pass(&mut self, from: usize, scratch: &mut [u8], heads: &mut u64) -> io::Result<bool> {
        let to = 1 - from;
        while let Some(read) = unless_blocked(self.ends[from].read(scratch))? {
            if read == 0 {
                return Ok(false);
            }
            *heads += memchr::memmem::find_iter(&scratch[..read], b"\r\n\r\n").count() as u64;
            self.send(to, &scratch[..read])?;
            if read < scratch.len() {
                break;
            }
        }
        Ok(true)
    }

    // What the kernel does not take now waits for its turn.
    fn send(&mut self, to: usize, bytes: &[u8]) -> io::Result<()> {
        let sent = match self.waiting[to].is_empty() {
            true => write(&mut self.ends[to], bytes)?,
            false => 0,
        };
        self.waiting[to].extend_from_slice(&bytes[sent..]);
        Ok(())
    }

    fn flush(&mut self, to: usize) -> io::Result<()> {
        if !self.waiting[to].is_empty() {
            let sent = write(&mut self.ends[to], &self.waiting[to])?;
            self.waiting[to].drain(..sent);
        }
        Ok(())
    }
}

// How much the kernel took.
fn write(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < bytes.len() {
        match unless_blocked(stream.write(&bytes[sent..])) {
            Ok(Some(written)) => sent += written,
            Ok(None) => break,
            // Not connected yet.
            Err(error) if error.kind() == io::ErrorKind::NotConnected => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}
