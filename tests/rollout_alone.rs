//! The pure room compiled by itself: what it imports beyond std and xxhash-rust does not build.
//!
//! `crate` is this file here, so another room is not there to be named; and every other crate's name
//! is taken by `core`, so that it cannot be named either.

#[path = "../src/rollout/mod.rs"]
pub mod rollout;

// `extern crate ... as` in the root puts the name before the real crate's.
extern crate core as anyhow;
extern crate core as arc_swap;
extern crate core as async_nats;
extern crate core as axum;
extern crate core as bytes;
extern crate core as clap;
extern crate core as clap_complete;
extern crate core as clap_mangen;
extern crate core as criterion;
extern crate core as crossterm;
extern crate core as data_encoding;
extern crate core as fantoccini;
extern crate core as flate2;
extern crate core as futures_util;
extern crate core as h2;
extern crate core as hdrhistogram;
extern crate core as hickory_resolver;
extern crate core as hmac;
extern crate core as http;
extern crate core as http_body;
extern crate core as http_body_util;
extern crate core as hyper;
extern crate core as hyper_rustls;
extern crate core as hyper_util;
extern crate core as indicatif;
extern crate core as ipnet;
extern crate core as jiff;
extern crate core as jsonschema;
extern crate core as listenfd;
extern crate core as memchr;
extern crate core as nkeys;
extern crate core as opentelemetry_proto;
extern crate core as percent_encoding;
extern crate core as pin_project_lite;
extern crate core as plotters;
extern crate core as prost;
extern crate core as rand;
extern crate core as rand_distr;
extern crate core as ratatui;
extern crate core as rusqlite;
extern crate core as rustix;
extern crate core as rustls;
extern crate core as serde;
extern crate core as serde_json;
extern crate core as serin;
extern crate core as sha1;
extern crate core as sha2;
extern crate core as slab;
extern crate core as socket2;
extern crate core as strsim;
extern crate core as subtle;
extern crate core as tempfile;
extern crate core as thiserror;
extern crate core as tikv_jemallocator;
extern crate core as tokio;
extern crate core as tokio_rustls;
extern crate core as toml;
extern crate core as tracing;
extern crate core as tracing_appender;
extern crate core as tracing_subscriber;
extern crate core as twox_hash;
extern crate core as webpki;
extern crate core as webpki_roots;

/// What the standard library has that touches the world.
const IMPURE: [&str; 9] = [
    "std::fs",
    "std::io",
    "std::net",
    "std::process",
    "std::thread",
    "std::sync::mpsc",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::env",
];

#[test]
fn every_dependency_but_one_is_out_of_reach() {
    let manifest = include_str!("../Cargo.toml");
    let mut wanted: Vec<String> = Vec::new();
    let mut in_dependencies = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line == "[dependencies]" || line == "[dev-dependencies]";
        } else if let (true, Some((name, _))) = (in_dependencies, line.split_once('=')) {
            wanted.push(name.trim().replace('-', "_"));
        }
    }
    wanted.retain(|name| name != "xxhash_rust");
    wanted.sort_unstable();
    wanted.dedup();
    assert!(wanted.len() > 20, "the manifest was read: {wanted:?}");
    let here = include_str!("rollout_alone.rs");
    let stand_ins = wanted
        .iter()
        .map(|name| format!("extern crate core as {name};"));
    let missing: Vec<String> = stand_ins.filter(|line| !here.contains(line)).collect();
    assert!(
        missing.is_empty(),
        "add to this file:\n{}",
        missing.join("\n")
    );
}

#[test]
fn no_file_of_the_room_names_the_outside_world() {
    let mut folders = vec![std::path::PathBuf::from(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/src/rollout"
    ))];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("the room is a folder") {
            let path = entry.expect("its entries can be read").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            files += 1;
            let text = std::fs::read_to_string(&path).expect("a source file");
            for (number, line) in text.lines().enumerate() {
                let code = line.trim_start();
                let impure = IMPURE.iter().find(|impure| code.contains(*impure));
                assert!(
                    impure.is_none() || code.starts_with("//"),
                    "{}:{}: {line}",
                    path.display(),
                    number + 1
                );
            }
        }
    }
    assert!(files > 20, "{files} files were read");
}
