//! The built program, with a configuration in a folder of its own. Ended when dropped.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::peers::free;
use super::{Upstream, closed, rollout};

pub(crate) const SERIN: &str = env!("CARGO_BIN_EXE_serin");

/// Where it is to run.
pub(crate) struct Place {
    folder: TempDir,
    pub(crate) listen: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// It runs.
pub(crate) struct Running {
    process: Child,
    log: PathBuf,
}

impl Place {
    /// With a rollout `r` that nobody is on yet, and more keys of `[server]` and `[admin]`.
    pub(crate) fn new(upstream: &Upstream, server: &str, admin: &str) -> Self {
        let place = Self {
            folder: tempfile::tempdir().expect("a folder"),
            listen: free(),
            admin: free(),
        };
        let text = format!(
            "[server]\nlisten = [\"{}\"]\n{server}\n[admin]\nlisten = \"{}\"\n{admin}\n\
             [state]\npath = {:?}\ndeployment_logs = {:?}\n{}",
            place.listen,
            place.admin,
            place.path("serin.db"),
            place.path("logs"),
            rollout(&[upstream.address()], &[closed()], ""),
        );
        fs::write(place.path("proxy.toml"), text).expect("it is written");
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// What starts it.
    pub(crate) fn command(&self) -> Vec<String> {
        let config = self.path("proxy.toml");
        let config = config.to_str().expect("text").to_owned();
        let words = [SERIN, "run", "--config"].map(str::to_owned);
        words.into_iter().chain([config]).collect()
    }

    pub(crate) fn start(&self) -> Running {
        let log = self.path("log");
        let words = self.command();
        let process = Command::new(SERIN)
            .args(&words[1..])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log).expect("a file"))
            .spawn()
            .expect("it starts");
        Running { process, log }
    }
}

impl Running {
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("it was made")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.process.id()).ok();
        let pid = pid.and_then(Pid::from_raw).expect("a process");
        kill_process(pid, signal).expect("it is there");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.process.kill().unwrap_or_default();
        self.process.wait().map(drop).unwrap_or_default();
    }
}

/// A command of the program to its end, with these variables.
pub(crate) fn run(words: &[&str], variables: &[(&str, PathBuf)]) -> Output {
    let mut command = Command::new(SERIN);
    command.args(words).envs(variables.iter().cloned());
    command.output().expect("it starts")
}
