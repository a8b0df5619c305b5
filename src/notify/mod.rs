//! Who is told of what happens: each channel takes its notices from the outbox, in their order, until they are taken.
//!
//! `deliver` is one channel, `message` what it is sent, `backoff` when it is tried again, `rounds` the notices that
//! follow from time alone: reminders of a hold, progress of a run. One task per channel: a dead one delays no other, and
//! nothing waits for any of them. Notices are written with their events by the store; this room never decides what a
//! rollout does.

mod backoff;
mod deliver;
pub mod message;
mod rounds;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::config::Channel;
use crate::control::Handle;
use crate::outbound::Client;
use crate::shutdown::{Shutdown, Stage, Watched};
use crate::store::{Store, StoreError};
use crate::telemetry::Telemetry;

use deliver::Delivery;
use rounds::Rounds;

/// How often channels are compared with the configuration, and the clock is looked at.
const ROUND: Duration = Duration::from_secs(1);

/// What the room is made of.
pub struct Parts {
    pub control: Handle,
    pub store: Store,
    /// How long a notice that nobody takes is kept.
    pub retention: Duration,
    pub telemetry: Arc<Telemetry>,
    pub shutdown: Shutdown,
}

/// A channel with the task that serves it.
struct Served {
    channel: Channel,
    task: JoinHandle<()>,
}

/// Serves every channel of the configuration, on one thread, until shutdown reaches `Stopped`.
pub fn start(parts: Parts) -> io::Result<Watched> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Watched::spawn("notify", move || {
        runtime.block_on(run(parts));
        // A receiver that does not answer keeps nobody from leaving.
        runtime.shutdown_background();
    })
}

async fn run(mut parts: Parts) {
    let client = Client::new();
    let mut served = BTreeMap::new();
    let mut rounds = Rounds::default();
    let mut ticks = tokio::time::interval(ROUND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = parts.shutdown.reached(Stage::Stopped) => break,
        }
        if !parts.control.sends_notices() {
            stop(&mut served);
            rounds = Rounds::default();
            continue;
        }
        let channels = parts.control.notify();
        serve(&parts, &client, &channels, &mut served);
        rounds.post(&parts.control.rollouts(), &channels, &parts.store);
        if parts.control.fleet().is_some() {
            say_notified(&parts, &channels).await;
        }
    }
    stop(&mut served);
}

fn stop(served: &mut BTreeMap<String, Served>) {
    for one in served.values() {
        one.task.abort();
    }
    served.clear();
}

/// Says up to which event each channel was told, so that whoever leads the fleet next goes on there.
async fn say_notified(parts: &Parts, channels: &[Channel]) {
    let store = parts.store.clone();
    let rollouts: Vec<_> = parts.control.rollouts().keys().cloned().collect();
    let channels: Vec<String> = channels
        .iter()
        .map(|channel| channel.name.clone())
        .collect();
    let read = tokio::task::spawn_blocking(move || {
        let read = rollouts.into_iter().map(|rollout| {
            let notified = store.notified(&rollout, &channels)?;
            Ok::<_, StoreError>((rollout, notified))
        });
        read.collect()
    });
    match read.await {
        Ok(Ok(notified)) => parts.control.notified(notified),
        Ok(Err(why)) => tracing::warn!(%why, "the outbox cannot be read"),
        Err(why) => tracing::warn!(%why, "reading the outbox ended"),
    }
}

/// Brings the tasks in line with the configuration.
fn serve(
    parts: &Parts,
    client: &Client,
    channels: &[Channel],
    served: &mut BTreeMap<String, Served>,
) {
    served.retain(|_, one| {
        let stays = channels.contains(&one.channel) && !one.task.is_finished();
        if !stays {
            one.task.abort();
        }
        stays
    });
    for channel in channels {
        if !served.contains_key(&channel.name) {
            let delivery = Delivery {
                channel: channel.clone(),
                client: client.clone(),
                store: parts.store.clone(),
                retention: parts.retention,
                meter: parts.telemetry.channel(&channel.name),
            };
            let one = Served {
                channel: channel.clone(),
                task: tokio::spawn(delivery.run()),
            };
            served.insert(channel.name.clone(), one);
        }
    }
}
