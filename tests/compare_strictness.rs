//! Plays the corpus of `tests/data/strictness` against serin, nginx and HAProxy and writes what each did to
//! `docs/STRICTNESS.md`. Run by `load-tests/strictness`, which installs the others; no part of a plain test run.

#![expect(
    clippy::disallowed_methods,
    reason = "it looks at other processes from outside, by the machine's own clock"
)]

#[path = "support/strictness/mod.rs"]
#[expect(dead_code, reason = "the tests of serin alone use the rest")]
mod strictness;

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use strictness::corpus::{Case, Step, Upstream, load};
use strictness::http1::{BEHIND, Pace, Until, play, request};
use strictness::http2::{Session, What};
use strictness::recorder::{Message, Recorder, Seen};

/// Longest silence before an answer is taken to be missing.
const SILENCE: Duration = Duration::from_millis(400);

/// One of the programs, between a client and a recorder.
struct Server {
    name: String,
    process: Child,
    http1: SocketAddr,
    http2: SocketAddr,
    recorder: Recorder,
}

/// What one server did with one case.
struct Row {
    said: String,
    verdict: Verdict,
    upstream: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Nothing that is a request came to upstream.
    Refused,
    /// Requests came that every reader understands alike.
    Passed,
    /// Upstream saw what two readers may understand differently.
    Ambiguous,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.kill().expect("our own child");
        self.process.wait().expect("our own child");
    }
}

#[test]
fn the_corpus_against_serin_and_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let servers = [
        serin(folder.path()),
        nginx(folder.path()),
        haproxy(folder.path()),
    ];
    let (http1, http2) = (load("http1.txt"), load("http2.txt"));
    let conformance = load("http2_conformance.txt");
    let first = |case: &Case| servers.each_ref().map(|server| ask_http1(server, case));
    let second = |case: &Case| servers.each_ref().map(|server| ask_http2(server, case));
    let http1: Vec<_> = http1.iter().map(|case| (case, first(case))).collect();
    let http2: Vec<_> = http2.iter().map(|case| (case, second(case))).collect();
    let read: Vec<_> = conformance
        .iter()
        .map(|case| {
            (
                case,
                servers.each_ref().map(|server| conforms(server, case)),
            )
        })
        .collect();
    let page = page(&servers, &http1, &http2, &read);
    std::fs::write("docs/STRICTNESS.md", page).expect("it is written");
    for (case, rows) in http1.iter().chain(&http2) {
        assert_ne!(rows[0].verdict, Verdict::Ambiguous, "serin: {}", case.name);
    }
}

// === the servers

fn free() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("it is bound")
}

fn start(
    name: &str,
    mut command: Command,
    http1: SocketAddr,
    http2: SocketAddr,
    recorder: Recorder,
) -> Server {
    let process = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let server = Server {
        name: name.to_owned(),
        process: process.expect("it is installed"),
        http1,
        http2,
        recorder,
    };
    for address in [http1, http2] {
        let begin = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "{name} does not listen"
            );
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }
    // What these looks brought is none of a case.
    server.recorder.take(SILENCE);
    server
}

fn version(program: &str, argument: &str) -> String {
    let output = Command::new(program)
        .arg(argument)
        .output()
        .expect("it is installed");
    let said = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&said).into_owned();
    let number = text
        .split([' ', '/', '\n', '-'])
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
    number.unwrap_or_default().to_owned()
}

fn serin(folder: &Path) -> Server {
    let binary =
        std::env::var("SERIN_BIN").unwrap_or_else(|_| env!("CARGO_BIN_EXE_serin").to_owned());
    let (recorder, address, admin) = (Recorder::start(), free(), free());
    let state = folder.join("state/serin.db");
    let text = format!(
        "[server]\nlisten = [\"{address}\"]\nworkers = 1\n[admin]\nlisten = \"{admin}\"\n[state]\npath = {state:?}\n\
         deployment_logs = {:?}\n[pools.base]\nendpoints = [\"{}\"]\nhealth = false\n[[routes]]\npath = \"/\"\npool = \"base\"\n",
        folder.join("logs"),
        recorder.address()
    );
    let file = folder.join("proxy.toml");
    std::fs::write(&file, text).expect("it is written");
    let mut command = Command::new(&binary);
    command.arg("run").arg("--config").arg(file);
    let name = format!("serin {}", version(&binary, "--version"));
    start(&name, command, address, address, recorder)
}

