//! After the change of places: the old process finishes its requests under the splits of the new one, and tells it what
//! it counts.
//!
//! A line that breaks ends no request: the old process finishes under the last splits, and what it counts from then on is
//! lost, which both say in their logs.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::counts;
use super::line::{Fault, Line, out_of_turn};
use super::protocol::Message;
use super::splits;
use crate::live::Live;
use crate::telemetry::Telemetry;

/// How often the old process tells what it counted: as often as a gate looks.
const TICK: Duration = Duration::from_millis(250);
/// How long the last counts may take.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The process that took our place.
#[derive(Debug)]
pub struct Successor {
    line: Line,
    lost: bool,
}

/// The process whose place we took.
#[derive(Debug)]
pub struct Predecessor {
    line: Line,
}

// === impl Successor ===

impl Successor {
    pub(super) const fn new(line: Line) -> Self {
        Self { line, lost: false }
    }

    /// Takes splits and tells counts, without end. May be dropped and called again.
    pub async fn follow(&mut self, live: &Live, telemetry: &Telemetry) -> Infallible {
        if !self.lost {
            let Err(why) = self.exchange(live, telemetry).await;
            self.lost = true;
            tracing::warn!(%why, "the serin that took over is not heard any more: what is finished here is counted nowhere");
        }
        pending().await
    }

    /// Tells the last counts.
    pub async fn farewell(mut self, telemetry: &Telemetry) {
        if self.lost {
            return;
        }
        counts::put(&mut self.line, telemetry);
        self.line.put(&Message::Goodbye);
        let said = timeout(LAST_WORDS, self.line.flush()).await;
        if !matches!(said, Ok(Ok(()))) {
            tracing::warn!("the last counts did not reach the serin that took over");
        }
    }

    async fn exchange(&mut self, live: &Live, telemetry: &Telemetry) -> Result<Infallible, Fault> {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                message = self.line.hear() => match message? {
                    Message::Settings(line) => splits::apply(live, line)?,
                    other => return Err(out_of_turn(&other)),
                },
                _ = ticks.tick() => {
                    counts::put(&mut self.line, telemetry);
                    self.line.flush().await?;
                }
            }
        }
    }
}

// === impl Predecessor ===

impl Predecessor {
    pub(super) const fn new(line: Line) -> Self {
        Self { line }
    }

    /// Tells splits and takes counts until it has finished.
    pub async fn follow(mut self, live: &Live, telemetry: &Telemetry) {
        match self.exchange(live, telemetry).await {
            Ok(()) => tracing::info!("the serin that was replaced has finished its requests"),
            Err(why) => {
                tracing::warn!(%why, "the serin that was replaced is not heard any more: what it finishes is not counted");
            }
        }
    }

    async fn exchange(&mut self, live: &Live, telemetry: &Telemetry) -> Result<(), Fault> {
        let mut published = live.publications();
        published.mark_changed();
        let mut hears_us = true;
        loop {
            tokio::select! {
                message = self.line.hear() => match message? {
                    Message::Goodbye => return Ok(()),
                    counted => counts::take(counted, telemetry)?,
                },
                // `live` lives as long as this borrows it, so that this is a change.
                _ = published.changed(), if hears_us => hears_us = self.tell(live).await,
            }
        }
    }

    /// False where it does not hear any more: it may have gone, and what it counted is still to be heard.
    async fn tell(&mut self, live: &Live) -> bool {
        let messages = splits::messages(live);
        messages.iter().for_each(|message| self.line.put(message));
        self.line.flush().await.is_ok()
    }
}
