//! A recorded run given to a gate again: the events it makes, and the first that differs from those on record.
//!
//! The inputs are lines of `records::inputs`, the events those of a deployment log. Reads no file.

use serde_json::Value;

use crate::records::event::EventRecord;
use crate::records::inputs::{self, Entry, What};
use crate::report::sentence;
use crate::rollout::gate::{Effect, Gate};
use crate::rollout::name::RolloutName;

/// What a replay came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Replayed {
    pub inputs: u64,
    /// Events that were made again and are as recorded.
    pub same: u64,
    /// Events on record that happened after the run's end, by hand: no inputs are kept of those.
    pub later: u64,
    /// The first difference, as a sentence.
    pub difference: Option<String>,
}

/// Why nothing could be replayed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ReplayError(String);

/// Gives each line of `lines` to a gate and compares what it records with `events`, the run's as they were published.
pub fn replay(
    rollout: &RolloutName,
    lines: &str,
    events: &[Value],
) -> Result<Replayed, ReplayError> {
    let mut play = Play {
        rollout,
        gate: None,
        number: 0,
        ended: false,
        events: events.iter(),
        done: Replayed::default(),
    };
    for (place, line) in lines.lines().enumerate() {
        let bad = |why: &dyn std::fmt::Display| ReplayError(format!("line {}: {why}", place + 1));
        let entry = inputs::read(line).map_err(|why| bad(&why))?;
        play.take(entry).map_err(|why| bad(&why))?;
        if play.done.difference.is_some() {
            return Ok(play.done);
        }
    }
    if play.gate.is_none() {
        return Err(ReplayError("there are no inputs".to_owned()));
    }
    let left = play.events.len() as u64;
    match (play.ended, play.events.next()) {
        (true, _) => play.done.later = left,
        (false, Some(next)) => {
            let why = format!("the inputs end before it, and {} were not made again", left);
            play.done.difference = Some(format!("{}: {why}", name(next)));
        }
        (false, None) => {}
    }
    Ok(play.done)
}

struct Play<'a> {
    rollout: &'a RolloutName,
    gate: Option<Gate>,
    number: u64,
    ended: bool,
    events: std::slice::Iter<'a, Value>,
    done: Replayed,
}

impl Play<'_> {
    fn take(&mut self, entry: Entry) -> Result<(), String> {
        let follows = match &entry.what {
            What::Begin(_) | What::Restored { .. } => entry.number == 1,
            What::Given(_) | What::End => entry.number == self.number + 1,
        };
        if !follows {
            return Err(format!(
                "input {} follows input {}: some are lost",
                entry.number, self.number
            ));
        }
        self.number = entry.number;
        let effects = match (entry.what, &mut self.gate) {
            (What::Begin(snapshot), gate) => {
                *gate = Some(Gate::as_it_stood(*snapshot));
                Vec::new()
            }
            (What::Restored { snapshot, recent }, gate) => {
                let (restored, effects) = Gate::restore(*snapshot, recent, entry.now);
                *gate = Some(restored);
                effects
            }
            (What::Given(input), Some(gate)) => {
                self.done.inputs += 1;
                gate.handle(entry.now, *input)
            }
            (What::Given(_), None) => return Err("an input before any state".to_owned()),
            (What::End, _) => {
                self.ended = true;
                Vec::new()
            }
        };
        for effect in effects {
            match effect {
                Effect::Record(event) => self.compare(&EventRecord::new(self.rollout, &event))?,
                Effect::Publish(_)
                | Effect::RunHook(_)
                | Effect::Announce(_)
                | Effect::Refuse(_) => {}
            }
        }
        Ok(())
    }

    fn compare(&mut self, made: &EventRecord) -> Result<(), String> {
        if self.done.difference.is_some() {
            return Ok(());
        }
        let value = serde_json::to_value(made).map_err(|why| why.to_string())?;
        match self.events.next() {
            Some(recorded) if *recorded == value => self.done.same += 1,
            Some(recorded) => {
                let fields = differing(recorded, &value);
                self.done.difference = Some(format!(
                    "{}: recorded {}, now {} ({})",
                    name(recorded),
                    said(recorded),
                    sentence(made),
                    fields.join("; ")
                ));
            }
            None => {
                self.done.difference = Some(format!(
                    "event {}: not on record, now {}",
                    made.id,
                    sentence(made)
                ));
            }
        }
        Ok(())
    }
}

// The fields that are not the same, with both values.
fn differing(recorded: &Value, made: &Value) -> Vec<String> {
    let (Some(old), Some(new)) = (recorded.as_object(), made.as_object()) else {
        return vec!["it is no event".to_owned()];
    };
    let names = old
        .keys()
        .chain(new.keys().filter(|name| !old.contains_key(*name)));
    let unlike = names.filter(|name| old.get(*name) != new.get(*name));
    let shown = |value: Option<&Value>| match value {
        Some(Value::Array(_) | Value::Object(_)) => "…".to_owned(),
        Some(value) => value.to_string(),
        None => "nothing".to_owned(),
    };
    unlike
        .map(|name| {
            format!(
                "{name}: {} is now {}",
                shown(old.get(name)),
                shown(new.get(name))
            )
        })
        .collect()
}

fn name(event: &Value) -> String {
    format!("event {}", event["id"])
}

fn said(event: &Value) -> String {
    match serde_json::from_value::<EventRecord>(event.clone()) {
        Ok(record) => sentence(&record),
        Err(_) => event.to_string(),
    }
}
