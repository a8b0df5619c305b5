use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;
use serin::cli::check::{CheckArgs, run};

fn args(config: &Path) -> CheckArgs {
    CheckArgs {
        config: config.to_owned(),
        schema: false,
        explain: false,
        json: false,
    }
}

fn documented() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("proxy.toml")
}

/// Exit code, standard output, standard error.
fn output(args: &CheckArgs) -> (ExitCode, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run(args, &mut out, &mut err);
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (code, text(out), text(err))
}

#[test]
fn a_good_file_is_shown_as_a_table_with_what_each_stage_needs() {
    let (code, out, err) = output(&args(&documented()));
    assert_eq!((code, err.as_str()), (ExitCode::SUCCESS, ""));
    for line in [
        "rollout analyzer: original -> ultra_fast",
        // 1000 / (1 % x 7200 s) = 13.9; 1000 / (10 % x 14400 s) = 0.69.
        "  canary   1%      2h        1m       1000 canary requests: about 14 requests/s in all at 1% over 2h",
        "  ramp     10%     4h        1m       1000 canary requests: about 0.7 requests/s in all at 10% over 4h",
        "    advance      error_rate < 1%",
        "    checkpoints  15m, 30m, 1h, 1h30m, 2h",
        // What such a sample sees is checked by simulation in tests/statistics.
        "    can see      1.4% errors or more (14 x a baseline of 0.1%) with 90% chance",
        "    can see      nothing against baseline: nobody is left on it",
        "    at the end   met: advance; not met: up to 4h more, then go to 5% and hold",
    ] {
        assert!(
            out.lines().any(|shown| shown == line),
            "{line:?} is not in\n{out}"
        );
    }
}

#[test]
fn the_plan_is_explained_in_words() {
    let (code, out, _) = output(&CheckArgs {
        explain: true,
        ..args(&documented())
    });
    assert_eq!(code, ExitCode::SUCCESS);
    for words in [
        "Stage 2 of 3, ramp: 10% of the learners go to ultra_fast for 4h, after 1m to warm up.",
        "It needs 1000 canary requests: about 14 requests/s in all at 1% over 2h.",
        "With that many it can see 1.4% errors or more (14 x a baseline of 0.1%) with 90% chance.",
        "It passes when error_rate < 1% and p99 < 200ms and availability > 99.9%.",
        "Everybody goes back when error_rate > 1.5% for 2m or p99 > 250ms for 5m",
    ] {
        assert!(out.contains(words), "{words:?} is not in\n{out}");
    }
}

#[test]
fn json_says_the_same() {
    let (code, out, _) = output(&CheckArgs {
        json: true,
        ..args(&documented())
    });
    let shown: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (code, &shown["valid"]),
        (ExitCode::SUCCESS, &Value::Bool(true))
    );
    let ramp = &shown["rollouts"][0]["stages"][1];
    assert_eq!(
        (ramp["name"].as_str(), ramp["weight"].as_f64()),
        (Some("ramp"), Some(0.1))
    );
    // More than the first stage's 13.4 times with as many requests: two hours of evidence lie before it.
    let ratio = ramp["detectable"]["ratio"].as_f64();
    assert!(
        ratio.is_some_and(|ratio| (15.0..30.0).contains(&ratio)),
        "{ramp}"
    );
    assert_eq!(shown["rollouts"][0]["stages"][2]["detectable"], Value::Null);
    let (code, out, _) = output(&CheckArgs {
        schema: true,
        ..args(Path::new("/nonexistent"))
    });
    let schema: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (code, schema["$schema"].as_str()),
        (
            ExitCode::SUCCESS,
            Some("https://json-schema.org/draft/2020-12/schema")
        )
    );
}

