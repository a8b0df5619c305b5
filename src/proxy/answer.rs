//! The body of every answer to a client: upstream's, or serin's own few words; and the turn of its request, which ends with it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::download::{Broken, Download};
use super::http2::Lane;
use super::meter::Meter;
use super::visit::Visit;

/// The body of every answer to a client.
pub(super) struct Answer {
    kind: Kind,
    /// `None` where a tunnel goes on with it.
    turn: Option<Turn>,
    /// Where the access log tells of it.
    visit: Option<Box<Visit>>,
}
/// One request's time on its connection, from its beginning to the end of the answer's body.
pub(super) struct Turn {
    meter: Arc<Meter>,
    /// Its stream, where the connection speaks HTTP/2.
    lane: Option<Lane>,
}

enum Kind {
    Text(Bytes),
    /// On the heap: it is handed on some ten times until it lies where the library reads it from.
    Download(Box<Download>),
}
// === impl Answer ===

impl Answer {
    pub(super) fn text(text: Bytes, turn: Turn, visit: Option<Box<Visit>>) -> Self {
        Self {
            kind: Kind::Text(text),
            turn: Some(turn),
            visit,
        }
    }

    /// Nothing: what follows the head is a tunnel's.
    pub(super) fn switched() -> Self {
        Self {
            kind: Kind::Text(Bytes::new()),
            turn: None,
            visit: None,
        }
    }

    pub(super) fn download(download: Box<Download>, turn: Turn, visit: Option<Box<Visit>>) -> Self {
        Self {
            kind: Kind::Download(download),
            turn: Some(turn),
            visit,
        }
    }

    fn is_over(&self) -> bool {
        match &self.kind {
            Kind::Text(text) => text.is_empty(),
            Kind::Download(download) => download.is_over(),
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // Upstream did not wait for all of the request: a client who still sends is to read the answer first.
        if let (Kind::Download(download), Some(turn)) = (&self.kind, &self.turn)
            && download.is_early()
        {
            turn.meter.set_unread();
        }
        if self.is_over()
            && let Some(visit) = &mut self.visit
        {
            visit.ended();
        }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Self { kind, turn, visit } = &mut *self;
        let polled = match turn.as_mut().and_then(|turn| turn.lane.as_mut()) {
            None => kind.poll(cx),
            Some(lane) => lane.poll_frame(|| kind.poll(cx)),
        };
        if let (Some(visit), Poll::Ready(Some(Ok(frame)))) = (visit, &polled) {
            visit.handed_on(frame.data_ref().map_or(0, Bytes::len));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        let lane = self.turn.as_ref().and_then(|turn| turn.lane.as_ref());
        if lane.is_some_and(Lane::keeps) {
            return false;
        }
        self.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Text(text) => SizeHint::with_exact(text.len() as u64),
            Kind::Download(download) => download.size_hint(),
        }
    }
}

// === impl Kind ===

impl Kind {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match self {
            Self::Text(text) if text.is_empty() => Poll::Ready(None),
            Self::Text(text) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(text))))),
            Self::Download(download) => download.poll(cx),
        }
    }
}
// === impl Turn ===

impl Turn {
    /// Its stream, where the connection speaks HTTP/2.
    pub(super) fn lane(&self) -> Option<&Lane> {
        self.lane.as_ref()
    }

    pub(super) fn begin(meter: &Arc<Meter>, lane: Option<Lane>) -> Self {
        meter.begin_turn();
        Self {
            meter: Arc::clone(meter),
            lane,
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.meter.end_turn();
    }
}
