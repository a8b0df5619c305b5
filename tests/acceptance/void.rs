//! Nobody is sent to a baseline that is gone: the rollout is held, the page goes out, and the rollback follows when it is back.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use serin::stub::load::LoadSettings;

use crate::receiver::{Received, Receiver};
use crate::support::{
    Analyzer, Learners, Place, Serin, eventually, eventually_within, free_port, get, two_pools,
};

const STAGE: &str = "[[rollouts.analyzer.stages]]\nname = \"canary\"\nweight = \"50%\"\nduration = \"1h\"\nwarmup = \"0s\"\nmin_requests = 20\n\
     rollback = [\"error_rate > 5% for 1s over 2s\"]\n";
const TRIGGER: &str = "error_rate > 5% for 1s over 2s";
const HEALTH: &str = "health = { path = \"/health\", interval = \"1s\", timeout = \"500ms\", unhealthy_after = 2 }\n";

fn pages(receiver: &Receiver, kind: &str) -> Vec<Value> {
    let calls = receiver.calls();
    let notices = calls.iter().filter(|call| call.path == "/page");
    let events = notices.map(Received::json);
    events.filter(|event| event["event"] == kind).collect()
}

fn requests(analyzer: &Analyzer) -> u64 {
    let counts = get(analyzer.addr, "/counts").json();
    counts["requests"].as_u64().expect("a count")
}

fn weight(serin: &Serin) -> Value {
    serin.get("/api/traffic-weights")["ultra_fast"].clone()
}

#[test]
fn a_trigger_moves_nobody_to_a_dead_baseline_and_takes_effect_when_it_is_back() {
    let place = Place::new();
    let folder = place.folder.path().to_owned();
    let original = Analyzer::start(&folder, "original");
    let ultra_fast = Analyzer::start(&folder, "ultra_fast");
    let receiver = Receiver::start(SocketAddr::from(([127, 0, 0, 1], free_port())));
    let rest = format!(
        "{STAGE}[rollouts.analyzer.stages.hooks]\non_no_baseline = [{{ name = \"call\", url = \"http://{0}/nowhere\", method = \"POST\" }}]\n\
         [[notify]]\nkind = \"webhook\"\nurl = \"http://{0}/page\"\n",
        receiver.addr
    );
    let pools = two_pools(&[original.addr], &[ultra_fast.addr], &rest);
    let pools = pools.replacen(
        "[pools.ultra_fast]",
        &format!("{HEALTH}[pools.ultra_fast]"),
        1,
    );
    place.write(1, &pools);
    let serin = place.start();
    let learners = Learners::start(LoadSettings {
        learners: 2_000,
        rate_per_s: 200.0,
        ..LoadSettings::new(serin.proxy)
    });
    assert_eq!(serin.act("analyzer", "start").status, 200);
    eventually("two seconds of a healthy canary", || {
        (serin.status("analyzer")["stage_time_ms"].as_u64()? > 2_000).then_some(())
    });

    // Baseline dies, and is seen to be dead; then canary falls ill.
    let home = original.addr;
    drop(original);
    eventually("baseline is unhealthy", || {
        let pools = serin.get("/api/pools");
        let pools = pools["pools"].as_array()?;
        let pool = pools.iter().find(|pool| pool["name"] == "original")?;
        (pool["endpoints"][0]["healthy"] == false).then_some(())
    });
    ultra_fast.behave(&json!({ "error_rate": 0.5 }));
    let page = eventually("the page", || {
        let held = pages(&receiver, "held").into_iter();
        held.into_iter()
            .find(|event| event["cause"] == "no_baseline")
    });
    assert!(
        page["reason"]
            .as_str()
            .is_some_and(|why| why.contains("nowhere to go")),
        "{page}"
    );
    assert_eq!(page["weight_ppm"], 500_000, "{page}");
    eventually("the hook for it", || {
        let calls = receiver.calls();
        calls
            .iter()
            .any(|call| call.path == "/nowhere")
            .then_some(())
    });

    // No weight moves, and canary goes on answering whom it can.
    let (held_at, asked) = (
        serin.status("analyzer")["clock_ms"].as_u64(),
        requests(&ultra_fast),
    );
    eventually("five more seconds", || {
        let status = serin.status("analyzer");
        assert_eq!(status["phase"], "held", "{status}");
        assert_eq!(weight(&serin), 0.5);
        (status["clock_ms"].as_u64() > held_at.map(|at| at + 5_000)).then_some(())
    });
    assert!(
        requests(&ultra_fast) > asked + 200,
        "canary is not asked any more"
    );
    assert!(pages(&receiver, "rolled_back").is_empty());

    // It is back: what was decided follows at once, though canary is well by now.
    ultra_fast.behave(&json!({ "error_rate": 0.0 }));
    let original = Analyzer::start_at(home, &folder, "original", &[]);
    eventually_within(
        Duration::from_secs(15),
        "everybody on baseline",
        &mut || (weight(&serin) == 0.0).then_some(()),
    );
    serin.await_phase("analyzer", "rolled_back");
    let events = serin.events("analyzer");
    let back = events.iter().find(|event| event["event"] == "rolled_back");
    let back = back.expect("it is in the journal");
    assert_eq!(back["trigger"], TRIGGER, "{back}");
    eventually("the notice of it", || pages(&receiver, "rolled_back").pop());
    let before = requests(&original);
    eventually("baseline carries everybody", || {
        (requests(&original) > before + 200).then_some(())
    });
    learners.stop();
}
