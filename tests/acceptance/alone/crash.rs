//! `kill -9` at any moment: the rollout goes on where it was, and nobody notices by his pool.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;
use twox_hash::XxHash3_64;

use crate::support::{Analyzer, Connection, Place, Serin, StopOnDrop, pause, post, two_pools};

const KILLS: usize = 50;
const WEIGHT_PPM: u64 = 500_000;
/// What is shown was true at the last tick, so it may be older by this.
const TICK_MS: u64 = 250;

#[test]
fn fifty_kills_lose_no_stage_no_clock_no_event_and_move_no_learner() {
    let seed: u64 = std::env::var("SERIN_SEED")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(20_261_121);
    println!("seed {seed} (SERIN_SEED replays it)");
    let mut dice = StdRng::seed_from_u64(seed);

    let place = Place::new();
    let original = Analyzer::start(place.folder.path(), "original");
    let ultra_fast = Analyzer::start(place.folder.path(), "ultra_fast");
    let checkpoints: Vec<String> = (1..=300).map(|second| format!("\"{second}s\"")).collect();
    let stage = format!(
        "[[rollouts.analyzer.stages]]\nname = \"half\"\nweight = \"50%\"\nduration = \"1h\"\nwarmup = \"0s\"\nmin_requests = 20\n\
         advance = [\"error_rate < 1%\"]\ncheckpoints = [{}]\n",
        checkpoints.join(", ")
    );
    place.write(2, &two_pools(&[original.addr], &[ultra_fast.addr], &stage));
    let mut serin = place.start();
    assert_eq!(serin.act("analyzer", "start").status, 200);
    let begun = serin.await_phase("analyzer", "running");
    assert_eq!(begun["run"], 1);

    let stop = AtomicBool::new(false);
    let answered = AtomicU64::new(0);
    let proxy = serin.proxy;
    std::thread::scope(|scope| {
        for client in 0..3 {
            let (stop, answered) = (&stop, &answered);
            scope.spawn(move || learners(proxy, client, stop, answered));
        }
        let _stop = StopOnDrop(&stop);
        await_weight(&serin);
        for kill in 0..KILLS {
            survive(&mut serin, &mut dice, kill);
        }
    });
    println!(
        "{} answers, all from the pool of the learner's hash",
        answered.load(Ordering::Relaxed)
    );
    assert!(answered.into_inner() > 1_000);
}

/// One kill at a random moment, one restart, and everything compared.
fn survive(serin: &mut Serin, dice: &mut StdRng, kill: usize) {
    let until = Instant::now() + Duration::from_millis(dice.random_range(20..500));
    let mut incidents = 0;
    while Instant::now() < until {
        // Something of an operator's is being written at the moment of the kill as well.
        incidents += 1;
        let answer = post(
            serin.admin,
            "/api/rollouts/analyzer/incidents",
            &format!("{{\"summary\": \"{kill}-{incidents}\"}}"),
        );
        assert!((200..300).contains(&answer.status), "{}", answer.text());
        pause();
    }
    let (before, events_before) = (serin.status("analyzer"), serin.events("analyzer"));
    let seen_at = Instant::now();
    serin.process.kill();
    serin.restart();
    let (after, events_after) = (serin.status("analyzer"), serin.events("analyzer"));
    let elapsed_ms = u64::try_from(seen_at.elapsed().as_millis()).expect("a short time");

    for key in ["phase", "run", "stage", "stage_index", "weight"] {
        assert_eq!(
            before[key],
            after[key],
            "kill {kill}: {key}\n{}",
            serin.process.log()
        );
    }
    let (clock_before, clock_after) = (stage_time(&before), stage_time(&after));
    assert!(
        clock_after + 2_000 >= clock_before,
        "kill {kill}: {clock_before} ms became {clock_after} ms"
    );
    assert!(
        clock_after <= clock_before + elapsed_ms + TICK_MS,
        "kill {kill}: {clock_before} ms became {clock_after} ms, {elapsed_ms} ms later"
    );
    assert!(
        events_after.len() >= events_before.len(),
        "kill {kill}: events were lost"
    );
    assert_eq!(
        events_before[..],
        events_after[..events_before.len()],
        "kill {kill}: history was changed"
    );
    let ids: Vec<u64> = events_after
        .iter()
        .map(|event| event["id"].as_u64().expect("an id"))
        .collect();
    assert!(
        ids.windows(2).all(|pair| pair[1] == pair[0] + 1),
        "kill {kill}: ids {ids:?}"
    );
}

fn stage_time(status: &Value) -> u64 {
    status["stage_time_ms"].as_u64().expect("a time")
}

fn await_weight(serin: &Serin) {
    crate::support::eventually("half of the learners on canary", || {
        (serin.get("/api/traffic-weights")["ultra_fast"] == 0.5).then_some(())
    });
}

/// Requests without end. What is answered at all comes from the pool of the learner's hash, whenever that is.
fn learners(proxy: std::net::SocketAddr, client: u64, stop: &AtomicBool, answered: &AtomicU64) {
    let mut connection = None;
    let mut learner = client;
    let mut first_weight_seen = false;
    while !stop.load(Ordering::Relaxed) {
        if connection.is_none() {
            connection = Connection::open(proxy).ok();
        }
        let Some(open) = connection.as_mut() else {
            pause();
            continue;
        };
        learner += 3;
        let name = format!("learner-{}", learner % 2_000);
        match open.learner(&name) {
            Ok(answer) => {
                let hash = XxHash3_64::oneshot(&[b"analyzer-v3\0", name.as_bytes()].concat());
                let expected = ((u128::from(hash) * 1_000_000) >> 64) < u128::from(WEIGHT_PPM);
                let canary = answer.header("x-analyzer-pool") == Some("ultra_fast");
                assert_eq!(answer.status, 200, "{name}");
                first_weight_seen |= canary;
                if first_weight_seen {
                    assert_eq!(canary, expected, "{name} changed pool");
                }
                answered.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => connection = None,
        }
    }
}
