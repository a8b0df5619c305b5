//! The dashboard in a real browser: somebody watches a rollout, acts, loses the connection, holds a telephone.

use serde_json::{Value, json};
use serin::stub::load::LoadSettings;
use sha2::{Digest, Sha256};

use crate::browser::{Browser, Scheme};
use crate::support::{Analyzer, Learners, Place, Serin, eventually, two_pools};

/// The line that says what is happening.
const HEADLINE: &str = "#what";
const SEGMENTS: [&str; 3] = ["free", "school", "team"];

const SHORT: &str = r#"
[[rollouts.analyzer.stages]]
name = "canary"
weight = "20%"
duration = "3s"
warmup = "0s"
min_requests = 20
checkpoints = ["1s", "3s"]
advance = ["error_rate < 30%"]
[[rollouts.analyzer.stages]]
name = "rollout"
weight = "100%"
duration = "2s"
warmup = "0s"
min_requests = 20
advance = ["error_rate < 30%"]
"#;

const LONG: &str = r#"
segment = "header:x-learner-segment"
[[rollouts.analyzer.stages]]
name = "canary"
weight = "20%"
duration = "1h"
checkpoints = ["15m", "30m"]
advance = ["error_rate < 1%", "p99 < 200ms"]
[[rollouts.analyzer.stages]]
name = "rollout"
weight = "100%"
duration = "1h"
"#;

const ASKING: &str = r#"
[[rollouts.analyzer.stages]]
name = "canary"
weight = "20%"
duration = "1s"
warmup = "0s"
min_requests = 5
advance = ["error_rate < 30%"]
on_success = "approve"
approvers = ["engineering"]
[[rollouts.analyzer.stages]]
name = "ramp"
weight = "50%"
duration = "1h"
"#;

/// A proxy between two pools, learners who ask, and somebody at the page.
struct Scene {
    browser: Browser,
    serin: Serin,
    _learners: Learners,
    _pools: [Analyzer; 2],
}

impl Scene {
    fn of(stages: &str) -> Self {
        Self::with(stages, "")
    }

    /// `more` stands in the file before the pools.
    fn with(stages: &str, more: &str) -> Self {
        let place = Place::new();
        let folder = place.folder.path();
        let pools = ["original", "ultra_fast"].map(|pool| Analyzer::start(folder, pool));
        let [original, ultra_fast] = &pools;
        let text = two_pools(&[original.addr], &[ultra_fast.addr], stages);
        place.write(1, &format!("{more}{text}"));
        let serin = place.start();
        let learners = Learners::start(LoadSettings {
            learners: 2_000,
            rate_per_s: 60.0,
            segments: SEGMENTS
                .map(|name| name.parse().expect("a header value"))
                .to_vec(),
            ..LoadSettings::new(serin.proxy)
        });
        let browser = Browser::open(serin.folder.path());
        browser.visit(serin.admin);
        Self {
            browser,
            serin,
            _learners: learners,
            _pools: pools,
        }
    }

    /// Presses an action, says why, and confirms; what the dialog said that it would do.
    fn act(&self, action: &str, reason: &str) -> String {
        self.browser.press(&format!("[data-action={action}]"));
        let effect = self.browser.text("#dialog-effect");
        self.browser.type_into("#dialog [name=reason]", reason);
        self.browser.press("#dialog [type=submit]");
        eventually("the dialog is closed", || {
            let open = self
                .browser
                .run("return document.getElementById('dialog').open");
            assert_eq!(self.browser.text("#dialog [role=alert]"), "");
            (open == false).then_some(())
        });
        effect
    }

    fn event(&self, kind: &str) -> Value {
        let events = self.serin.events("analyzer");
        let found = events.iter().rfind(|event| event["event"] == kind);
        found
            .unwrap_or_else(|| panic!("no {kind} in {events:#?}"))
            .clone()
    }
}

