//! deploy/compose as it stands: valid, and a rollout from its start to its end, with images made here in place of the
//! public ones.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::docker::{Image, not_run, unique};
use crate::support::{binary, repository, repository_file};

/// docker-compose, or docker's own plugin.
fn compose_command() -> Option<Command> {
    let works = |command: &mut Command| {
        command
            .arg("version")
            .output()
            .is_ok_and(|said| said.status.success())
    };
    let plugin = || {
        let mut command = Command::new("docker");
        command.arg("compose");
        command
    };
    if works(&mut Command::new("docker-compose")) {
        Some(Command::new("docker-compose"))
    } else if works(&mut plugin()) {
        Some(plugin())
    } else {
        None
    }
}

/// The services of deploy/compose, taken down at the end with their volumes.
struct Services {
    project: String,
    files: Vec<PathBuf>,
    variables: Vec<(&'static str, String)>,
}

impl Services {
    fn command(&self) -> Command {
        let mut command = compose_command().expect("it was there");
        command.args(["--project-name", &self.project]);
        for file in &self.files {
            command.arg("--file").arg(file);
        }
        command.env("SERIN_TOKEN", "of-the-test");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }

    /// What a command prints; `Err` where it fails.
    fn run(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self
            .command()
            .args(arguments)
            .output()
            .expect("compose runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(text(&output.stdout) + &text(&output.stderr))
        }
    }

    fn must(&self, arguments: &[&str]) -> String {
        match self.run(arguments) {
            Ok(said) => said,
            Err(why) => {
                let logs = self.run(&["logs", "--tail", "40"]).unwrap_or_default();
                panic!("compose {}: {why}\n{logs}", arguments.join(" "))
            }
        }
    }

    fn exec(&self, service: &str, command: &[&str]) -> String {
        self.must(&[&["exec", "-T", service, "/serin"], command].concat())
    }
}

impl Drop for Services {
    fn drop(&mut self) {
        if let Err(why) = self.run(&["down", "--volumes", "--remove-orphans", "--timeout", "5"]) {
            eprintln!("{why}");
        }
    }
}

/// What `tests/run` installed of NATS.
fn nats() -> PathBuf {
    repository().join("target/python/bin/nats-server")
}

/// proxy.toml of a folder of deploy/ as this serin takes it, in a folder of its own: a table that it does not know yet is
/// left out.
pub(crate) fn accepted(file: &str, environment: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("proxy.toml");
    let text = repository_file(file);
    let write = |text: &str| std::fs::write(&copy, text).expect("a file");
    write(&text);
    let check = |copy: &Path| {
        let mut command = Command::new(binary());
        command.arg("check").arg("--config").arg(copy);
        command.envs(environment.iter().copied());
        let output = command.output().expect("serin runs");
        (
            output.status.success(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    let (valid, faults) = check(&copy);
    if valid {
        return folder;
    }
    assert!(faults.contains("fleet: not in this version"), "{faults}");
    let (before, rest) = text.split_once("[fleet]").expect("the table");
    let (_, after) = rest.split_once("\n[").expect("another table");
    write(&format!("{before}[{after}"));
    let (valid, faults) = check(&copy);
    assert!(valid, "{file}: {faults}");
    folder
}

#[test]
fn the_compose_file_is_valid_with_and_without_prometheus() {
    let Some(mut command) = compose_command() else {
        return not_run("the compose file", "no docker-compose here");
    };
    let output = command
        .args(["--profile", "prometheus", "config", "--services"])
        .current_dir(repository().join("deploy/compose"))
        .env("SERIN_TOKEN", "x")
        .output()
        .expect("compose runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut services: Vec<&str> = said.lines().collect();
    services.sort_unstable();
    let expected = [
        "learners",
        "nats-1",
        "nats-2",
        "nats-3",
        "original-1",
        "original-2",
        "prometheus",
        "proxy-1",
        "proxy-2",
        "rollout",
        "ultra-fast",
    ];
    assert_eq!(services, expected);
    accepted(
        "deploy/compose/proxy.toml",
        &[("SERIN_TOKEN", "x"), ("SERIN_NAME", "proxy-1")],
    );
}

#[test]
fn compose_up_runs_a_rollout_to_its_end() {
    const TEST: &str = "compose up";
    if compose_command().is_none() {
        return not_run(TEST, "no docker-compose here");
    }
    if !nats().is_file() {
        return not_run(
            TEST,
            "target/python has no nats-server (tests/run installs it)",
        );
    }
    let Some(serin) = Image::of_serin(TEST) else {
        return;
    };
    let nats = Image::around(&nats());
    let config = accepted(
        "deploy/compose/proxy.toml",
        &[("SERIN_TOKEN", "x"), ("SERIN_NAME", "proxy-1")],
    );
    // As the file's, with stages of seconds.
    let mut of_the_test = "services:\n".to_owned();
    for proxy in ["proxy-1", "proxy-2"] {
        of_the_test += &format!(
            "  {proxy}:\n    volumes: [\"{}/proxy.toml:/etc/serin/proxy.toml:ro\"]\n    environment:\n",
            config.path().display()
        );
        for stage in 0..2 {
            for (key, value) in [
                ("DURATION", "8s"),
                ("WARMUP", "1s"),
                ("CHECKPOINTS", "[\"4s\"]"),
                ("MIN_REQUESTS", "50"),
            ] {
                of_the_test += &format!(
                    "      SERIN__ROLLOUTS__ANALYZER__STAGES__{stage}__{key}: '{value}'\n"
                );
            }
        }
    }
    let override_file = config.path().join("of-the-test.yaml");
    std::fs::write(&override_file, of_the_test).expect("a file");
    let readable = |path: &Path, mode: u32| {
        let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
        std::fs::set_permissions(path, mode).expect("our own file");
    };
    // The user of the image is not the one of the test.
    readable(config.path(), 0o755);
    readable(&config.path().join("proxy.toml"), 0o644);
    let ports = [
        "PROXY_1_PORT",
        "PROXY_2_PORT",
        "ADMIN_1_PORT",
        "ADMIN_2_PORT",
    ];
    let mut variables: Vec<(&'static str, String)> =
        ports.map(|port| (port, "0".to_owned())).into();
    variables.push(("SERIN_IMAGE", serin.tag.clone()));
    variables.push(("NATS_IMAGE", nats.tag.clone()));
    let services = Services {
        project: unique("compose"),
        files: vec![
            repository().join("deploy/compose/compose.yaml"),
            override_file,
        ],
        variables,
    };
    let began = Instant::now();
    services.must(&["up", "--detach", "--no-build"]);
    services.exec(
        "proxy-1",
        &["wait", "--for", "complete", "--timeout", "90s"],
    );
    assert!(
        began.elapsed() < Duration::from_secs(150),
        "{:?}",
        began.elapsed()
    );
    let weights = services.exec("proxy-1", &["weights"]);
    assert!(weights.contains("100"), "{weights}");
    for server in ["nats-1", "nats-2", "nats-3"] {
        let url = format!("http://{server}:8222/healthz");
        services.exec("proxy-1", &["health", &url]);
    }
    let learners = services.must(&["logs", "--no-color", "learners"]);
    let last = learners.lines().last().unwrap_or_default();
    assert!(last.contains("0 errors, 0 without an answer"), "{learners}");
}
