//! One source, asked again and again: every interval while it answers, less often while it does not.
//!
//! Owns the time between two questions. What is asked and how an answer is read is each source's own matter.

use std::sync::Arc;
use std::time::Duration;

use super::scrape::Scraper;
use super::{Board, Job, json, prometheus};
use crate::clock;
use crate::config::{Signal, SignalSource};
use crate::outbound::Client;
use crate::rollout::name::Arm;
use crate::rollout::signal::{ArmsRead, Said};

/// A source that does not answer is asked at most so many times less often: it must be found back soon, too.
const LONGEST_PAUSE: u32 = 4;

/// Asks until it is dropped.
pub(super) async fn ask(job: Job, client: Client, board: Arc<Board>) {
    let mut scraper = Scraper::default();
    let mut failures = 0;
    loop {
        let began = clock::now();
        let [baseline, canary] = once(&job, &client, &mut scraper).await;
        let mut failed = false;
        for (arm, said) in [(Arm::Baseline, baseline), (Arm::Canary, canary)] {
            let Some(said) = said else { continue };
            if let Said::Failed(why) = &said {
                failed = true;
                if failures == 0 {
                    tracing::warn!(rollout = %job.rollout, signal = %job.signal.name, %arm, why, "a signal cannot be read");
                }
            }
            board.put(&job, arm, said);
        }
        failures = if failed { failures + 1 } else { 0 };
        let taken = clock::now().saturating_duration_since(began);
        tokio::time::sleep(pause(job.signal.interval, failures).saturating_sub(taken)).await;
    }
}

/// One value or failure for each arm that the source knows; `None` where there is nothing to say yet.
async fn once(job: &Job, client: &Client, scraper: &mut Scraper) -> [Option<Said>; 2] {
    let signal = &job.signal;
    let asks_baseline = signal.arms() == ArmsRead::Both;
    let baseline = async |job| {
        if asks_baseline {
            one_arm(job, client, Arm::Baseline).await
        } else {
            None
        }
    };
    match &signal.source {
        SignalSource::Scrape { .. } => scraper.once(client, job).await,
        SignalSource::Prometheus { .. } | SignalSource::Json { .. } => {
            tokio::join!(baseline(job), one_arm(job, client, Arm::Canary)).into()
        }
        SignalSource::Push | SignalSource::Outcomes => [None, None],
    }
}

async fn one_arm(job: &Job, client: &Client, arm: Arm) -> Option<Said> {
    let filled = |text: &str| Signal::filled(text, &job.identity, arm);
    let timeout = job.signal.timeout;
    let value = match &job.signal.source {
        SignalSource::Prometheus { url, query } => {
            prometheus::ask(client, &filled(url), &filled(query), timeout).await
        }
        SignalSource::Json { url, pointer } => {
            json::ask(client, &filled(url), &filled(pointer), timeout).await
        }
        SignalSource::Scrape { .. } | SignalSource::Push | SignalSource::Outcomes => return None,
    };
    Some(match value {
        Ok(value) => Said::Value { value, count: 1 },
        Err(why) => Said::Failed(why),
    })
}

/// The interval, doubled after each failure in a row but the first.
fn pause(interval: Duration, failures: u32) -> Duration {
    let doubled = 1_u32
        .checked_shl(failures.saturating_sub(1))
        .unwrap_or(LONGEST_PAUSE);
    interval.saturating_mul(doubled.min(LONGEST_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_does_not_answer_is_asked_less_often() {
        let interval = Duration::from_secs(10);
        let seconds: Vec<u64> = (0..6)
            .map(|failures| pause(interval, failures).as_secs())
            .collect();
        assert_eq!(seconds, [10, 10, 20, 40, 40, 40]);
        assert_eq!(pause(interval, u32::MAX).as_secs(), 40);
    }
}
