//! Servers of NATS with JetStream on loopback, alone or as a cluster: started, killed, stopped, and started again on their
//! ports and directories.

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server, which dies with its value.
pub(crate) struct NatsServer {
    config: PathBuf,
    pub(crate) port: u16,
    process: Option<Child>,
    /// Of its files.
    _directory: Rc<tempfile::TempDir>,
}

/// The program: `NATS_SERVER`, or what `tests/python/requirements.txt` installed.
pub(crate) fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("NATS_SERVER") {
        return path.into();
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/python/bin/nats-server");
    assert!(
        installed.exists(),
        "{} is missing: tests/run installs it, or NATS_SERVER names another one",
        installed.display()
    );
    installed
}

/// One server. `more` is appended to its configuration.
pub(crate) fn start(more: &str) -> NatsServer {
    start_with(
        "jetstream { store_dir: \"DIRECTORY\", max_file: 2GB }",
        more,
    )
}

/// One server with this configuration, in which DIRECTORY stands for its own.
pub(crate) fn start_with(jetstream: &str, more: &str) -> NatsServer {
    let directory = directory();
    let text = format!(
        "{}\n{more}\n",
        jetstream.replace(
            "DIRECTORY",
            &directory.path().join("js").display().to_string()
        )
    );
    made(&directory, "alone", free_ports(1)[0], &text)
}

/// A cluster, in which JetStream keeps copies.
pub(crate) fn cluster(size: usize) -> Vec<NatsServer> {
    cluster_over(size, |_, ports| ports.to_vec())
}

/// The same, in which each server reaches the others over `ways`: given which one it is and where all of them listen for
/// each other, it answers with the ports that it is to connect to.
pub(crate) fn cluster_over(
    size: usize,
    ways: impl Fn(usize, &[u16]) -> Vec<u16>,
) -> Vec<NatsServer> {
    let directory = directory();
    let ports = free_ports(size * 2);
    let (clients, routes) = ports.split_at(size);
    let one = |at: usize| {
        let ways = ways(at, routes).into_iter();
        let urls: Vec<String> = ways
            .map(|port| format!("nats://127.0.0.1:{port}"))
            .collect();
        let name = format!("n{at}");
        let store = directory.path().join(&name);
        let text = format!(
            "jetstream {{ store_dir: \"{}\", max_file: 2GB }}\n\
             cluster {{ name: c, no_advertise: true, advertise: \"127.0.0.1:1\", listen: \"127.0.0.1:{}\", routes: [{}] }}\n",
            store.display(),
            routes[at],
            urls.join(", ")
        );
        made(&directory, &name, clients[at], &text)
    };
    (0..size).map(one).collect()
}

fn directory() -> Rc<tempfile::TempDir> {
    Rc::new(tempfile::tempdir().expect("a directory"))
}

fn made(directory: &Rc<tempfile::TempDir>, name: &str, port: u16, text: &str) -> NatsServer {
    let config = directory.path().join(format!("{name}.conf"));
    let text = format!("server_name: {name}\nlisten: \"127.0.0.1:{port}\"\n{text}");
    std::fs::write(&config, text).expect("its configuration");
    let mut server = NatsServer {
        config,
        port,
        process: None,
        _directory: Rc::clone(directory),
    };
    server.start();
    server
}

/// Ports that nobody used a moment ago, below the range that the kernel gives to outgoing connections, so that nobody takes them
/// before they are bound.
fn free_ports(count: usize) -> Vec<u16> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let from = 22_000 + (std::process::id() % 400) as u16 * 20;
    let mut free = Vec::new();
    while free.len() < count {
        let port = from + NEXT.fetch_add(1, Ordering::Relaxed) % 2_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            free.push(port);
        }
    }
    free
}

impl NatsServer {
    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    /// Starts it again where it was, and waits until it listens.
    pub(crate) fn start(&mut self) {
        let log = self.config.with_extension("log");
        let child = Command::new(program())
            .arg("-c")
            .arg(&self.config)
            .arg("-l")
            .arg(&log)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server");
        self.process = Some(child);
        let began = Instant::now();
        while !self.answers() {
            assert!(
                began.elapsed() < PATIENCE,
                "nats-server does not listen: {}",
                std::fs::read_to_string(&log).unwrap_or_default()
            );
            std::thread::park_timeout(Duration::from_millis(10));
        }
    }

    fn answers(&self) -> bool {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return false;
        };
        let limit = stream.set_read_timeout(Some(Duration::from_secs(1)));
        let mut first = [0; 4];
        limit.is_ok() && stream.read_exact(&mut first).is_ok() && &first == b"INFO"
    }

    /// As `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it can be killed");
            process.wait().expect("it is waited for");
        }
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}
