//! Containers of our own: an image around the static binary, networks and containers that end with the test.
//!
//! Where no engine answers, or there is no static binary, a test says that it did not run, and is no failure.

use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{eventually, repository};

/// An image that is gone with the test.
pub(crate) struct Image {
    pub(crate) tag: String,
}

/// A network that is gone with the test.
pub(crate) struct Network(pub(crate) String);

/// A container that is gone with the test, and its volumes.
pub(crate) struct Container {
    pub(crate) name: String,
}

/// Runs docker and gives what it printed.
pub(crate) fn docker(arguments: &[&str]) -> String {
    let output = Command::new("docker").args(arguments).output();
    let output = output.expect("docker is there: it answered before");
    assert!(
        output.status.success(),
        "docker {}: {}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// Says on standard error, past what the test runner keeps to itself, that a test did not run.
pub(crate) fn not_run(what: &str, why: &str) {
    let said = writeln!(std::io::stderr(), "\nNOT RUN: {what}: {why}");
    said.expect("standard error");
}

/// A name that nobody else has.
pub(crate) fn unique(what: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("serin-test-{}-{number}-{what}", std::process::id())
}

fn engine() -> Result<(), String> {
    let asked = Command::new("docker")
        .args(["version", "--format", "{{.Server.Version}}"])
        .output();
    match asked {
        Err(why) => Err(format!("no docker here ({why})")),
        Ok(output) if !output.status.success() => Err("no docker engine answers".to_owned()),
        Ok(_) => Ok(()),
    }
}

/// `SERIN_STATIC_BIN`, or what `deploy/container/static` made.
fn static_binary() -> Result<PathBuf, String> {
    if let Some(named) = std::env::var_os("SERIN_STATIC_BIN") {
        return Ok(named.into());
    }
    let made = repository().join("target/static/serin");
    if made.is_file() {
        Ok(made)
    } else {
        Err("deploy/container/static has made no binary".to_owned())
    }
}

impl Image {
    /// The image around the static binary; `None` where it cannot be made, which is said.
    pub(crate) fn of_serin(test: &str) -> Option<Self> {
        let binary = engine().and_then(|()| static_binary());
        let binary = binary.map_err(|why| not_run(test, &why)).ok()?;
        let image = Self {
            tag: unique("image"),
        };
        let built = Command::new(repository().join("deploy/container/build"))
            .args(["--tag", &image.tag, "--binary"])
            .arg(binary)
            .output()
            .expect("the script runs");
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        Some(image)
    }

    /// An image from scratch that holds one program.
    pub(crate) fn around(program: &Path) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::copy(program, folder.path().join("program")).expect("the program");
        let recipe = "FROM scratch\nCOPY program /program\nENTRYPOINT [\"/program\"]\n";
        std::fs::write(folder.path().join("Dockerfile"), recipe).expect("a file");
        let image = Self {
            tag: unique("image"),
        };
        let place = folder.path().to_str().expect("a path of letters");
        docker(&["build", "--quiet", "--tag", &image.tag, place]);
        image
    }

    pub(crate) fn inspect(&self) -> Value {
        inspect(&self.tag)
    }

    /// Starts a container of it, without rights and on a read-only file system.
    pub(crate) fn run(&self, name: &str, options: &[&str], command: &[&str]) -> Container {
        let container = Container { name: unique(name) };
        let mut arguments = vec!["run", "--detach", "--name", &container.name];
        arguments.extend(["--read-only", "--cap-drop", "ALL"]);
        arguments.extend(["--security-opt", "no-new-privileges"]);
        arguments.extend(options);
        arguments.push(&self.tag);
        arguments.extend(command);
        docker(&arguments);
        container
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        remove(&["image", "rm", "--force", &self.tag]);
    }
}

impl Network {
    pub(crate) fn new() -> Self {
        let name = unique("network");
        docker(&["network", "create", &name]);
        Self(name)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        remove(&["network", "rm", &self.0]);
    }
}

impl Container {
    pub(crate) fn inspect(&self) -> Value {
        inspect(&self.name)
    }

    pub(crate) fn logs(&self) -> String {
        let output = Command::new("docker").args(["logs", &self.name]).output();
        let output = output.expect("docker is there");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }

    /// Where a port of it is on this machine's loopback.
    pub(crate) fn port(&self, inside: u16) -> SocketAddr {
        let said = docker(&["port", &self.name, &inside.to_string()]);
        let first = said.lines().next().unwrap_or_default();
        first
            .parse()
            .unwrap_or_else(|why| panic!("{said:?}: {why}"))
    }

    pub(crate) fn await_healthy(&self) {
        eventually("the container is healthy", || {
            let state = &self.inspect()["State"];
            assert_eq!(state["Status"], "running", "{}", self.logs());
            (state["Health"]["Status"] == "healthy").then_some(())
        });
    }

    /// Runs the container's own binary in it.
    pub(crate) fn exec(&self, arguments: &[&str]) -> String {
        docker(&[&["exec", &self.name, "/serin"], arguments].concat())
    }

    /// A file of its process as this machine sees it.
    pub(crate) fn proc(&self, file: &str) -> PathBuf {
        let pid = self.inspect()["State"]["Pid"].to_string();
        Path::new("/proc").join(pid).join(file)
    }

    /// A line of its process's status, without its name.
    pub(crate) fn status(&self, name: &str) -> String {
        let text = std::fs::read_to_string(self.proc("status")).expect("our own container");
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {text}"))
            .trim_start_matches(':')
            .trim()
            .to_owned()
    }

    /// What is resident of its process.
    pub(crate) fn resident_kib(&self) -> u64 {
        self.kib("VmRSS")
    }

    /// The same once it has not changed for a second: what a process does for the first time brings pages of its binary.
    pub(crate) fn settled_kib(&self) -> u64 {
        let (mut held, mut since) = (self.resident_kib(), Instant::now());
        eventually("its memory stays as it is", || {
            let now = self.resident_kib();
            if now != held {
                (held, since) = (now, Instant::now());
            }
            (since.elapsed() > Duration::from_secs(1)).then_some(held)
        })
    }

    /// Kibibytes of a line of its process's status.
    pub(crate) fn kib(&self, name: &str) -> u64 {
        let said = self.status(name);
        let number = said.strip_suffix(" kB").expect("a size");
        number.trim().parse().expect("a number")
    }

    /// How many of its process's threads are named so.
    pub(crate) fn threads(&self, begin: &str) -> usize {
        let threads = std::fs::read_dir(self.proc("task")).expect("our own container");
        threads
            .flatten()
            .filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok())
            .filter(|name| name.starts_with(begin))
            .count()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let said = writeln!(std::io::stderr(), "{}:\n{}", self.name, self.logs());
            said.unwrap_or_default();
        }
        remove(&["rm", "--force", "--volumes", &self.name]);
    }
}

fn inspect(name: &str) -> Value {
    let shown = docker(&["inspect", name]);
    let mut list: Vec<Value> = serde_json::from_str(&shown).expect("JSON");
    list.remove(0)
}

// Also after a failure, which must be told and not hidden by another one.
fn remove(arguments: &[&str]) {
    let removed = Command::new("docker").args(arguments).output();
    if !removed.is_ok_and(|output| output.status.success()) {
        eprintln!("docker {} failed", arguments.join(" "));
    }
}