fn nginx(folder: &Path) -> Server {
    let (recorder, http1, http2) = (Recorder::start(), free(), free());
    let folder = folder.join("nginx");
    std::fs::create_dir_all(&folder).expect("a folder");
    let place = folder.display();
    let text = format!(
        "daemon off; master_process off; pid {place}/pid; error_log {place}/error.log;\nevents {{}}\nhttp {{\n\
         access_log off; client_body_temp_path {place}/b; proxy_temp_path {place}/p; fastcgi_temp_path {place}/f;\n\
         uwsgi_temp_path {place}/u; scgi_temp_path {place}/s;\nserver {{ listen {http1}; listen {http2} http2;\n\
         location / {{ proxy_pass http://{}; proxy_http_version 1.1; proxy_set_header Host $host; }} }} }}\n",
        recorder.address()
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, text).expect("it is written");
    let mut command = Command::new("/usr/sbin/nginx");
    command.arg("-c").arg(&file).arg("-p").arg(&folder);
    let name = format!("nginx {}", version("/usr/sbin/nginx", "-v"));
    start(&name, command, http1, http2, recorder)
}

fn haproxy(folder: &Path) -> Server {
    let (recorder, http1, http2) = (Recorder::start(), free(), free());
    let text = format!(
        "defaults\n mode http\n timeout client 5s\n timeout server 5s\n timeout connect 1s\n timeout http-request 5s\n\
         frontend in\n bind {http1}\n bind {http2} proto h2\n default_backend out\n\
         backend out\n server one {}\n",
        recorder.address()
    );
    let file = folder.join("haproxy.cfg");
    std::fs::write(&file, text).expect("it is written");
    let mut command = Command::new("/usr/sbin/haproxy");
    command.arg("-db").arg("-f").arg(file);
    let name = format!("HAProxy {}", version("/usr/sbin/haproxy", "-v"));
    start(&name, command, http1, http2, recorder)
}

// === the cases

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("it listens");
    stream.set_nodelay(true).expect("it can be set");
    stream
}

fn ask_http1(server: &Server, case: &Case) -> Row {
    let bytes = [&request(case)[..], BEHIND].concat();
    let mut wire = connect(server.http1);
    let heard = play(&mut wire, &bytes, Pace::AtOnce, Until::End, SILENCE);
    drop(wire);
    let statuses: Vec<String> = heard
        .answers
        .iter()
        .map(|answer| answer.status.to_string())
        .collect();
    let said = match (statuses.is_empty(), heard.is_closed) {
        (false, _) => statuses.join(" "),
        (true, true) => "closed".to_owned(),
        (true, false) => "silence".to_owned(),
    };
    row(said, &server.recorder.take(SILENCE * 2))
}

fn ask_http2(server: &Server, case: &Case) -> Row {
    let mut wire = connect(server.http2);
    let mut session = Session::new(&mut wire, "http", SILENCE);
    _ = session.play(case);
    let said = told(&session);
    drop(wire);
    row(said, &server.recorder.take(SILENCE * 2))
}

// The last word: a status, a reset, or the end.
fn told(session: &Session<'_>) -> String {
    let word = session
        .heard
        .iter()
        .rev()
        .find_map(|event| match &event.what {
            What::Status(status) => Some(status.clone()),
            What::Reset(error) => Some(format!("RST {error}")),
            What::GoAway(error) => Some(format!("GOAWAY {error}")),
            _ => None,
        });
    let end = session.has(|what| *what == What::Closed);
    word.unwrap_or_else(|| if end { "closed" } else { "silence" }.to_owned())
}

