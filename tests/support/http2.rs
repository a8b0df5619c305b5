//! Clients of HTTP/2: one that speaks it well, and one that writes any frame.

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use bytes::Bytes;
use h2::client::{self, SendRequest};
use http::{HeaderMap, Request, Response};
use tokio::task::LocalSet;

use super::PATIENCE;

/// An answer that came whole.
#[derive(Debug)]
pub(crate) struct Whole {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: Option<HeaderMap>,
}

/// Runs a test's client; a test that hangs fails.
pub(crate) fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    LocalSet::new().block_on(&runtime, async {
        tokio::time::timeout(PATIENCE, test)
            .await
            .expect("it ends in time")
    })
}

/// A connection by prior knowledge, with settings of one's own; its end.
pub(crate) async fn connect_with(
    address: SocketAddr,
    builder: &client::Builder,
) -> (
    SendRequest<Bytes>,
    tokio::task::JoinHandle<Result<(), h2::Error>>,
) {
    let stream = tokio::net::TcpStream::connect(address)
        .await
        .expect("it listens");
    let (sender, connection) = builder.handshake(stream).await.expect("HTTP/2");
    (sender, tokio::task::spawn_local(connection))
}

pub(crate) async fn connect(address: SocketAddr) -> SendRequest<Bytes> {
    connect_with(address, &client::Builder::new()).await.0
}

pub(crate) fn get(target: &str) -> Request<()> {
    Request::get(target).body(()).expect("a request")
}

/// An extended CONNECT (RFC 8441) for this protocol.
pub(crate) fn extended(protocol: &'static str, target: &str) -> http::request::Builder {
    Request::connect(target).extension(h2::ext::Protocol::from_static(protocol))
}

/// Whether a stream ends in order without another byte.
pub(crate) async fn is_ended(stream: &mut h2::RecvStream) -> bool {
    while let Some(piece) = stream.data().await {
        if !piece.is_ok_and(|piece| piece.is_empty()) {
            return false;
        }
    }
    true
}

/// Sends a request with this body and reads the answer whole.
pub(crate) async fn ask(
    sender: &SendRequest<Bytes>,
    request: Request<()>,
    body: &[u8],
) -> Result<Whole, h2::Error> {
    let mut sender = sender.clone().ready().await?;
    let (answer, mut upload) = sender.send_request(request, body.is_empty())?;
    if !body.is_empty() {
        upload.send_data(Bytes::copy_from_slice(body), true)?;
    }
    whole(answer.await?).await
}

/// Reads the rest of an answer.
pub(crate) async fn whole(answer: Response<h2::RecvStream>) -> Result<Whole, h2::Error> {
    let (parts, mut stream) = answer.into_parts();
    let mut body = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece?;
        stream.flow_control().release_capacity(piece.len())?;
        body.extend_from_slice(&piece);
    }
    Ok(Whole {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body,
        trailers: stream.trailers().await?,
    })
}

/// A connection on which any frame can be written.
pub(crate) struct Frames {
    pub(crate) stream: TcpStream,
}

/// A frame that came.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

impl Frames {
    /// Connects, with preface and empty settings.
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        let mut frames = Self { stream };
        frames
            .stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .expect("it reads");
        frames.send(SETTINGS, 0, 0, &[]);
        frames
    }

    /// Writes a frame; false once the other side has ended.
    pub(crate) fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        let bytes = frame(kind, flags, stream, payload);
        self.stream.write_all(&bytes).is_ok()
    }

    /// The next frame; `None` at the end, a reset included.
    pub(crate) fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.read(&mut head)?;
        let [a, b, c, kind, ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.read(&mut payload)?;
        Some(Frame { kind, payload })
    }

    /// The next frame of one of these kinds; `None` at the end.
    pub(crate) fn find(&mut self, kinds: &[u8]) -> Option<Frame> {
        loop {
            let frame = self.next()?;
            if kinds.contains(&frame.kind) {
                return Some(frame);
            }
        }
    }

    fn read(&mut self, bytes: &mut [u8]) -> Option<()> {
        use std::io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
        match self.stream.read_exact(bytes) {
            Ok(()) => Some(()),
            Err(error) if matches!(error.kind(), ConnectionReset | BrokenPipe | UnexpectedEof) => {
                None
            }
            Err(error) => panic!("no frame from the proxy: {error}"),
        }
    }
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(payload.len()).expect("a frame").to_be_bytes();
    let mut bytes = vec![len[1], len[2], len[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Fields as literals without a table (RFC 7541, 6.2.2), which can say anything.
pub(crate) fn fields(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            assert!(text.len() < 127, "one byte of length");
            bytes.push(text.len() as u8);
            bytes.extend(text.as_bytes());
        }
    }
    bytes
}
