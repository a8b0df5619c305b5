//! Listening sockets: at least one per worker and address, and how many files may be open.
//!
//! What is inherited, from a process that is replaced or from who started this one, is used first, all of it whatever the
//! number of workers: each socket has a queue of its own, and a queue that nobody accepts from swallows its share of the
//! connections.
//! The first socket of an address is bound without SO_REUSEPORT, so that a port in use is an error and not a share of
//! somebody else's traffic; then it is set, and the others join.

use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel keeps for us while no worker accepts; capped by net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// The largest table of files that is made before it is needed: half a megabyte of the kernel's memory.
const TABLE_OF_FILES: u64 = 65_536;

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    pub address: SocketAddr,
    pub source: io::Error,
}

/// A listening socket, with its address as a file has it: there the port may be 0.
#[derive(Debug)]
pub struct Bound {
    pub configured: SocketAddr,
    pub listener: TcpListener,
}

/// The sockets of every worker: as many lists as workers, each with at least one socket per address. Takes what it needs of
/// those that are `inherited`.
pub(super) fn bind(
    addresses: &[SocketAddr],
    workers: usize,
    inherited: &mut Vec<Bound>,
) -> Result<Vec<Vec<Bound>>, BindError> {
    let mut sockets: Vec<Vec<Bound>> = (0..workers).map(|_| Vec::new()).collect();
    for &configured in addresses {
        let fault = |source| BindError {
            address: configured,
            source,
        };
        let listeners = group(configured, workers, inherited).map_err(fault)?;
        for (place, listener) in listeners.into_iter().enumerate() {
            sockets[place % workers].push(Bound {
                configured,
                listener,
            });
        }
    }
    Ok(sockets)
}

/// The sockets of one address, at least one for each worker.
fn group(
    address: SocketAddr,
    workers: usize,
    inherited: &mut Vec<Bound>,
) -> io::Result<Vec<TcpListener>> {
    let mut listeners = take(address, inherited);
    let is_inherited = !listeners.is_empty();
    if !is_inherited {
        listeners.push(first(address)?);
    }
    // A port 0 is settled by the first socket.
    let at = listeners[0].local_addr()?;
    while listeners.len() < workers {
        let more = match next(at) {
            // Bound by somebody who lets nobody join by SO_REUSEPORT: its queue is shared.
            Err(_) if is_inherited => listeners[0].try_clone()?,
            more => more?,
        };
        listeners.push(more);
    }
    Ok(listeners)
}

// Those of an address as the file has it, or as it was bound.
fn take(address: SocketAddr, inherited: &mut Vec<Bound>) -> Vec<TcpListener> {
    let bound = |socket: &Bound| socket.listener.local_addr().ok();
    let named = inherited.iter().find(|one| one.configured == address);
    let meant = named.or_else(|| inherited.iter().find(|one| bound(one) == Some(address)));
    let Some(at) = meant.and_then(bound) else {
        return Vec::new();
    };
    let taken = inherited.extract_if(.., |one| bound(one) == Some(at));
    taken.map(|one| one.listener).collect()
}

/// Raises the soft limit of open files to the hard one; the limit then in force, `None` = unlimited.
pub(super) fn raise_file_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return limit.current;
    }
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "the limit of open files stays as it is");
            limit.current
        }
    }
}

/// Makes the kernel's table of this process's files as large as so many will need, up to a bound. Left to grow it doubles as
/// connections come, and each time every thread that opens one waits some 10 ms (it waits for all processors to have
/// passed through the kernel). It never shrinks.
pub(super) fn make_table_of_files(files: u64) {
    let last = i32::try_from(files.min(TABLE_OF_FILES).saturating_sub(1)).unwrap_or(i32::MAX);
    if let Err(error) = fcntl_dupfd_cloexec(io::stdin(), last) {
        tracing::debug!(%error, "the table of files grows as it is needed");
    }
}

fn first(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(address)?;
    socket.bind(&address.into())?;
    socket.set_reuse_port(true)?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn next(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = open(address)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for connections of the process before it to time out.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_worker_has_its_socket_and_a_port_in_use_is_named() {
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let sockets = bind(&[any, any], 3, &mut Vec::new()).expect("free ports");
        let ports: Vec<Vec<u16>> = sockets
            .iter()
            .map(|worker| {
                worker
                    .iter()
                    .map(|s| s.listener.local_addr().expect("it is bound").port())
                    .collect()
            })
            .collect();
        assert_eq!(ports.len(), 3);
        assert!(
            ports
                .iter()
                .all(|worker| *worker == ports[0] && worker.len() == 2),
            "{ports:?}"
        );
        let taken: SocketAddr = ([127, 0, 0, 1], ports[0][0]).into();
        let error = bind(&[taken], 1, &mut Vec::new()).expect_err("the port is in use");
        assert_eq!(error.address, taken);
        assert!(
            error
                .to_string()
                .starts_with(&format!("cannot listen on {taken}: ")),
            "{error}"
        );
    }

    #[test]
    fn every_inherited_socket_has_a_worker_whatever_their_number() {
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        for (before, after) in [(1, 3), (3, 1), (2, 2), (3, 2)] {
            let old = bind(&[any], before, &mut Vec::new()).expect("a free port");
            let mut inherited: Vec<Bound> = old.into_iter().flatten().collect();
            let at = inherited[0].listener.local_addr().expect("it is bound");
            let new = bind(&[at], after, &mut inherited).expect("they are there");
            assert!(inherited.is_empty());
            assert_eq!(new.len(), after);
            assert!(new.iter().all(|worker| !worker.is_empty()));
            let sockets: Vec<&Bound> = new.iter().flatten().collect();
            assert_eq!(sockets.len(), before.max(after));
            for socket in sockets {
                assert_eq!(socket.configured, at);
                assert_eq!(socket.listener.local_addr().expect("bound"), at);
            }
        }
    }

    #[test]
    fn an_address_that_is_not_inherited_is_bound_and_one_that_is_not_named_is_left() {
        let any: SocketAddr = ([127, 0, 0, 1], 0).into();
        let mut inherited = bind(&[any], 1, &mut Vec::new())
            .expect("a free port")
            .remove(0);
        let named: SocketAddr = ([127, 0, 0, 2], 0).into();
        let new = bind(&[named], 1, &mut inherited).expect("a free port");
        assert_eq!(inherited.len(), 1);
        assert_eq!(
            new[0][0].listener.local_addr().expect("bound").ip(),
            named.ip()
        );
        let new = bind(&[any], 1, &mut inherited).expect("it is there");
        assert_eq!((inherited.len(), new[0].len()), (0, 1));
    }
}
