//! One line, or one JSON object, in each interval, for pipes and logs; ends when nobody reads any more.
//!
//! What happened between two lines is said in the second, so that no decision is missed.

use std::io::{ErrorKind, Write};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::line;
use crate::admin::wire::{EventsAnswer, RolloutAnswer};
use crate::cli::client::{Client, ClientError};
use crate::cli::printable;
use crate::cli::session::Session;
use crate::clock;
use crate::records::Moment;
use crate::rollout::time::WallTime;

/// Events of one line at most; the report has all.
const EVENTS: u64 = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Plain,
    Json,
}

/// What is remembered from one line to the next.
struct Reader {
    session: Session,
    rollout: String,
    path: String,
    /// The last event that was said, or that was there when it began.
    last: Option<u64>,
    heard: WallTime,
}

/// As the port sent it.
struct Round {
    state: Value,
    /// Since the round before.
    events: Value,
}

pub(super) async fn run(
    client: Client,
    rollout: &str,
    path: String,
    every: Duration,
    form: Form,
) -> anyhow::Result<()> {
    let mut reader = Reader {
        session: Session::new(client),
        rollout: rollout.to_owned(),
        path,
        last: None,
        heard: clock::wall(),
    };
    let mut ticks = tokio::time::interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let text = match (reader.round().await, form) {
            (Ok(round), Form::Plain) => reader.plain(round),
            (Ok(round), Form::Json) => reader.json(round),
            (Err(why), Form::Plain) => {
                line::lost(rollout, clock::wall(), reader.heard, &why.to_string())
            }
            (Err(why), Form::Json) => reader.json_lost(&why),
        };
        if !write(&text)? {
            return Ok(());
        }
    }
}

impl Reader {
    async fn round(&mut self) -> Result<Round, ClientError> {
        let state = self.session.get(&self.path).await?;
        let newest = state.get("last_event").and_then(Value::as_u64).unwrap_or(0);
        // Numbers begin anew in another journal.
        let after = self
            .last
            .map_or(newest, |last| if last > newest { 0 } else { last });
        let mut events = json!([]);
        if newest > after {
            let path = format!("{}/events?after={after}&limit={EVENTS}", self.path);
            let mut answer = self.session.get(&path).await?;
            events = answer["events"].take();
        }
        self.last = Some(said(after, &events));
        self.heard = clock::wall();
        Ok(Round { state, events })
    }

    fn plain(&self, round: Round) -> String {
        let answer = serde_json::from_value::<RolloutAnswer>(printable::document(round.state));
        let events = json!({ "events": printable::document(round.events), "next": null });
        let events = serde_json::from_value::<EventsAnswer>(events);
        match (answer, events) {
            (Ok(answer), Ok(events)) => {
                let events: Vec<_> = events.events.into_iter().map(|one| one.event).collect();
                line::state(&answer, &events)
            }
            (Err(why), _) | (_, Err(why)) => format!(
                "{}: the state cannot be read ({why}): is the proxy a newer serin?",
                self.rollout
            ),
        }
    }

    fn json(&self, round: Round) -> String {
        let object = json!({
            "rollout": self.rollout,
            "at": Moment(self.heard),
            "connection": "live",
            "status": round.state,
            "events": round.events,
        });
        object.to_string()
    }

    fn json_lost(&self, why: &ClientError) -> String {
        let object = json!({
            "rollout": self.rollout,
            "at": Moment(clock::wall()),
            "connection": "lost",
            "since": Moment(self.heard),
            "why": why.to_string(),
            "status": null,
            "events": [],
        });
        object.to_string()
    }
}

/// The last event that was said: one that the journal does not have yet comes with a later line.
fn said(after: u64, events: &Value) -> u64 {
    let newest = events.as_array().and_then(|events| events.last());
    let id = newest.and_then(|event| event["id"].as_u64());
    id.unwrap_or(after)
}

/// False where nobody reads any more.
fn write(text: &str) -> anyhow::Result<bool> {
    let mut out = std::io::stdout().lock();
    let line = format!("{}\n", printable::line(text));
    match out.write_all(line.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(why) if why.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(why) => Err(why.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_come_is_asked_for_again() {
        assert_eq!(said(4, &json!([])), 4);
        assert_eq!(said(4, &json!([{ "id": 5 }, { "id": 6 }])), 6);
        assert_eq!(said(0, &json!(null)), 0);
    }
}
