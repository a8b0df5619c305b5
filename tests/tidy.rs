//! Rules about the code itself: who may import whom, what a file must begin with, what may not be there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The rooms and what each may import; the twin of the picture in docs/ARCHITECTURE.md.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("rollout", &[]),
    ("clock", &["rollout"]),
    ("calendar", &["rollout"]),
    ("shutdown", &[]),
    ("console", &[]),
    ("proxy_protocol", &[]),
    ("cgroup", &[]),
    ("inherited", &[]),
    ("wire", &[]),
    ("tls", &["clock", "shutdown"]),
    (
        "config",
        &["records", "rollout", "calendar", "tls", "proxy_protocol"],
    ),
    ("records", &["rollout", "calendar"]),
    ("telemetry", &["rollout", "clock", "calendar"]),
    ("store", &["records", "telemetry", "rollout", "clock"]),
    ("report", &["records", "rollout"]),
    ("simulate", &["records", "report", "rollout"]),
    ("stub", &["clock", "shutdown"]),
    (
        "signals",
        &["config", "outbound", "rollout", "clock", "shutdown"],
    ),
    ("outbound", &["rollout", "tls"]),
    ("hooks", &["outbound", "rollout", "clock", "shutdown"]),
    (
        "notify",
        &[
            "control",
            "store",
            "telemetry",
            "outbound",
            "report",
            "records",
            "config",
            "rollout",
            "clock",
            "shutdown",
        ],
    ),
    (
        "upstream",
        &[
            "config",
            "rollout",
            "telemetry",
            "tls",
            "proxy_protocol",
            "wire",
            "clock",
            "shutdown",
        ],
    ),
    (
        "live",
        &["rollout", "config", "upstream", "telemetry", "tls"],
    ),
    (
        "proxy",
        &[
            "live",
            "upstream",
            "telemetry",
            "rollout",
            "config",
            "tls",
            "proxy_protocol",
            "wire",
            "cgroup",
            "clock",
            "shutdown",
        ],
    ),
    (
        "control",
        &[
            "fleet",
            "hooks",
            "live",
            "telemetry",
            "store",
            "records",
            "report",
            "signals",
            "config",
            "rollout",
            "clock",
            "shutdown",
        ],
    ),
    (
        "admin",
        &[
            "control",
            "live",
            "telemetry",
            "report",
            "records",
            "config",
            "rollout",
            "console",
            "clock",
            "shutdown",
        ],
    ),
    (
        "traces",
        &[
            "telemetry",
            "outbound",
            "config",
            "rollout",
            "clock",
            "shutdown",
        ],
    ),
    ("fleet", &["config", "rollout", "tls", "clock", "shutdown"]),
    ("takeover", &["live", "telemetry", "records", "rollout"]),
    (
        "app",
        &[
            "admin",
            "clock",
            "config",
            "control",
            "fleet",
            "hooks",
            "inherited",
            "live",
            "notify",
            "outbound",
            "proxy",
            "records",
            "report",
            "rollout",
            "shutdown",
            "signals",
            "store",
            "stub",
            "takeover",
            "telemetry",
            "tls",
            "traces",
            "upstream",
        ],
    ),
    (
        "cli",
        &[
            "app",
            "config",
            "rollout",
            "calendar",
            "records",
            "admin",
            "notify",
            "outbound",
            "simulate",
            "stub",
            "report",
            "inherited",
            "tls",
            "clock",
            "shutdown",
        ],
    ),
    (
        "fuzz",
        &[
            "config",
            "records",
            "rollout",
            "proxy",
            "proxy_protocol",
            "upstream",
        ],
    ),
];

/// What the pure room must not touch of the standard library: whatever reads a clock, a file, a socket or chance.
const IMPURE: &[&str] = &[
    "std::net",
    "std::fs",
    "std::io",
    "std::thread",
    "std::process",
    "std::env",
    "std::sync::Mutex",
    "Instant::now",
    "SystemTime",
    "tokio",
    "serde",
    "rand::",
];

