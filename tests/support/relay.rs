//! Ways to servers on loopback that are slow, lose pieces, or are cut and mended.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// One way to each of these ports.
pub(crate) struct Relay {
    pub(crate) ports: Vec<u16>,
    way: Arc<Way>,
}

struct Way {
    cut: AtomicBool,
    delay: Duration,
    loss: f64,
    open: Mutex<Vec<TcpStream>>,
}

impl Relay {
    /// `loss`: the share of pieces that come 200 ms later, as those that are sent again do.
    pub(crate) fn start(servers: Vec<u16>, delay: Duration, loss: f64) -> Self {
        let way = Arc::new(Way {
            cut: AtomicBool::new(false),
            delay,
            loss,
            open: Mutex::default(),
        });
        let ports = servers.into_iter().map(|server| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = listener.local_addr().expect("its address").port();
            let way = Arc::clone(&way);
            thread::spawn(move || {
                for client in listener.incoming() {
                    let Ok(client) = client else { return };
                    way.join(client, server);
                }
            });
            port
        });
        let ports = ports.collect();
        Self { ports, way }
    }

    pub(crate) fn cut(&self) {
        self.way.cut.store(true, Ordering::SeqCst);
        for stream in self.way.open.lock().expect("whole").drain(..) {
            // One that is closed already needs no closing.
            stream.shutdown(Shutdown::Both).unwrap_or_default();
        }
    }

    pub(crate) fn mend(&self) {
        self.way.cut.store(false, Ordering::SeqCst);
    }
}

impl Way {
    fn join(self: &Arc<Self>, client: TcpStream, server: u16) {
        if self.cut.load(Ordering::SeqCst) {
            return;
        }
        let Ok(server) = TcpStream::connect(("127.0.0.1", server)) else {
            return;
        };
        for stream in [&client, &server] {
            stream.set_nodelay(true).expect("a socket");
            let again = stream.try_clone().expect("a socket");
            self.open.lock().expect("whole").push(again);
        }
        let back = (
            server.try_clone().expect("a socket"),
            client.try_clone().expect("a socket"),
        );
        for (from, to) in [(client, server), back] {
            let way = Arc::clone(self);
            thread::spawn(move || way.carry(from, to));
        }
    }

    fn carry(&self, mut from: TcpStream, mut to: TcpStream) {
        let (pieces, due) = std::sync::mpsc::channel::<(Instant, Vec<u8>)>();
        thread::spawn(move || {
            for (at, piece) in due {
                while Instant::now() < at {
                    thread::park_timeout(at.saturating_duration_since(Instant::now()));
                }
                if to.write_all(&piece).is_err() {
                    break;
                }
            }
            to.shutdown(Shutdown::Both).unwrap_or_default();
        });
        let mut dice = StdRng::seed_from_u64(11);
        let mut last = Instant::now();
        let mut buffer = vec![0; 65_536];
        while let Ok(many @ 1..) = from.read(&mut buffer) {
            let again = match dice.random_bool(self.loss) {
                true => Duration::from_millis(200),
                false => Duration::ZERO,
            };
            // What follows a piece that is sent again waits for it.
            last = last.max(Instant::now() + self.delay + again);
            if pieces.send((last, buffer[..many].to_vec())).is_err() {
                return;
            }
        }
    }
}
