//! What the two processes say to each other, a line of JSON each.
//!
//! The newcomer says hello; the old process hands over its sockets; ready; released; accepting; yours. Then splits go to
//! the old process and counts to the newcomer, until the old one says goodbye.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::splits::SettingsLine;
use crate::records::handed::{CountedLine, LearnersLine};

/// Another version is refused: two processes that half understand each other lose what this is for.
pub(super) const VERSION: u32 = 1;

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "snake_case")]
pub(super) enum Message {
    /// The newcomer, first of all.
    Hello {
        version: u32,
        pid: u32,
    },
    /// Either side, instead of what comes next.
    Refused {
        why: String,
    },
    /// The old process: the socket that comes along.
    Socket {
        port: Port,
        configured: SocketAddr,
    },
    /// The old process: that was the last socket.
    AllSockets,
    /// The newcomer: everything is there but the store.
    Ready,
    /// The old process: gates are stopped, the store is written and closed, the lock is free.
    Released,
    /// The newcomer: it carries traffic.
    Accepting,
    /// The old process: it does not come back.
    Yours,
    /// To the old process.
    Settings(SettingsLine),
    /// To the newcomer.
    Counted(CountedLine),
    Learners(LearnersLine),
    /// The old process: everything is finished and counted.
    Goodbye,
}

/// What a listening socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Port {
    Proxy,
    Admin,
}
