//! What is listened on: bound here, or inherited from a process that is replaced or from who started this one. Keeps a
//! second handle of each socket, for whoever takes over next. Accepts nothing.

use std::io;
use std::net::{SocketAddr, TcpListener};

use super::StartError;
use crate::admin;
use crate::config::Config;
use crate::inherited::Inherited;
use crate::proxy::{self, Bound, Listeners};
use crate::takeover::{Handed, Port};

/// Every listening socket.
#[derive(Debug)]
pub(super) struct Ports {
    /// Until the workers have them.
    listeners: Option<Listeners>,
    /// Second handles; none once they are closed.
    proxy: Vec<Bound>,
    admin: Bound,
    admin_addr: SocketAddr,
}

impl Ports {
    /// Opens every address of the configuration, with the sockets that are `inherited` where they are of one.
    pub(super) fn open(config: &Config, inherited: Vec<Handed>) -> Result<Self, StartError> {
        let (of_proxy, of_admin): (Vec<Handed>, Vec<Handed>) = inherited
            .into_iter()
            .partition(|socket| socket.port == Port::Proxy);
        let mut of_proxy = sockets(of_proxy);
        let listeners = proxy::adopt(&config.server, &mut of_proxy)?;
        let admin = open_admin(config, sockets(of_admin))?;
        for left in of_proxy {
            tracing::warn!(
                address = %left.configured,
                "the configuration does not name it any more: it is left to the serin that is replaced, and closes with it"
            );
        }
        Ok(Self {
            proxy: listeners.duplicates()?,
            listeners: Some(listeners),
            admin_addr: admin.listener.local_addr()?,
            admin,
        })
    }

    /// What the workers accept from; given once.
    pub(super) fn listeners(&mut self) -> io::Result<Listeners> {
        let taken = self.listeners.take();
        taken.ok_or_else(|| io::Error::other("the workers have their sockets already"))
    }

    /// What the admin port is served from.
    pub(super) fn admin(&self) -> io::Result<TcpListener> {
        self.admin.listener.try_clone()
    }

    pub(super) const fn admin_addr(&self) -> SocketAddr {
        self.admin_addr
    }

    /// Third handles of all of them.
    pub(super) fn duplicates(&self) -> io::Result<Vec<Handed>> {
        let proxy = self.proxy.iter().map(|socket| (Port::Proxy, socket));
        let all = proxy.chain([(Port::Admin, &self.admin)]);
        all.map(|(port, socket)| {
            Ok(Handed {
                port,
                configured: socket.configured,
                listener: socket.listener.try_clone()?,
            })
        })
        .collect()
    }

    /// Closes the second handles, so that a socket closes with its worker.
    pub(super) fn close(&mut self) {
        self.proxy.clear();
    }
}

/// The sockets that who started this process opened for it, each of an address that the configuration has.
///
/// # Errors
/// Names the socket that nobody would listen on.
pub(super) fn given(config: &Config, mut inherited: Inherited) -> Result<Vec<Handed>, StartError> {
    let listen = &config.server.listen;
    let admin = config.admin.listen;
    inherited.check(&[&listen[..], &[admin]].concat())?;
    let mut handed = Vec::new();
    for &configured in listen {
        let Some(listener) = inherited.take(configured) else {
            continue;
        };
        // Whose queue it is outlives this process, so that all workers accept from it and none joins it.
        for _ in 1..config.server.workers {
            let listener = listener.try_clone()?;
            handed.push(Handed {
                port: Port::Proxy,
                configured,
                listener,
            });
        }
        handed.push(Handed {
            port: Port::Proxy,
            configured,
            listener,
        });
    }
    let of_admin = inherited.take(admin).map(|listener| Handed {
        port: Port::Admin,
        configured: admin,
        listener,
    });
    handed.extend(of_admin);
    Ok(handed)
}

fn sockets(handed: Vec<Handed>) -> Vec<Bound> {
    let socket = |one: Handed| Bound {
        configured: one.configured,
        listener: one.listener,
    };
    handed.into_iter().map(socket).collect()
}

fn open_admin(config: &Config, inherited: Vec<Bound>) -> Result<Bound, StartError> {
    let configured = config.admin.listen;
    admin::permit(configured, &config.admin)?;
    let meant = |one: &Bound| {
        one.configured == configured || one.listener.local_addr().ok() == Some(configured)
    };
    let listener = match inherited.into_iter().find(meant) {
        Some(socket) => socket.listener,
        None => admin::bind(configured)?,
    };
    Ok(Bound {
        configured,
        listener,
    })
}
