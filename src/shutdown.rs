//! Shutting down: one flag that every part watches, the stages it goes through, and threads whose end is noticed.
//!
//! Owns the word; `app` decides when to say it, and what the end of a thread means.

use std::io;
use std::thread;

use tokio::sync::{oneshot, watch};

/// How far the process has come on its way out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    Running,
    /// Not ready any more, but accepting: load balancers look away meanwhile (`drain_delay`).
    Leaving,
    /// Listeners closed; what was begun is finished.
    Draining,
    /// Whatever is left is cut.
    Stopped,
}

/// Says it.
#[derive(Debug)]
pub struct Trigger(watch::Sender<Stage>);

/// Hears it.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<Stage>);

pub fn channel() -> (Trigger, Shutdown) {
    let (sender, receiver) = watch::channel(Stage::Running);
    (Trigger(sender), Shutdown(receiver))
}

impl Trigger {
    /// Moves on to `stage`; never back.
    pub fn advance(&self, stage: Stage) {
        self.0.send_if_modified(|now| {
            let further = stage > *now;
            if further {
                *now = stage;
            }
            further
        });
    }
}

impl Shutdown {
    pub fn stage(&self) -> Stage {
        *self.0.borrow()
    }

    /// Waits until `stage` or a later one is reached. A trigger that is gone counts as `Stopped`.
    pub async fn reached(&mut self, stage: Stage) {
        let gone = self.0.wait_for(|now| *now >= stage).await.is_err();
        if gone {
            tracing::debug!("the shutdown trigger is gone: stopping");
        }
    }
}

/// A thread whose end is noticed, also when it panics.
#[derive(Debug)]
pub struct Watched {
    ended: Option<oneshot::Receiver<()>>,
    thread: thread::JoinHandle<()>,
}

impl Watched {
    pub fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<Self> {
        let (alive, ended) = oneshot::channel::<()>();
        let thread = thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                // Dropped with the thread, also by a panic: that is how `ended` learns of it.
                let _alive = alive;
                work();
            })?;
        let ended = Some(ended);
        Ok(Self { ended, thread })
    }

    /// Resolves when the thread has ended, by shutdown or by a fault. May be dropped and called again.
    pub async fn ended(&mut self) {
        if let Some(ended) = &mut self.ended {
            // An error is the answer waited for: the other end is gone.
            ended.await.unwrap_or_default();
            self.ended = None;
        }
    }

    /// Waits for the thread; false if it panicked. Blocks.
    #[must_use]
    pub fn join(self) -> bool {
        self.thread.join().is_ok()
    }
}
