//! The JSON form of what a mirror found.

use serde::{Deserialize, Serialize};

use crate::records::Moment;

/// Answer of `GET /api/rollouts/R/mirror`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MirrorAnswer {
    pub rollout: String,
    /// Of the requests that baseline answers, 0 to 1; 0 where there is no mirror.
    pub share: f64,
    /// Copies under way.
    pub in_flight: usize,
    /// Since start.
    pub counts: CountsRecord,
    /// The last ones, the latest first.
    pub differences: Vec<SampleOfMirror>,
}

/// What became of the requests that were drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CountsRecord {
    /// Not compared.
    pub answered: u64,
    pub same: u64,
    pub different: u64,
    pub failed: u64,
    pub dropped: u64,
    pub too_large: u64,
}

/// A request that canary answered differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SampleOfMirror {
    pub at: Moment,
    pub method: String,
    /// Without its query.
    pub path: String,
    pub request_id: Option<String>,
    pub endpoint: String,
    pub differences: Vec<DifferenceRecord>,
}

/// One difference, cut where it is long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DifferenceRecord {
    /// `status`, `header NAME`, `body`, or `json POINTER`.
    pub what: String,
    pub baseline: String,
    pub canary: String,
}
