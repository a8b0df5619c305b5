//! What a person gets wrong is named with its place, and nothing is lost by it.

use std::process::{Command, Output};

use crate::support::{Analyzer, Place, Process, binary, eventually, get, post, two_pools};

const STAGE: &str = "[[rollouts.analyzer.stages]]\nname = \"canary\"\nweight = \"1%\"\nduration = \"2h\"\nmin_requests = 1\n";

fn check(arguments: &[&std::ffi::OsStr]) -> Output {
    Command::new(binary())
        .args(arguments)
        .output()
        .expect("the binary runs")
}

fn run_fails(place: &Place, parts: &[&str]) {
    let path = place.config();
    for command in ["check", "run"] {
        let output = check(&[command.as_ref(), "--config".as_ref(), path.as_os_str()]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        for part in parts {
            assert!(
                said.contains(part),
                "{command} does not say {part:?}:\n{said}"
            );
        }
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn every_fault_of_a_configuration_is_told_at_once_with_line_and_key() {
    let place = Place::new();
    let text = "[server]\nlisten = [\"127.0.0.1:0\"]\nworkerz = 3\n\
                [pools.original]\nendpoints = []\nbalance = \"rr\"\n\
                [pools.ultra_fast]\nendpoints = [\"127.0.0.1:1\"]\nhealth = { interval = \"5 parsecs\" }\n\
                [[routes]]\npath = \"/\"\nrollout = \"analyzer\"\n\
                [rollouts.analyzer]\nbaseline = \"original\"\ncanary = \"nowhere\"\n\
                [[rollouts.analyzer.stages]]\nname = \"a\"\nweight = \"101%\"\nduration = \"2h\"\n\
                [[rollouts.analyzer.stages]]\nname = \"a\"\nweight = \"5%\"\nduration = \"soon\"\n";
    std::fs::write(place.config(), text).expect("a configuration");
    run_fails(
        &place,
        &[
            ":3: ",
            "workerz",
            ":5: ",
            "pools.original.endpoints",
            ":6: ",
            "balance",
            ":9: ",
            "interval",
            ":15: ",
            "nowhere",
            ":18: ",
            "101%",
            "stages[1].name: \"a\" stands twice",
            ":23: ",
            "soon",
        ],
    );
}

#[test]
fn stage_order_and_trailing_garbage_and_duplicates_are_faults() {
    for (text, parts) in [
        (
            "[pools.a]\nendpoints = [\"127.0.0.1:1\"]\n[pools.a]\nendpoints = [\"127.0.0.1:1\"]\n",
            ["3", "duplicate"],
        ),
        ("[server]\nworkers = 1\n}}} garbage\n", ["3", ""]),
        ("[server]\nworkers = 1 2\n", ["2", ""]),
    ] {
        let place = Place::new();
        std::fs::write(place.config(), text).expect("a configuration");
        run_fails(&place, &parts);
    }
    let place = Place::new();
    let stages = format!(
        "{}{}",
        STAGE.replace("1%", "10%"),
        STAGE.replace("canary", "later")
    );
    place.write(
        1,
        &two_pools(
            &["127.0.0.1:1".parse().expect("an address")],
            &["127.0.0.1:2".parse().expect("an address")],
            &stages,
        ),
    );
    run_fails(&place, &["stages", "weight"]);
}

#[test]
fn a_file_that_is_none_is_said_plainly() {
    let place = Place::new();
    run_fails(&place, &["proxy.toml"]);
    std::fs::write(place.config(), [0xff, 0xfe, b'x']).expect("a file");
    run_fails(&place, &["UTF-8"]);
    std::fs::remove_file(place.config()).expect("our own file");
    std::fs::create_dir(place.config()).expect("a folder");
    run_fails(&place, &["proxy.toml"]);
}

#[test]
fn a_wrong_body_changes_nothing() {
    let place = Place::new();
    let analyzer = Analyzer::start(place.folder.path(), "original");
    place.write(1, &two_pools(&[analyzer.addr], &[analyzer.addr], STAGE));
    let serin = place.start();
    assert_eq!(
        serin
            .set_weights(r#"{"original": 99, "ultra_fast": 1}"#)
            .status,
        200
    );
    for body in [
        "",
        "[]",
        "1",
        "null",
        "{",
        "{}",
        r#"{"original": 1}"#,
        r#"{"original": 1, "other": 1}"#,
        r#"{"original": 1, "ultra_fast": 1, "other": 1}"#,
        r#"{"original": -1, "ultra_fast": 1}"#,
        r#"{"original": 0, "ultra_fast": 0}"#,
        r#"{"original": "1", "ultra_fast": 0}"#,
        r#"{"original": 1e999, "ultra_fast": 0}"#,
        r#"{"original": NaN, "ultra_fast": 0}"#,
        r#"{"original": null, "ultra_fast": 0}"#,
        "\u{0}\u{1}",
    ] {
        let answer = serin.set_weights(body);
        assert_eq!(answer.status, 422, "{body:?}: {}", answer.text());
        assert_eq!(
            answer.header("content-type"),
            Some("application/problem+json"),
            "{body:?}"
        );
        assert_eq!(
            serin.get("/api/traffic-weights")["ultra_fast"],
            0.01,
            "{body:?}"
        );
    }
    for path in [
        "/api/rollouts/analyzer/start",
        "/api/rollouts/analyzer/pause",
    ] {
        for body in [
            "{",
            "[]",
            r#"{"reason": 1}"#,
            r#"{"surprise": true}"#,
            r#"{"force": "yes"}"#,
        ] {
            let answer = post(serin.admin, path, body);
            assert_eq!(answer.status, 422, "{path} {body:?}: {}", answer.text());
        }
    }
    assert_eq!(serin.phase("analyzer"), "manual");
    assert_eq!(get(serin.admin, "/api/rollouts/none").status, 404);
}

/// The state's folder is a file, so that nothing can be written there, whoever runs this.
#[test]
fn a_state_that_cannot_be_written_leaves_traffic_unharmed_and_advances_nothing() {
    let place = Place::new();
    let original = Analyzer::start(place.folder.path(), "original");
    let ultra_fast = Analyzer::start(place.folder.path(), "ultra_fast");
    place.write(1, &two_pools(&[original.addr], &[ultra_fast.addr], STAGE));
    std::fs::write(place.folder.path().join("state"), "in the way").expect("a file");
    let serin = place.start();

    let status = serin.status("analyzer");
    assert_eq!(status["phase"], "held", "{status:#}");
    assert_eq!(status["causes"][0]["cause"], "store", "{status:#}");
    assert!(
        serin.process.log().contains("serin.db"),
        "{}",
        serin.process.log()
    );
    assert_eq!(serin.act("analyzer", "start").status, 409);
    for learner in 0..50 {
        let request = format!(
            "GET / HTTP/1.1\r\nhost: x\r\nx-learner-id: l{learner}\r\nconnection: close\r\n\r\n"
        );
        let answer = crate::support::send(serin.proxy, &request);
        assert_eq!(
            (answer.status, answer.header("x-analyzer-pool")),
            (200, Some("original"))
        );
    }
}

/// A file size limit is how a full disk looks to one process: every write beyond it fails.
#[test]
fn a_disk_that_fills_up_stops_the_rollout_and_nothing_else() {
    let place = Place::new();
    let original = Analyzer::start(place.folder.path(), "original");
    let ultra_fast = Analyzer::start(place.folder.path(), "ultra_fast");
    place.write(
        1,
        &two_pools(
            &[original.addr],
            &[ultra_fast.addr],
            &STAGE.replace("2h", "5s"),
        ),
    );
    let inner = place.command();
    // In blocks of 512 bytes: half a MiB. The signal that goes with it is ignored, so that the write itself fails.
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; ulimit -f 1024; exec \"$@\"", "sh"])
        .arg(inner.get_program())
        .args(inner.get_args());
    let process = Process::spawn(command, place.folder.path().join("serin.log"));
    let serin = crate::support::Serin {
        folder: place.folder,
        process,
        proxy: place.proxy,
        admin: place.admin,
    };
    serin.await_ready();

    assert_eq!(serin.act("analyzer", "start").status, 200);
    let held = eventually("a hold for the store", || {
        let answer = crate::support::send(
            serin.proxy,
            "GET / HTTP/1.1\r\nhost: x\r\nx-learner-id: l1\r\nconnection: close\r\n\r\n",
        );
        assert_eq!(answer.status, 200);
        // Pins fill the journal with records of some size until the limit is met.
        let filler = "x".repeat(900);
        post_pin(&serin, &filler);
        let status = serin.status("analyzer");
        let causes = status["causes"].as_array().cloned().unwrap_or_default();
        causes
            .iter()
            .any(|cause| cause["cause"] == "store")
            .then_some(status)
    });
    assert_ne!(held["phase"], "complete");
    let answer = crate::support::send(
        serin.proxy,
        "GET / HTTP/1.1\r\nhost: x\r\nx-learner-id: l2\r\nconnection: close\r\n\r\n",
    );
    assert_eq!(answer.status, 200);
}

fn post_pin(serin: &crate::support::Serin, learner: &str) {
    let body = r#"{"pool": "original"}"#;
    let request = format!(
        "PUT /api/rollouts/analyzer/pins/{learner} HTTP/1.1\r\nhost: {}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        serin.admin,
        body.len()
    );
    let answer = crate::support::send(serin.admin, &request);
    assert!(
        answer.status < 500 || answer.status == 503,
        "{}",
        answer.text()
    );
}