#[test]
fn rooms_import_only_what_the_table_allows() {
    let table: BTreeMap<&str, BTreeSet<&str>> = MAY_IMPORT
        .iter()
        .map(|(room, may)| (*room, may.iter().copied().collect()))
        .collect();
    let mut faults = Vec::new();
    for file in sources("src") {
        let room = room_of(&file);
        if room == "lib" || room == "main" {
            continue;
        }
        let Some(may) = table.get(room.as_str()) else {
            faults.push(format!(
                "{}: the room {room:?} is not in the table",
                file.display()
            ));
            continue;
        };
        for (line, imported) in imports(&file) {
            if imported != room
                && table.contains_key(imported.as_str())
                && !may.contains(imported.as_str())
            {
                faults.push(format!(
                    "{}:{line}: {room} may not import {imported}",
                    file.display()
                ));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_command_line_knows_only_the_forms_of_the_admin_port() {
    let mut faults = Vec::new();
    for file in sources("src/cli") {
        for (number, line) in code_lines(&file) {
            if line.contains("crate::admin::") && !line.contains("crate::admin::wire") {
                faults.push(format!("{}:{number}: {line}", file.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_pure_room_is_pure() {
    let mut faults = Vec::new();
    for file in sources("src/rollout") {
        for (number, line) in code_lines(&file) {
            for word in IMPURE.iter().filter(|word| line.contains(**word)) {
                faults.push(format!("{}:{number}: {word}", file.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn every_file_says_what_it_owns() {
    let faults: Vec<String> = sources("src")
        .into_iter()
        .filter(|file| !read(file).starts_with("//! "))
        .map(|file| format!("{} does not begin with a `//!` header", file.display()))
        .collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn nothing_is_left_half_done() {
    // Written in two parts, so that this file does not find itself.
    let words = [
        concat!("to", "do!("),
        concat!("unimpl", "emented!("),
        concat!("db", "g!("),
        concat!("#[ig", "nore"),
        concat!("allow(dead", "_code"),
        concat!("allow(unu", "sed"),
        concat!("thread::sl", "eep("),
        concat!("FIX", "ME"),
        concat!("XX", "X "),
    ];
    let mut faults = Vec::new();
    for file in ["src", "tests", "benches"]
        .iter()
        .flat_map(|root| sources(root))
    {
        for (number, line) in code_lines(&file) {
            for word in words.iter().filter(|word| line.contains(**word)) {
                faults.push(format!("{}:{number}: {word}", file.display()));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
fn the_map_in_the_architecture_names_every_room() {
    let map = read(Path::new("docs/ARCHITECTURE.md"));
    for (room, _) in MAY_IMPORT {
        assert!(
            map.contains(&format!("`{room}`")),
            "docs/ARCHITECTURE.md does not name `{room}`"
        );
    }
}

/// Every `.rs` file below `root`, in order.
fn sources(root: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(root)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.expect("a readable folder").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|ext| ext == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The first folder or file below `src`.
fn room_of(file: &Path) -> String {
    let inside = file.strip_prefix("src").expect("a file of src");
    let first = inside.components().next().expect("a name");
    first
        .as_os_str()
        .to_string_lossy()
        .trim_end_matches(".rs")
        .to_owned()
}

/// Rooms named by `crate::room` in code, with their lines. Test modules obey the same table.
fn imports(file: &Path) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in code_lines(file) {
        for (at, _) in line.match_indices("crate::") {
            let tail = &line[at + "crate::".len()..];
            let end = tail
                .find(|c: char| !(c.is_alphanumeric() || c == '_'))
                .unwrap_or(tail.len());
            found.push((number, tail[..end].to_owned()));
        }
    }
    found
}

/// Lines that are no comments, numbered from 1.
fn code_lines(file: &Path) -> Vec<(usize, String)> {
    read(file)
        .lines()
        .enumerate()
        .map(|(index, line)| {
            (
                index + 1,
                line.split("//").next().unwrap_or_default().to_owned(),
            )
        })
        .filter(|(_, line)| !line.trim().is_empty())
        .collect()
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|why| panic!("cannot read {}: {why}", file.display()))
}
