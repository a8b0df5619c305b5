//! A serin process with its configuration, stub analyzers, and a small blocking HTTP client.

#[path = "../support/certificates.rs"]
#[expect(dead_code, reason = "the tests of the data path use the rest")]
pub(crate) mod authority;
#[path = "../support/name_server.rs"]
pub(crate) mod name_server;

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use serin::stub::load::{Load, LoadReport, LoadSettings};
use tempfile::TempDir;

/// Nothing here takes longer on a slow machine; what does is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn binary() -> PathBuf {
    std::env::var_os("SERIN_BIN")
        .map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_serin")), PathBuf::from)
}

/// The repository's folder.
pub(crate) fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file of the repository as it is now.
pub(crate) fn repository_file(path: &str) -> String {
    let file = repository().join(path);
    std::fs::read_to_string(&file).unwrap_or_else(|why| panic!("{path}: {why}"))
}

/// A port that nobody used a moment ago. Kept below the range the kernel gives to outgoing connections, so that
/// nobody takes it before it is bound.
pub(crate) fn free_port() -> u16 {
    use std::sync::atomic::AtomicU16;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 12_000 + (std::process::id() % 500) as u16 * 40;
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed) % 4_000;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A child process that is killed when dropped, with what it said on standard error.
pub(crate) struct Process {
    pub(crate) child: Child,
    log: PathBuf,
}

impl Process {
    pub(crate) fn spawn(mut command: Command, log: PathBuf) -> Self {
        let file = std::fs::File::create(&log).expect("a log file");
        let copy = file.try_clone().expect("a second handle");
        let child = command
            .stdin(Stdio::null())
            .stdout(copy)
            .stderr(file)
            .spawn()
            .expect("the binary starts");
        Self { child, log }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().expect("our own child");
        self.child.wait().expect("our own child");
    }

    /// Waits for the process to end by itself.
    pub(crate) fn wait(&mut self) -> i32 {
        let deadline = Instant::now() + PATIENCE * 4;
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child") {
                return status.code().unwrap_or(-1);
            }
            assert!(
                Instant::now() < deadline,
                "it does not end:\n{}",
                self.log()
            );
            pause();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.child.kill().is_ok() {
            self.child.wait().expect("our own child");
        }
    }
}

/// Between two looks at a fact that is waited for.
/// How much of something is asked for by the environment.
pub(crate) fn asked(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |text| text.parse().expect("a number"))
}

pub(crate) fn pause() {
    std::thread::park_timeout(Duration::from_millis(5));
}

pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, &mut look)
}

pub(crate) fn eventually_within<T>(
    patience: Duration,
    what: &str,
    look: &mut dyn FnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never seen: {what}");
        pause();
    }
}

/// An authority of our own, and a certificate of it for 127.0.0.1 and for no name: ca.pem, cert.pem, key.pem.
pub(crate) fn certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        let output = Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(folder)
            .output()
            .expect("openssl");
        assert!(output.status.success(), "{arguments}: {output:?}");
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
    openssl(&format!(
        "req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=ours -days 2"
    ));
    openssl(&format!(
        "req {key} -keyout key.pem -out request.pem -subj /CN=here"
    ));
    std::fs::write(folder.join("names"), "subjectAltName=IP:127.0.0.1\n").expect("a file");
    openssl(
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out cert.pem",
    );
}

/// A stub analyzer of the binary, in a process of its own.
pub(crate) struct Analyzer {
    _process: Process,
    pub(crate) addr: SocketAddr,
}

impl Analyzer {
    pub(crate) fn start(folder: &Path, pool: &str) -> Self {
        Self::start_with(folder, pool, "1ms", &[])
    }

    /// With a latency as `serin analyzer` takes it, and more arguments.
    pub(crate) fn start_with(folder: &Path, pool: &str, latency: &str, more: &[&str]) -> Self {
        let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut arguments = vec!["--latency", latency];
        arguments.extend(more);
        Self::start_at(addr, folder, pool, &arguments)
    }

