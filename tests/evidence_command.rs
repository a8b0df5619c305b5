//! `serin evidence`: the gate's arithmetic as a person, or a program, is given it.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

const VECTORS: &str = include_str!("data/statistics_vectors.json");

/// The binary itself, with `input` on its standard input.
fn evidence(typed: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_serin"))
        .arg("evidence")
        .args(typed)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A program that refuses its arguments may be gone before it reads.
    stdin.write_all(input.as_bytes()).ok();
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

fn shown(typed: &[&str], input: &str) -> String {
    let output = evidence(typed, input);
    assert_eq!(text(&output.stderr), "", "{typed:?}");
    assert_eq!(output.status.code(), Some(0), "{typed:?}");
    text(&output.stdout)
}

fn json_of(typed: &[&str], input: &str) -> Value {
    let typed: Vec<&str> = typed.iter().copied().chain(["--json"]).collect();
    serde_json::from_str(&shown(&typed, input)).expect("JSON")
}

fn refused(typed: &[&str], input: &str, code: i32, says: &[&str]) {
    let output = evidence(typed, input);
    let why = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{typed:?}: {why}");
    assert_eq!(text(&output.stdout), "", "{typed:?}");
    assert!(!why.contains("panicked"), "{why}");
    for part in says {
        assert!(why.contains(part), "{typed:?}: {part:?} is not in {why}");
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn vectors(family: &str) -> Vec<Value> {
    let file: Value = serde_json::from_str(VECTORS).expect("the vectors are JSON");
    let all = file["vectors"].as_array().expect("a list");
    let named = |vector: &&Value| {
        vector["id"]
            .as_str()
            .is_some_and(|id| id.starts_with(family))
    };
    let found: Vec<Value> = all.iter().filter(named).cloned().collect();
    assert!(!found.is_empty(), "{family}");
    found
}

fn close(seen: &Value, expected: &Value) {
    let (seen, expected) = (
        seen.as_f64().expect("a number"),
        expected.as_f64().expect("a number"),
    );
    assert!(
        (seen - expected).abs() <= 1e-9 * expected.abs(),
        "{seen} is not {expected}"
    );
}

#[test]
fn errors_against_a_limit_give_the_published_evidence_and_interval() {
    for vector in vectors("G1") {
        let (errors, requests) = (
            vector["input"]["errors"].to_string(),
            vector["input"]["requests"].to_string(),
        );
        let limit = vector["input"]["p0"].to_string();
        let seen = json_of(
            &[
                "--errors",
                &errors,
                "--requests",
                &requests,
                "--at-most",
                &limit,
            ],
            "",
        );
        close(&seen["ln_e"], &vector["output"]["log_e"]);
        close(&seen["e"], &vector["output"]["e"]);
        let ln_e = vector["output"]["log_e"].as_f64().expect("a number");
        assert_eq!(seen["alarm"], json!(ln_e >= 100_f64.ln()));
    }
    for vector in vectors("C2") {
        let input = |name: &str| vector["input"][name].to_string();
        let seen = json_of(
            &[
                "--errors",
                &input("errors"),
                "--requests",
                &input("requests"),
                "--at-most",
                "0.5%",
                "--alpha",
                &input("alpha"),
            ],
            "",
        );
        close(&seen["interval"]["lower"], &vector["output"]["lower"]);
        close(&seen["interval"]["upper"], &vector["output"]["upper"]);
    }
}

#[test]
fn blocks_give_the_published_evidence_plain_and_with_late_onset() {
    for vector in vectors("G2") {
        let blocks = vector["input"]["blocks"].to_string();
        let seen = json_of(&["--blocks", "-", "--odds-ratio", "1"], &blocks);
        let ln_es = seen["ln_e_per_block"].as_array().expect("a list");
        assert_eq!(
            ln_es.len(),
            vector["input"]["blocks"].as_array().expect("a list").len()
        );
        close(ln_es.last().expect("a block"), &vector["output"]["log_e"]);
    }
    for vector in vectors("G4") {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("blocks.json");
        std::fs::write(&file, vector["input"]["blocks"].to_string()).expect("a file");
        let path = file.to_str().expect("a path in UTF-8");
        let seen = json_of(&["--blocks", path, "--odds-ratio=1.0", "--late-onset"], "");
        let (ln_es, expected) = (
            &seen["ln_e_per_block"],
            &vector["output"]["log_e_per_block"],
        );
        for (index, expected) in expected.as_array().expect("a list").iter().enumerate() {
            close(&ln_es[index], expected);
        }
        assert_eq!(seen["alarm_at_block"], json!(11));
    }
}

#[test]
fn a_person_reads_what_is_proven_and_what_is_not() {
    assert_eq!(
        shown(
            &["--errors", "15", "--requests", "1000", "--at-most", "0.5%"],
            ""
        ),
        "15 of 1000 failed, at most 0.5% may\n\
         ln E      4.724468 (E = 112.6706)\n\
         alarm at  4.605170 (E = 100.0000, alpha 0.01)\n\
         verdict   alarm: more than 0.5% fail\n\
         interval  0.4727% to 3.2695% (99%, at all times together)\n"
    );
    let text = shown(&["--errors", "0", "--requests", "0", "--at-most", "1%"], "");
    assert!(text.contains("ln E      0.000000 (E = 1.0000)"), "{text}");
    assert!(text.contains("no alarm"), "{text}");
    assert!(text.contains("interval  0% to 100%"), "{text}");
    // The margin is 1.5 by default, and a dead canary overflows E but not what is printed.
    let dead = "[[1,990,10,10],[0,5,0,0],[1,99000,1000,1000]]";
    let text = shown(&["--blocks", "-"], dead);
    assert!(text.contains("skipped: an arm is empty"), "{text}");
    assert!(text.contains("E = e^"), "{text}");
    assert!(
        text.contains("alarm at block 1: canary's odds of failing are more than 1.5 times"),
        "{text}"
    );
    assert_eq!(
        json_of(&["--blocks", "-"], "[]")["ln_e_per_block"],
        json!([])
    );
}

#[test]
fn wrong_usage_is_exit_2_and_a_file_that_is_none_exit_1() {
    let limit = |errors, requests, at_most| {
        [
            "--errors",
            errors,
            "--requests",
            requests,
            "--at-most",
            at_most,
        ]
    };
    refused(&[], "", 2, &["--errors", "--blocks"]);
    refused(
        &["--errors", "1", "--requests", "10"],
        "",
        2,
        &["--at-most"],
    );
    refused(
        &limit("11", "10", "1%"),
        "",
        2,
        &["--errors 11", "10 requests"],
    );
    refused(&limit("1", "10", "64%"), "", 2, &["--at-most 64%"]);
    for share in ["0", "1", "-0.1", "100%", "NaN", "inf", "one"] {
        refused(
            &[&limit("1", "10", "1%")[..], &["--alpha", share]].concat(),
            "",
            2,
            &["--alpha"],
        );
        refused(&limit("1", "10", share), "", 2, &["--at-most"]);
    }
    refused(
        &["--blocks", "-", "--errors", "1"],
        "[]",
        2,
        &["--errors", "--blocks"],
    );
    refused(
        &[&limit("1", "10", "1%")[..], &["--late-onset"]].concat(),
        "",
        2,
        &["--blocks"],
    );
    refused(
        &["--blocks", "-", "--odds-ratio", "0"],
        "[]",
        2,
        &["--odds-ratio"],
    );
    refused(
        &["--blocks", "/nowhere/blocks.json"],
        "",
        1,
        &["/nowhere/blocks.json"],
    );
    for (blocks, says) in [
        ("", "standard input"),
        ("{}", "[base_err, base_req, canary_err, canary_req]"),
        ("[[1,2,3]]", "line 1"),
        ("[[1,2,3,4,5]]", "line 1"),
        ("[[1.5,2,3,4]]", "1.5"),
        ("[[-1,2,3,4]]", "-1"),
        (
            "[[0,9,0,1],[1,10,5,4]]",
            "block 2: 5 errors of 4 requests on canary",
        ),
        (
            "[[11,10,0,4]]",
            "block 1: 11 errors of 10 requests on baseline",
        ),
    ] {
        refused(&["--blocks", "-"], blocks, 1, &[says]);
    }
}
