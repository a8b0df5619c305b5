//! The life of one client's connection, from what comes before its first request to how it is closed.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::http2;
use super::incoming::Incoming;
use super::introduction;
use super::io::Accepted;
use super::meter::Phase;
use super::passage::{End, Passage};
use super::registry::{Cut, Place};
use super::respond::{self, Fault};
use super::service::{Client, handle};
use super::stay::Over;
use super::visit;
use crate::config::Limits;
use crate::live::Entrance;
use crate::telemetry::Tally;
use crate::tls;
use crate::wire::Wire;

/// Most that hyper holds of one message at a time, beside a head: bounds the memory of a slow reader.
const BUFFER: usize = 64 * 1024;
/// hyper reads up to 100 headers from the stack, more from the heap.
const HEADERS_ON_STACK: usize = 100;
/// Most headers read where the configuration has no limit.
const HEADERS_MAX: usize = 4096;
/// How long a client that was refused is listened to, so that it reads the answer and not a reset.
const LINGER: Duration = Duration::from_secs(1);

/// How hyper left a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Left {
    Cut(Cut),
    /// Nothing was under way for a while.
    Idle,
    Ended,
    Broken,
}

impl Left {
    const fn cut(self) -> Option<Cut> {
        match self {
            Self::Cut(cut) => Some(cut),
            Self::Idle | Self::Ended | Self::Broken => None,
        }
    }
}

/// Serves a client's connection to its end, as its listener is spoken to.
pub(super) async fn serve(
    place: Place,
    mut stream: TcpStream,
    peer: SocketAddr,
    entrance: Entrance,
) {
    let Entrance {
        tls,
        proxy_protocol,
    } = entrance;
    let mut whose = introduction::own(&stream, peer);
    // What may come first is on the heap: it is short, and the connection is not.
    if proxy_protocol {
        match Box::pin(introduction::said(&place, &mut stream, whose)).await {
            Some(said) => whose = said,
            None => return,
        }
    }
    let stream = match &tls {
        None => Wire::Plain(stream),
        Some(listener) => match Box::pin(secure(&place, stream, listener)).await {
            Some(stream) => stream,
            None => return,
        },
    };
    let peer = whose.source;
    let worker = Rc::clone(place.worker());
    let meter = Arc::clone(place.meter());
    let client = Client::new(&worker, &meter, whose, stream.secured(tls.as_ref()));
    let limits = worker.table().rules().limits;
    if stream.chose_http2() {
        let io = Accepted::new(stream, meter, limits);
        Box::pin(serve_http2(place, client, io, peer)).await;
        return;
    }
    let mut io = Accepted::new(stream, Arc::clone(&meter), limits);
    let (rest, left) = loop {
        // Who says nothing yet, or for a while, costs no more than his socket.
        if let Err(cut) = place.until_cut(io.readable()).await {
            break (Bytes::new(), Left::Cut(cut));
        }
        place.awake();
        // On the heap, which is given back while the connection rests.
        let (back, rest, left) = Box::pin(speak(&place, &client, io, &limits, peer)).await;
        if left != Left::Idle {
            io = back;
            break (rest, left);
        }
        worker.recorder.tally(Tally::ConnectionRested);
        io = back.resting(&rest);
    };
    // Only behind a 101 that was written whole are bytes the tunnel's.
    if let Some((passage, turn)) = client.take_switched()
        && left == Left::Ended
    {
        let io = io.into_tunnel(&rest);
        // On the heap, as well.
        Box::pin(serve_tunnel(place, *passage, io)).await;
        drop(turn);
        return;
    }
    let cut = left.cut();
    if cut.is_none() && meter.is_http2() {
        // On the heap, so that a connection of HTTP/1 is not as large.
        Box::pin(serve_http2(place, client, io, peer)).await;
        return;
    }
    let refusal = if cut == Some(Cut::SlowHead) {
        Some(Fault::ClientTimeout)
    } else {
        meter.refusal()
    };
    let is_left_open = cut.is_none() && io.asked_upgrade();
    let mut stream = io.into_stream();
    if let Some(fault) = refusal {
        worker
            .recorder
            .record_answer(fault.status().as_u16(), Some(fault.reason()));
        visit::tell_refused(
            &worker,
            peer.ip().to_canonical(),
            fault.status(),
            fault.reason(),
        );
        refuse(stream, fault).await;
    } else if cut == Some(Cut::Reset) {
        reset(&stream);
    } else if meter.is_unread() {
        linger(stream).await;
    } else if is_left_open {
        // hyper leaves this to whom it would have given the connection.
        close(&mut stream).await;
    }
}

