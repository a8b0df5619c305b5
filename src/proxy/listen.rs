//! Listening sockets: one per worker and address, and how many files may be open.
//!
//! The first socket of an address is bound without SO_REUSEPORT, so that a port in use is an error and not a share of
//! somebody else's traffic; then it is set, and the others join.

use std::io;
use std::net::{SocketAddr, TcpListener};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

/// Connections that the kernel keeps for us while no worker accepts; capped by net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub struct BindError {
    pub address: SocketAddr,
    pub source: io::Error,
}

/// The sockets of every worker: as many lists as workers, each with one socket per address.
pub(super) fn bind(
    addresses: &[SocketAddr],
    workers: usize,
) -> Result<Vec<Vec<TcpListener>>, BindError> {
    let mut sockets: Vec<Vec<TcpListener>> = (0..workers).map(|_| Vec::new()).collect();
    for &address in addresses {
        let fault = |source| BindError { address, source };
        let mut joined = None;
        for worker in &mut sockets {
            let listener = match joined {
                None => first(address).map_err(fault)?,
                Some(at) => next(at).map_err(fault)?,
            };
            // A port 0 is settled by the first socket.
            joined = Some(listener.local_addr().map_err(fault)?);
            worker.push(listener);
        }
    }
    Ok(sockets)
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
        let sockets = bind(&[any, any], 3).expect("free ports");
        let ports: Vec<Vec<u16>> = sockets
            .iter()
            .map(|worker| {
                worker
                    .iter()
                    .map(|s| s.local_addr().expect("it is bound").port())
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
        let error = bind(&[taken], 1).expect_err("the port is in use");
        assert_eq!(error.address, taken);
        assert!(
            error
                .to_string()
                .starts_with(&format!("cannot listen on {taken}: ")),
            "{error}"
        );
    }
}