    /// Where one was before.
    pub(crate) fn start_at(addr: SocketAddr, folder: &Path, pool: &str, more: &[&str]) -> Self {
        let mut command = Command::new(binary());
        command.args(["analyzer", "--listen", &addr.to_string(), "--pool", pool]);
        command.args(more);
        let process = Process::spawn(
            command,
            folder.join(format!("analyzer-{}.log", addr.port())),
        );
        eventually("the analyzer listens", || TcpStream::connect(addr).ok());
        Self {
            _process: process,
            addr,
        }
    }

    /// Changes how it behaves from the next request on.
    pub(crate) fn behave(&self, behaviour: &Value) {
        let answer = post(self.addr, "/behaviour", &behaviour.to_string());
        assert!(
            (200..300).contains(&answer.status),
            "{}: {}",
            answer.status,
            answer.text()
        );
    }
}

/// One proxy process on a folder of its own.
pub(crate) struct Serin {
    pub(crate) folder: TempDir,
    pub(crate) process: Process,
    pub(crate) proxy: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// Ports and a folder for a proxy to come.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) proxy: SocketAddr,
    pub(crate) admin: SocketAddr,
}

impl Place {
    pub(crate) fn new() -> Self {
        let addr = || SocketAddr::from(([127, 0, 0, 1], free_port()));
        Self {
            folder: tempfile::tempdir().expect("a temporary folder"),
            proxy: addr(),
            admin: addr(),
        }
    }

    /// Writes proxy.toml: server, admin and state for this place, then the rest as given.
    pub(crate) fn write(&self, workers: usize, rest: &str) {
        let state = self.folder.path().join("state/serin.db");
        let logs = self.folder.path().join("deployment-logs");
        let text = format!(
            "[server]\nlisten = [\"{}\"]\nworkers = {workers}\n[admin]\nlisten = \"{}\"\n[state]\npath = {state:?}\ndeployment_logs = {logs:?}\n{rest}",
            self.proxy, self.admin
        );
        std::fs::write(self.config(), text).expect("a configuration");
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("proxy.toml")
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command.arg("run").arg("--config").arg(self.config());
        command
    }

    pub(crate) fn start(self) -> Serin {
        let command = self.command();
        self.start_as(command)
    }

    /// Starts it by a command that was made of its own.
    pub(crate) fn start_as(self, command: Command) -> Serin {
        let process = Process::spawn(command, self.folder.path().join("serin.log"));
        let serin = Serin {
            folder: self.folder,
            process,
            proxy: self.proxy,
            admin: self.admin,
        };
        serin.await_ready();
        serin
    }
}

impl Serin {
    pub(crate) fn await_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        while try_get(self.admin, "/readyz").is_none_or(|answer| answer.status != 200) {
            assert!(
                Instant::now() < deadline,
                "not ready:\n{}",
                self.process.log()
            );
            pause();
        }
    }

    /// Starts it anew on the same folder and ports.
    pub(crate) fn restart(&mut self) {
        let mut command = Command::new(binary());
        command
            .arg("run")
            .arg("--config")
            .arg(self.folder.path().join("proxy.toml"));
        self.process = Process::spawn(command, self.folder.path().join("serin.log"));
        self.await_ready();
    }

    /// Starts a process on the same file that is to take over.
    pub(crate) fn newcomer(&self, log: &str) -> Process {
        let mut command = Command::new(binary());
        command
            .args(["run", "--takeover", "--config"])
            .arg(self.folder.path().join("proxy.toml"));
        Process::spawn(command, self.folder.path().join(log))
    }

    /// Puts a new process in its place, and gives the one that was replaced.
    pub(crate) fn take_over(&mut self, log: &str) -> Process {
        let newcomer = self.newcomer(log);
        eventually("it took over", || {
            assert!(
                !newcomer.log().contains("nothing was taken over"),
                "{}\n{}",
                newcomer.log(),
                self.process.log()
            );
            newcomer.log().contains("took over").then_some(())
        });
        std::mem::replace(&mut self.process, newcomer)
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        let answer = get(self.admin, path);
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        answer.json()
    }

    pub(crate) fn status(&self, rollout: &str) -> Value {
        self.get(&format!("/api/rollouts/{rollout}"))
    }

    pub(crate) fn phase(&self, rollout: &str) -> String {
        self.status(rollout)["phase"]
            .as_str()
            .expect("a phase")
            .to_owned()
    }

    pub(crate) fn act(&self, rollout: &str, action: &str) -> Answer {
        post(
            self.admin,
            &format!("/api/rollouts/{rollout}/{action}"),
            r#"{"reason": "a test"}"#,
        )
    }

    pub(crate) fn set_weights(&self, body: &str) -> Answer {
        post(self.admin, "/api/traffic-weights", body)
    }

    pub(crate) fn events(&self, rollout: &str) -> Vec<Value> {
        let answer = self.get(&format!("/api/rollouts/{rollout}/events?limit=10000"));
        let list = answer.get("events").unwrap_or(&answer);
        list.as_array().expect("a list of events").clone()
    }

    pub(crate) fn await_phase(&self, rollout: &str, phase: &str) -> Value {
        eventually(&format!("phase {phase}"), || {
            let status = self.status(rollout);
            (status["phase"] == phase).then_some(status)
        })
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|why| panic!("{why}: {}", self.text()))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

