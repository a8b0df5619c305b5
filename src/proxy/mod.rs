//! The data path, in the order a request meets it.
//!
//! `listen` binds, `worker` accepts, `balance` spreads connections over the workers, `introduction` reads who comes where a balancer says it, `connection` and `io` keep
//! a client's connection, `http2` and `frames` one of HTTP/2; `registry` ends those whose time is up by what `meter`
//! noted, on the clock of `coarse`; `spellings` are the names of heads as they were written. `service` is the table of contents of one request: `translate`, `check`, `learner`,
//! `choose`, `headers`, then `forward` with `next`, `order`, `outgoing`, `incoming` and `body` up, `refusal` where there is no answer,
//! `download` and `answer` down, `kept` for the connection, `grpc` where it is a call, `outcome` for the records, `visit` for the
//! access log and, with `trace`, for spans, and `respond` where an error becomes a status; `date` is for answers that say none. `deadline` is what all of them wait by. Where a request asks
//! for another protocol, `upgrade` and `websocket` say what is asked and granted, `passage` and `tunnel` carry what follows;
//! `stay` looks after them and after streams; `mirror` sends copies of baseline's requests to canary. Knows nothing of
//! the control path.

mod answer;
mod balance;
mod batch;
#[doc(hidden)]
pub mod bench;
mod body;
mod check;
mod choose;
mod coarse;
mod connection;
mod date;
mod deadline;
mod download;
mod forward;
mod frames;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod grpc;
mod guard;
mod headers;
mod http2;
mod ids;
mod incoming;
mod introduction;
mod io;
mod kept;
mod learner;
mod listen;
mod meter;
mod mirror;
mod next;
mod order;
mod outcome;
mod outgoing;
mod passage;
mod refusal;
mod registry;
mod respond;
mod seen;
mod service;
mod spellings;
mod stay;
mod trace;
mod translate;
mod transport;
mod tunnel;
mod upgrade;
mod visit;
mod websocket;
mod worker;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread;

use tokio::sync::mpsc;

use crate::cgroup;
use crate::config::Server;
use crate::live::Live;
use crate::shutdown::{Shutdown, Stage};
use crate::telemetry::Telemetry;

pub use listen::{BindError, Bound};

use listen::{make_table_of_files, raise_file_limit};

use worker::WorkerParts;

/// Connections where the system names no limit of files.
const UNLIMITED_FILES: u64 = 1_000_000;

/// What serin holds before anybody comes, with room for what a rollout counts.
const MEMORY_AT_REST: u64 = 32 << 20;
/// What a client in the middle of a request is reckoned to hold, with its share of the connections to endpoints: what was
/// measured is in docs/PERFORMANCE.md and deploy/container/README.md; the rest is for bodies on their way.
const MEMORY_OF_A_CONNECTION: u64 = 64 << 10;
const FEWEST_CONNECTIONS: u64 = 64;

/// What the data path needs.
#[derive(Debug)]
pub struct ProxyParts {
    pub live: Arc<Live>,
    pub telemetry: Arc<Telemetry>,
    /// Client connections of all workers together; never 0.
    pub max_connections: usize,
    pub shutdown: Shutdown,
}

/// Bound sockets that nobody accepts on yet: a list for each worker.
#[derive(Debug)]
pub struct Listeners {
    sockets: Vec<Vec<Bound>>,
    addresses: Vec<SocketAddr>,
}

/// A worker ended that should not have.
#[derive(Debug, thiserror::Error)]
#[error("worker {worker} ended unexpectedly: {why}")]
pub struct WorkerLost {
    pub worker: usize,
    pub why: String,
}

/// The running workers.
#[derive(Debug)]
pub struct Workers {
    addresses: Vec<SocketAddr>,
    ends: mpsc::UnboundedReceiver<End>,
    shutdown: Shutdown,
}

#[derive(Debug)]
struct End {
    worker: usize,
    /// `None` for a panic.
    result: Option<std::io::Result<()>>,
}

/// Sends the end of a worker's thread, a panic too.
struct EndGuard {
    end: Option<End>,
    ends: mpsc::UnboundedSender<End>,
}

/// Binds every address, once for each worker.
pub fn bind(server: &Server) -> Result<Listeners, BindError> {
    adopt(server, &mut Vec::new())
}

