//! deploy/kubernetes: each document against the published schemas, each container without rights, each file of
//! configuration as serin takes it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::alone::compose::accepted;
use crate::docker::not_run;
use crate::support::repository;

/// The first version whose sidecars are native without being asked for, and the newest one.
const VERSIONS: [&str; 2] = ["1.29", "1.37"];

fn folder() -> PathBuf {
    repository().join("deploy/kubernetes")
}

fn manifests() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for part in ["base", "gateway", "sidecar"] {
        let files = fs::read_dir(folder().join(part)).expect("the folder");
        found.extend(files.map(|file| file.expect("a file").path()));
    }
    found.retain(|file| {
        file.extension().is_some_and(|kind| kind == "yaml") && !file.ends_with("kustomization.yaml")
    });
    found.sort();
    found
}

/// Holds the documents of files against the schemas and the rules that `tests/python/manifests.py` has.
fn check(files: &[PathBuf]) -> String {
    let output = Command::new(repository().join("target/python/bin/python"))
        .arg(repository().join("tests/python/manifests.py"))
        .args(VERSIONS)
        .arg("--")
        .args(files)
        .output()
        .expect("target/python, which tests/run makes");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

#[test]
fn every_manifest_is_valid_and_gives_no_rights_away() {
    let said = check(&manifests());
    for kind in [
        "Deployment",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "Secret",
        "Service",
        "ServiceAccount",
        "StatefulSet",
    ] {
        assert!(
            said.lines().any(|line| line.ends_with(kind)),
            "no {kind} in\n{said}"
        );
    }
}

#[test]
fn what_is_wrong_in_a_manifest_is_found() {
    let place = tempfile::tempdir().expect("a folder");
    let sound = fs::read_to_string(folder().join("sidecar/deployment.yaml")).expect("the file");
    for (right, wrong) in [
        ("restartPolicy: Always", "restartPolicy: Sometimes"),
        ("startupProbe:", "startUpProbe:"),
        (
            "readOnlyRootFilesystem: true",
            "readOnlyRootFilesystem: false",
        ),
        ("drop: [ALL]", "drop: [NET_RAW]"),
    ] {
        let file = place.path().join("deployment.yaml");
        fs::write(&file, sound.replacen(right, wrong, 1)).expect("a file");
        let checked = std::panic::catch_unwind(|| check(&[file]));
        assert!(checked.is_err(), "{wrong} was taken");
    }
}

#[test]
fn serin_takes_the_files_of_configuration() {
    let secrets = tempfile::tempdir().expect("a folder");
    for name in ["operate", "read"] {
        fs::write(secrets.path().join(name), name).expect("a file");
    }
    let file = |name: &str| secrets.path().join(name).display().to_string();
    let (operate, read) = (file("operate"), file("read"));
    let environment = [
        ("POD_NAME", "serin-gateway-0"),
        ("SERIN__ADMIN__TOKENS__0__TOKEN_FILE", operate.as_str()),
        ("SERIN__ADMIN__TOKENS__1__TOKEN_FILE", read.as_str()),
    ];
    accepted("deploy/kubernetes/gateway/proxy.toml", &environment);
    accepted("deploy/kubernetes/sidecar/proxy.toml", &environment);
}

#[test]
fn kustomize_puts_them_together() {
    let place = tempfile::tempdir().expect("a folder");
    for part in ["gateway", "sidecar"] {
        let built = Command::new("kubectl")
            .arg("kustomize")
            .arg(folder().join(part))
            .output();
        let Ok(built) = built else {
            return not_run("kustomize", "no kubectl here");
        };
        assert!(
            built.status.success(),
            "{}",
            String::from_utf8_lossy(&built.stderr)
        );
        let file: &Path = &place.path().join(format!("{part}.yaml"));
        fs::write(file, built.stdout).expect("a file");
        let said = check(&[file.to_owned()]);
        assert!(said.contains("ConfigMap"), "{said}");
    }
}
