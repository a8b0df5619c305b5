//! Programs that proxies are measured beside, each one thread around one loop but where it says otherwise.
//!
//! `plain upstream ADDRESS` answers every request at once, `/bytes/N` with so many bytes: far cheaper than any proxy, so
//! that it is none that is measured. `plain floor ADDRESS UPSTREAM` hands bytes on and looks for the end of each head
//! and nothing else: what no proxy over sockets can be cheaper than. `plain epoll` and `plain uring` do the same as each other over another
//! runtime. `plain handshakes ADDRESS CLIENTS SECONDS` is a client of TLS, cheaper than any server. Measurement only: no limit.

mod drivers;
mod floor;
mod handshakes;
mod upstream;

use std::io;
use std::net::SocketAddr;
use std::process::ExitCode;

use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Registry, Token};

/// The listener's; connections have the others.
const LISTENER: Token = Token(0);
/// What is read at once.
const PIECE: usize = 64 * 1024;

/// What an epoll loop drives.
trait Service {
    fn accepted(&mut self, stream: mio::net::TcpStream, registry: &Registry) -> io::Result<()>;
    fn ready(&mut self, token: Token, registry: &Registry);
}

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let address = |text: &str| text.parse::<SocketAddr>().ok();
    let ended = match words.as_slice() {
        ["upstream", listen] => address(listen).map(|at| run(at, upstream::Upstream::default())),
        ["floor", listen, to] => address(listen)
            .zip(address(to))
            .map(|(at, to)| run(at, floor::Floor::new(to))),
        ["epoll", listen, to] => address(listen)
            .zip(address(to))
            .map(|(at, to)| drivers::epoll(at, to)),
        ["uring", listen, to] => address(listen)
            .zip(address(to))
            .map(|(at, to)| drivers::uring(at, to)),
        ["handshakes", to, clients, seconds] => address(to)
            .zip(clients.parse().ok().zip(seconds.parse().ok()))
            .map(|(to, (clients, seconds))| handshakes::run(to, clients, seconds)),
        _ => None,
    };
    match ended {
        None => {
            eprintln!(
                "usage: plain upstream ADDRESS | plain floor|epoll|uring ADDRESS UPSTREAM | plain handshakes ADDRESS CLIENTS SECONDS"
            );
            ExitCode::from(2)
        }
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(error)) => {
            eprintln!("plain: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(listen: SocketAddr, mut service: impl Service) -> io::Result<()> {
    let mut poll = Poll::new()?;
    let mut events = Events::with_capacity(1024);
    let mut listener = TcpListener::bind(listen)?;
    poll.registry()
        .register(&mut listener, LISTENER, Interest::READABLE)?;
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            polled => polled?,
        }
        for event in &events {
            if event.token() == LISTENER {
                while let Some((stream, _)) = unless_blocked(listener.accept())? {
                    stream.set_nodelay(true)?;
                    service.accepted(stream, poll.registry())?;
                }
            } else {
                service.ready(event.token(), poll.registry());
            }
        }
    }
}

/// `None` where the kernel has nothing now.
fn unless_blocked<T>(done: io::Result<T>) -> io::Result<Option<T>> {
    match done {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