fn row(said: String, seen: &[Seen]) -> Row {
    let (mut verdict, mut parts) = (Verdict::Refused, Vec::new());
    for seen in seen.iter().filter(|seen| !seen.bytes.is_empty()) {
        match &seen.message {
            Message::Partial => parts.push("a part".to_owned()),
            Message::Ambiguous => {
                verdict = Verdict::Ambiguous;
                let text: String = seen.bytes.escape_ascii().to_string();
                parts.push(format!("`{text:.60}`..."));
            }
            Message::Whole(request) if request.line == "GET /behind" => {}
            Message::Whole(request) => {
                if verdict == Verdict::Refused {
                    verdict = Verdict::Passed;
                }
                let line: String = request.line.chars().take(40).collect();
                parts.push(format!("`{line}` {}", request.body.len()));
            }
        }
    }
    Row {
        said,
        verdict,
        upstream: parts.join(", "),
    }
}

// What was waited for in vain, or nothing.
fn conforms(server: &Server, case: &Case) -> Option<String> {
    // Windows are measured by the body of serin's own answer.
    let of_serin = |step: &Step| matches!(step, Step::Send(text) if text.contains("=TRACE"));
    if case.steps.iter().any(of_serin) && !server.name.starts_with("serin") {
        return Some("not asked".to_owned());
    }
    let mut wire = connect(server.http2);
    let mut session = Session::new(&mut wire, "http", SILENCE * 2);
    let outcome = session.play(case);
    let said = told(&session);
    drop(wire);
    server.recorder.take(SILENCE);
    match &case.deviates {
        None => outcome.is_err().then_some(said),
        // The case says what serin does; what the standard asks is an error of this name, or any.
        Some(asked) => {
            let asked = asked.split(';').next().unwrap_or_default();
            let is_met = if asked.ends_with("_ERROR") || asked == "STREAM_CLOSED" {
                said.ends_with(asked)
            } else {
                said.starts_with("RST") || said.starts_with("GOAWAY")
            };
            (!is_met).then_some(said)
        }
    }
}

// === the page

type Rows<'a> = Vec<(&'a Case, [Row; 3])>;

fn page(
    servers: &[Server; 3],
    http1: &Rows<'_>,
    http2: &Rows<'_>,
    read: &[(&Case, [Option<String>; 3])],
) -> String {
    let names = servers.each_ref().map(|server| server.name.as_str());
    let date = Command::new("date")
        .args(["-u", "+%Y-%m-%d"])
        .output()
        .expect("a date");
    let date = String::from_utf8_lossy(&date.stdout).trim().to_owned();
    let mut page = format!(
        "# What serin refuses, beside others\n\n\
         Written by `load-tests/strictness` on {date}: every case of `tests/data/strictness/` was played on real sockets against {}, {} and {}\n\
         (the others from Debian's packages, with the least configuration that proxies: see `tests/compare_strictness.rs`). Behind each one an\n\
         upstream recorded every byte. `cargo test --test data_path strict` plays the same cases against serin alone, at once, byte by byte, and behind\n\
         another request, and fails where an answer, the connection's end or what upstream sees is not what the case says.\n\n\
         How to read it:\n\n\
         - *refused*: nothing that is a whole request came to upstream; where a part came, its connection ended before the request did.\n\
         - *passed*: upstream saw requests that every reader understands alike. For a malformed case that means that the proxy repaired it: no\n  \
           danger by itself, but two repairers in a row may not agree.\n\
         - *ambiguous*: upstream saw a message that the standards forbid or let readers understand differently: two lengths, a stray CR, bytes behind\n  \
           the end.\n\
         - `GET /behind` is sent behind every case of HTTP/1, and is left out of the columns.\n\
         - The expectation is ours: a server may be lenient where RFC 9112 says so (bare LF, empty lines), and is not wrong for it.\n\n",
        names[0], names[1], names[2]
    );
    summary(&mut page, names, http1, http2);
    deviations(&mut page, http1, http2);
    table(&mut page, "HTTP/1", names, http1);
    table(&mut page, "HTTP/2", names, http2);
    conformance(&mut page, names, read);
    page
}

