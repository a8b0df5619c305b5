//! The image: what it holds, what it may do, what it follows, how it ends.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serin::stub::load::LoadSettings;

use crate::docker::{Container, Image, Network, docker, unique};
use crate::support::{Connection, Learners, Place, Process, eventually, free_port, get};

/// What the engine puts into every container.
const OF_THE_ENGINE: [&str; 12] = [
    ".dockerenv",
    "dev/",
    "dev/console",
    "dev/pts/",
    "dev/shm/",
    "etc/",
    "etc/hostname",
    "etc/hosts",
    "etc/mtab",
    "etc/resolv.conf",
    "proc/",
    "sys/",
];

/// An analyzer that answers to a name in a network.
fn analyzer(image: &Image, network: &Network, name: &str, latency: &str) -> Container {
    let command = ["analyzer", "--listen", "0.0.0.0:9101", "--latency", latency];
    let options = [
        "--network",
        &network.0,
        "--network-alias",
        name,
        "--no-healthcheck",
    ];
    image.run("analyzer", &options, &command)
}

/// A proxy without any file of its own: all it knows comes from its environment.
fn proxy(
    image: &Image,
    network: &Network,
    options: &[&str],
    settings: &[(&str, &str)],
) -> Container {
    let settings: Vec<String> = settings
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mut all = vec!["--network", &network.0, "--health-interval", "200ms"];
    all.extend([
        "--publish",
        "127.0.0.1:0:8080",
        "--publish",
        "127.0.0.1:0:9901",
    ]);
    for setting in &settings {
        all.extend(["--env", setting]);
    }
    all.extend(options);
    let container = image.run("proxy", &all, &[]);
    container.await_healthy();
    container
}

const TOKENS: &str = "[{ name = \"test\", roles = [\"operate\"], token_env = \"SERIN_TOKEN\" }]";

/// One pool on every path, and an admin port that the machine reaches.
fn settings<'a>(pool: (&'a str, &'a str)) -> Vec<(&'a str, &'a str)> {
    vec![
        ("SERIN_TOKEN", "of-the-test"),
        ("SERIN__ADMIN__LISTEN", "0.0.0.0:9901"),
        ("SERIN__ADMIN__TOKENS", TOKENS),
        ("SERIN__ROUTES__0__PATH", "/"),
        ("SERIN__ROUTES__0__POOL", "original"),
        pool,
    ]
}

#[test]
fn the_image_holds_one_binary_and_one_file_and_is_nobodys_root() {
    let Some(image) = Image::of_serin("what the image holds") else {
        return;
    };
    let shown = image.inspect();
    let size = shown["Size"].as_u64().expect("a size");
    assert!(size < 25_000_000, "{size} bytes");
    assert_eq!(shown["Config"]["User"], "65532:65532");
    assert_eq!(shown["Config"]["Entrypoint"], serde_json::json!(["/serin"]));
    let check = serde_json::json!(["CMD", "/serin", "health"]);
    assert_eq!(shown["Config"]["Healthcheck"]["Test"], check);

    let container = Container {
        name: unique("created"),
    };
    docker(&["create", "--name", &container.name, &image.tag]);
    let mut export = Command::new("docker")
        .args(["export", &container.name])
        .stdout(Stdio::piped())
        .spawn()
        .expect("docker");
    let archive = export.stdout.take().expect("a pipe");
    let listed = Command::new("tar")
        .args(["--list", "--verbose", "--numeric-owner"])
        .stdin(archive)
        .output()
        .expect("tar");
    assert!(export.wait().expect("docker").success());
    let listed = String::from_utf8(listed.stdout).expect("text");
    // Rights and owner of each path: `-rwxr-xr-x 0/0 20 2025-11-01 14:00 serin`.
    let found: BTreeSet<(&str, &str, &str)> = listed
        .lines()
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (rights, owner) = (words.next()?, words.next()?);
            Some((words.nth(3)?, rights, owner))
        })
        .filter(|(path, ..)| !OF_THE_ENGINE.contains(path))
        .collect();
    let expected = [
        ("etc/serin/", "drwxr-xr-x", "0/0"),
        ("etc/serin/proxy.toml", "-rw-r--r--", "0/0"),
        ("serin", "-rwxr-xr-x", "0/0"),
        ("var/", "drwxr-xr-x", "0/0"),
        ("var/lib/", "drwxr-xr-x", "0/0"),
        ("var/lib/serin/", "drwxr-xr-x", "65532/65532"),
    ];
    assert_eq!(found, expected.into(), "{listed}");
}

