//! Other people's programs on the other side: nginx, HAProxy, and gRPC in Python. Ended when dropped.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::wait_for;

/// An interpreter with the packages of `tests/python/requirements.txt`; `tests/run` makes it.
const PYTHON: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/python/bin/python");
const PEERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python");

/// nginx with one server.
pub(crate) struct Nginx {
    process: Child,
    address: SocketAddr,
    _folder: TempDir,
}

/// HAProxy in front of a server, passing bytes on.
pub(crate) struct Haproxy {
    process: Child,
    address: SocketAddr,
    _folder: TempDir,
}

/// The server of `grpc_server.py`.
pub(crate) struct GrpcServer {
    process: Child,
    address: SocketAddr,
}

impl Nginx {
    /// Listens with these parameters, `ssl http2`, and has these lines in its server block.
    pub(crate) fn start(parameters: &str, lines: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = free();
        let at = folder.path().display();
        let config = format!(
            "daemon off; master_process off; pid {at}/pid; error_log {at}/error.log;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log off; client_body_temp_path {at}/a; proxy_temp_path {at}/b;\n\
             fastcgi_temp_path {at}/c; uwsgi_temp_path {at}/d; scgi_temp_path {at}/e;\n\
             server {{ listen {address} {parameters};\n{lines}\n}} }}\n"
        );
        let path = folder.path().join("nginx.conf");
        std::fs::write(&path, config).expect("it is written");
        let process = Command::new("nginx")
            .arg("-c")
            .arg(&path)
            .arg("-e")
            .arg(folder.path().join("error.log"))
            .stderr(Stdio::inherit())
            .spawn()
            .expect("nginx, which tests/run installs");
        let nginx = Self {
            process,
            address,
            _folder: folder,
        };
        wait_for("nginx", || TcpStream::connect(address).is_ok());
        nginx
    }

    /// The lines of a server block that name a certificate.
    pub(crate) fn certificate(cert: &Path, key: &Path) -> String {
        let (cert, key) = (cert.display(), key.display());
        format!("ssl_certificate {cert}; ssl_certificate_key {key};\n")
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Haproxy {
    /// Says whose each connection is as this word has it: `send-proxy`, `send-proxy-v2`.
    pub(crate) fn in_front_of(server: SocketAddr, word: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = free();
        let config = format!(
            "global\n maxconn 64\ndefaults\n mode tcp\n timeout connect 5s\n timeout client 30s\n \
             timeout server 30s\nlisten l\n bind {address}\n server s {server} {word}\n"
        );
        let path = folder.path().join("haproxy.cfg");
        std::fs::write(&path, config).expect("it is written");
        let process = Command::new("/usr/sbin/haproxy")
            .arg("-db")
            .arg("-f")
            .arg(&path)
            .stderr(Stdio::inherit())
            .spawn()
            .expect("HAProxy, which tests/run installs");
        wait_for("HAProxy", || TcpStream::connect(address).is_ok());
        Self {
            process,
            address,
            _folder: folder,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl GrpcServer {
    pub(crate) fn start() -> Self {
        let mut process = python("grpc_server.py")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the interpreter that tests/run makes");
        let mut line = String::new();
        let output = process.stdout.as_mut().expect("it is piped");
        let read = BufReader::new(output).read_line(&mut line);
        read.expect("the server says its port");
        let port: u16 = line.trim().parse().expect("a port");
        Self {
            process,
            address: ([127, 0, 0, 1], port).into(),
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// What the calls of `grpc_client.py` came to: a line of JSON a case.
pub(crate) fn grpc_calls(address: SocketAddr) -> Vec<String> {
    let output = python("grpc_client.py").arg(address.to_string()).output();
    let output = output.expect("the interpreter that tests/run makes");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().map(str::to_owned).collect()
}

fn python(program: &str) -> Command {
    let mut command = Command::new(PYTHON);
    command.arg(PathBuf::from(PEERS).join(program));
    command
}

/// A port that nobody has; below those that the kernel gives to outgoing connections, so that none takes it before it is
/// bound.
pub(crate) fn free() -> SocketAddr {
    loop {
        let port = rand::random_range(16_000..32_000);
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().expect("it is bound");
        }
    }
}

fn end(process: &mut Child) {
    process.kill().unwrap_or_default();
    process.wait().expect("it was started");
}

impl Drop for Nginx {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

impl Drop for GrpcServer {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}
