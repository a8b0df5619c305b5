//! A hook that is a program: in a process group of its own, without a shell, told by its environment what it is for.
//!
//! What exceeds its time is killed with all it began. The end of what it wrote is kept.

use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::{Attempt, Due, OUTPUT_LIMIT};
use crate::rollout::time::format_duration;

/// How long what a program left behind may go on holding its output open.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The end of what was written, by both streams as it came.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<u8>>>);

pub(super) async fn run(command: &[String], due: &Due) -> Attempt {
    let Some((program, arguments)) = command.split_first() else {
        return failed("it names no program", &Said::default());
    };
    let order = &due.order;
    let spawned = Command::new(program)
        .args(arguments)
        .env("SERIN_ROLLOUT", due.rollout.as_str())
        .env("SERIN_RUN", order.run.to_string())
        .env("SERIN_STAGE", order.hook.stage.as_str())
        .env("SERIN_HOOK", &order.hook.name)
        .env("SERIN_HOOK_KIND", order.hook.kind.as_str())
        .env("SERIN_EVENT", order.started.0.to_string())
        .env("SERIN_IDEMPOTENCY_KEY", due.key())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    let said = Said::default();
    match spawned {
        Ok(child) => watch(child, order.timeout, &said).await,
        Err(why) => failed(&format!("{program} cannot be started: {why}"), &said),
    }
}

async fn watch(mut child: Child, timeout: Duration, said: &Said) -> Attempt {
    let group = child.id().and_then(|id| i32::try_from(id).ok());
    let listening = [
        child
            .stdout
            .take()
            .map(|out| tokio::spawn(listen(out, said.clone()))),
        child
            .stderr
            .take()
            .map(|err| tokio::spawn(listen(err, said.clone()))),
    ];
    let ended = tokio::time::timeout(timeout, child.wait()).await;
    if ended.is_err()
        && let Some(group) = group.and_then(Pid::from_raw)
        && let Err(why) = kill_process_group(group, Signal::KILL)
    {
        tracing::warn!(%why, "a hook that took too long cannot be killed");
    }
    for task in listening.into_iter().flatten() {
        let stop = task.abort_handle();
        if tokio::time::timeout(LAST_WORDS, task).await.is_err() {
            stop.abort();
        }
    }
    match ended {
        Ok(Ok(status)) => Attempt {
            passed: status.success(),
            code: status.code(),
            why: in_words(status),
            output: said.text(),
        },
        Ok(Err(why)) => failed(&format!("it cannot be waited for: {why}"), said),
        Err(_) => {
            let timeout = format_duration(timeout);
            failed(&format!("killed: it took longer than {timeout}"), said)
        }
    }
}

async fn listen(mut stream: impl AsyncRead + Unpin, said: Said) {
    let mut part = vec![0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut part).await {
        said.add(&part[..read]);
    }
}

fn in_words(status: ExitStatus) -> String {
    match status.code() {
        Some(code) => format!("exit code {code}"),
        None => status.to_string(),
    }
}

fn failed(why: &str, said: &Said) -> Attempt {
    Attempt {
        passed: false,
        code: None,
        why: why.to_owned(),
        output: said.text(),
    }
}

impl Said {
    fn add(&self, part: &[u8]) {
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.extend_from_slice(part);
        let surplus = said.len().saturating_sub(OUTPUT_LIMIT);
        said.drain(..surplus);
    }

    fn text(&self) -> String {
        let said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&said).into_owned()
    }
}
