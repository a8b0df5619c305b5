//! One serin takes the place of another under load: nothing is lost, counted twice or decided twice, and who fails to take
//! over changes nothing.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Scope;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{
    Analyzer, Connection, PATIENCE, Place, Process, Serin, StopOnDrop, eventually,
    eventually_within, get, pause, try_get, two_pools,
};

const HALF: &str = "[[rollouts.analyzer.stages]]\nname = \"half\"\nweight = \"50%\"\nduration = \"1h\"\nwarmup = \"0s\"\nmin_requests = 20\n";
/// Requests of a client, however many there are: the stub keeps up, and a second holds enough for every trigger.
const KEPT: u64 = 4;
const FRESH: u64 = 2;

/// A proxy with a rollout at half, and its two pools.
struct House {
    serin: Serin,
    ultra_fast: Analyzer,
    _original: Analyzer,
}

impl House {
    fn new(workers: usize, stages: &str) -> Self {
        let place = Place::new();
        let original = Analyzer::start(place.folder.path(), "original");
        let ultra_fast = Analyzer::start(place.folder.path(), "ultra_fast");
        let rest = format!(
            "[server.timeouts]\nidle_grace = \"10s\"\n{}",
            two_pools(&[original.addr], &[ultra_fast.addr], stages)
        );
        place.write(workers, &rest);
        Self {
            serin: place.start(),
            ultra_fast,
            _original: original,
        }
    }

    fn running(workers: usize, stages: &str) -> Self {
        let house = Self::new(workers, stages);
        assert_eq!(house.serin.act("analyzer", "start").status, 200);
        house.serin.await_phase("analyzer", "running");
        eventually("half of the learners on canary", || {
            (house.serin.get("/api/traffic-weights")["ultra_fast"] == 0.5).then_some(())
        });
        house
    }

    fn config(&self) -> PathBuf {
        self.serin.folder.path().join("proxy.toml")
    }

    /// The same file for another number of workers.
    fn write(&self, workers: usize) {
        let text = std::fs::read_to_string(self.config()).expect("our own file");
        let (head, tail) = text.split_once("workers = ").expect("it is there");
        let tail = tail.split_once('\n').expect("a line").1;
        let text = format!("{head}workers = {workers}\n{tail}");
        std::fs::write(self.config(), text).expect("our own file");
    }

    fn asks(&self) -> BufReader<UnixStream> {
        let path = self.serin.folder.path().join("state/serin.db.sock");
        let stream = UnixStream::connect(path).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        BufReader::new(stream)
    }

