//! `serin assign`: bucket and arm of learners, as anybody can compute them.

use std::ffi::OsString;
use std::io::{self, Cursor, Write};
use std::os::unix::ffi::OsStringExt;
use std::process::ExitCode;

use clap::Parser;
use serde_json::Value;
use serin::cli::assign::{AssignArgs, run};

const VECTORS: &str = include_str!("data/assignment_vectors.json");

#[derive(Parser)]
struct Command {
    #[command(flatten)]
    assign: AssignArgs,
}

fn args(typed: &[&str]) -> AssignArgs {
    Command::try_parse_from(["assign"].iter().chain(typed))
        .expect("valid arguments")
        .assign
}

fn output(args: &AssignArgs, input: &[u8]) -> Vec<u8> {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = run(args, &mut Cursor::new(input), &mut out, &mut err);
    assert_eq!((code, err.as_slice()), (ExitCode::SUCCESS, b"".as_slice()));
    out
}

/// Salt, id and bucket of each published vector.
fn vectors() -> Vec<(String, String, u64)> {
    let file: Value = serde_json::from_str(VECTORS).expect("the vectors are JSON");
    let rows = file["vectors"].as_array().expect("a list");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    rows.iter()
        .map(|row| {
            (
                text(&row["salt"]),
                text(&row["key"]),
                row["bucket_1e6"].as_u64().expect("a number"),
            )
        })
        .collect()
}

#[test]
fn the_published_vectors_come_out_by_argument_and_by_line() {
    let vectors = vectors();
    assert!(vectors.len() >= 6);
    for (salt, id, bucket) in vectors {
        for weight_ppm in [bucket, bucket + 1] {
            let weight = format!("{}.{:04}%", weight_ppm / 10_000, weight_ppm % 10_000);
            let arm = if bucket < weight_ppm {
                "canary"
            } else {
                "baseline"
            };
            let expected = format!("{id}\t{bucket}\t{arm}\n");
            let by_argument = args(&["--salt", &salt, "--weight", &weight, &id]);
            assert_eq!(
                output(&by_argument, b""),
                expected.as_bytes(),
                "{salt:?} {id:?} {weight}"
            );
            let by_line = args(&["--salt", &salt, "--weight", &weight]);
            assert_eq!(
                output(&by_line, format!("{id}\n").as_bytes()),
                expected.as_bytes()
            );
        }
    }
}

#[test]
fn every_line_is_one_id_of_raw_bytes_without_its_ending() {
    let args = args(&["--salt", "checkout@v42", "--weight", "0.97"]);
    let one = "203.0.113.7\t964242\tcanary\n";
    let check = |input: &[u8], expected: &[u8]| {
        let got = output(&args, input);
        assert_eq!(got, expected, "{}", String::from_utf8_lossy(input));
    };
    check(b"", b"");
    check(b"203.0.113.7", one.as_bytes());
    check(b"203.0.113.7\n", one.as_bytes());
    check(b"203.0.113.7\r\n203.0.113.7\n", one.repeat(2).as_bytes());
    // A carriage return that ends no line belongs to the id.
    assert_ne!(output(&args, b"203.0.113.7\r"), one.as_bytes());
    assert_eq!(output(&args, b"\xff\xfe\n")[..3], b"\xff\xfe\t"[..]);
    assert_eq!(
        output(&args, b"\n\n")
            .iter()
            .filter(|byte| **byte == b'\n')
            .count(),
        2
    );
}

#[test]
fn json_lines_name_ids_that_are_no_text_in_hexadecimal() {
    let args = args(&["--salt", "checkout@v42", "--weight", "0%", "--json"]);
    let lines = output(&args, b"203.0.113.7\n\xff\n");
    let rows: Vec<Value> = serde_json::Deserializer::from_slice(&lines)
        .into_iter()
        .map(|row| row.expect("JSON"))
        .collect();
    assert_eq!(
        rows[0],
        serde_json::json!({ "id": "203.0.113.7", "bucket": 964_242, "arm": "baseline" })
    );
    assert_eq!(
        (rows[1]["id_hex"].as_str(), rows[1].get("id")),
        (Some("ff"), None)
    );
}

#[test]
fn an_id_of_the_arguments_is_bytes_as_well() {
    let ids = vec![OsString::from_vec(b"\xff".to_vec())];
    let args = AssignArgs {
        ids,
        ..args(&["--salt", "s", "--weight", "1%"])
    };
    assert_eq!(output(&args, b"ignored\n")[..2], b"\xff\t"[..]);
}

#[test]
fn a_weight_that_is_none_is_wrong_usage() {
    for weight in ["1", "101%", "x", "-1%", "0.0000001"] {
        let parsed =
            Command::try_parse_from(["assign", "--salt", "s", &format!("--weight={weight}")]);
        assert_eq!(
            parsed.err().map(|why| why.exit_code()),
            Some(2),
            "{weight} was accepted"
        );
    }
}

/// Refuses to take anything, for the reason given.
struct Broken(io::ErrorKind);

impl Write for Broken {
    fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_reader_that_went_away_ends_it_quietly_and_a_full_disk_does_not() {
    let args = args(&["--salt", "s", "--weight", "1%"]);
    let check = |kind, code, quiet: bool| {
        let mut err = Vec::new();
        let got = run(
            &args,
            &mut Cursor::new(b"a\nb\n"),
            &mut Broken(kind),
            &mut err,
        );
        assert_eq!((got, err.is_empty()), (code, quiet), "{kind:?}");
    };
    check(io::ErrorKind::BrokenPipe, ExitCode::SUCCESS, true);
    check(io::ErrorKind::StorageFull, ExitCode::FAILURE, false);
}