pub(crate) fn get(addr: SocketAddr, path: &str) -> Answer {
    send(
        addr,
        &format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n"),
    )
}

pub(crate) fn try_get(addr: SocketAddr, path: &str) -> Option<Answer> {
    let mut connection = Connection::open(addr).ok()?;
    connection
        .exchange(
            format!("GET {path} HTTP/1.1\r\nhost: {addr}\r\nconnection: close\r\n\r\n").as_bytes(),
        )
        .ok()
}

/// As curl's `-d` does: a form content type, whatever the body is.
pub(crate) fn post(addr: SocketAddr, path: &str, body: &str) -> Answer {
    let length = body.len();
    send(
        addr,
        &format!(
            "POST {path} HTTP/1.1\r\nhost: {addr}\r\ncontent-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        ),
    )
}

pub(crate) fn send(addr: SocketAddr, request: &str) -> Answer {
    let mut connection = Connection::open(addr).expect("it accepts");
    connection.exchange(request.as_bytes()).expect("it answers")
}

/// A kept connection on which requests follow each other.
pub(crate) struct Connection {
    stream: BufReader<TcpStream>,
}

impl Connection {
    pub(crate) fn open(addr: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&addr, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
        })
    }

    pub(crate) fn learner(&mut self, learner: &str) -> std::io::Result<Answer> {
        self.exchange(
            format!("GET /work HTTP/1.1\r\nhost: test\r\nx-learner-id: {learner}\r\n\r\n")
                .as_bytes(),
        )
    }

    /// The same of a segment.
    pub(crate) fn learner_of(&mut self, segment: &str, learner: &str) -> std::io::Result<Answer> {
        self.exchange(
            format!(
                "GET /work HTTP/1.1\r\nhost: test\r\nx-learner-id: {learner}\r\nx-learner-segment: {segment}\r\n\r\n"
            )
            .as_bytes(),
        )
    }

    pub(crate) fn exchange(&mut self, request: &[u8]) -> std::io::Result<Answer> {
        self.ask(request)?;
        self.answer()
    }

    /// The first half of an exchange.
    pub(crate) fn ask(&mut self, request: &[u8]) -> std::io::Result<()> {
        self.stream.get_mut().write_all(request)
    }

    /// The second half.
    pub(crate) fn answer(&mut self) -> std::io::Result<Answer> {
        let (status, headers) = self.head()?;
        let body = self.body(&headers)?;
        Ok(Answer {
            status,
            headers,
            body,
        })
    }

    fn head(&mut self) -> std::io::Result<(u16, HashMap<String, String>)> {
        let first = self.line()?;
        let status = first
            .split(' ')
            .nth(1)
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| strange(&first))?;
        let mut headers = HashMap::new();
        loop {
            let line = self.line()?;
            if line.is_empty() {
                return Ok((status, headers));
            }
            let (name, value) = line.split_once(':').ok_or_else(|| strange(&line))?;
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
    }

    fn body(&mut self, headers: &HashMap<String, String>) -> std::io::Result<Vec<u8>> {
        let mut body = Vec::new();
        if let Some(length) = headers.get("content-length") {
            body.resize(length.parse().map_err(|_| strange(length))?, 0);
            self.stream.read_exact(&mut body)?;
        } else if headers
            .get("transfer-encoding")
            .is_some_and(|coding| coding == "chunked")
        {
            loop {
                let size = self.line()?;
                let size = usize::from_str_radix(&size, 16).map_err(|_| strange(&size))?;
                let start = body.len();
                body.resize(start + size, 0);
                self.stream.read_exact(&mut body[start..])?;
                self.line()?;
                if size == 0 {
                    break;
                }
            }
        }
        Ok(body)
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

fn strange(what: &str) -> std::io::Error {
    std::io::Error::other(format!("not HTTP: {what:?}"))
}

/// Two pools and one rollout `analyzer` on route `/`.
pub(crate) fn two_pools(
    original: &[SocketAddr],
    ultra_fast: &[SocketAddr],
    stages: &str,
) -> String {
    let list = |addrs: &[SocketAddr]| {
        addrs
            .iter()
            .map(|addr| format!("\"{addr}\""))
            .collect::<Vec<_>>()
            .join(", ")
    };
    format!(
        "[pools.original]\nendpoints = [{}]\n[pools.ultra_fast]\nendpoints = [{}]\n[[routes]]\npath = \"/\"\nrollout = \"analyzer\"\n\
         [rollouts.analyzer]\nbaseline = \"original\"\ncanary = \"ultra_fast\"\nlearner = [\"header:x-learner-id\"]\nsalt = \"analyzer-v3\"\n{stages}",
        list(original),
        list(ultra_fast)
    )
}

/// Learners' load from a thread of its own.
pub(crate) struct Learners {
    stop: tokio::sync::oneshot::Sender<()>,
    thread: std::thread::JoinHandle<LoadReport>,
}

impl Learners {
    pub(crate) fn start(settings: LoadSettings) -> Self {
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let thread = std::thread::spawn(move || {
            runtime.block_on(async {
                let load = Load::start(settings).expect("a path");
                // Dropped without a word where the test has failed: the load ends all the same.
                stopped.await.unwrap_or_default();
                load.stop().await
            })
        });
        Self { stop, thread }
    }

    /// What they saw, after the last answer.
    pub(crate) fn stop(self) -> LoadReport {
        drop(self.stop);
        self.thread.join().expect("the load does not panic")
    }
}

/// The moment of an event.
pub(crate) fn wall_ms(event: &Value) -> i64 {
    let at: jiff::Timestamp = event["at"]
        .as_str()
        .expect("a time")
        .parse()
        .expect("RFC 3339");
    at.as_millisecond()
}

pub(crate) fn unix_ms() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("after 1970");
    i64::try_from(since.as_millis()).expect("before the year 292 million")
}

