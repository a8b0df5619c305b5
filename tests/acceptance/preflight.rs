//! The checklist: every point by itself, and one that fails is named and fails the whole.

use std::net::SocketAddr;
use std::process::{Command, Output};

use serde_json::Value;

use crate::receiver::Receiver;
use crate::support::{Analyzer, Place, Serin, binary, free_port, two_pools};

fn preflight(serin: &Serin) -> (Output, Value) {
    let output = Command::new(binary())
        .args([
            "preflight",
            "--json",
            "--admin",
            &format!("http://{}", serin.admin),
        ])
        .arg("--config")
        .arg(serin.folder.path().join("proxy.toml"))
        .output()
        .expect("it runs");
    let json = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|why| panic!("{why}: {}", String::from_utf8_lossy(&output.stderr)));
    (output, json)
}

fn outcome<'a>(list: &'a Value, check: &str, subject: &str) -> &'a str {
    let points = list["points"].as_array().expect("points");
    let found = points.iter().find(|point| {
        point["check"] == check && point["subject"].as_str().expect("text").contains(subject)
    });
    found.unwrap_or_else(|| panic!("no {check} {subject}: {list:#}"))["outcome"]
        .as_str()
        .expect("a word")
}

#[test]
fn every_point_is_gone_through_and_one_that_fails_is_named() {
    let place = Place::new();
    let original = Analyzer::start(place.folder.path(), "original");
    let ultra_fast = Analyzer::start(place.folder.path(), "ultra_fast");
    let receiver = Receiver::start(SocketAddr::from(([127, 0, 0, 1], free_port())));
    let file = |hooks: &str, endpoint: SocketAddr| {
        let stage = format!(
            "[[rollouts.analyzer.stages]]\nname = \"only\"\nweight = \"50%\"\nduration = \"1h\"\n\
             [rollouts.analyzer.stages.hooks]\nrollback = [{{ name = \"stop\", command = [\"{hooks}\"] }}, \
             {{ name = \"tell\", url = \"http://{}/\" }}]\n",
            receiver.addr
        );
        let notify = format!(
            "[[notify]]\nkind = \"webhook\"\nurl = \"http://{}/\"\n",
            receiver.addr
        );
        format!(
            "{notify}{}",
            two_pools(&[original.addr], &[endpoint], &stage)
        )
    };
    place.write(1, &file("true", ultra_fast.addr));
    let (folder, addresses) = (place.folder.path().to_owned(), (place.proxy, place.admin));
    let serin = place.start();
    let (output, list) = preflight(&serin);
    assert!(output.status.success(), "{list:#}");
    assert_eq!(list["passed"], true);
    for (check, subject) in [
        ("config", ""),
        ("health", "original"),
        ("hook", "stop"),
        ("hook", "tell"),
        ("channel", "webhook"),
        ("state", "state"),
        ("admin", ""),
    ] {
        assert_eq!(
            outcome(&list, check, subject),
            "passed",
            "{check} {subject}"
        );
    }
    assert_eq!(outcome(&list, "rehearsal", "analyzer"), "skipped");
    // Hooks are looked for and not run; the channel heard that it was a test.
    let calls = receiver.calls();
    let notices: Vec<_> = calls
        .iter()
        .map(|call| call.json()["notice"].clone())
        .collect();
    assert_eq!(notices, ["test"]);

    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let broken = Place {
        folder: tempfile::tempdir().expect("a folder"),
        proxy: addresses.0,
        admin: addresses.1,
    };
    broken.write(1, &file("/no/such/program", nobody));
    std::fs::copy(broken.config(), folder.join("proxy.toml")).expect("another file");
    receiver.answer(500);
    let (output, list) = preflight(&serin);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(outcome(&list, "hook", "stop"), "failed");
    assert_eq!(outcome(&list, "health", "ultra_fast"), "failed");
    assert_eq!(outcome(&list, "channel", "webhook"), "failed");
    assert_eq!(outcome(&list, "health", "original"), "passed");
}
