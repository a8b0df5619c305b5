//! What serin asks and tells over https: signals, notices and hooks, against a TLS server that is not ours.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{
    Analyzer, Place, Process, Serin, certificates, eventually, free_port, two_pools,
};

/// Python's own TLS: a document for each pool, and a file of every body that was posted, with its path.
const SERVER: &str = r#"
import http.server, ssl, sys
folder, port = sys.argv[1], int(sys.argv[2])
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, text):
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def do_GET(self):
        self.answer(b'{"original": 100, "ultra_fast": 250}')
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        with open(folder + "/posted", "a") as posted:
            posted.write(self.path + " " + body + "\n")
        self.answer(b"ok")
server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder + "/cert.pem", folder + "/key.pem")
server.socket = context.wrap_socket(server.socket, server_side=True)
print("listens", flush=True)
server.serve_forever()
"#;

fn tls_server(folder: &Path) -> (Process, SocketAddr) {
    certificates(folder);
    let addr = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut command = Command::new("python3");
    command.args(["-c", SERVER]).arg(folder);
    command.arg(addr.port().to_string());
    let process = Process::spawn(command, folder.join("tls.log"));
    eventually("the TLS server listens", || {
        process.log().contains("listens").then_some(())
    });
    (process, addr)
}

/// A proxy with a signal, a channel and a hook that all go to the server; and a signal by a name it has no certificate for.
fn place(server: SocketAddr) -> (Place, [Analyzer; 2]) {
    let place = Place::new();
    let original = Analyzer::start(place.folder.path(), "original");
    let ultra_fast = Analyzer::start(place.folder.path(), "ultra_fast");
    let signal = |name: &str, host: &str| {
        format!(
            "[[rollouts.analyzer.signals]]\nname = \"{name}\"\nsource = \"json\"\nurl = \"https://{host}:{}/x\"\nquery = \"/{{pool}}\"\ninterval = \"1s\"\n",
            server.port()
        )
    };
    let rest = format!(
        "[[rollouts.analyzer.stages]]\nname = \"only\"\nweight = \"50%\"\nduration = \"1h\"\n\
         [rollouts.analyzer.stages.hooks]\nbefore = [{{ name = \"ask\", url = \"https://{server}/hook\", method = \"POST\" }}]\n\
         [[notify]]\nkind = \"webhook\"\nurl = \"https://{server}/notice\"\n"
    );
    let signals = signal("queue", "127.0.0.1") + &signal("elsewhere", "localhost");
    let pools = two_pools(&[original.addr], &[ultra_fast.addr], &(signals + &rest));
    place.write(1, &pools);
    (place, [original, ultra_fast])
}

fn signal(serin: &Serin, name: &str) -> Option<Value> {
    let status = serin.status("analyzer");
    let signals = status["signals"].as_array().expect("a list");
    let found = signals
        .iter()
        .find(|signal| signal["name"] == name && signal["pool"] == "ultra_fast");
    found.cloned()
}

#[test]
fn signals_notices_and_hooks_speak_https_with_whom_the_authorities_vouch_for() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_server, addr) = tls_server(folder.path());
    let (place, _analyzers) = place(addr);
    let mut command = place.command();
    command.env("SSL_CERT_FILE", folder.path().join("ca.pem"));
    let serin = place.start_as(command);

    let queue = eventually("a value", || {
        signal(&serin, "queue").filter(|queue| queue["stale"] == false)
    });
    assert_eq!(queue["value"], 250.0);
    let elsewhere = eventually("a failure", || signal(&serin, "elsewhere"));
    let note = elsewhere["note"].as_str().expect("a text");
    assert!(
        elsewhere["stale"] == true && note.contains("certificate not valid for name"),
        "{elsewhere}"
    );

    // The hook passes, so that the stage begins, and each of both has told the server.
    assert_eq!(serin.act("analyzer", "start").status, 200);
    serin.await_phase("analyzer", "running");
    let posted = eventually("a notice", || {
        let posted = std::fs::read_to_string(folder.path().join("posted")).ok()?;
        let notice = |line: &str| line.starts_with("/notice ") && line.contains("\"started\"");
        posted.lines().any(notice).then_some(posted)
    });
    let hook = posted.lines().find_map(|line| line.strip_prefix("/hook "));
    let hook: Value = serde_json::from_str(hook.expect("the hook's call")).expect("JSON");
    assert_eq!(hook["hook"], json!("ask"));
}

#[test]
fn a_server_that_nobody_vouches_for_is_not_believed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (_server, addr) = tls_server(folder.path());
    let (place, _analyzers) = place(addr);
    let mut command = place.command();
    command.env_remove("SSL_CERT_FILE");
    let serin = place.start_as(command);

    let queue = eventually("a failure", || signal(&serin, "queue"));
    let note = queue["note"].as_str().expect("a text");
    assert!(
        queue["value"].is_null() && note.contains("UnknownIssuer"),
        "{queue}"
    );
    assert_eq!(serin.act("analyzer", "start").status, 200);
    let held = serin.await_phase("analyzer", "held");
    assert_eq!(held["causes"][0]["cause"], "hook", "{held}");
    assert!(!folder.path().join("posted").exists(), "nothing was told");
}
