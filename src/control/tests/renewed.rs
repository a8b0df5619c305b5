//! A file that changed under a driver, and a driver that begins where another one stopped.

use super::*;

#[test]
fn a_reload_applies_pools_and_leaves_a_changed_plan_pending() {
    let mut rig = Rig::running();
    let text = FILE
        .replace("duration = \"4h\"", "duration = \"5h\"")
        .replace(", \"127.0.0.1:9102\"", "");
    let reloaded = rig.reload(&text).expect("allowed");
    assert!(!reloaded.changed.is_empty());
    assert_eq!(reloaded.pending.len(), 1, "{reloaded:?}");
    assert!(reloaded.pending[0].contains("analyzer"));
    assert_eq!(rig.split().weight.ppm(), 10_000);
    let health = rig
        .driver
        .live
        .load()
        .pool_health(&PoolName::parse("original").expect("a name"));
    assert_eq!(health.expect("still there").endpoints, 1);
    let ramp = |rig: &Rig| rig.driver.shown(&name()).expect("shown").plan.stages[1].duration;
    assert_eq!(ramp(&rig), Duration::from_secs(4 * 3600));

    rig.order(Verb::Abort)
        .try_recv()
        .expect("answered")
        .expect("allowed");
    rig.store_all();
    rig.order(Verb::Start)
        .try_recv()
        .expect("answered")
        .expect("aborted may start");
    assert_eq!(ramp(&rig), Duration::from_secs(5 * 3600));
}

#[test]
fn a_reload_that_would_move_learners_of_a_running_rollout_changes_nothing() {
    for (from, to) in [
        ("version = \"7\"", "version = \"7\"\nsalt = \"other\""),
        (
            "version = \"7\"",
            "version = \"7\"\nlearner = [\"client_ip\"]",
        ),
        ("canary = \"ultra_fast\"", "canary = \"other\""),
        (
            "rollout = \"analyzer\"\n[rollouts.analyzer]",
            "rollout = \"renamed\"\n[rollouts.renamed]",
        ),
    ] {
        let text = FILE.replace(from, to);
        let text = if to.contains("renamed") {
            text.replace("rollouts.analyzer.stages", "rollouts.renamed.stages")
        } else {
            text
        };
        let text = text + "[pools.other]\nendpoints = [\"127.0.0.1:9301\"]\n";
        let mut rig = Rig::running();
        let before = (rig.split(), rig.events());
        let faults = rig.reload(&text).expect_err(to);
        assert!(faults[0].message.contains("serin abort"), "{faults:?}");
        assert_eq!((rig.split(), rig.events()), before);
        rig.order(Verb::Abort)
            .try_recv()
            .expect("answered")
            .expect("allowed");
        rig.store_all();
        rig.reload(&text).expect("an ended rollout may change");
    }
}

#[test]
fn another_canary_begins_the_stage_anew_and_fewer_endpoints_do_not() {
    let replaced = |text: String| {
        let mut rig = Rig::running();
        rig.reload(&text).expect("allowed");
        rig.store_all();
        let log = Arc::clone(&rig.driver.rollouts[&name()].log);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .build()
            .expect("a runtime");
        let events = runtime.block_on(log.after(0, 100)).expect("readable");
        events
            .iter()
            .filter(|event| event.kind() == "canary_replaced")
            .count()
    };
    assert_eq!(
        replaced(FILE.replace("version = \"7\"", "version = \"8\"")),
        1
    );
    assert_eq!(
        replaced(FILE.replace("127.0.0.1:9201", "127.0.0.1:9202")),
        1
    );
    assert_eq!(replaced(FILE.replace(", \"127.0.0.1:9102\"", "")), 0);
    assert_eq!(replaced(FILE.to_owned()), 0);
}

#[test]
fn a_rollout_taken_out_and_put_back_goes_on_with_its_numbers() {
    let mut rig = Rig::running();
    rig.order(Verb::Abort)
        .try_recv()
        .expect("answered")
        .expect("allowed");
    rig.store_all();
    let without = "[pools.original]\nendpoints = [\"127.0.0.1:9101\"]\n[[routes]]\npath = \"/\"\npool = \"original\"\n";
    rig.reload(without).expect("an ended rollout may go");
    assert!(rig.driver.shown(&name()).is_err());
    rig.tick();
    rig.reload(FILE).expect("allowed");
    rig.order(Verb::Start)
        .try_recv()
        .expect("answered")
        .expect("aborted may start");
    let events = rig.events();
    assert!(
        events.windows(2).all(|pair| pair[1].0 == pair[0].0 + 1),
        "{events:?}"
    );
}

// What the store has of a driver that ends now.
fn left_by(rig: &Rig) -> Recovered {
    let left = crate::store::RecoveredRollout {
        snapshot: rig.driver.rollouts[&name()].gate.snapshot(rig.now()),
        recent: Vec::new(),
    };
    Recovered {
        rollouts: [(name(), left)].into(),
    }
}

#[test]
fn a_restart_goes_on_under_the_same_split() {
    let rig = Rig::running();
    let recovered = left_by(&rig);

    let disk = Stalled::default();
    let (driver, telemetry) = driver(&disk);
    let mut again = Rig {
        driver,
        disk,
        telemetry,
        at_ms: rig.at_ms + 3000,
    };
    again
        .driver
        .restore(again.now(), recovered)
        .expect("the same file");
    assert_eq!(
        (again.phase(), again.split().weight.ppm()),
        (Phase::Running, 10_000)
    );
    let (old, new) = (rig.events(), again.events());
    assert!(
        new.iter().all(|id| id.0 > old.last().expect("it began").0),
        "{old:?} {new:?}"
    );
}

#[test]
fn a_restart_with_another_identity_is_refused() {
    let rig = Rig::running();
    let recovered = left_by(&rig);
    let (mut driver, _) = driver(&Stalled::default());
    driver.config = parse(&FILE.replace("version = \"7\"", "salt = \"other\"")).expect("valid");
    let refused = driver
        .restore(rig.now(), recovered)
        .expect_err("learners would move");
    assert!(refused.to_string().contains("serin abort"), "{refused}");
}
