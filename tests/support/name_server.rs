//! A real name server (dnsmasq), whose answers change.

use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// A name server with a hosts file; answers hold for a second.
pub(crate) struct NameServer {
    address: SocketAddr,
    folder: tempfile::TempDir,
    child: Child,
}

impl NameServer {
    pub(crate) fn start(hosts: &str, more: &[String]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let known = format!("{hosts}127.0.0.1 ready.test\n");
        fs::write(folder.path().join("hosts"), known).expect("a file");
        // Between two tests that look for a port one may take the other's: then it ends, and another one is tried.
        loop {
            let (address, mut child) = Self::spawn(&folder.path().join("hosts"), more);
            // It listens before it has read its names, and until then knows none.
            while child.try_wait().expect("our own child").is_none() {
                if knows_ready(address) {
                    return Self {
                        address,
                        folder,
                        child,
                    };
                }
            }
        }
    }

    fn spawn(hosts: &Path, more: &[String]) -> (SocketAddr, Child) {
        let port = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let address = port.local_addr().expect("it is bound");
        drop(port);
        let mut command = Command::new(dnsmasq());
        command.args(["--no-daemon", "--no-resolv", "--no-hosts", "--local-ttl=1"]);
        command.args(["--conf-file=/dev/null", "--pid-file="]);
        command.args(["--listen-address=127.0.0.1", "--bind-interfaces"]);
        command.arg(format!("--port={}", address.port()));
        command.arg(format!("--addn-hosts={}", hosts.display()));
        command.args(["--local=/test/"]).args(more);
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().expect("dnsmasq is installed by tests/run");
        (address, child)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn set(&self, hosts: &str) {
        fs::write(self.folder.path().join("hosts"), hosts).expect("a file");
        self.signal(Signal::HUP);
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process"), signal).expect("it is there");
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.child.kill().unwrap_or_default();
        self.child.wait().map(drop).unwrap_or_default();
    }
}

// Whether a name server has an address for ready.test (RFC 1035, 4.1: a question of type A, and the number of answers).
fn knows_ready(server: SocketAddr) -> bool {
    const QUESTION: &[u8] =
        b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05ready\x04test\x00\x00\x01\x00\x01";
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let patience = Some(Duration::from_millis(100));
    socket.set_read_timeout(patience).expect("a time");
    let mut answer = [0; 512];
    // Refused while nobody listens yet.
    let heard = socket
        .connect(server)
        .and_then(|()| socket.send(QUESTION))
        .and_then(|_| socket.recv(&mut answer));
    heard.is_ok_and(|len| len >= 12 && answer[6..8] != [0, 0])
}

fn dnsmasq() -> PathBuf {
    // Debian has it where only root looks.
    let places = ["/usr/sbin/dnsmasq", "/usr/bin/dnsmasq"].map(PathBuf::from);
    let found = places.into_iter().find(|place| place.exists());
    found.unwrap_or_else(|| "dnsmasq".into())
}
