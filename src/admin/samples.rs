//! Time series of a rollout, for charts: what each arm counted in each step.

use std::time::Duration;

use axum::Json;
use axum::extract::State;

use super::ask::{Place, Query};
use super::problem::Problem;
use super::routes::App;
use super::wire::SamplesAnswer;
use crate::records::Moment;
use crate::records::sample::SampleRecord;
use crate::records::status::{PerArm, SpanRecord};
use crate::rollout::name::Arm;
use crate::rollout::time::{Now, Timestamp, WallTime, millis, parse_duration};

/// Points of one answer: more than any screen is wide.
const MOST: u64 = 2_000;
/// Without a step the first of these that gives at most `WANTED` points.
const STEPS: [u64; 6] = [1, 10, 60, 600, 3_600, 86_400];
const WANTED: u64 = 600;

pub(super) async fn show(
    State(app): State<App>,
    place: Place,
    query: Query,
) -> Result<Json<SamplesAnswer>, Problem> {
    let view = place.rollout(&app)?;
    let query = query.only(&["from", "to", "step"])?;
    let now = view.status.at;
    let begin = view.status.started.unwrap_or(now);
    let from = moment(&query, "from")?.map_or(begin.mono, |wall| on_gate_clock(now, wall));
    let to = moment(&query, "to")?.map_or(now.mono, |wall| on_gate_clock(now, wall));
    let to = to.min(now.mono);
    if from > to {
        return Err(Problem::invalid("from is after to, or in the future"));
    }
    let span = to.since(from);
    let step = match query.text("step")? {
        Some(text) => step(text)?,
        None => fitting(span),
    };
    let points = millis(span) / millis(step);
    if points > MOST {
        return Err(Problem::invalid(format!(
            "that is {points} points, and one answer has {MOST} at most: ask for a longer step"
        )));
    }
    let found = app.control.samples(&view, from, to, step).await?;
    let samples = found.iter().map(|point| SampleRecord {
        at: on_wall_clock(now, point.start).into(),
        clock_ms: point.start.as_millis(),
        width_ms: millis(point.width),
        arms: PerArm {
            baseline: SpanRecord::from(&point.arms[Arm::Baseline.index()]),
            canary: SpanRecord::from(&point.arms[Arm::Canary.index()]),
        },
    });
    Ok(Json(SamplesAnswer {
        rollout: view.rollout.to_string(),
        from: on_wall_clock(now, from).into(),
        to: on_wall_clock(now, to).into(),
        step_ms: millis(step),
        samples: samples.collect(),
    }))
}

fn moment(query: &Query, name: &str) -> Result<Option<WallTime>, Problem> {
    let Some(text) = query.text(name)? else {
        return Ok(None);
    };
    let wrong = || {
        Problem::invalid(format!(
            "{name} = {text:?} is no moment as RFC 3339 writes it"
        ))
    };
    let moment = Moment::parse(text).ok_or_else(wrong)?;
    Ok(Some(WallTime::from_unix_millis(moment.unix_millis())))
}

fn step(text: &str) -> Result<Duration, Problem> {
    let wrong = |why: &str| Problem::invalid(format!("step = {text:?}: {why}"));
    let step = parse_duration(text).map_err(|why| wrong(&why))?;
    match step < Duration::from_secs(1) {
        true => Err(wrong("the shortest is 1s")),
        false => Ok(step),
    }
}

fn fitting(span: Duration) -> Duration {
    let fits = |seconds: &u64| span.as_secs() / seconds <= WANTED;
    let seconds = STEPS.into_iter().find(fits).unwrap_or(86_400);
    // A year of days is more than anything that is kept.
    Duration::from_secs(seconds)
}

// Both clocks stood so at `now`; in between they ran alike but for jumps of the wall clock.
fn on_gate_clock(now: Now, wall: WallTime) -> Timestamp {
    let ago = now
        .wall
        .as_unix_millis()
        .saturating_sub(wall.as_unix_millis());
    let (back, ahead) = (u64::try_from(ago), u64::try_from(ago.saturating_neg()));
    match (back, ahead) {
        (Ok(back), _) => now.mono.before(Duration::from_millis(back)),
        (Err(_), Ok(ahead)) => now.mono.after(Duration::from_millis(ahead)),
        (Err(_), Err(_)) => now.mono,
    }
}

fn on_wall_clock(now: Now, at: Timestamp) -> WallTime {
    let ago = i64::try_from(millis(now.mono.since(at))).unwrap_or(i64::MAX);
    WallTime::from_unix_millis(now.wall.as_unix_millis().saturating_sub(ago))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_found_on_both_clocks() {
        let now = Now {
            mono: Timestamp::from_millis(10_000),
            wall: WallTime::from_unix_millis(1_762_005_600_000),
        };
        for (wall, mono) in [(-4_000, 6_000), (0, 10_000), (3_000, 13_000), (-99_000, 0)] {
            let wall = WallTime::from_unix_millis(1_762_005_600_000 + wall);
            assert_eq!(on_gate_clock(now, wall), Timestamp::from_millis(mono));
        }
        let back = on_wall_clock(now, Timestamp::from_millis(6_000));
        assert_eq!(back.as_unix_millis(), 1_762_005_596_000);
    }

    #[test]
    fn a_chart_has_some_hundred_points() {
        for (span_s, step_s) in [
            (0, 1),
            (600, 1),
            (610, 10),
            (7_200, 60),
            (30 * 86_400, 86_400),
        ] {
            assert_eq!(
                fitting(Duration::from_secs(span_s)),
                Duration::from_secs(step_s),
                "{span_s} s"
            );
        }
    }
}
