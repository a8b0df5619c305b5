//! Listening sockets that whoever started serin opened for it: socket activation, as systemd does it.
//!
//! Source: sd_listen_fds(3): `LISTEN_PID`, `LISTEN_FDS`, `LISTEN_FDNAMES`. Finds them, and gives each to who is to listen
//! on its address; opens none, and accepts nothing.

use std::env;
use std::io;
use std::net::{SocketAddr, TcpListener};

use listenfd::ListenFd;
use socket2::SockRef;

/// The first one, by the protocol.
const FIRST: usize = 3;
/// More than anybody listens on; a count beyond is a slip.
const MOST: usize = 1000;

/// Sockets that were given and not yet taken.
#[derive(Debug, Default)]
pub struct Inherited(Vec<Given>);

#[derive(Debug)]
struct Given {
    place: Place,
    address: SocketAddr,
    listener: TcpListener,
}

/// Which socket is meant, by its number and its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    number: usize,
    name: Option<String>,
}

/// Why serin cannot use what it was given.
#[derive(Debug, thiserror::Error)]
pub enum InheritError {
    #[error("LISTEN_FDS is {0:?}, which is no number of sockets up to {MOST}")]
    Count(String),
    #[error("inherited socket {place} cannot be used: {why}")]
    Unusable { place: Place, why: io::Error },
    #[error("inherited socket {0} is not one that listens for TCP")]
    Deaf(Place),
    #[error(
        "inherited socket {place} listens on {address}, which is neither in server.listen nor admin.listen"
    )]
    Unwanted { place: Place, address: SocketAddr },
    #[error("inherited sockets {first} and {second} both listen on {address}")]
    Twice {
        first: Place,
        second: Place,
        address: SocketAddr,
    },
}

impl Inherited {
    /// What the environment says that this process was given; none where it says nothing, or means another process.
    /// To be called once, before anything else is started: the environment is cleared of it.
    pub fn from_env() -> Result<Self, InheritError> {
        let said = |name: &str| env::var(name).unwrap_or_default();
        if said("LISTEN_PID").parse() != Ok(std::process::id()) {
            return Ok(Self::default());
        }
        let count = said("LISTEN_FDS");
        let names = said("LISTEN_FDNAMES");
        let count = match count.parse() {
            Ok(count) if count <= MOST => count,
            _ => return Err(InheritError::Count(count)),
        };
        let mut names = names.split(':');
        let mut sockets = ListenFd::from_env();
        let given = (0..count).map(|index| {
            let name = names.next().filter(|name| !name.is_empty());
            let place = Place {
                number: FIRST + index,
                name: name.map(str::to_owned),
            };
            Given::take(&mut sockets, index, place)
        });
        given.collect::<Result<_, _>>().map(Self)
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Makes sure that each socket is one of these, and that none is another's.
    ///
    /// # Errors
    /// Names the socket that nobody would listen on.
    pub fn check(&self, wanted: &[SocketAddr]) -> Result<(), InheritError> {
        for (index, given) in self.0.iter().enumerate() {
            let address = given.address;
            if let Some(first) = self.0[..index].iter().find(|one| one.address == address) {
                return Err(InheritError::Twice {
                    first: first.place.clone(),
                    second: given.place.clone(),
                    address,
                });
            }
            if !wanted.contains(&address) {
                return Err(InheritError::Unwanted {
                    place: given.place.clone(),
                    address,
                });
            }
        }
        Ok(())
    }

    /// The socket that listens on this address; it does not block.
    pub fn take(&mut self, address: SocketAddr) -> Option<TcpListener> {
        let at = self.0.iter().position(|given| given.address == address)?;
        Some(self.0.remove(at).listener)
    }
}

impl Given {
    fn take(sockets: &mut ListenFd, index: usize, place: Place) -> Result<Self, InheritError> {
        match listening(sockets, index) {
            Ok(Some((address, listener))) => Ok(Self {
                place,
                address,
                listener,
            }),
            Ok(None) => Err(InheritError::Deaf(place)),
            Err(why) => Err(InheritError::Unusable { place, why }),
        }
    }
}

// `None` for a socket that is connected, or none at all.
fn listening(
    sockets: &mut ListenFd,
    index: usize,
) -> io::Result<Option<(SocketAddr, TcpListener)>> {
    let Some(listener) = sockets.take_tcp_listener(index)? else {
        return Ok(None);
    };
    if !SockRef::from(&listener).is_listener()? {
        return Ok(None);
    }
    listener.set_nonblocking(true)?;
    Ok(Some((listener.local_addr()?, listener)))
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.number)?;
        match &self.name {
            Some(name) => write!(f, " ({name:?})"),
            None => Ok(()),
        }
    }
}
