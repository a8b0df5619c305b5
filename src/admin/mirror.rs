//! What the mirror of a rollout found: counts since start, and the last differences.

use axum::Json;
use axum::extract::State;

use super::ask::{Place, Query};
use super::problem::Problem;
use super::routes::App;
use super::wire::mirror::{CountsRecord, DifferenceRecord, MirrorAnswer, SampleOfMirror};
use crate::telemetry::{MirrorDifference, MirrorMeter, MirrorSample, Mirrored};

pub(super) async fn show(
    State(app): State<App>,
    place: Place,
    query: Query,
) -> Result<Json<MirrorAnswer>, Problem> {
    let view = place.rollout(&app)?;
    query.only(&[])?;
    let meter = app.telemetry.known_mirror(&view.rollout);
    let meter = meter.unwrap_or_default();
    let samples = meter.samples();
    Ok(Json(MirrorAnswer {
        rollout: view.rollout.to_string(),
        share: app.control.mirrored_share(&view.rollout).share(),
        in_flight: meter.in_flight(),
        counts: CountsRecord::from(&*meter),
        differences: samples.into_iter().map(SampleOfMirror::from).collect(),
    }))
}

impl From<&MirrorMeter> for CountsRecord {
    fn from(meter: &MirrorMeter) -> Self {
        Self {
            answered: meter.counted(Mirrored::Answered),
            same: meter.counted(Mirrored::Same),
            different: meter.counted(Mirrored::Different),
            failed: meter.counted(Mirrored::Failed),
            dropped: meter.counted(Mirrored::Dropped),
            too_large: meter.counted(Mirrored::TooLarge),
        }
    }
}

impl From<MirrorSample> for SampleOfMirror {
    fn from(sample: MirrorSample) -> Self {
        Self {
            at: sample.at.into(),
            method: sample.method,
            path: sample.path,
            request_id: sample.request_id,
            endpoint: sample.endpoint,
            differences: sample
                .differences
                .into_iter()
                .map(DifferenceRecord::from)
                .collect(),
        }
    }
}

impl From<MirrorDifference> for DifferenceRecord {
    fn from(found: MirrorDifference) -> Self {
        Self {
            what: found.what,
            baseline: found.baseline,
            canary: found.canary,
        }
    }
}
