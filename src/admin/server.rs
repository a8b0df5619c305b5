//! The listener of the admin port, and its connections, in the clear or over TLS, on one thread with a runtime of its own.

use std::net::{SocketAddr, TcpListener as StdListener};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::routes::{self, App};
use crate::config;
use crate::control::Handle;
use crate::shutdown::{Shutdown, Stage, Watched};
use crate::telemetry::Telemetry;

/// Connections at once; more wait in the kernel's queue. Operators, scrapers and event streams are few.
const CONNECTIONS: usize = 512;
/// How long a handshake and a head may take, and how long a connection may idle between two requests.
const HEAD_LIMIT: Duration = Duration::from_secs(30);
/// How long accepting pauses when descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// How long answers under way may take once the process stops.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// What the admin port is made of.
pub struct Parts {
    /// What `bind` gave, or what was inherited from a process that is replaced.
    pub listener: StdListener,
    pub control: Handle,
    pub telemetry: Arc<Telemetry>,
    pub shutdown: Shutdown,
}

/// The running admin port.
#[derive(Debug)]
pub struct Admin {
    address: SocketAddr,
    thread: Watched,
}

/// Why the admin port cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot listen on {address} for the admin port: {why}")]
    Bind {
        address: SocketAddr,
        why: std::io::Error,
    },
    #[error("the admin port on {0} is within reach of others and needs tokens (admin.tokens)")]
    NoTokens(SocketAddr),
    #[error("cannot start the admin thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Binds the port, for nobody else.
pub fn bind(address: SocketAddr) -> Result<StdListener, BindError> {
    let bound = StdListener::bind(address).and_then(|listener| {
        listener.set_nonblocking(true)?;
        Ok(listener)
    });
    bound.map_err(|why| BindError::Bind { address, why })
}

/// Whether the port may be served at an address: beyond loopback only to who shows a token.
pub fn permit(address: SocketAddr, settings: &config::Admin) -> Result<(), BindError> {
    if address.ip().is_loopback() || !settings.tokens.is_empty() {
        Ok(())
    } else {
        Err(BindError::NoTokens(address))
    }
}

/// Serves the port until shutdown reaches `Stopped`.
pub fn start(parts: Parts) -> Result<Admin, BindError> {
    let Parts {
        listener,
        control,
        telemetry,
        shutdown,
    } = parts;
    let address = listener.local_addr()?;
    permit(address, &control.admin())?;
    if !address.ip().is_loopback() && control.admin_tls().is_none() {
        tracing::warn!(%address, "the admin port is served without TLS: tokens pass in the clear");
    }

    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let door = control.clone();
    let router = routes::all().into_service(App {
        control,
        telemetry,
        shutdown: shutdown.clone(),
        answers: Default::default(),
    });
    let thread = Watched::spawn("admin", move || {
        let served = runtime.block_on(async {
            let listener = TcpListener::from_std(listener)?;
            serve(listener, door, router, shutdown).await;
            Ok::<(), std::io::Error>(())
        });
        if let Err(error) = served {
            tracing::error!(%error, "the admin port cannot be served");
        }
    })?;
    Ok(Admin { address, thread })
}

impl Admin {
    /// The address bound; with port 0 asked for, the one that was given.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Resolves when the thread has ended, by shutdown or by a fault.
    pub async fn ended(&mut self) {
        self.thread.ended().await;
    }

    /// Waits for the thread; false if it panicked. Blocks.
    #[must_use]
    pub fn join(self) -> bool {
        self.thread.join()
    }
}

async fn serve(listener: TcpListener, control: Handle, router: Router, mut shutdown: Shutdown) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            let place = Arc::clone(&room)
                .acquire_owned()
                .await
                .expect("the semaphore is never closed");
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            accepted = accept => accepted,
            () = shutdown.reached(Stage::Stopped) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let tls = control.admin_tls();
                let (router, shutdown) = (router.clone(), shutdown.clone());
                connections.spawn(async move {
                    match tls {
                        None => connection(stream, router, shutdown).await,
                        Some(tls) => secured(stream, tls, router, shutdown).await,
                    }
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "the admin port cannot accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
    let rest = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(LAST_WORDS, rest).await.is_err() {
        tracing::debug!("answers of the admin port were cut");
    }
}

async fn secured(stream: TcpStream, tls: Arc<ServerConfig>, router: Router, shutdown: Shutdown) {
    let handshake = TlsAcceptor::from(tls).accept(stream);
    match tokio::time::timeout(HEAD_LIMIT, handshake).await {
        Ok(Ok(stream)) => connection(stream, router, shutdown).await,
        Ok(Err(error)) => tracing::debug!(%error, "no TLS with a client of the admin port"),
        Err(_) => tracing::debug!("no TLS with a client of the admin port in time"),
    }
}

async fn connection<S>(stream: S, router: Router, mut shutdown: Shutdown)
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let service = TowerToHyperService::new(router);
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_LIMIT)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.reached(Stage::Stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection of the admin port broke off");
    }
}
