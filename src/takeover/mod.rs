//! One serin takes the place of another, over `<state path>.sock`: sockets one way, then splits and counts.
//!
//! `protocol` has what is said and `line` how; `offer` is the side that is replaced, `take` the one that replaces,
//! `follow` both sides from then until the replaced one has finished its requests, with `splits` and `counts` as what
//! passes. Never stops or starts a part of the program: `app` does, between the steps.

mod counts;
mod follow;
mod line;
mod offer;
mod protocol;
mod splits;
mod take;

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

pub use follow::{Predecessor, Successor};
pub use line::Fault;
pub use offer::{Newcomer, Offer};
pub use protocol::Port;
pub use take::{TakeError, Taking};

/// A listening socket on its way from one process to the next.
#[derive(Debug)]
pub struct Handed {
    pub port: Port,
    /// Its address as the file of the process that bound it has it.
    pub configured: SocketAddr,
    pub listener: TcpListener,
}

/// Where a process with this state path can be asked for its place.
fn socket_path(state: &Path) -> PathBuf {
    let mut path = state.as_os_str().to_owned();
    path.push(".sock");
    PathBuf::from(path)
}
