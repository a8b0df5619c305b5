//! Connections that an answer has come over, kept for the next request: once the answer was read whole, and the request's
//! body is through as well.

use std::pin::Pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body::Body;

use super::body::Upload;
use super::worker::Worker;
use crate::clock;
use crate::upstream::answer::AnswerBody;
use crate::upstream::connect::Connection;

/// How long a connection may take to be ready again after its answer was read.
const READY_PATIENCE: Duration = Duration::from_secs(30);
/// Largest answer that is read to its end only to keep the connection.
const DISCARD_MAX: u64 = 64 * 1024;
const DISCARD_PATIENCE: Duration = Duration::from_secs(1);

/// Keeps a connection whose answer was read whole, now or as soon as the request's body is through as well.
pub(super) fn keep(worker: &Rc<Worker>, mut connection: Connection<Upload>, now: Instant) {
    if connection.is_ready() {
        worker.connections.give_back(connection, now);
        return;
    }
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        if let Ok(true) = worker
            .deadlines
            .within(READY_PATIENCE, connection.ready())
            .await
        {
            worker.connections.give_back(connection, clock::now());
        }
    });
}

/// Reads a short answer that nobody wants to its end, to keep its connection.
pub(super) fn discard(
    worker: &Rc<Worker>,
    mut incoming: AnswerBody,
    connection: Connection<Upload>,
    now: Instant,
) {
    if incoming.is_end_stream() {
        keep(worker, connection, now);
        return;
    }
    if incoming
        .size_hint()
        .upper()
        .is_some_and(|len| len > DISCARD_MAX)
    {
        return;
    }
    let worker = Rc::clone(worker);
    tokio::task::spawn_local(async move {
        let read = async {
            let mut left = DISCARD_MAX;
            while let Some(frame) =
                std::future::poll_fn(|cx| Pin::new(&mut incoming).poll_frame(cx)).await
            {
                let len = frame.ok()?.data_ref().map_or(0, Bytes::len) as u64;
                left = left.checked_sub(len)?;
            }
            Some(())
        };
        if let Ok(Some(())) = worker.deadlines.within(DISCARD_PATIENCE, read).await {
            keep(&worker, connection, clock::now());
        }
    });
}