    /// A newcomer that goes as far as it can: its half of the conversation up to "released".
    fn half_way(&self) -> BufReader<UnixStream> {
        let mut line = self.asks();
        say(&mut line, r#"{"say":"hello","version":1,"pid":1}"#);
        while hear(&mut line)["say"] != "all_sockets" {}
        say(&mut line, r#"{"say":"ready"}"#);
        assert_eq!(hear(&mut line)["say"], "released");
        line
    }

    /// The rollout goes on: its gate's clock moves, and requests are answered.
    fn goes_on(&self) {
        let clock =
            || try_get(self.serin.admin, "/api/rollouts/analyzer")?.json()["clock_ms"].as_u64();
        let since = eventually("the gate answers", clock);
        eventually("the gate's clock moves", || {
            clock().filter(|now| *now > since)
        });
        assert_eq!(self.serin.phase("analyzer"), "running");
        assert_eq!(get(self.serin.proxy, "/work").status, 200);
    }
}

fn say(line: &mut BufReader<UnixStream>, text: &str) {
    let stream = line.get_mut();
    stream.write_all(text.as_bytes()).expect("it listens");
    stream.write_all(b"\n").expect("it listens");
}

fn hear(line: &mut BufReader<UnixStream>) -> Value {
    let mut text = String::new();
    line.read_line(&mut text).expect("it speaks");
    serde_json::from_str(&text).unwrap_or_else(|why| panic!("{why}: {text:?}"))
}

/// Clients that keep their connections and clients that open one for each request. Every request is answered, or the test
/// fails; `answered` counts them.
fn load<'scope>(
    scope: &'scope Scope<'scope, '_>,
    proxy: SocketAddr,
    stop: &'scope AtomicBool,
    answered: &'scope AtomicU64,
) {
    for client in 0..KEPT + FRESH {
        scope.spawn(move || {
            let mut connection = None;
            let mut learner = client;
            while !stop.load(Ordering::Relaxed) {
                learner += KEPT + FRESH;
                let mut open = connection
                    .take()
                    .unwrap_or_else(|| Connection::open(proxy).expect("a connection was refused"));
                let answer = open
                    .learner(&format!("learner-{}", learner % 3_000))
                    .unwrap_or_else(|why| panic!("a request was lost: {why}"));
                assert!(answer.status < 600);
                answered.fetch_add(1, Ordering::Relaxed);
                let closes = answer.header("connection") == Some("close");
                connection = (client < KEPT && !closes).then_some(open);
                pause();
            }
        });
    }
}

fn counted(status: &Value) -> u64 {
    let arm = |arm: &str| {
        let requests = &status["figures"][arm]["run"]["requests"];
        requests.as_u64().expect("a number")
    };
    arm("baseline") + arm("canary")
}

#[test]
fn five_takeovers_under_load_lose_no_request_no_count_and_no_clock() {
    let mut house = House::running(2, HALF);
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let (proxy, mut replaced) = (house.serin.proxy, Vec::new());
    std::thread::scope(|scope| {
        load(scope, proxy, &stop, &answered);
        let _stop = StopOnDrop(&stop);
        for (round, workers) in [1, 3, 2, 2, 4].into_iter().enumerate() {
            let seen = answered.load(Ordering::Relaxed);
            eventually("load", || {
                (answered.load(Ordering::Relaxed) > seen + 600).then_some(())
            });
            let before = house.serin.status("analyzer");
            house.write(workers);
            replaced.push(house.serin.take_over(&format!("serin-{round}.log")));
            let after = house.serin.status("analyzer");
            for key in ["phase", "run", "stage", "weight", "started"] {
                assert_eq!(before[key], after[key], "takeover {round}: {key}");
            }
            let clock = |status: &Value| status["stage_time_ms"].as_u64().expect("a time");
            assert!(clock(&after) >= clock(&before), "takeover {round}");
        }
        for process in &mut replaced {
            assert_eq!(process.wait(), 0, "{}", process.log());
        }
    });
    let answered = answered.into_inner();
    println!("{answered} requests, all of them answered");
    assert!(answered > 3_000);
    let mut last = 0;
    eventually_within(
        Duration::from_secs(10),
        &format!("{answered} requests in the figures"),
        &mut || {
            let status = house.serin.status("analyzer");
            last = counted(&status);
            assert!(last <= answered, "{last} of {answered}: counted twice");
            (last == answered).then_some(())
        },
    );
    let events = house.serin.events("analyzer");
    let ids: Vec<u64> = events
        .iter()
        .map(|event| event["id"].as_u64().expect("an id"))
        .collect();
    assert!(ids.windows(2).all(|pair| pair[1] == pair[0] + 1), "{ids:?}");
    let restarts = events.iter().filter(|event| event["event"] == "restarted");
    assert_eq!(restarts.count(), 5);
}

#[test]
fn a_takeover_in_the_middle_of_a_breach_gives_one_rollback() {
    let stages = format!("{HALF}rollback = [\"error_rate > 5% for 3s\"]\n");
    let mut house = House::running(2, &stages);
    let (stop, answered) = (AtomicBool::new(false), AtomicU64::new(0));
    let proxy = house.serin.proxy;
    std::thread::scope(|scope| {
        load(scope, proxy, &stop, &answered);
        let _stop = StopOnDrop(&stop);
        eventually("load", || {
            (answered.load(Ordering::Relaxed) > 500).then_some(())
        });
        house.ultra_fast.behave(&json!({ "error_rate": 0.3 }));
        eventually("the breach", || {
            let status = house.serin.status("analyzer");
            let rate = status["figures"]["canary"]["recent"]["error_rate"].as_f64()?;
            (rate > 0.05).then_some(())
        });
        assert_eq!(house.serin.phase("analyzer"), "running");
        let mut old = house.serin.take_over("second.log");
        house.serin.await_phase("analyzer", "rolled_back");
        assert_eq!(old.wait(), 0, "{}", old.log());
    });
    let events = house.serin.events("analyzer");
    let kinds: Vec<&str> = events
        .iter()
        .filter_map(|event| event["event"].as_str())
        .collect();
    let place = |kind: &str| kinds.iter().position(|one| *one == kind);
    let rollbacks = kinds.iter().filter(|kind| **kind == "rolled_back");
    assert_eq!(rollbacks.count(), 1, "{kinds:?}");
    assert!(place("restarted") < place("rolled_back"), "{kinds:?}");
    assert_eq!(house.serin.get("/api/traffic-weights")["ultra_fast"], 0.0);
}

#[test]
fn a_retreat_reaches_what_the_replaced_serin_has_not_started() {
    let mut house = House::new(1, HALF);
    let all = house
        .serin
        .set_weights(r#"{"original": 0, "ultra_fast": 1}"#);
    assert_eq!(all.status, 200);
    let mut kept: Vec<Connection> = (0..40)
        .map(|_| Connection::open(house.serin.proxy).expect("it accepts"))
        .collect();
    for connection in &mut kept {
        let answer = connection.learner("somebody").expect("it answers");
        assert_eq!(answer.header("x-analyzer-pool"), Some("ultra_fast"));
    }
    // The second one is replaced as well, and passes on what the third one says.
    let mut old = house.serin.take_over("second.log");
    let mut between = house.serin.take_over("third.log");
    assert!(old.child.try_wait().expect("our own child").is_none());
    let none = house
        .serin
        .set_weights(r#"{"original": 1, "ultra_fast": 0}"#);
    assert_eq!(none.status, 200, "{}", none.text());
    // Each of them gets one answer, because the old process closes it then.
    let pools: Vec<String> = kept
        .iter_mut()
        .map(|connection| {
            pause();
            let answer = connection.learner("somebody").expect("it answers");
            assert_eq!(answer.header("connection"), Some("close"));
            answer.header("x-analyzer-pool").expect("a pool").to_owned()
        })
        .collect();
    let first = pools.iter().position(|pool| pool == "original");
    let first = first.unwrap_or_else(|| panic!("{pools:?}\n{}", old.log()));
    assert!(pools[first..].iter().all(|pool| pool == "original"));
    assert!(old.log().contains("moves the split"), "{}", old.log());
    assert_eq!(old.wait(), 0, "{}", old.log());
    assert_eq!(between.wait(), 0, "{}", between.log());
}

#[test]
fn what_is_finished_after_two_takeovers_is_counted() {
    let mut house = House::running(1, HALF);
    let mut kept: Vec<Connection> = (0..20)
        .map(|_| Connection::open(house.serin.proxy).expect("it accepts"))
        .collect();
    let ask = |kept: &mut [Connection], closes: bool| {
        for (number, connection) in kept.iter_mut().enumerate() {
            let answer = connection.learner(&format!("learner-{number}"));
            let answer = answer.expect("it answers");
            assert_eq!(answer.header("connection") == Some("close"), closes);
        }
    };
    ask(&mut kept, false);
    let mut replaced = [
        house.serin.take_over("second.log"),
        house.serin.take_over("third.log"),
    ];
    ask(&mut kept, true);
    for old in &mut replaced {
        assert_eq!(old.wait(), 0, "{}", old.log());
    }
    let status = eventually("both rounds in the figures", || {
        let status = house.serin.status("analyzer");
        (counted(&status) >= 40).then_some(status)
    });
    assert_eq!(counted(&status), 40);
    let learners = |arm: &str| status["figures"][arm]["run"]["learners"].as_u64();
    assert_eq!(
        learners("baseline")
            .zip(learners("canary"))
            .map(|(a, b)| a + b),
        Some(20)
    );
}

#[test]
fn a_newcomer_with_a_bad_file_changes_nothing() {
    let house = House::running(1, HALF);
    let good = std::fs::read_to_string(house.config()).expect("our own file");
    for (from, to, code, word) in [
        ("[server]\n", "[server]\nspeed = 1\n", 2, "speed"),
        ("salt = \"analyzer-v3\"", "salt = \"other\"", 2, "salt"),
        (
            "canary = \"ultra_fast\"",
            "canary = \"original\"",
            2,
            "canary",
        ),
    ] {
        std::fs::write(house.config(), good.replace(from, to)).expect("our own file");
        let mut newcomer = house.serin.newcomer("bad.log");
        assert_eq!(newcomer.wait(), code, "{}", newcomer.log());
        assert!(newcomer.log().contains(word), "{}", newcomer.log());
        house.goes_on();
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let taken = taken.local_addr().map(|at| (at, taken)).expect("bound");
    let listen = format!("listen = [\"{}\", \"{}\"]", house.serin.proxy, taken.0);
    let from = format!("listen = [\"{}\"]", house.serin.proxy);
    std::fs::write(house.config(), good.replace(&from, &listen)).expect("our own file");
    let mut newcomer = house.serin.newcomer("taken.log");
    assert_eq!(newcomer.wait(), 1, "{}", newcomer.log());
    let log = newcomer.log();
    assert!(log.contains(&taken.0.to_string()), "{log}");
    house.goes_on();
}

#[test]
fn a_newcomer_that_dies_or_falls_silent_half_way_changes_nothing() {
    let mut house = House::running(1, HALF);
    let before = house.serin.events("analyzer").len();
    for silent in [false, true] {
        let line = house.half_way();
        // Nobody steers now, and requests are answered all the same.
        assert_eq!(get(house.serin.proxy, "/work").status, 200);
        let line = silent.then_some(line);
        house.goes_on();
        drop(line);
    }
    let events = house.serin.events("analyzer");
    let after = events[before..].iter();
    let restarts = after.filter(|event| event["event"] == "restarted");
    assert_eq!(restarts.count(), 2, "{events:#?}");
    let mut old = house.serin.take_over("second.log");
    house.goes_on();
    assert_eq!(old.wait(), 0, "{}", old.log());
}

#[test]
fn who_asks_wrongly_is_refused() {
    let house = House::running(1, HALF);
    let socket = house.serin.folder.path().join("state/serin.db.sock");
    let mode = std::fs::metadata(&socket)
        .expect("it is there")
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    let mut line = house.asks();
    say(&mut line, r#"{"say":"hello","version":99,"pid":1}"#);
    let answer = hear(&mut line);
    assert_eq!(answer["say"], "refused");
    assert!(answer["why"].as_str().is_some_and(|why| why.contains("99")));
    for text in ["GET / HTTP/1.1\r\n\r\n", "{}", r#"{"say":"ready"}"#] {
        let line = house.asks();
        // It may be hung up on before it has said all of it.
        _ = line.get_ref().write_all(format!("{text}\n").as_bytes());
        house.goes_on();
    }
}

#[test]
fn nothing_to_take_over_is_said() {
    let place = Place::new();
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    place.write(1, &two_pools(&[nobody], &[nobody], HALF));
    let mut command = place.command();
    command.arg("--takeover");
    let mut process = Process::spawn(command, place.folder.path().join("serin.log"));
    assert_eq!(process.wait(), 1);
    let log = process.log();
    assert!(
        log.contains("nothing to take over") && log.contains("serin.db.sock"),
        "{log}"
    );
}

#[test]
fn addresses_may_change_with_a_takeover() {
    let mut house = House::running(2, HALF);
    let before = house.serin.proxy;
    let after = SocketAddr::from(([127, 0, 0, 1], crate::support::free_port()));
    let text = std::fs::read_to_string(house.config()).expect("our own file");
    let text = text.replace(&before.to_string(), &after.to_string());
    std::fs::write(house.config(), text).expect("our own file");
    let mut kept = Connection::open(before).expect("it accepts");
    kept.learner("somebody").expect("it answers");
    let mut old = house.serin.take_over("second.log");
    kept.learner("somebody")
        .expect("the old process answers it");
    assert_eq!(get(after, "/work").status, 200);
    assert_eq!(old.wait(), 0, "{}", old.log());
    assert!(Connection::open(before).is_err(), "nobody listens there");
    house.serin.proxy = after;
    house.goes_on();
}