#[test]
fn a_healthy_rollout_is_watched_to_its_end() {
    let scene = Scene::of(SHORT);
    let browser = &scene.browser;
    browser.await_text(HEADLINE, "Idle: everybody is on original");
    let effect = scene.act("start", "a good day");
    assert!(
        effect.contains("ultra_fast goes from 0% to 20%"),
        "{effect}"
    );
    browser.await_text(HEADLINE, "Running: stage canary");
    browser.await_text(HEADLINE, "Complete: 100% of learners on ultra_fast");
    browser.await_text("#link", "live");

    assert_eq!(browser.texts(".stage.done strong"), ["canary", "rollout"]);
    eventually("the charts are drawn to the end", || {
        let drawn = browser.run(
            "return [...document.querySelectorAll('.chart .series.canary')].filter((one) => one.getAttribute('d').length > 20).length",
        );
        (drawn == 7).then_some(())
    });
    let told = browser.texts("#events li").join("\n");
    for part in [
        "Started: 2 stages",
        "by local: a good day",
        "Advanced from canary to rollout",
        "Completed at 100% of learners",
    ] {
        assert!(told.contains(part), "{part:?} is not in {told}");
    }
    assert_eq!(scene.event("started")["reason"], "a good day");
    browser.keep_picture("complete-1280-light", 1280);
    browser.colours(Scheme::Dark);
    browser.keep_picture("complete-1280-dark", 1280);
    browser.colours(Scheme::Light);
    browser.keep_picture("complete-390-light", 390);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_rollback_is_pressed_by_who_may() {
    let token = |name: &str, roles: &str| {
        let digest: String = Sha256::digest(name)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("[[admin.tokens]]\nname = {name:?}\nroles = [{roles:?}]\nsha256 = {digest:?}\n")
    };
    let tokens = [token("eyes", "read"), token("hands", "operate")].concat();
    let scene = Scene::with(LONG, &tokens);
    let browser = &scene.browser;

    browser.await_text("form.lock", "A token is needed");
    browser.type_into("[name=token]", "eyes");
    browser.press("form.lock [type=submit]");
    browser.await_text(HEADLINE, "Idle");
    browser.await_text("#page", "may read only");
    let enabled = "return [...document.querySelectorAll('[data-action]')].filter((one) => !one.disabled).length";
    assert_eq!(browser.run(enabled), 0);

    browser.press(".who button");
    browser.type_into("[name=token]", "hands");
    browser.press("form.lock [type=submit]");
    scene.act("start", "tonight");
    browser.await_text(HEADLINE, "Running: stage canary");
    let effect = scene.act("rollback", "it smells");
    assert!(
        effect.contains("from 20% to 0%: all learners are on original at once"),
        "{effect}"
    );
    browser.await_text(HEADLINE, "Rolled back: everybody is on original");
    let why = browser.text(".decision");
    assert!(why.contains("an operator asked for it"), "{why}");
    assert!(why.contains("by hands: it smells"), "{why}");

    browser.keep_picture("rolled-back-1280-light", 1280);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn an_approval_is_given_by_who_saw_the_figures() {
    let scene = Scene::of(ASKING);
    let browser = &scene.browser;
    scene.act("start", "as planned");
    browser.await_text(HEADLINE, "Awaiting approval");
    let asked = browser.await_text("section.approval", "Missing: engineering");
    assert!(asked.contains("from canary (20%) to ramp (50%)"), "{asked}");
    assert!(asked.contains("error_rate < 30%"), "{asked}");
    browser.keep_picture("approval-1280-light", 1280);

    let effect = scene.act("approve", "the figures hold");
    assert!(
        effect.contains("Nobody else is missing: ultra_fast goes from 20% to 50%"),
        "{effect}"
    );
    browser.await_text(HEADLINE, "Running: stage ramp");
    let approved = scene.event("approved");
    assert_eq!(
        (&approved["role"], &approved["reason"]),
        (&json!("engineering"), &json!("the figures hold"))
    );
    assert_eq!(approved["asked"], scene.event("approval_asked")["id"]);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_lost_connection_is_said_and_nothing_is_missed() {
    let mut scene = Scene::of(LONG);
    scene.act("start", "before the storm");
    scene.browser.await_text(HEADLINE, "Running: stage canary");
    scene.browser.await_text("#link", "live");

    scene.serin.process.kill();
    let lost = scene.browser.await_text("#link", "connection lost");
    assert!(lost.contains("old"), "{lost}");
    scene
        .browser
        .await_text(".situation", "Not known: serin does not answer");
    scene.browser.keep_picture("lost-1280-light", 1280);
    scene.serin.restart();
    // Before the page is back or after it: what happens is in its list either way.
    assert_eq!(scene.serin.act("analyzer", "hold").status, 200);
    scene.browser.await_text("#link", "live");
    scene.browser.await_text(HEADLINE, "Held: stage canary");

    scene.browser.press("#events [name=filter]");
    eventually("every event is in the list, once", || {
        let shown = scene.browser.run(
            "return [...document.querySelectorAll('#events .events > li')].map((one) => Number(one.getAttribute('value'))).reverse()",
        );
        let events = scene.serin.events("analyzer");
        let ids: Vec<&Value> = events.iter().map(|event| &event["id"]).collect();
        (shown == json!(ids)).then_some(())
    });
    let others: Vec<String> = scene
        .browser
        .complaints()
        .into_iter()
        .filter(|note| !note.contains("net::ERR_"))
        .collect();
    assert_eq!(others, Vec::<String>::new());
}

#[test]
fn a_telephone_and_a_keyboard_are_enough() {
    let scene = Scene::of(LONG);
    let browser = &scene.browser;
    scene.act("start", "from the bus");
    browser.size(390, 844);
    browser.await_text("#segments", "school");
    eventually("charts of the width of the screen", || {
        let wide = browser.run("return document.querySelector('.chart svg')?.clientWidth ?? 0");
        wide.as_u64().filter(|wide| (200..380).contains(wide))
    });
    assert!(browser.too_wide_by() <= 0, "{}", browser.too_wide_by());
    browser.keep_picture("running-390-light", 390);
    browser.colours(Scheme::Dark);
    browser.keep_picture("running-390-dark", 390);

    // A table sorts by its heads, and says by which.
    browser.run("document.querySelector('#segments th button').focus()");
    browser.type_into("#segments th button", "\u{e007}");
    browser.await_text("#segments th[aria-sort=descending]", "Segment");
    assert_eq!(
        browser.texts("#segments tbody strong"),
        ["team", "school", "free"]
    );
    // The dialog takes the focus, and Escape gives it back with nothing done.
    browser.run("document.querySelector('[data-action=rollback]').focus()");
    browser.type_into("[data-action=rollback]", "\u{e007}");
    browser.await_text("#dialog", "Roll back: analyzer");
    assert!(browser.too_wide_by() <= 0, "{}", browser.too_wide_by());
    browser.type_into("#dialog [name=reason]", "\u{e00c}");
    eventually("the focus is back", || {
        let focused = browser.run("return document.activeElement.dataset.action ?? ''");
        (focused == "rollback").then_some(())
    });
    assert_eq!(scene.serin.phase("analyzer"), "running");

    // Whoever cannot see it hears what every part and every control is.
    let unnamed = browser.run(
        "return [...document.querySelectorAll('button, input, select, textarea, svg[role=img], section')].filter((one) => \
         !(one.innerText || one.ariaLabel || one.labels?.length || document.getElementById(one.getAttribute('aria-labelledby') ?? ''))).map((one) => one.outerHTML)",
    );
    assert_eq!(unnamed, json!([]));
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
