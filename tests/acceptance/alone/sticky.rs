//! Who goes where: every learner's pool is his hash's, at every weight, on every worker.

use std::collections::HashMap;
use std::sync::Mutex;

use serde_json::json;
use twox_hash::XxHash3_64;

use crate::support::{Analyzer, Connection, Place, two_pools};

const LEARNERS: usize = 20_000;
const REQUESTS_PER_WEIGHT: usize = 40_000;
const CLIENTS: usize = 8;

/// The contract's formula over another library's XXH3-64.
fn bucket(learner: &str) -> u64 {
    let hash = XxHash3_64::oneshot(&[b"analyzer-v3\0", learner.as_bytes()].concat());
    ((u128::from(hash) * 1_000_000) >> 64) as u64
}

#[test]
fn every_request_of_20_000_learners_goes_where_the_hash_says() {
    let place = Place::new();
    let original = Analyzer::start(place.folder.path(), "original");
    let ultra_fast = Analyzer::start(place.folder.path(), "ultra_fast");
    let stage =
        "[[rollouts.analyzer.stages]]\nname = \"canary\"\nweight = \"1%\"\nduration = \"2h\"\n";
    place.write(4, &two_pools(&[original.addr], &[ultra_fast.addr], stage));
    let serin = place.start();

    let mut before: HashMap<String, bool> = HashMap::new();
    for ppm in [0_u64, 10_000, 100_000, 500_000, 1_000_000] {
        let body = json!({ "original": 1_000_000 - ppm, "ultra_fast": ppm }).to_string();
        let answer = serin.set_weights(&body);
        assert_eq!(answer.status, 200, "{}", answer.text());

        let seen = on_canary(serin.proxy);
        let mut share = 0;
        for (learner, &canary) in &seen {
            assert_eq!(canary, bucket(learner) < ppm, "{learner} at {ppm} ppm");
            let was = before.get(learner).copied().unwrap_or(false);
            assert!(canary || !was, "{learner} was moved back at {ppm} ppm");
            share += u32::from(canary);
        }
        assert_eq!(seen.len(), LEARNERS);
        let p = ppm as f64 / 1e6;
        let sigma = (LEARNERS as f64 * p * (1.0 - p)).sqrt();
        let off = (f64::from(share) - LEARNERS as f64 * p).abs();
        assert!(
            off <= 4.0 * sigma,
            "{share} of {LEARNERS} learners at {ppm} ppm"
        );
        before = seen;
    }
}

/// Which learners were answered by canary. Fails on a failed request, and on a learner seen in two pools.
fn on_canary(proxy: std::net::SocketAddr) -> HashMap<String, bool> {
    let seen = Mutex::new(HashMap::new());
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let seen = &seen;
            scope.spawn(move || {
                let mut connection = Connection::open(proxy).expect("it accepts");
                let mut mine = Vec::new();
                for request in (client..REQUESTS_PER_WEIGHT).step_by(CLIENTS) {
                    let learner = format!("learner-{}", request % LEARNERS);
                    let answer = connection.learner(&learner).expect("an answer");
                    assert_eq!(answer.status, 200, "{learner}");
                    let pool = answer
                        .header("x-analyzer-pool")
                        .expect("the stub names its pool");
                    mine.push((learner, pool == "ultra_fast"));
                }
                let mut seen = seen.lock().expect("no client failed");
                for (learner, canary) in mine {
                    assert_eq!(
                        *seen.entry(learner).or_insert(canary),
                        canary,
                        "in two pools at one weight"
                    );
                }
            });
        }
    });
    seen.into_inner().expect("no client failed")
}
