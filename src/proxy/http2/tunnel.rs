//! A stream that became a tunnel, as bytes. What is carried, and how long, is the passage's.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::exchange::poll_room;
use crate::proxy::answer::Turn;
use crate::proxy::passage::{ClientSide, End, Passage};
use crate::proxy::stay::Over;

struct Piped {
    receiving: RecvStream,
    sending: SendStream<Bytes>,
    /// What was received and not read.
    rest: Bytes,
    /// The client was told that nothing more comes.
    is_told: bool,
}

/// Carries a tunnel's bytes to its end, and keeps its request's turn as long.
pub(super) async fn carry(
    passage: Box<Passage>,
    turn: Turn,
    receiving: RecvStream,
    sending: SendStream<Bytes>,
) {
    let mut piped = Piped {
        receiving,
        sending,
        rest: Bytes::new(),
        is_told: false,
    };
    match passage.run(&mut piped).await {
        End::ClientLost | End::EndpointLost | End::Over(Over::Unread) => {
            piped.sending.send_reset(Reason::CANCEL);
        }
        End::Closed | End::Over(Over::Idle | Over::Retreated | Over::Leaving) => {}
    }
    drop(turn);
}

// === impl Piped ===

impl ClientSide for Piped {
    // Once the client was told of the end, a reset is no loss any more.
    fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_told {
            return Poll::Pending;
        }
        self.sending.poll_reset(cx).map(drop)
    }
}

impl AsyncRead for Piped {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            match ready!(self.receiving.poll_data(cx)) {
                None => return Poll::Ready(Ok(())),
                Some(Ok(data)) => self.rest = data,
                Some(Err(error)) => {
                    let is_end = matches!(error.reason(), Some(Reason::NO_ERROR | Reason::CANCEL));
                    return Poll::Ready(if is_end {
                        Ok(())
                    } else {
                        Err(io::Error::other(error))
                    });
                }
            }
        }
        let len = self.rest.len().min(buf.remaining());
        buf.put_slice(&self.rest[..len]);
        self.rest.advance(len);
        let freed = self.receiving.flow_control().release_capacity(len);
        Poll::Ready(freed.map_err(io::Error::other))
    }
}

impl AsyncWrite for Piped {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if buf.is_empty() {
            return Poll::Ready(Ok(0));
        }
        // The least: the library asks for the rest once it has the bytes.
        self.sending.reserve_capacity(1);
        ready!(poll_room(&mut self.sending, cx)).map_err(io::Error::other)?;
        let data = Bytes::copy_from_slice(buf);
        self.sending
            .send_data(data, false)
            .map_err(io::Error::other)?;
        Poll::Ready(Ok(buf.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.is_told {
            self.is_told = true;
            self.sending
                .send_data(Bytes::new(), true)
                .map_err(io::Error::other)?;
        }
        Poll::Ready(Ok(()))
    }
}
