//! The body of every answer to a client: upstream's, or serin's own few words; and the turn of its request, which ends with it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::download::{Broken, Download};
use super::meter::Meter;
use super::passage::Passage;
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
}

enum Kind {
    Text(Bytes),
    /// On the heap: it is handed on some ten times until it lies where the library reads it from.
    Download(Box<Download>),
    /// Of HTTP/2: what follows the head on its stream.
    Tunnel(Box<Passage>),
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

    /// A stream of HTTP/2 that goes on as a tunnel.
    pub(super) fn tunnel(passage: Box<Passage>, turn: Turn) -> Self {
        Self {
            kind: Kind::Tunnel(passage),
            turn: Some(turn),
            visit: None,
        }
    }

    /// The tunnel that follows, and the turn of its request, which lasts as long; the same answer where none does.
    pub(super) fn into_tunnel(mut self) -> Result<(Box<Passage>, Turn), Self> {
        match (std::mem::take(&mut self.kind), self.turn.take()) {
            (Kind::Tunnel(passage), Some(turn)) => Ok((passage, turn)),
            (kind, turn) => {
                self.kind = kind;
                self.turn = turn;
                Err(self)
            }
        }
    }

    fn is_over(&self) -> bool {
        match &self.kind {
            Kind::Text(text) => text.is_empty(),
            Kind::Download(download) => download.is_over(),
            Kind::Tunnel(_) => false,
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
        let Self { kind, visit, .. } = &mut *self;
        let polled = kind.poll(cx);
        if let (Some(visit), Poll::Ready(Some(Ok(frame)))) = (visit, &polled) {
            visit.handed_on(frame.data_ref().map_or(0, Bytes::len));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.is_over()
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Text(text) => SizeHint::with_exact(text.len() as u64),
            Kind::Download(download) => download.size_hint(),
            Kind::Tunnel(_) => SizeHint::new(),
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
            Self::Tunnel(_) => Poll::Ready(None),
        }
    }
}

impl Default for Kind {
    fn default() -> Self {
        Self::Text(Bytes::new())
    }
}

// === impl Turn ===

impl Turn {
    pub(super) fn begin(meter: &Arc<Meter>) -> Self {
        meter.begin_turn();
        Self {
            meter: Arc::clone(meter),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.meter.end_turn();
    }
}
