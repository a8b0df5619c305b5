//! How serin itself fares, in the Prometheus text: ticks, events, reloads, the journal, the admin port.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;

use super::truth;
use crate::admin::routes::App;
use crate::control::{Handle, RolloutView, Vitals};
use crate::shutdown::Stage;
use crate::telemetry::prometheus::Exposition;

/// The classes of status, by their first digit.
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Answers of the admin port.
#[derive(Debug, Default)]
pub(in crate::admin) struct Answers([AtomicU64; CLASSES.len()]);

impl Answers {
    fn count(&self, status: StatusCode) {
        let place = usize::from(status.as_u16() / 100) - 1;
        if let Some(count) = self.0.get(place) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Counts each answer on its way out, refusals too.
pub(in crate::admin) async fn count(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> Response {
    let response = next.run(request).await;
    app.answers.count(response.status());
    response
}

pub(super) fn show(app: &App, views: &[&RolloutView], out: &mut Exposition) {
    let is_ready = match app.shutdown.stage() {
        Stage::Running => true,
        Stage::Leaving | Stage::Draining | Stage::Stopped => false,
    };
    out.gauge(
        "serin_ready",
        "1 where /readyz answers 200; 0 on the way out.",
    )
    .sample(&[], truth(is_ready));
    events(views, out);
    gate(app.control.vitals(), out);
    journal(&app.control, out);
    let mut answers = out.counter(
        "serin_admin_answers_total",
        "Answers of the admin port, by class of status.",
    );
    for (class, count) in CLASSES.iter().zip(&app.answers.0) {
        answers.count(&[("status", class)], count.load(Ordering::Relaxed));
    }
}

fn events(views: &[&RolloutView], out: &mut Exposition) {
    let mut events = out.counter(
        "serin_rollout_events_total",
        "Events of the gate, by kind, since the gates started.",
    );
    for view in views {
        for (event, count) in view.event_counts() {
            let labels = [("rollout", view.rollout.as_str()), ("event", event)];
            events.count(&labels, count);
        }
    }
}

fn gate(vitals: &Vitals, out: &mut Exposition) {
    let mut ticks = out.histogram(
        "serin_gate_tick_seconds",
        "Time that the gates took for a tick: four a second where nothing is late.",
    );
    vitals.ticks.show(&mut ticks, &[]);
    out.counter(
        "serin_gate_gaps_total",
        "Times that two ticks were more than 2 s apart: what passed between was not observed.",
    )
    .count(&[], vitals.gaps());
    let mut reloads = out.counter(
        "serin_config_reloads_total",
        "Reloads of the configuration, taken or refused.",
    );
    for (result, count) in ["taken", "refused"].into_iter().zip(vitals.reloads()) {
        reloads.count(&[("result", result)], count);
    }
    out.gauge(
        "serin_config_last_reload_successful",
        "1 where the file as last read is in force; 0 where it was refused.",
    )
    .sample(&[], truth(vitals.last_reload_was_taken()));
    let taken_at = vitals.config_taken_at().as_unix_millis() as f64 / 1e3;
    out.gauge(
        "serin_config_last_reload_success_timestamp_seconds",
        "When the configuration in force was read, in seconds since 1970.",
    )
    .sample(&[], taken_at);
}

fn journal(control: &Handle, out: &mut Exposition) {
    let vitals = control.store_vitals();
    let mut writes = out.histogram(
        "serin_store_write_seconds",
        "Time that a transaction of the journal took, synced where it had events.",
    );
    if let Some(vitals) = vitals {
        vitals.writes.show(&mut writes, &[]);
    }
    let count = |count: Option<u64>| count.map(|count| count as f64);
    out.counter(
        "serin_store_write_failures_total",
        "Attempts to write the journal that failed; each is made again.",
    )
    .known(count(vitals.map(|vitals| vitals.failures())));
    out.counter(
        "serin_store_lost_slots_total",
        "Seconds of samples that were given up while the journal could not be written.",
    )
    .known(count(vitals.map(|vitals| vitals.lost_slots())));
    out.gauge(
        "serin_store_size_bytes",
        "Size of the journal with its log of writes, as of the last write.",
    )
    .known(count(vitals.map(|vitals| vitals.bytes())));
    out.gauge(
        "serin_store_unwritten_events",
        "Events that are not on disk yet.",
    )
    .count(&[], control.unwritten_events() as u64);
}
