//! A client's connection that speaks HTTP/2: its settings, its streams, and the way it ends.
//!
//! Each stream is a task of its own (`exchange`, or `tunnel` where it became one), kept in a list (`streams`), so that one whose client
//! does not read can be reset while its neighbours go on. Requests are served as those of HTTP/1 are. Frames, their compression and the windows
//! are the library's.

mod exchange;
mod streams;
mod tunnel;

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{self, SendResponse};
use http::{Method, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::spawn_local;

use self::exchange::Exchange;
pub(super) use self::streams::Streams;
use super::frames::PAYLOAD_MAX;
use super::incoming::Incoming;
use super::registry::{Cut, Place};
use super::service::{Client, handle};
use crate::config::Limits;

/// Requests of one connection at a time; what browsers and libraries are used to.
const STREAMS: u32 = 100;
/// What a client may send on one stream before its upstream takes it.
const STREAM_WINDOW: u32 = 128 * 1024;
/// Enough for every stream at once: one whose upstream takes nothing must not hold up the others.
const CONNECTION_WINDOW: u32 = STREAMS * STREAM_WINDOW;
/// What is kept of an answer for a client that is slow to take it.
const SEND_BUFFER: usize = 64 * 1024;
/// Streams that a client reset before they were accepted.
const RESETS_PENDING: usize = 20;
/// Streams that we reset for the client's faults, before the connection ends.
const RESETS_LOCAL: usize = 256;
/// What HPACK's counting adds to a field beside our own.
const FIELD_REST: usize = 32;
/// Longest header list where the configuration has no limit.
const HEADER_LIST_MAX: u32 = 16 * 1024 * 1024;

/// A connection, and what serves its streams.
struct Speaking<I> {
    state: State<I>,
    /// The client is to send no more requests.
    is_leaving: bool,
    client: Rc<Client>,
    streams: Rc<Streams>,
}

enum State<I> {
    Beginning(server::Handshake<I, Bytes>),
    Begun(server::Connection<I, Bytes>),
}

/// Serves a connection to its end; why it was cut, if it was.
pub(super) async fn serve<I>(
    place: &Place,
    client: Rc<Client>,
    io: I,
    limits: &Limits,
    peer: SocketAddr,
) -> Option<Cut>
where
    I: AsyncRead + AsyncWrite + Unpin,
{
    let streams = place.streams();
    let mut speaking = Speaking {
        state: State::Beginning(builder(limits).handshake(io)),
        is_leaving: false,
        client,
        streams: Rc::clone(&streams),
    };
    let cut = poll_fn(|cx| {
        match place.cut() {
            Some(Cut::GoAway) => {
                place.told();
                speaking.leave();
            }
            Some(cut) => {
                // As a last word (RFC 9113, 6.8), as far as it can be said at once.
                speaking.leave();
                // The first gathers it, the second writes it.
                drop(speaking.poll(cx));
                drop(speaking.poll(cx));
                return Poll::Ready(Some(cut));
            }
            None => {}
        }
        place.listen(cx.waker());
        speaking.poll(cx).map(|ended| {
            if let Err(error) = ended {
                tracing::debug!(%error, %peer, "a client's HTTP/2 connection ended");
            }
            None
        })
    })
    .await;
    streams.abort_all();
    cut
}

fn builder(limits: &Limits) -> server::Builder {
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(STREAMS)
        .max_frame_size(PAYLOAD_MAX)
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESETS_PENDING)
        .max_local_error_reset_streams(Some(RESETS_LOCAL))
        .enable_connect_protocol()
        .max_header_list_size(header_list(limits));
    builder
}

// Room for what is a little over our limits, so that the answer to it is our own.
fn header_list(limits: &Limits) -> u32 {
    let fields = FIELD_REST * (limits.headers + limits.headers / 4 + 8);
    match limits.head_bytes {
        0 => HEADER_LIST_MAX,
        bytes => u32::try_from(bytes.saturating_add(bytes / 4).saturating_add(fields))
            .unwrap_or(HEADER_LIST_MAX)
            .min(HEADER_LIST_MAX),
    }
}

// === impl Speaking ===

impl<I: AsyncRead + AsyncWrite + Unpin> Speaking<I> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        loop {
            let connection = match &mut self.state {
                State::Begun(connection) => connection,
                State::Beginning(handshake) => {
                    let mut connection = ready!(Pin::new(handshake).poll(cx))?;
                    if self.is_leaving {
                        connection.graceful_shutdown();
                    }
                    self.state = State::Begun(connection);
                    continue;
                }
            };
            match ready!(connection.poll_accept(cx)).transpose()? {
                Some((request, respond)) => self.begin(request, respond),
                None => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Tells the client to send no more requests; those under way are answered.
    fn leave(&mut self) {
        self.is_leaving = true;
        if let State::Begun(connection) = &mut self.state {
            connection.graceful_shutdown();
        }
    }

    fn begin(&self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        let (head, stream) = request.into_parts();
        let (body, receiving) = if head.method == Method::CONNECT {
            (Incoming::None, Some(stream))
        } else {
            (Incoming::of_stream(stream, &head.headers), None)
        };
        let request = Request::from_parts(head, body);
        // On the heap: it has several KiB, and they are given back with the answer's head.
        let handling = Box::pin(handle(Rc::clone(&self.client), request));
        self.streams.open(|lane| {
            let exchange = Exchange::new(handling, respond, receiving, lane);
            spawn_local(exchange).abort_handle()
        });
    }
}
