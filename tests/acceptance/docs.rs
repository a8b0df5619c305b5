//! The commands in the pages do what the pages say: every block marked `sh runnable` is run as it stands, page by page.
//!
//! A page is one shell, with the addresses and paths that it names: it gets a network, a /tmp and process numbers of its
//! own, so that nothing of the machine is in its way and nothing of it is left. A command that fails ends the page. Between
//! two blocks a reader takes a moment; here it is waited until a serin that was started is ready.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::support::{Process, binary, eventually_within, repository_file};

/// Whole incidents are played in docs/INCIDENTS.md.
const LONGEST: Duration = Duration::from_secs(420);

/// What a page's shell begins with, and what comes between two blocks.
const OPENING: &str = r#"set -euo pipefail
ip link set lo up
# The project and its programs are still to be found where they lie under /tmp themselves.
mount --bind "$PROGRAMS" /media
mount --bind "$PWD" /mnt
export PATH="/media:$PATH"
mount -t tmpfs tmpfs /tmp
cd /mnt
settle() {
    { set +v; } 2>/dev/null
    case "$(jobs -r)" in *"serin run"* | *"serin demo"*) ;; *) return 0 ;; esac
    for _ in $(seq 300); do
        if curl -fs -o /dev/null http://127.0.0.1:9901/readyz; then return 0; fi
        read -rt 0.1 <> <(:) || true
    done
    echo "serin is not ready"
    return 1
}
"#;

/// The blocks of a page that are to be run, in order.
fn runnable(page: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<String> = None;
    for line in page.lines() {
        match (&mut block, line) {
            (None, "```sh runnable") => block = Some(String::new()),
            (Some(_), "```") => blocks.extend(block.take()),
            (Some(text), line) => {
                text.push_str(line);
                text.push('\n');
            }
            (None, _) => {}
        }
    }
    assert!(block.is_none(), "a block does not end");
    blocks
}

fn run(page: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let blocks = runnable(&repository_file(page));
    assert!(!blocks.is_empty(), "{page} has nothing to run");
    let mut script = OPENING.to_owned();
    for block in &blocks {
        script.push_str("set -v\n");
        script.push_str(block);
        script.push_str("settle\n");
    }
    let folder = tempfile::tempdir_in(root.join("target")).expect("a folder");
    let file = folder.path().join("page.sh");
    std::fs::write(&file, script).expect("a script");
    let programs = binary();
    let programs = programs.parent().expect("a folder of programs");
    let mut command = Command::new("unshare");
    command
        .args(["--map-root-user", "--net", "--pid", "--fork"])
        .args(["--kill-child", "--mount-proc", "bash"])
        .arg(&file)
        .env("PROGRAMS", programs)
        .current_dir(root);
    let mut shell = Process::spawn(command, folder.path().join("page.log"));
    let status = eventually_within(LONGEST, page, &mut || {
        shell.child.try_wait().expect("our own child")
    });
    assert!(status.success(), "{page}: {status}\n{}", shell.log());
}

#[test]
fn the_ten_minutes_of_the_readme_are_as_they_say() {
    run("README.md");
}

#[test]
fn the_runbooks_commands_run() {
    run("docs/RUNBOOK.md");
}

#[test]
fn the_incidents_happen_as_they_are_told() {
    run("docs/INCIDENTS.md");
}

#[test]
fn links_of_the_pages_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for page in [
        "README.md",
        "docs/RUNBOOK.md",
        "docs/INCIDENTS.md",
        "docs/METRICS.md",
        "docs/ACCESS_LOG.md",
        "deploy/compose/README.md",
        "deploy/container/README.md",
        "deploy/kubernetes/README.md",
    ] {
        let file = root.join(page);
        let text = std::fs::read_to_string(&file).expect("the page");
        let folder = file.parent().expect("a folder");
        for link in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let (target, anchor) = link.split_once('#').unwrap_or((link, ""));
            if target.starts_with("http") {
                continue;
            }
            let target = if target.is_empty() {
                file.clone()
            } else {
                folder.join(target)
            };
            assert!(target.exists(), "{page} links {link}");
            if !anchor.is_empty() {
                let there = std::fs::read_to_string(&target).expect("a page");
                assert!(
                    anchors(&there).contains(&anchor.to_owned()),
                    "{page} links {link}"
                );
            }
        }
    }
}

/// The anchors that a page's headings make.
fn anchors(page: &str) -> Vec<String> {
    let headings = page.lines().filter(|line| line.starts_with('#'));
    let anchor = |line: &str| {
        let text = line.trim_start_matches('#').trim().to_lowercase();
        let kept = text
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(anchor).collect()
}