/// The same, with the sockets of a process that is replaced; leaves those of addresses that the configuration does not
/// name.
pub fn adopt(server: &Server, inherited: &mut Vec<Bound>) -> Result<Listeners, BindError> {
    let sockets = listen::bind(&server.listen, server.workers.max(1), inherited)?;
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for socket in sockets.first().into_iter().flatten() {
        addresses.extend(socket.listener.local_addr().ok());
    }
    // A worker may have several sockets of one address.
    addresses.dedup();
    Ok(Listeners { sockets, addresses })
}

/// Starts a worker for each list of sockets: from now on connections are accepted.
pub fn start(listeners: Listeners, parts: ProxyParts) -> std::io::Result<Workers> {
    let count = listeners.sockets.len();
    let (sender, ends) = mpsc::unbounded_channel();
    let balances = balance::among(count);
    if let Some((balance, _)) = balances.first() {
        parts.telemetry.know_workers(balance.counts());
    }
    let workers = listeners.sockets.into_iter().zip(balances).enumerate();
    for (worker, (sockets, (balance, handed))) in workers {
        let worker_parts = WorkerParts {
            live: Arc::clone(&parts.live),
            recorder: parts.telemetry.recorder(),
            listeners: sockets,
            balance,
            handed,
            workers: count,
            max_connections: (parts.max_connections / count).max(1),
            shutdown: parts.shutdown.clone(),
            access_log: parts.telemetry.access_log(),
            spans: parts.telemetry.spans(),
        };
        spawn(worker, worker_parts, sender.clone())?;
    }
    Ok(Workers {
        addresses: listeners.addresses,
        ends,
        shutdown: parts.shutdown,
    })
}

/// How many client connections may be open: as the file says; where it says 0, four fifths of the files (the rest is for
/// upstream connections, the store and the admin port), and no more than fit into the memory that a cgroup allows. Raises
/// the file limit to what the system allows, and makes the table of files as large.
pub fn max_connections(server: &Server) -> usize {
    let files = raise_file_limit().unwrap_or(UNLIMITED_FILES);
    make_table_of_files(files);
    if server.max_connections != 0 {
        return server.max_connections;
    }
    let by_memory = cgroup::memory_limit().map_or(u64::MAX, fitting);
    usize::try_from((files / 5 * 4).min(by_memory)).unwrap_or(usize::MAX)
}

/// The connections that fit into so many bytes, and a few in any case: a limit so low ends the process by itself.
fn fitting(bytes: u64) -> u64 {
    (bytes.saturating_sub(MEMORY_AT_REST) / MEMORY_OF_A_CONNECTION).max(FEWEST_CONNECTIONS)
}

fn spawn(
    worker: usize,
    parts: WorkerParts,
    ends: mpsc::UnboundedSender<End>,
) -> std::io::Result<()> {
    let builder = thread::Builder::new().name(format!("worker-{worker}"));
    builder.spawn(move || {
        let mut guard = EndGuard {
            end: Some(End {
                worker,
                result: None,
            }),
            ends,
        };
        let result = worker::run(parts);
        guard.end = Some(End {
            worker,
            result: Some(result),
        });
    })?;
    Ok(())
}

// === impl Listeners ===

impl Listeners {
    /// Second handles of all sockets, for whoever takes over.
    pub fn duplicates(&self) -> std::io::Result<Vec<Bound>> {
        let all = self.sockets.iter().flatten();
        all.map(|socket| {
            Ok(Bound {
                configured: socket.configured,
                listener: socket.listener.try_clone()?,
            })
        })
        .collect()
    }
}

// === impl Workers ===

impl Workers {
    /// The addresses listened on, in the order of the configuration, with the ports that the system chose.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Waits until every worker has drained, or the first one ended that should not have. May be dropped and called
    /// again.
    pub async fn ended(&mut self) -> Result<(), WorkerLost> {
        // The channel closes when the last worker is gone. One message a worker: it needs no bound.
        while let Some(end) = self.ends.recv().await {
            let why = match end.result {
                Some(Ok(())) if self.shutdown.stage() >= Stage::Draining => continue,
                Some(Ok(())) => "it stopped".to_owned(),
                Some(Err(error)) => error.to_string(),
                None => "it panicked".to_owned(),
            };
            return Err(WorkerLost {
                worker: end.worker,
                why,
            });
        }
        Ok(())
    }
}

// === impl EndGuard ===

impl Drop for EndGuard {
    fn drop(&mut self) {
        if let Some(end) = self.end.take()
            && self.ends.send(end).is_err()
        {
            tracing::debug!("nobody waits for the workers");
        }
    }
}
