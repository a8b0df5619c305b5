//! Socket activation: serin listens on the sockets that it was started with, and says which it cannot use.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, ChildStdout, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::peers::free;
use crate::support::program::Place;
use crate::support::{Client, Upstream, reply, wait_for};

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n";
const ACTIVATE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/python/activate.py");

/// `activate.py` with the sockets that it keeps.
struct Activator {
    process: Child,
    says: BufReader<ChildStdout>,
}

impl Activator {
    fn keep(sockets: &[&str], command: &[String], errors: Stdio) -> Self {
        let mut process = Command::new("/usr/bin/python3")
            .arg(ACTIVATE)
            .args(sockets)
            .arg("--")
            .args(command)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .expect("python3");
        let says = BufReader::new(process.stdout.take().expect("it is piped"));
        Self { process, says }
    }

    /// Starts the program; its process.
    fn start(&mut self) -> Pid {
        let input = self.process.stdin.as_mut().expect("it is piped");
        input.write_all(b"\n").expect("it reads");
        let pid = self.line().parse().expect("a number");
        Pid::from_raw(pid).expect("a process")
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.says.read_line(&mut line).expect("a line");
        line.trim().to_owned()
    }
}

impl Drop for Activator {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.kill().unwrap_or_default();
        self.process.wait().map(drop).unwrap_or_default();
    }
}

/// Starts it with these sockets; it ends by itself.
fn refused_with(place: &Place, sockets: &[&str]) -> (String, String) {
    let mut activator = Activator::keep(sockets, &place.command(), Stdio::piped());
    activator.start();
    let status = activator.line();
    let mut said = String::new();
    drop(activator.process.stdin.take());
    let errors = activator.process.stderr.as_mut().expect("it is piped");
    errors.read_to_string(&mut said).expect("text");
    (status, said)
}

/// Starts it with these settings of the environment in a shell; it ends by itself.
fn run_with(place: &Place, environment: &str) -> Output {
    let command = format!("{environment} exec {}", place.command().join(" "));
    let output = Command::new("sh").args(["-c", &command]).output();
    output.expect("a shell")
}

fn ask(address: SocketAddr, request: &str) -> u16 {
    let mut client = Client::connect(address);
    client.send(request);
    client.answer().status
}

// The sockets stay with who started serin, so that nobody is refused while it is away.
#[test]
fn connections_made_while_serin_is_away_are_answered_by_the_next_one() {
    let upstream = Upstream::answering(reply("x"));
    let place = Place::new(&upstream, "workers = 2", "");
    let sockets = [
        format!("learners=tcp:{}", place.listen),
        format!("operators=tcp:{}", place.admin),
    ];
    let sockets = sockets.each_ref().map(String::as_str);
    let mut activator = Activator::keep(&sockets, &place.command(), Stdio::null());
    // The second begins when the first has ended, and the third after it.
    for _ in 0..3 {
        // The last one that is opened.
        wait_for("the sockets", || TcpStream::connect(place.admin).is_ok());
        let mut early: Vec<Client> = (0..20).map(|_| Client::connect(place.listen)).collect();
        early.iter_mut().for_each(|client| client.send(GET));
        let mut operator = Client::connect(place.admin);
        operator.send("GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n");
        let serin = activator.start();
        for client in &mut early {
            assert_eq!(client.answer().status, 200);
        }
        assert_eq!(operator.answer().status, 200);
        // Both workers accept: none of many waits for ever.
        for _ in 0..50 {
            assert_eq!(ask(place.listen, GET), 200);
        }
        kill_process(serin, Signal::TERM).expect("it is there");
        assert_eq!(activator.line(), "0");
    }
    assert_eq!(upstream.requests(), 3 * 70);
}