#[test]
fn every_fault_is_one_line_and_the_exit_code_is_2() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("proxy.toml");
    std::fs::write(&file, "[server]\nworkrs = 1\n[pools.a]\nendpoints = []\n").expect("a file");
    let (code, out, err) = output(&args(&file));
    let shown = file.display();
    let expected = format!(
        "{shown}:2: server.workrs: unknown key; did you mean `workers`?\n\
         {shown}:4: pools.a.endpoints: empty: a pool needs at least one endpoint\n2 faults\n"
    );
    assert_eq!((code, out.as_str(), err), (ExitCode::from(2), "", expected));
    let (code, out, err) = output(&CheckArgs {
        json: true,
        ..args(&file)
    });
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(
        (code, err.as_str(), &told["valid"]),
        (ExitCode::from(2), "", &Value::Bool(false))
    );
    assert_eq!(
        (
            told["faults"][1]["line"].as_u64(),
            told["faults"][1]["key"].as_str()
        ),
        (Some(4), Some("pools.a.endpoints"))
    );
}

#[test]
fn what_is_asked_and_told_outside_is_shown() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("proxy.toml");
    let text = "pools.a.endpoints = [\"h:1\"]\npools.b.endpoints = [\"h:2\"]\n\
        [[notify]]\nkind = \"slack\"\nname = \"ops\"\nurl = \"https://hooks.example/s3cret\"\n\
        [rollouts.r]\nbaseline = \"a\"\ncanary = \"b\"\n\
        [[rollouts.r.signals]]\nname = \"queue\"\nsource = \"json\"\nurl = \"https://h/x\"\nquery = \"/{pool}\"\n\
        [[rollouts.r.stages]]\nname = \"s\"\nweight = \"1%\"\nduration = \"1h\"\n\
        hooks.before = [{ name = \"one\", command = [\"x\"] }, { name = \"two\", command = [\"y\"] }]\n";
    std::fs::write(&file, text).expect("a file");
    let (code, out, err) = output(&args(&file));
    assert_eq!((code, err.as_str()), (ExitCode::SUCCESS, ""));
    for line in [
        "  signal queue from json \"/{pool}\" at https://h/x every 15s, timeout 5s",
        "    hooks        before: one, two",
        "told: ops (slack)",
    ] {
        assert!(
            out.lines().any(|shown| shown == line),
            "{line:?} is not in\n{out}"
        );
    }
    let explain = CheckArgs {
        explain: true,
        ..args(&file)
    };
    let (_, words, _) = output(&explain);
    for part in [
        "Read: queue from json",
        "Hooks before: one, two.",
        "Told of it: ops (slack).",
    ] {
        assert!(words.contains(part), "{part:?} is not in\n{words}");
    }
    assert!(
        !(out + &words).contains("s3cret"),
        "the URL of a channel is a secret"
    );
}

#[test]
fn what_is_legal_but_idle_is_noted() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("proxy.toml");
    let check = |text: &str, note: &str| {
        std::fs::write(&file, text).expect("a file");
        let (code, out, _) = output(&args(&file));
        assert_eq!(code, ExitCode::SUCCESS);
        assert!(out.contains(note), "{note:?} is not in\n{out}");
    };
    let pools = "pools.a.endpoints = [\"h:1\"]\npools.b.endpoints = [\"h:2\"]\n";
    let rollout = |weight: &str| {
        format!(
            "{pools}[rollouts.r]\nbaseline = \"a\"\ncanary = \"b\"\nstages = [{{ name = \"s\", weight = \"{weight}\", duration = \"1h\" }}]\n"
        )
    };
    check("", "routes: there are none");
    check(&rollout("1%"), "rollouts.r: no route leads to it");
    check(
        &rollout("100%"),
        "rollouts.r.stages[0].hold[0]: client_error_rate{delta} > 50% for 2m is skipped",
    );
}

/// A plan in words is read by whoever says yes to it: a changed word is a decision, and changes the file as well.
#[test]
fn the_words_of_a_plan_are_those_of_the_file() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data");
    let plan = data.join("explained.toml");
    let explain = CheckArgs {
        explain: true,
        ..args(&plan)
    };
    let (code, out, err) = output(&explain);
    assert_eq!((code, err.as_str()), (ExitCode::SUCCESS, ""));
    let said = out.replace(&plan.display().to_string(), "explained.toml");
    let golden = std::fs::read_to_string(data.join("explained.txt")).expect("the words");
    assert_eq!(said, golden, "\n{said}");
}
