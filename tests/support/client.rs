//! A client that writes what it is given and reads answers byte by byte.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use super::PATIENCE;

pub(crate) struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// An answer as it was read.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The head as it came, in lower case.
    pub(crate) head: String,
    pub(crate) status: u16,
    /// The body; of a chunked one with its chunks.
    pub(crate) body: Vec<u8>,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// The same from an address of this machine.
    pub(crate) fn connect_from(source: IpAddr, address: SocketAddr) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None);
        let socket = socket.expect("a socket");
        let bound = socket.bind(&SocketAddr::new(source, 0).into());
        bound.expect("an address of this machine");
        socket.connect(&address.into()).expect("it listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        Self {
            stream: socket.into(),
            buffer: Vec::new(),
        }
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.stream.local_addr().expect("it is connected")
    }

    pub(crate) fn send(&mut self, text: &str) {
        self.send_bytes(text.as_bytes());
    }

    pub(crate) fn send_bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the proxy reads");
    }

    /// Writes; false once the connection is closed from the other side.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Reads a head to its empty line.
    pub(crate) fn head(&mut self) -> String {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                return String::from_utf8(head)
                    .expect("a head is text")
                    .to_lowercase();
            }
            assert!(
                self.fill() > 0,
                "closed within a head: {:?}",
                String::from_utf8_lossy(&self.buffer)
            );
        }
    }

    /// Reads one answer to a request that was no HEAD.
    pub(crate) fn answer(&mut self) -> Answer {
        let head = self.head();
        let body = if head.contains("transfer-encoding: chunked") {
            self.chunked()
        } else if let Some(len) = value(&head, "content-length") {
            self.exactly(len.parse().expect("a length"))
        } else if head.starts_with("http/1.1 204") || head.starts_with("http/1.1 304") {
            Vec::new()
        } else {
            self.rest()
        };
        let status = head[9..12].parse().expect("a status");
        Answer { head, status, body }
    }

    pub(crate) fn exactly(&mut self, len: usize) -> Vec<u8> {
        while self.buffer.len() < len {
            assert!(
                self.fill() > 0,
                "closed after {} of {len} bytes",
                self.buffer.len()
            );
        }
        self.buffer.drain(..len).collect()
    }

    /// Reads to the end of the connection, a reset included.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill() > 0 {}
        std::mem::take(&mut self.buffer)
    }

    /// Whether the other side closed without another byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && self.fill() == 0
    }

    /// Whether nothing can be read now.
    pub(crate) fn is_silent(&mut self) -> bool {
        self.stream.set_nonblocking(true).expect("it can be set");
        let mut byte = [0];
        let peeked = self.stream.peek(&mut byte);
        self.stream.set_nonblocking(false).expect("it can be set");
        self.buffer.is_empty() && peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    /// Sends no more, and goes on reading.
    pub(crate) fn finish(&self) {
        self.stream
            .shutdown(Shutdown::Write)
            .expect("it is connected");
    }

    pub(crate) fn leave(self) {
        self.stream
            .shutdown(Shutdown::Both)
            .expect("it is connected");
    }

    fn chunked(&mut self) -> Vec<u8> {
        let mut raw = Vec::new();
        loop {
            let line = self.line();
            let len = usize::from_str_radix(line.trim_end(), 16).expect("a chunk size");
            raw.extend_from_slice(line.as_bytes());
            if len == 0 {
                break;
            }
            raw.extend(self.exactly(len + 2));
        }
        loop {
            let line = self.line();
            raw.extend_from_slice(line.as_bytes());
            if line == "\r\n" {
                return raw;
            }
        }
    }

    fn line(&mut self) -> String {
        loop {
            if let Some(end) = find(&self.buffer, b"\r\n") {
                let line: Vec<u8> = self.buffer.drain(..end + 2).collect();
                return String::from_utf8(line).expect("a line is text");
            }
            assert!(self.fill() > 0, "closed within a line");
        }
    }

    fn fill(&mut self) -> usize {
        let mut chunk = [0; 16 * 1024];
        match self.stream.read(&mut chunk) {
            Ok(len) => {
                self.buffer.extend_from_slice(&chunk[..len]);
                len
            }
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                ) =>
            {
                0
            }
            Err(error) => panic!("no byte from the proxy: {error}"),
        }
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        value(&self.head, name)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

pub(crate) fn value<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
