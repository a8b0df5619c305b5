//! The history of a rollout: as JSON in pages, or as a stream that goes on where it was left.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::http::header::ACCEPT;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{Stream, unfold};

use super::ask::{Place, Query};
use super::problem::Problem;
use super::routes::App;
use super::wire::EventsAnswer;
use crate::control::{RolloutView, Subscription};
use crate::records::event::EventRecord;
use crate::records::told::ToldEvent;
use crate::report::sentence;
use crate::shutdown::{Shutdown, Stage};

/// Events of one page, unless asked otherwise, and at most.
const PAGE: u64 = 1000;
const LARGEST_PAGE: u64 = 10_000;

pub(super) async fn show(
    State(app): State<App>,
    place: Place,
    query: Query,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let view = place.rollout(&app)?;
    let query = query.only(&["after", "limit"])?;
    let after = query.number("after")?;
    if wants_stream(&headers) {
        let after = last_event_id(&headers)?.or(after).unwrap_or(0);
        return Ok(stream(&app, &view, after).into_response());
    }
    let limit = query.number("limit")?.unwrap_or(PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(Problem::invalid(format!(
            "limit = {limit} is not within 1 and {LARGEST_PAGE}"
        )));
    }
    let found = app
        .control
        .history(&view, after.unwrap_or(0), limit as usize)
        .await?;
    let next = found
        .last()
        .map(|event| event.id)
        .filter(|_| found.len() as u64 == limit);
    let events = found.iter().map(|event| answer(event)).collect();
    Ok(Json(EventsAnswer { events, next }).into_response())
}

fn wants_stream(headers: &HeaderMap) -> bool {
    let accepted = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|kind| {
        let kind = kind.split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("text/event-stream")
    })
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let number = value.to_str().ok().and_then(|text| text.parse().ok());
    number
        .map(Some)
        .ok_or_else(|| Problem::invalid("Last-Event-ID is not the number of an event"))
}

/// History after `after`, then each event as it comes. Ends with the process, or when the history cannot be read: the
/// client comes again with `Last-Event-ID`.
fn stream(
    app: &App,
    view: &RolloutView,
    after: u64,
) -> Sse<impl Stream<Item = Result<Event, Infallible>> + use<>> {
    // A number that was never given out is of a journal that is gone: its reader is told everything.
    let after = if after > view.status.last_event.0 {
        0
    } else {
        after
    };
    let reader = Reader {
        subscription: app.control.subscribe(view, after),
        ready: VecDeque::new(),
        shutdown: app.shutdown.clone(),
    };
    let events = unfold(reader, |mut reader| async move {
        let event = reader.next().await?;
        Some((Ok(as_sse(&event)), reader))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

struct Reader {
    subscription: Subscription,
    ready: VecDeque<Arc<EventRecord>>,
    shutdown: Shutdown,
}

impl Reader {
    async fn next(&mut self) -> Option<Arc<EventRecord>> {
        if let Some(event) = self.ready.pop_front() {
            return Some(event);
        }
        tokio::select! {
            more = self.subscription.next() => match more {
                Ok(more) => self.ready.extend(more),
                Err(error) => {
                    tracing::warn!(%error, "an event stream ends: the history cannot be read");
                    return None;
                }
            },
            () = self.shutdown.reached(Stage::Stopped) => return None,
        }
        self.ready.pop_front()
    }
}

fn as_sse(event: &EventRecord) -> Event {
    let data = serde_json::to_string(&answer(event))
        .expect("a record has only text keys and finite numbers");
    Event::default().id(event.id.to_string()).data(data)
}

fn answer(event: &EventRecord) -> ToldEvent {
    ToldEvent {
        sentence: sentence(event),
        event: event.clone(),
    }
}
