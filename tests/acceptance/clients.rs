//! Other people's clients before serin and another people's server behind it: each meets what it meets without serin.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::support::{Place, Serin, certificates, free_port};

/// Cases of tests/python/http_clients.py and tests/node/clients.mjs, which are the same.
const CASES: usize = 17;

/// The server of http_server.py, as long as this lives.
struct Server {
    process: Child,
    addr: SocketAddr,
}

/// Serin before it: in the clear, and behind TLS with a certificate of an authority of our own.
struct Front {
    serin: Serin,
    tls: SocketAddr,
    ca: PathBuf,
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn python(script: &str) -> Command {
    let mut command = Command::new(root("target/python/bin/python"));
    command.arg(root("tests/python").join(script));
    command
}

fn output(mut command: Command) -> String {
    let output = command.output().expect("it is installed by tests/run");
    let said = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{command:?}: {said}\n{text}");
    text
}

impl Server {
    fn start() -> Self {
        let mut process = python("http_server.py")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the interpreter that tests/run makes");
        let mut port = String::new();
        let said = process.stdout.take().expect("it is piped");
        BufReader::new(said).read_line(&mut port).expect("its port");
        let port: u16 = port.trim().parse().expect("a port");
        Self {
            process,
            addr: ([127, 0, 0, 1], port).into(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().expect("it ends with its input");
    }
}

impl Front {
    fn before(server: SocketAddr) -> Self {
        let place = Place::new();
        let folder = place.folder.path().to_owned();
        certificates(&folder);
        let tls = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let (cert, key) = (folder.join("cert.pem"), folder.join("key.pem"));
        let listen = format!(
            "listen = [\"{}\", {{ address = \"{tls}\", tls = {{ cert = {cert:?}, key = {key:?} }} }}]",
            place.proxy
        );
        place.write(
            2,
            &format!("[pools.only]\nendpoints = [\"{server}\"]\n[[routes]]\npool = \"only\"\n"),
        );
        let text = std::fs::read_to_string(place.config()).expect("it was written");
        let in_the_clear = format!("listen = [\"{}\"]", place.proxy);
        let text = text.replacen(&in_the_clear, &listen, 1);
        std::fs::write(place.config(), text).expect("a configuration");
        Self {
            serin: place.start(),
            tls,
            ca: folder.join("ca.pem"),
        }
    }

    /// In the clear and over TLS, with the authority where there is one.
    fn ways(&self) -> [(String, Option<&Path>); 2] {
        [
            (format!("http://{}", self.serin.proxy), None),
            (format!("https://{}", self.tls), Some(&self.ca)),
        ]
    }
}

/// `CASE | RESULT` of each case, and the version that the client says it spoke.
fn cases(client: &str, url: &str, ca: Option<&Path>) -> (Vec<String>, String) {
    let mut command = match client.strip_prefix("node-") {
        Some(client) => {
            let mut command = Command::new("node");
            command
                .arg(root("tests/node/clients.mjs"))
                .args([url, client]);
            command
        }
        None => {
            let mut command = python("http_clients.py");
            command.args([url, client]);
            command
        }
    };
    if let Some(ca) = ca {
        command.arg(ca).env("NODE_EXTRA_CA_CERTS", ca);
    }
    let text = output(command);
    let lines = text
        .lines()
        .map(|line| line.split_once(" | ").expect("three columns"));
    let (who, results): (Vec<&str>, Vec<&str>) = lines.unzip();
    let version = who.last().and_then(|who| who.split_once(' '));
    let version = version.map_or_else(String::new, |(_, version)| version.to_owned());
    (results.into_iter().map(str::to_owned).collect(), version)
}

#[test]
fn every_client_meets_what_it_meets_without_serin() {
    let server = Server::start();
    let direct = format!("http://{}", server.addr);
    let (expected, _) = cases("requests", &direct, None);
    assert_eq!(expected.len(), CASES, "{expected:#?}");
    let front = Front::before(server.addr);
    let clients = [
        ("requests", "HTTP/1.1"),
        ("aiohttp", "HTTP/1.1"),
        ("httpx", "HTTP/1.1"),
        ("httpx-http2", "HTTP/2"),
        ("node-fetch", "HTTP/1.1"),
        ("node-http2", "HTTP/2"),
    ];
    for (client, version) in clients {
        if version == "HTTP/1.1" {
            assert_eq!(
                cases(client, &direct, None).0,
                expected,
                "{client} without serin"
            );
        }
        for (url, ca) in front.ways() {
            let (met, spoken) = cases(client, &url, ca);
            assert_eq!(met, expected, "{client} at {url}");
            assert_eq!(spoken, version, "{client} at {url}");
        }
    }
}

#[test]
fn curl_meets_what_it_meets_without_serin_in_every_version() {
    let server = Server::start();
    let front = Front::before(server.addr);
    let upload = front.serin.folder.path().join("upload");
    std::fs::write(&upload, vec![b'u'; 8 << 20]).expect("a file");
    let upload = upload.to_str().expect("a name");
    // More than a mebibyte: curl waits for a 100 before it sends it.
    let data = format!("@{upload}");
    let asks: [&[&str]; 7] = [
        &["/echo?a=1"],
        &["--head", "/bytes/1000"],
        &["--data-binary", &data, "/echo"],
        &["--upload-file", upload, "/echo"],
        &["--range", "1000-1999", "/file"],
        &["/chunks/300000"],
        &["--compressed", "/gzip"],
    ];
    let ask = |version: &str, url: &str, ca: Option<&Path>, more: &[&str]| -> (String, String) {
        let (path, options) = more.split_last().expect("a path");
        let mut command = Command::new("curl");
        command
            .args(["-sS", "--max-time", "30", version])
            .args(options);
        command.args(["-o", "-", "-w", "\n%{http_version} %{http_code}"]);
        if let Some(ca) = ca {
            command.arg("--cacert").arg(ca);
        }
        // Of a head only what the server itself says.
        let text = output({
            command.arg(format!("{url}{path}"));
            command
        });
        let (body, end) = text.rsplit_once('\n').expect("two parts");
        let (spoken, code) = end.split_once(' ').expect("two numbers");
        let body = match options.contains(&"--head") {
            true => body
                .lines()
                .filter(|line| line.to_ascii_lowercase().starts_with("content-"))
                .map(str::to_ascii_lowercase)
                .collect::<Vec<_>>()
                .join("\n"),
            false => body.to_owned(),
        };
        (format!("{code} {body}"), spoken.to_owned())
    };
    let direct = format!("http://{}", server.addr);
    for more in asks {
        let (expected, _) = ask("--http1.1", &direct, None, more);
        for (url, ca) in front.ways() {
            let http2 = if ca.is_some() {
                "--http2"
            } else {
                "--http2-prior-knowledge"
            };
            for (version, spoken) in [("--http1.0", "1.0"), ("--http1.1", "1.1"), (http2, "2")] {
                let (met, said) = ask(version, &url, ca, more);
                assert!(met == expected, "{version} {more:?} at {url}: {:.300}", met);
                // An answer to HTTP/1.0 is of the version that the server has (RFC 9110, 2.5).
                assert!(
                    said == spoken || spoken == "1.0",
                    "{version} {more:?} at {url}: {said}"
                );
            }
        }
    }
}
