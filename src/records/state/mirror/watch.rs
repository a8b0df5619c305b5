//! The watch over a stage: its breaches, and learners by arm.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Moments;
use crate::records::words;
use crate::rollout::evidence::Shares;
use crate::rollout::gate::{Breach, Watch};
use crate::rollout::time::{Now, Timestamp};
use crate::rollout::verdict::Purpose;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WatchState {
    stage: usize,
    epoch: u64,
    since_ms: u64,
    began: Option<Moments>,
    warmed: Duration,
    warm_until_ms: Option<u64>,
    breaches: Vec<BreachState>,
    #[serde(default)]
    shares: Option<SharesState>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SharesState {
    epoch: u64,
    /// Of baseline and of canary.
    closed: [u64; 2],
    open: [u64; 2],
    from: u64,
    width: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct BreachState {
    #[serde(with = "words")]
    purpose: Purpose,
    index: usize,
    #[serde(default)]
    segment: Option<String>,
    since: Moments,
    lasted: Duration,
    without_data: Duration,
    shared: Duration,
    shared_since_ms: Option<u64>,
    others: u64,
    #[serde(default)]
    seen: u64,
    #[serde(default)]
    wrong: u64,
    told: bool,
}

// === impl WatchState, SharesState, BreachState ===

impl From<&Watch> for WatchState {
    fn from(watch: &Watch) -> Self {
        Self {
            stage: watch.stage,
            epoch: watch.epoch,
            since_ms: watch.since.as_millis(),
            began: watch.began.map(Moments::from),
            warmed: watch.warmed,
            warm_until_ms: watch.warm_until.map(Timestamp::as_millis),
            breaches: watch.breaches.iter().map(BreachState::from).collect(),
            shares: Some(SharesState::from(watch.shares)),
        }
    }
}

impl From<WatchState> for Watch {
    fn from(state: WatchState) -> Self {
        Self {
            stage: state.stage,
            epoch: state.epoch,
            since: Timestamp::from_millis(state.since_ms),
            began: state.began.map(Now::from),
            warmed: state.warmed,
            warm_until: state.warm_until_ms.map(Timestamp::from_millis),
            breaches: state.breaches.into_iter().map(Breach::from).collect(),
            shares: state
                .shares
                .map_or_else(|| Shares::new(state.epoch), Shares::from),
        }
    }
}

impl From<Shares> for SharesState {
    fn from(shares: Shares) -> Self {
        Self {
            epoch: shares.epoch,
            closed: shares.closed,
            open: shares.open,
            from: shares.from,
            width: shares.width,
        }
    }
}

impl From<SharesState> for Shares {
    fn from(state: SharesState) -> Self {
        Self {
            epoch: state.epoch,
            closed: state.closed,
            open: state.open,
            from: state.from,
            width: state.width,
        }
    }
}

impl From<&Breach> for BreachState {
    fn from(breach: &Breach) -> Self {
        Self {
            purpose: breach.purpose,
            index: breach.index,
            segment: breach.segment.as_ref().map(ToString::to_string),
            since: breach.since.into(),
            lasted: breach.lasted,
            without_data: breach.without_data,
            shared: breach.shared,
            shared_since_ms: breach.shared_since.map(Timestamp::as_millis),
            others: breach.others,
            seen: breach.seen,
            wrong: breach.wrong,
            told: breach.told,
        }
    }
}

impl From<BreachState> for Breach {
    fn from(state: BreachState) -> Self {
        Self {
            purpose: state.purpose,
            index: state.index,
            segment: state.segment.map(Arc::from),
            since: state.since.into(),
            lasted: state.lasted,
            without_data: state.without_data,
            shared: state.shared,
            shared_since: state.shared_since_ms.map(Timestamp::from_millis),
            learners: BTreeSet::new(),
            others: state.others,
            seen: state.seen,
            wrong: state.wrong,
            told: state.told,
        }
    }
}