// Lets hyper serve HTTP/1 on a connection, until it ends or has been idle for a while. What hyper had read and not used
// comes back beside the connection.
async fn speak(
    place: &Place,
    client: &Rc<Client>,
    io: Accepted<Wire>,
    limits: &Limits,
    peer: SocketAddr,
) -> (Accepted<Wire>, Bytes, Left) {
    let service =
        service_fn(|request: Request<_>| handle(Rc::clone(client), request.map(Incoming::from)));
    let mut connection = builder(limits).serve_connection(TokioIo::new(io), service);
    let left = poll_fn(|cx| {
        if let Some(cut) = place.cut() {
            return Poll::Ready(Left::Cut(cut));
        }
        if place.rests() {
            return Poll::Ready(Left::Idle);
        }
        place.listen(cx.waker());
        Pin::new(&mut connection).poll(cx).map(|ended| match ended {
            Ok(()) => Left::Ended,
            Err(error) => {
                tracing::debug!(%error, %peer, "a client's connection ended");
                Left::Broken
            }
        })
    })
    .await;
    let parts = connection.into_parts();
    (parts.io.into_inner(), parts.read_buf, left)
}

// The handshake, which has to end as early as a first byte has to come.
async fn secure(place: &Place, stream: TcpStream, listener: &tls::Listener) -> Option<Wire> {
    let why = match place.until_cut(Wire::secure(stream, listener)).await {
        Ok(Ok(stream)) => {
            place.meter().enter(Phase::Fresh);
            return Some(stream);
        }
        Ok(Err(error)) => error.to_string(),
        Err(cut) => format!("cut: {cut:?}"),
    };
    place.worker().recorder.tally(Tally::HandshakeFailed);
    tracing::debug!(%why, "no TLS");
    None
}

async fn serve_http2(place: Place, client: Rc<Client>, io: Accepted<Wire>, peer: SocketAddr) {
    let worker = Rc::clone(place.worker());
    let table = worker.table();
    let io = io.into_http2();
    let cut = http2::serve(&place, client, io, &table.rules().limits, peer).await;
    if place.meter().is_flood() {
        worker.recorder.tally(Tally::FrameFlood);
        tracing::debug!(%peer, "a flood of HTTP/2 frames");
    } else if let Some(cut) = cut {
        tracing::debug!(?cut, %peer, "a client's HTTP/2 connection was cut");
    }
}

async fn serve_tunnel(place: Place, passage: Passage, mut io: Accepted<Wire>) {
    let end = {
        let mut passing = pin!(passage.run(&mut io));
        poll_fn(|cx| {
            if let Poll::Ready(end) = passing.as_mut().poll(cx) {
                return Poll::Ready(end);
            }
            place.listen(cx.waker());
            match place.cut() {
                Some(_) => Poll::Ready(End::ClientLost),
                None => Poll::Pending,
            }
        })
        .await
    };
    let stream = io.into_stream();
    match end {
        End::Closed | End::Over(Over::Leaving) => {}
        End::Over(Over::Idle | Over::Retreated) => linger(stream).await,
        End::ClientLost | End::EndpointLost | End::Over(Over::Unread) => reset(&stream),
    }
}

async fn close(stream: &mut Wire) {
    if let Ok(Err(error)) = tokio::time::timeout(LINGER, stream.shutdown()).await {
        tracing::debug!(%error, "a client was gone at the end");
    }
}

fn builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder.max_buf_size(BUFFER.max(limits.head_bytes + BUFFER / 4));
    if limits.head_bytes != 0 {
        builder.max_header_size(limits.head_bytes);
    }
    match limits.headers {
        0 => _ = builder.max_headers(HEADERS_MAX),
        count if count > HEADERS_ON_STACK => _ = builder.max_headers(count),
        _ => {}
    }
    builder
}

async fn refuse(mut stream: Wire, fault: Fault) {
    let written = tokio::time::timeout(LINGER, async {
        stream.write_all(&respond::bytes(fault)).await?;
        stream.shutdown().await
    });
    match written.await {
        Ok(Ok(())) => linger(stream).await,
        Ok(Err(error)) => tracing::debug!(%error, "a refused client is gone"),
        Err(_) => reset(&stream),
    }
}

// Reads and forgets what the client still sends: closing now would reset the connection and lose the answer.
async fn linger(mut stream: Wire) {
    let mut scrap = [0; 4096];
    let drained = tokio::time::timeout(LINGER, async {
        while let Ok(1..) = stream.read(&mut scrap).await {}
    });
    if drained.await.is_err() {
        tracing::debug!("a refused client goes on sending");
    }
}

fn reset(stream: &Wire) {
    if let Err(error) = SockRef::from(stream.tcp()).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "a connection could not be reset and is closed");
    }
}