#[test]
fn systemd_starts_serin_with_its_sockets() {
    let upstream = Upstream::answering(reply("x"));
    let place = Place::new(&upstream, "workers = 1", "");
    let mut command = Command::new("systemd-socket-activate");
    command.args(["--fdname", "learners:operators"]);
    for address in [place.listen, place.admin] {
        command.args(["--listen", &address.to_string()]);
    }
    let mut activated = command
        .args(place.command())
        .stderr(Stdio::null())
        .spawn()
        .expect("systemd-socket-activate, which tests/run installs");
    wait_for("the sockets", || TcpStream::connect(place.admin).is_ok());
    assert_eq!(ask(place.listen, GET), 200);
    let ready = "GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
    assert_eq!(ask(place.admin, ready), 200);
    let pid = i32::try_from(activated.id()).ok().and_then(Pid::from_raw);
    kill_process(pid.expect("a process"), Signal::TERM).expect("it is there");
    assert!(activated.wait().expect("it ends").success());
}

#[test]
fn what_is_not_inherited_is_opened_as_ever() {
    let upstream = Upstream::answering(reply("x"));
    let place = Place::new(&upstream, "workers = 2", "");
    let sockets = [format!("=tcp:{}", place.listen)];
    let sockets = sockets.each_ref().map(String::as_str);
    let mut activator = Activator::keep(&sockets, &place.command(), Stdio::null());
    let serin = activator.start();
    assert_eq!(ask(place.listen, GET), 200);
    let ready = "GET /readyz HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
    wait_for("the admin port", || TcpStream::connect(place.admin).is_ok());
    assert_eq!(ask(place.admin, ready), 200);
    kill_process(serin, Signal::TERM).expect("it is there");
    assert_eq!(activator.line(), "0");
}

#[test]
fn a_socket_that_cannot_be_used_is_named() {
    let upstream = Upstream::answering(reply("x"));
    let place = Place::new(&upstream, "workers = 1", "");
    let (listen, other) = (place.listen, free());
    for (sockets, expected) in [
        (
            &[format!("learners=tcp:{listen}"), format!("old=tcp:{other}")][..],
            format!(
                "inherited socket 4 (\"old\") listens on {other}, which is neither in server.listen nor admin.listen"
            ),
        ),
        (
            &[format!("=tcp:{other}")],
            format!("inherited socket 3 listens on {other}"),
        ),
        (
            &[format!("x=udp:{listen}")],
            "inherited socket 3 (\"x\") cannot be used: fd 3 is not a valid tcp socket".to_owned(),
        ),
        (
            &[format!("x=deaf:{listen}")],
            "inherited socket 3 (\"x\") is not one that listens for TCP".to_owned(),
        ),
    ] {
        let sockets: Vec<&str> = sockets.iter().map(String::as_str).collect();
        let (status, said) = refused_with(&place, &sockets);
        assert_eq!(status, "1", "{said}");
        assert!(said.contains(&expected), "{expected} is not in {said}");
        assert!(!said.contains("panicked"), "{said}");
    }
    for count in ["x", "-1", "1001", "99999999999999999999", "''"] {
        let output = run_with(&place, &format!("LISTEN_PID=$$ LISTEN_FDS={count}"));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains("LISTEN_FDS is "), "{count}: {said}");
    }
    let output = run_with(&place, "LISTEN_PID=$$ LISTEN_FDS=1");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("inherited socket 3 cannot be used"), "{said}");
}

// Variables that were left in the environment of another process are not ours.
#[test]
fn what_was_given_to_another_process_is_left_alone() {
    let upstream = Upstream::answering(reply("x"));
    let place = Place::new(&upstream, "workers = 1", "");
    let _taken = TcpListener::bind(place.listen).expect("it was free");
    for environment in [
        "LISTEN_PID=1 LISTEN_FDS=x",
        "LISTEN_FDS=1",
        "LISTEN_PID=x LISTEN_FDS=1",
    ] {
        let output = run_with(&place, environment);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("cannot listen on"), "{environment}: {said}");
    }
}
