//! The side that replaces: the steps of taking a running serin's place.
//!
//! Dropped at any step before the last, the running one goes on.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::UnixStream;

use super::follow::Predecessor;
use super::line::{Fault, Line, PATIENCE, out_of_turn};
use super::protocol::{Message, VERSION};
use super::{Handed, socket_path};

/// How long the running one may take to end its gates and its store: its own limits for that, and a moment.
const RELEASE_PATIENCE: Duration = Duration::from_secs(15);

/// A takeover under way.
#[derive(Debug)]
pub struct Taking {
    line: Line,
    sockets: Vec<Handed>,
}

/// Why nothing was taken over.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    #[error(
        "there is nothing to take over: no serin listens on {path} ({why}); without --takeover it starts by itself"
    )]
    Nobody { path: PathBuf, why: std::io::Error },
    #[error("nothing was taken over: {0}")]
    Fault(#[from] Fault),
}

impl Taking {
    /// Asks the serin that owns this state path for its sockets.
    pub async fn begin(state: &Path) -> Result<Self, TakeError> {
        let path = socket_path(state);
        let stream = UnixStream::connect(&path)
            .await
            .map_err(|why| TakeError::Nobody { path, why })?;
        let mut line = Line::new(stream)?;
        let hello = Message::Hello {
            version: VERSION,
            pid: std::process::id(),
        };
        line.say(&hello).await?;
        let sockets = inherit(&mut line).await?;
        Ok(Self { line, sockets })
    }

    /// What came; given once.
    pub fn sockets(&mut self) -> Vec<Handed> {
        std::mem::take(&mut self.sockets)
    }

    /// Says that everything is there but the store, and waits until that is free.
    pub async fn ready(&mut self) -> Result<(), TakeError> {
        self.line.say(&Message::Ready).await?;
        match self.line.hear_within(RELEASE_PATIENCE).await? {
            Message::Released => Ok(()),
            other => Err(out_of_turn(&other).into()),
        }
    }

    /// Says that traffic is carried here, and waits until the other one knows.
    pub async fn accepting(mut self) -> Result<Predecessor, TakeError> {
        self.line.say(&Message::Accepting).await?;
        match self.line.hear_within(PATIENCE).await? {
            Message::Yours => Ok(Predecessor::new(self.line)),
            other => Err(out_of_turn(&other).into()),
        }
    }
}

async fn inherit(line: &mut Line) -> Result<Vec<Handed>, Fault> {
    let mut sockets = Vec::new();
    loop {
        match line.hear_within(PATIENCE).await? {
            Message::Socket { port, configured } => {
                let listener = TcpListener::from(line.socket()?);
                // What is no bound socket of TCP says so here, and not in a worker.
                listener.local_addr()?;
                sockets.push(Handed {
                    port,
                    configured,
                    listener,
                });
            }
            Message::AllSockets => return Ok(sockets),
            other => return Err(out_of_turn(&other)),
        }
    }
}