fn is_to_be_refused(case: &Case) -> bool {
    matches!(case.upstream, Some(Upstream::Nothing | Upstream::Begun))
}

fn summary(page: &mut String, names: [&str; 3], http1: &Rows<'_>, http2: &Rows<'_>) {
    page.push_str("## In numbers\n\n| | ");
    page.push_str(&names.join(" | "));
    page.push_str(" |\n|---|---|---|---|\n");
    for (what, rows) in [("HTTP/1", http1), ("HTTP/2", http2)] {
        for (to_refuse, said) in [(true, "to be refused"), (false, "to be passed")] {
            let of_kind: Vec<_> = rows
                .iter()
                .filter(|(case, _)| is_to_be_refused(case) == to_refuse)
                .collect();
            _ = write!(page, "| {what}, {} {said} ", of_kind.len());
            for at in 0..3 {
                let count = |verdict| {
                    of_kind
                        .iter()
                        .filter(|(_, rows)| rows[at].verdict == verdict)
                        .count()
                };
                _ = write!(
                    page,
                    "| {} refused, {} passed, {} ambiguous ",
                    count(Verdict::Refused),
                    count(Verdict::Passed),
                    count(Verdict::Ambiguous)
                );
            }
            page.push_str("|\n");
        }
    }
    page.push('\n');
}

fn deviations(page: &mut String, http1: &Rows<'_>, http2: &Rows<'_>) {
    page.push_str("## Where serin does not do what it should\n\nFor each of these the library below decides before serin sees the bytes.\n\n");
    for (case, _) in http1.iter().chain(http2) {
        if let Some(deviates) = &case.deviates {
            _ = writeln!(page, "- {} ({}): {deviates}.", case.name, case.source);
        }
    }
    page.push('\n');
}

fn table(page: &mut String, what: &str, names: [&str; 3], rows: &Rows<'_>) {
    _ = write!(page, "## {what}\n\n| case | source | ");
    page.push_str(&names.join(" | "));
    page.push_str(" |\n|---|---|---|---|---|\n");
    for (case, rows) in rows {
        _ = write!(page, "| {} | {} ", case.name, case.source);
        for row in rows {
            let verdict = match row.verdict {
                Verdict::Refused => "refused",
                Verdict::Passed => "passed",
                Verdict::Ambiguous => "**ambiguous**",
            };
            let upstream = row.upstream.replace('|', "\\|");
            let arrow = if upstream.is_empty() { "" } else { ": " };
            _ = write!(page, "| {verdict}, {}{arrow}{upstream} ", row.said);
        }
        page.push_str("|\n");
    }
    page.push('\n');
}

fn conformance(page: &mut String, names: [&str; 3], read: &[(&Case, [Option<String>; 3])]) {
    _ = write!(
        page,
        "## Frames and header blocks\n\nThe {} cases of `http2_conformance.txt`, which are those of h2spec and some more. Shown are those that somebody does not meet, with what\n\
         he said instead. An error's name that is not the standard's counts here, which h2spec lets pass.\n\n| | {} |\n|---|---|---|---|\n| met ",
        read.len(),
        names.join(" | ")
    );
    for at in 0..3 {
        let met = read
            .iter()
            .filter(|(_, faults)| faults[at].is_none())
            .count();
        _ = write!(page, "| {met} ");
    }
    page.push_str("|\n");
    for (case, faults) in read
        .iter()
        .filter(|(_, faults)| faults.iter().any(Option::is_some))
    {
        _ = write!(page, "| {} ", case.name);
        for fault in faults {
            _ = write!(page, "| {} ", fault.as_deref().unwrap_or("met"));
        }
        page.push_str("|\n");
    }
}
