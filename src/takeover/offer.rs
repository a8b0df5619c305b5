//! The side that is replaced: where it can be asked for its place, and the steps of giving it away.
//!
//! Until `release` has ended well the old process may go on as if nobody had asked.

use std::fs::Permissions;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};

use super::follow::Successor;
use super::line::{Fault, Line, PATIENCE, out_of_turn};
use super::protocol::{Message, VERSION};
use super::{Handed, socket_path};

/// How long a connection may say nothing at first: signals wait meanwhile.
const FIRST_WORD: Duration = Duration::from_secs(2);
/// How long asking pauses when descriptors or memory ran out.
const PAUSE: Duration = Duration::from_millis(50);

/// Where this process can be asked for its place. The file is there as long as this is.
#[derive(Debug)]
pub struct Offer {
    listener: UnixListener,
    path: PathBuf,
}

/// A process that wants our place.
#[derive(Debug)]
pub struct Newcomer {
    line: Line,
    /// As it says.
    pub pid: u32,
}

impl Offer {
    /// Listens on `<state path>.sock`, for this user alone. Only for who holds the lock on the state path: what an
    /// earlier process left there is removed. Within a runtime.
    pub fn make(state: &Path) -> io::Result<Self> {
        let path = socket_path(state);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        Ok(Self { listener, path })
    }

    /// The next process that asks. May be dropped and called again.
    pub async fn asked(&self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return stream,
                Err(error) => {
                    tracing::warn!(%error, "a process that wants to take over cannot be heard");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

impl Drop for Offer {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "the socket of takeovers stays");
        }
    }
}

impl Newcomer {
    /// Hears who asks.
    ///
    /// # Errors
    /// It is no serin of this user that speaks as we do.
    pub async fn greet(stream: UnixStream) -> Result<Self, Fault> {
        let mut line = Line::new(stream)?;
        match line.hear_within(FIRST_WORD).await? {
            Message::Hello {
                version: VERSION,
                pid,
            } => Ok(Self { line, pid }),
            Message::Hello { version, .. } => {
                let why = format!(
                    "it speaks version {version} of a takeover, the serin that runs speaks {VERSION}"
                );
                line.say(&Message::Refused { why: why.clone() }).await?;
                Err(Fault::Strange(why))
            }
            other => Err(out_of_turn(&other)),
        }
    }

    /// Tells it that it may not.
    pub async fn refuse(mut self, why: &str) -> Result<(), Fault> {
        let why = why.to_owned();
        self.line.say(&Message::Refused { why }).await
    }

    /// Hands over the listening sockets, and waits until everything is ready there.
    pub async fn prepare(&mut self, sockets: &[Handed]) -> Result<(), Fault> {
        for socket in sockets {
            let message = Message::Socket {
                port: socket.port,
                configured: socket.configured,
            };
            self.line.hand(&message, socket.listener.as_fd()).await?;
        }
        self.line.say(&Message::AllSockets).await?;
        match self.line.hear_within(PATIENCE).await? {
            Message::Ready => Ok(()),
            other => Err(out_of_turn(&other)),
        }
    }

    /// Says that store and lock are free, and waits until the other one carries traffic. From `Ok` on there is no way back.
    pub async fn release(mut self) -> Result<Successor, Fault> {
        self.line.say(&Message::Released).await?;
        match self.line.hear_within(PATIENCE).await? {
            Message::Accepting => {}
            other => return Err(out_of_turn(&other)),
        }
        self.line.say(&Message::Yours).await?;
        Ok(Successor::new(self.line))
    }
}
