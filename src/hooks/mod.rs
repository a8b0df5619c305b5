//! Runs hooks: programs and HTTP calls, each within its time, retried as the plan says, with what they said kept.
//!
//! `command` is one run of a program, `http` one call. Told by the driver what to run, and tells it how that ended; which
//! hook is due and what its end leads to is the gate's. Never waits for a gate, a disk or another hook.

mod command;
mod http;

use std::io;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::clock;
use crate::outbound::Client;
use crate::rollout::gate::{HookEnd, HookOrder};
use crate::rollout::name::RolloutName;
use crate::rollout::plan::Act;
use crate::shutdown::{Shutdown, Stage, Watched};

/// What is kept of what a hook said.
pub(crate) const OUTPUT_LIMIT: usize = 16 << 10;
/// Between two attempts: doubled each time, at most half a minute.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A hook of one rollout.
#[derive(Debug)]
pub struct Due {
    pub rollout: RolloutName,
    pub order: HookOrder,
}

/// How a hook of one rollout ended.
#[derive(Debug)]
pub struct Ended {
    pub rollout: RolloutName,
    pub end: HookEnd,
}

/// The driver's end. A gate gives out a hook when the one before it has ended, so that neither way fills.
#[derive(Debug)]
pub struct Hooks {
    pub due: mpsc::UnboundedSender<Due>,
    pub ended: mpsc::UnboundedReceiver<Ended>,
}

/// How one attempt ended.
struct Attempt {
    passed: bool,
    code: Option<i32>,
    why: String,
    output: String,
}

/// Runs what is due, on one thread, until shutdown reaches `Stopped`; what is under way then is cut.
pub fn start(shutdown: Shutdown) -> io::Result<(Hooks, Watched)> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let (due, orders) = mpsc::unbounded_channel();
    let (ends, ended) = mpsc::unbounded_channel();
    let thread = Watched::spawn("hooks", move || {
        runtime.block_on(serve(orders, ends, shutdown));
    })?;
    Ok((Hooks { due, ended }, thread))
}

async fn serve(
    mut orders: mpsc::UnboundedReceiver<Due>,
    ends: mpsc::UnboundedSender<Ended>,
    mut shutdown: Shutdown,
) {
    let client = Client::new();
    loop {
        let due = tokio::select! {
            Some(due) = orders.recv() => due,
            () = shutdown.reached(Stage::Stopped) => return,
        };
        let (client, ends) = (client.clone(), ends.clone());
        tokio::spawn(async move {
            let end = run(&client, &due).await;
            let rollout = due.rollout;
            if ends.send(Ended { rollout, end }).is_err() {
                tracing::debug!("nobody waits for the end of a hook any more");
            }
        });
    }
}

/// Attempts until one passes or none is left.
async fn run(client: &Client, due: &Due) -> HookEnd {
    let order = &due.order;
    let begun = clock::now();
    let mut attempts = 0;
    loop {
        attempts += 1;
        let attempt = match &order.act {
            Act::Command(command) => command::run(command, due).await,
            Act::Http { method, url } => http::call(client, *method, url, due).await,
        };
        if attempt.passed || attempts > order.retries {
            return HookEnd {
                started: order.started,
                passed: attempt.passed,
                took: clock::now().saturating_duration_since(begun),
                attempts,
                code: attempt.code,
                why: attempt.why,
                output: attempt.output,
            };
        }
        let doubled = FIRST_PAUSE.saturating_mul(1 << (attempts - 1).min(5));
        tokio::time::sleep(doubled.min(LONGEST_PAUSE)).await;
    }
}

impl Due {
    /// Names this hook to those who must do nothing twice: the same where it is run again.
    fn key(&self) -> String {
        format!("{}/{}", self.rollout, self.order.key.0)
    }
}