/// Ends a load also when an assertion fails, so that the failure is told.
pub(crate) struct StopOnDrop<'a>(pub(crate) &'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A disk that stalls: each time serin's store waits for it, it takes so much longer, until this is dropped.
pub(crate) struct Stall(Child);

impl Stall {
    /// Milliseconds each time.
    pub(crate) fn begin(serin: &Serin, millis: i64) -> Self {
        let tasks = format!("/proc/{}/task", serin.process.child.id());
        let task = std::fs::read_dir(&tasks)
            .expect("it runs")
            .map(|task| task.expect("a thread").path())
            .find(|task| {
                let name = std::fs::read_to_string(task.join("comm"));
                name.is_ok_and(|name| name.trim() == "store")
            });
        let task = task.expect("the store's thread");
        let us = millis * 1_000;
        let strace = Command::new("strace")
            .args(["-e", "trace=fsync,fdatasync", "-e"])
            .arg(format!("inject=fsync,fdatasync:delay_enter={us}"))
            .arg("-p")
            .arg(task.file_name().expect("its number"))
            .stderr(Stdio::null())
            .spawn()
            .expect("strace is there");
        let stall = Self(strace);
        eventually("the store's thread is watched", || {
            let status = std::fs::read_to_string(task.join("status")).expect("it runs");
            let tracer = status
                .lines()
                .find_map(|line| line.strip_prefix("TracerPid:"));
            (tracer?.trim() != "0").then_some(())
        });
        stall
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        // Its thread goes on by itself.
        self.0.kill().expect("it is ours");
        self.0.wait().expect("it is ours");
    }
}
