//! What is posted from outside: readings of signals, and business results of learners; one item, or a list of them.
//!
//! Where an item is wrong nothing is taken, and each fault names its place. Results that are well formed and belong to
//! no arm are left out by name: a pipeline that sends all its results need not know when a run began.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;

use super::ask::{Body, Query};
use super::problem::Problem;
use super::routes::App;
use super::wire::FaultRecord;
use super::wire::outside::{LeftOut, Many, OutcomeBody, OutcomesAnswer, SignalBody, SignalsAnswer};
use crate::control::{HearError, ItemFault, PostedOutcome, PushedReading};

pub(super) async fn push(
    State(app): State<App>,
    query: Query,
    Body(body): Body,
) -> Result<Json<SignalsAnswer>, Problem> {
    query.only(&[])?;
    let Many(items) = Many::<SignalBody>::read(&body).map_err(Problem::invalid)?;
    let readings = items.into_iter().map(PushedReading::from).collect();
    let taken = app.control.readings(readings).await?;
    Ok(Json(SignalsAnswer { taken }))
}

pub(super) async fn outcomes(
    State(app): State<App>,
    query: Query,
    Body(body): Body,
) -> Result<Json<OutcomesAnswer>, Problem> {
    query.only(&[])?;
    let Many(items) = Many::<OutcomeBody>::read(&body).map_err(Problem::invalid)?;
    let outcomes = items.into_iter().map(PostedOutcome::from).collect();
    let taken = app.control.outcomes(outcomes).await?;
    let left_out = taken
        .left_out
        .into_iter()
        .map(|(item, why)| LeftOut { item, why });
    Ok(Json(OutcomesAnswer {
        counted: taken.counted,
        duplicates: taken.duplicates,
        left_out: left_out.collect(),
    }))
}

impl From<SignalBody> for PushedReading {
    fn from(body: SignalBody) -> Self {
        Self {
            rollout: body.rollout,
            name: body.name,
            pool: body.pool,
            segment: body.segment,
            value: body.value,
            count: body.count,
            at: body.at.map(|at| at.0),
        }
    }
}

impl From<OutcomeBody> for PostedOutcome {
    fn from(body: OutcomeBody) -> Self {
        Self {
            rollout: body.rollout,
            learner: body.learner,
            segment: body.segment,
            name: body.name,
            value: body.value,
            at: body.at.map(|at| at.0),
            id: body.id,
        }
    }
}

impl From<HearError> for Problem {
    fn from(error: HearError) -> Self {
        let detail = error.to_string();
        match error {
            HearError::Faults(faults) => Self {
                faults: faults.iter().map(FaultRecord::from).collect(),
                ..Self::invalid(detail)
            },
            HearError::Stopped => Self::new(StatusCode::SERVICE_UNAVAILABLE, detail),
        }
    }
}

impl From<&ItemFault> for FaultRecord {
    fn from(fault: &ItemFault) -> Self {
        Self {
            file: String::new(),
            line: None,
            key: format!("[{}].{}", fault.item, fault.key),
            message: fault.why.clone(),
        }
    }
}
