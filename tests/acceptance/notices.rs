//! Every notice arrives, whatever is down or killed in between, and no channel waits for another.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::receiver::{Received, Receiver};
use crate::support::{Analyzer, Place, Serin, eventually, free_port, get, post, two_pools};

const SECRET: &str = "a secret of ours";
const STAGE: &str =
    "[[rollouts.analyzer.stages]]\nname = \"only\"\nweight = \"50%\"\nduration = \"1h\"\n";

fn port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// Opens and closes nothing: an incident is an event that every channel here is told of.
fn incident(serin: &Serin, summary: &str) {
    let body = format!("{{\"summary\": \"{summary}\"}}");
    let answer = post(serin.admin, "/api/rollouts/analyzer/incidents", &body);
    assert!((200..300).contains(&answer.status), "{}", answer.text());
}

/// The events that a channel asks for by default, by the ids of their notices.
fn wanted(serin: &Serin) -> BTreeMap<String, Value> {
    let told = |event: &&Value| event["event"] != "restarted" && event["event"] != "stage_began";
    let events = serin.events("analyzer");
    let events = events.iter().filter(told);
    events
        .map(|event| (format!("analyzer/{}", event["id"]), event.clone()))
        .collect()
}

fn by_id(calls: &[Received]) -> BTreeMap<String, Value> {
    let id = |call: &Received| call.header("x-serin-notice").expect("an id").to_owned();
    calls.iter().map(|call| (id(call), call.json())).collect()
}

/// The signature as Python's own library makes it.
fn signature_of_python(timestamp: &str, body: &[u8]) -> String {
    let program = "import hashlib,hmac,sys\n\
                   text = sys.argv[2].encode() + b'.' + sys.stdin.buffer.read()\n\
                   print(hmac.new(sys.argv[1].encode(), text, hashlib.sha256).hexdigest())";
    let mut python = Command::new("python3")
        .args(["-c", program, SECRET, timestamp])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    let mut input = python.stdin.take().expect("its input");
    input.write_all(body).expect("it reads");
    drop(input);
    let output = python.wait_with_output().expect("it ends");
    String::from_utf8(output.stdout)
        .expect("text")
        .trim()
        .to_owned()
}

#[test]
fn every_notice_arrives_though_the_receiver_was_down_and_serin_was_killed() {
    let place = Place::new();
    let original = Analyzer::start(place.folder.path(), "original");
    let ultra_fast = Analyzer::start(place.folder.path(), "ultra_fast");
    let (pager, slack, dead) = (port(), port(), port());
    let slack = Receiver::start(slack);
    let _dead = Receiver::silent(dead);
    let channels = format!(
        "[[notify]]\nkind = \"webhook\"\nname = \"pager\"\nurl = \"http://{pager}/hook\"\nsecret = \"{SECRET}\"\n\
         [[notify]]\nkind = \"slack\"\nurl = \"http://{}/services/x\"\n\
         [[notify]]\nkind = \"webhook\"\nname = \"dead\"\nurl = \"http://{dead}/\"\n",
        slack.addr
    );
    let pools = two_pools(&[original.addr], &[ultra_fast.addr], STAGE);
    place.write(1, &format!("{channels}{pools}"));
    let mut serin = place.start();
    assert_eq!(serin.act("analyzer", "start").status, 200);

    // One channel refuses connections, one never answers: the third hears of it all the same, and traffic flows.
    let text = eventually("a text in Slack", || {
        let calls = slack.calls();
        let started = |text: &String| text.contains("started: 1 stage,");
        let mut texts = calls.iter().map(|call| call.json()["text"].to_string());
        texts.find(started)
    });
    assert!(text.contains("analyzer/1"), "{text}");
    assert!(slack.calls().iter().all(|call| call.path == "/services/x"));
    assert_eq!(get(serin.proxy, "/work").status, 200);

    for number in 0..20 {
        incident(&serin, &format!("before the first kill {number}"));
    }
    let before = wanted(&serin);
    assert!(before.len() >= 21, "{before:?}");
    let metrics = get(serin.admin, "/metrics").text();
    assert!(
        metrics.contains("serin_notices_waiting{channel=\"pager\"}"),
        "{metrics}"
    );
    serin.process.kill();

    // It comes back while the receiver is there but sick, and is killed again.
    let receiver = Receiver::start(pager);
    receiver.answer(503);
    serin.restart();
    eventually("an attempt", || {
        (!receiver.calls().is_empty()).then_some(())
    });
    incident(&serin, "before the second kill");
    let before = wanted(&serin);
    serin.process.kill();
    let refused = receiver.calls().len();

    receiver.answer(200);
    serin.restart();
    let calls = eventually("every notice", || {
        let calls = receiver.calls();
        let arrived = by_id(&calls[refused..]);
        before
            .keys()
            .all(|id| arrived.contains_key(id))
            .then_some(calls)
    });
    let arrived = by_id(&calls);
    for (id, event) in wanted(&serin) {
        // The notice is the event as the API shows it.
        assert_eq!(arrived.get(&id), Some(&event), "{id}");
    }
    for call in &calls {
        let signed = call.header("x-serin-signature").expect("a signature");
        let (time, signature) = signed.split_once(",v1=").expect("two parts");
        let time = time.strip_prefix("t=").expect("a time");
        assert_eq!(signature, signature_of_python(time, &call.body), "{signed}");
    }

    // What was taken is not sent again.
    serin.process.kill();
    let taken = receiver.calls().len();
    serin.restart();
    incident(&serin, "the last one");
    let last = eventually("the last one", || {
        let calls = receiver.calls();
        let is_last = |call: &&Received| call.json()["summary"] == "the last one";
        calls[taken..].iter().find(is_last).map(|_| calls.clone())
    });
    let again = by_id(&last[taken..]);
    assert!(again.len() <= 2, "sent again: {:?}", again.keys());
}

#[test]
fn a_hold_is_called_again_while_nobody_acts_and_progress_is_told() {
    let place = Place::new();
    let original = Analyzer::start(place.folder.path(), "original");
    let ultra_fast = Analyzer::start(place.folder.path(), "ultra_fast");
    let receiver = Receiver::start(port());
    let channels = format!(
        "[[notify]]\nkind = \"webhook\"\nurl = \"http://{}/\"\nevents = [\"held\"]\nescalate_after = \"2s\"\ndigest = \"1s\"\n",
        receiver.addr
    );
    let pools = two_pools(&[original.addr], &[ultra_fast.addr], STAGE);
    place.write(1, &format!("{channels}{pools}"));
    let serin = place.start();
    assert_eq!(serin.act("analyzer", "start").status, 200);
    let notice = |word: &'static str| {
        eventually(word, || {
            let calls = receiver.calls();
            calls
                .iter()
                .map(Received::json)
                .find(|json| json["notice"] == word)
        })
    };
    let progress = notice("progress");
    assert_eq!(progress["status"]["phase"], "running");
    assert!(
        receiver
            .calls()
            .iter()
            .all(|call| call.json()["event"] != "started"),
        "only what was asked for"
    );
    assert_eq!(serin.act("analyzer", "hold").status, 200);
    let reminder = notice("reminder");
    let text = reminder["text"].as_str().expect("a text");
    assert!(text.contains("nobody acted: operator"), "{text}");
    let held = receiver.calls();
    assert!(held.iter().any(|call| call.json()["event"] == "held"));
    let id = reminder["id"].as_str().expect("an id");
    assert!(id.ends_with("/reminder-1"), "{id}");
}