#[test]
fn it_runs_without_rights_on_a_read_only_file_system_and_follows_its_limits() {
    let Some(image) = Image::of_serin("a container without rights") else {
        return;
    };
    let network = Network::new();
    let pool = ("SERIN__POOLS__ORIGINAL__ENDPOINTS", "[\"nobody:9101\"]");
    let limits = [
        "--user",
        "65532",
        "--cpus",
        "1",
        "--memory",
        "96m",
        "--ulimit",
        "nofile=10000",
    ];
    let limited = proxy(&image, &network, &limits, &settings(pool));
    for (name, value) in [
        ("Uid", "65532\t65532\t65532\t65532"),
        ("CapEff", "0000000000000000"),
        ("CapBnd", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        assert_eq!(limited.status(name), value, "{name}");
    }
    assert_eq!(limited.threads("worker-"), 1, "one processor");
    // (96 MiB - 32 MiB) / 64 KiB, which is less than four fifths of the files.
    let log = limited.logs();
    assert!(log.contains("workers=1 max_connections=1024"), "{log}");
    assert_eq!(
        docker(&["diff", &limited.name]),
        "",
        "written beside the volume"
    );
    assert_eq!(limited.exec(&["health"]), "ready");
    assert_eq!(limited.exec(&["health", "--live"]), "alive");

    let free = proxy(
        &image,
        &network,
        &["--ulimit", "nofile=10000"],
        &settings(pool),
    );
    let processors = std::thread::available_parallelism().expect("some").get();
    assert_eq!(free.threads("worker-"), processors);
    let log = free.logs();
    assert!(log.contains("max_connections=8000"), "{log}");
}

#[test]
fn a_fault_in_the_environment_ends_the_container_and_names_the_variable() {
    let Some(image) = Image::of_serin("a fault in the environment") else {
        return;
    };
    let broken = image.run("broken", &["--env", "SERIN__SERVER__WORKERS=many"], &[]);
    assert_eq!(docker(&["wait", &broken.name]), "2");
    let log = broken.logs();
    assert!(
        log.contains("environment SERIN__SERVER__WORKERS: server.workers: expected a whole number"),
        "{log}"
    );
}

#[test]
fn other_containers_are_found_by_their_names_in_both_ways() {
    let Some(image) = Image::of_serin("names of containers") else {
        return;
    };
    let network = Network::new();
    let _one = analyzer(&image, &network, "analyzer", "0s");
    let _two = analyzer(&image, &network, "analyzer", "0s");
    for (key, value) in [
        // By the system's own look-up, for each connection.
        ("SERIN__POOLS__ORIGINAL__ENDPOINTS", "[\"analyzer:9101\"]"),
        // By the resolver, for the pool.
        ("SERIN__POOLS__ORIGINAL__DNS", "analyzer:9101"),
    ] {
        let proxy = proxy(&image, &network, &[], &settings((key, value)));
        eventually(key, || {
            (get(proxy.port(8080), "/").status == 200).then_some(())
        });
    }
}

/// haproxy before two proxies, as balancers stand before containers: it asks each whether it is ready, and sends no
/// request twice.
fn balancer(place: &Place, proxies: [&Container; 2]) -> (Process, SocketAddr) {
    let listen = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let server = |container: &Container| {
        let (proxy, admin) = (container.port(8080), container.port(9901));
        format!(
            "  server {} {proxy} check port {} inter 100ms fall 1 rise 1\n",
            container.name,
            admin.port()
        )
    };
    let servers: String = proxies.into_iter().map(server).collect();
    let text = format!(
        "global\n  maxconn 2000\ndefaults\n  mode http\n  retries 0\n  timeout connect 5s\n  timeout client 30s\n  timeout server 30s\n  timeout check 10s\n\
         listen learners\n  bind {listen}\n  option httpchk GET /readyz\n  http-check send hdr host 127.0.0.1\n{servers}"
    );
    let file = place.folder.path().join("haproxy.cfg");
    std::fs::write(&file, text).expect("a configuration");
    let mut command = Command::new("haproxy");
    command.arg("-f").arg(&file);
    let process = Process::spawn(command, place.folder.path().join("haproxy.log"));
    eventually("the balancer listens", || TcpStream::connect(listen).ok());
    (process, listen)
}

#[test]
fn docker_stop_under_load_loses_no_request() {
    let Some(image) = Image::of_serin("docker stop under load") else {
        return;
    };
    let network = Network::new();
    // Long enough that many are under way at any moment.
    let _analyzer = analyzer(&image, &network, "analyzer", "300ms");
    let mut all = settings(("SERIN__POOLS__ORIGINAL__ENDPOINTS", "[\"analyzer:9101\"]"));
    all.push(("SERIN__SERVER__TIMEOUTS__DRAIN_DELAY", "4s"));
    let (first, second) = (
        proxy(&image, &network, &[], &all),
        proxy(&image, &network, &[], &all),
    );
    let place = Place::new();
    let (_haproxy, learners) = balancer(&place, [&first, &second]);
    let load = Learners::start(LoadSettings {
        rate_per_s: 200.0,
        learners: 1000,
        ..LoadSettings::new(learners)
    });
    let served = |container: &Container| {
        let text = get_metrics(container);
        let line = text
            .lines()
            .find(|line| line.starts_with("serin_connections_accepted_total"));
        line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .unwrap_or_default()
    };
    for container in [&first, &second] {
        eventually("both carry traffic", || {
            (served(container) > 0.0).then_some(())
        });
    }
    let began = Instant::now();
    docker(&["stop", "-t", "30", &first.name]);
    let took = began.elapsed();
    // The other one goes on.
    let later = Instant::now() + Duration::from_secs(1);
    eventually("a moment later", || (Instant::now() > later).then_some(()));
    let report = load.stop();
    assert_eq!(first.inspect()["State"]["ExitCode"], 0, "{}", first.logs());
    assert!(took < Duration::from_secs(30), "killed after {took:?}");
    assert!(took >= Duration::from_secs(4), "no delay: {took:?}");
    assert!(report.sent > 300, "{report:?}");
    assert_eq!((report.failed, report.ok()), (0, report.sent), "{report:?}");
}

fn get_metrics(container: &Container) -> String {
    let mut connection = Connection::open(container.port(9901)).expect("it accepts");
    let request = "GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer of-the-test\r\nconnection: close\r\n\r\n";
    connection
        .exchange(request.as_bytes())
        .expect("an answer")
        .text()
}

#[test]
fn a_sidecar_shares_its_neighbours_network_and_is_small() {
    const CONNECTIONS: u64 = 1000;
    let Some(image) = Image::of_serin("a sidecar") else {
        return;
    };
    let neighbour = image.run(
        "neighbour",
        &["--publish", "127.0.0.1:0:8080", "--no-healthcheck"],
        &["analyzer", "--listen", "127.0.0.1:9101"],
    );
    let network = format!("container:{}", neighbour.name);
    let sidecar = image.run(
        "sidecar",
        &[
            "--network",
            &network,
            "--health-interval",
            "200ms",
            "--memory",
            "128m",
            "--ulimit",
            "nofile=10000",
            "--env",
            "SERIN__SERVER__WORKERS=1",
            "--env",
            "_RJEM_MALLOC_CONF=narenas:1",
            "--env",
            "SERIN__POOLS__NEIGHBOUR__ENDPOINTS=[\"127.0.0.1:9101\"]",
            "--env",
            "SERIN__ROUTES__0__PATH=/",
            "--env",
            "SERIN__ROUTES__0__POOL=neighbour",
        ],
        &[],
    );
    sidecar.await_healthy();
    let proxy = neighbour.port(8080);
    let idle = sidecar.resident_kib();
    assert_eq!(get(proxy, "/").status, 200);
    let (settled, own) = (sidecar.settled_kib(), sidecar.kib("RssAnon"));

    let mut clients: Vec<Connection> = (0..CONNECTIONS)
        .map(|_| Connection::open(proxy).expect("it accepts"))
        .collect();
    for (number, client) in clients.iter_mut().enumerate() {
        let answer = client.learner(&format!("learner-{number}"));
        assert_eq!(answer.expect("an answer").status, 200);
    }
    let waiting = sidecar.resident_kib().saturating_sub(idle);
    for client in &mut clients {
        let asked = client.ask(b"GET /work HTTP/1.1\r\nhost: test\r\n\r\n");
        asked.expect("it takes a request");
    }
    for client in &mut clients {
        assert_eq!(client.answer().expect("an answer").status, 200);
    }
    let busy = sidecar.resident_kib().saturating_sub(idle);
    let said = format!(
        "a sidecar holds {idle} KiB when it is ready and {settled} settled, {own} of them its own; {waiting} KiB more with {CONNECTIONS} connections that \
         asked one after another and stay, {busy} KiB more when they asked all at once"
    );
    println!("{said}");
    drop(clients);
    assert!(idle < 15 * 1024, "{said}");
    assert!(settled < 15 * 1024, "{said}");
    // The rest are pages of the binary: `load-tests/order` puts those that run side by side.
    assert!(own < 6 * 1024, "{said}");
    assert!(waiting < 40 * CONNECTIONS, "{said}");
    // What `max_connections` reckons with.
    assert!(busy < 64 * CONNECTIONS + 4096, "{said}");
    docker(&["stop", &sidecar.name]);
    assert_eq!(
        sidecar.inspect()["State"]["ExitCode"],
        0,
        "{}",
        sidecar.logs()
    );
}
