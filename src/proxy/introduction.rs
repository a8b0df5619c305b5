//! Whose connection it is: the peer's own, or that of whom the PROXY header in front of everything names.
//!
//! Reads the header to its last byte and no further, so that what follows it is left to who understands it: TLS, HTTP/1
//! or HTTP/2. What a header means is `proxy_protocol`'s.

use std::net::{Ipv4Addr, SocketAddr};

use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::meter::{Meter, Phase};
use super::registry::Place;
use crate::proxy_protocol::{HeaderError, Introduction, parse};
use crate::telemetry::Tally;

/// Looked at in one go: a header with a few extensions fits.
const PIECE: usize = 512;

/// Why a connection is not served.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Wrong(#[from] HeaderError),
    #[error("it ended within its PROXY header")]
    Incomplete,
    #[error("no whole PROXY header in time")]
    Late,
}

/// Why no header was read.
enum Unread {
    Refused(Refused),
    /// The peer went before it said anything, as balancers do that look whether a port is open.
    Gone,
}

/// What the socket says of a connection.
pub(super) fn own(stream: &TcpStream, peer: SocketAddr) -> Introduction {
    // Only of a client that is gone already it is not known.
    let nowhere = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    Introduction {
        source: peer,
        destination: stream.local_addr().unwrap_or(nowhere),
    }
}

/// What the PROXY header says, or the socket where the header names nobody; `None` where there is no header, and the
/// connection is not to be served. It has to begin as early as a first byte has to come, and to end as a head has to.
pub(super) async fn said(
    place: &Place,
    stream: &mut TcpStream,
    own: Introduction,
) -> Option<Introduction> {
    let worker = place.worker();
    let refused = match place.until_cut(read(stream, place.meter())).await {
        Ok(Ok(said)) => {
            place.meter().enter(Phase::Fresh);
            return Some(said.unwrap_or(own));
        }
        Ok(Err(Unread::Gone)) => return None,
        Ok(Err(Unread::Refused(refused))) => refused,
        Err(_) if worker.is_draining() => return None,
        Err(_) => Refused::Late,
    };
    worker.recorder.tally(refused.tally());
    if worker.warns_again() {
        tracing::warn!(why = %refused, peer = %own.source, listener = %own.destination, "a connection is refused");
    }
    None
}

// Reads the header; `None` where it names nobody.
async fn read(stream: &mut TcpStream, meter: &Meter) -> Result<Option<Introduction>, Unread> {
    let mut read = Vec::new();
    let mut piece = [0; PIECE];
    loop {
        // What is only looked at stays for who comes after the header.
        let seen = stream.peek(&mut piece).await.unwrap_or_default();
        match (seen, read.is_empty()) {
            (0, true) => return Err(Unread::Gone),
            (0, false) => return Err(Refused::Incomplete.into()),
            (_, true) => meter.enter(Phase::Head),
            (_, false) => {}
        }
        let before = read.len();
        read.extend_from_slice(&piece[..seen]);
        let header = parse(&read).map_err(Refused::Wrong)?;
        let own = header.map_or(seen, |header| header.length - before);
        if stream.read_exact(&mut piece[..own]).await.is_err() {
            return Err(Refused::Incomplete.into());
        }
        if let Some(header) = header {
            return Ok(header.introduction);
        }
    }
}

// === impl Refused ===

impl Refused {
    const fn tally(&self) -> Tally {
        match self {
            Self::Wrong(HeaderError::Missing) => Tally::ProxyHeaderMissing,
            Self::Wrong(HeaderError::Malformed(_)) => Tally::ProxyHeaderMalformed,
            Self::Incomplete => Tally::ProxyHeaderIncomplete,
            Self::Late => Tally::ProxyHeaderLate,
        }
    }
}

impl From<Refused> for Unread {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}
