//! What a gate was given during a run, line by line as JSON, so that the run can be replayed to the same decisions.
//!
//! `Recorder` stands between a driver and its gate and writes down each input before the gate sees it. The first line of a
//! stretch holds the state that the gate had: at `start`, or when a process came back. Sketches of learners are left out:
//! no decision reads them. Never writes a file.

mod action;
pub(super) mod block;
mod heard;

use serde::{Deserialize, Serialize};

use super::counted::CellLine;
use super::hexadecimal::{self, hex};
use super::state;
use crate::rollout::gate::{
    Action, Command, Effect, EventId, FleetWord, Gate, Heard, HookEnd, Input, Observed, PoolHealth,
    Snapshot,
};
use crate::rollout::slot::Slot;
use crate::rollout::time::{Now, Timestamp, WallTime};
use action::ActionLine;
use block::BlockLine;

/// Keeps the inputs of one gate, for runs alone: what comes before the first or after the end of one is not kept.
#[derive(Debug, Default)]
pub struct Recorder {
    /// The run that is being kept.
    run: Option<u64>,
    /// Of the last line in the present stretch.
    number: u64,
    lines: Vec<Recorded>,
}

/// Lines of one run, each with its end of line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub run: u64,
    pub text: String,
}

/// One line, read back.
#[derive(Debug)]
pub struct Entry {
    /// 1 for the first of a stretch, then without gaps.
    pub number: u64,
    pub now: Now,
    pub what: What,
}

#[derive(Debug)]
pub enum What {
    /// A run begins on a gate with this state.
    Begin(Box<Snapshot>),
    /// A process came back with this state and these slots.
    Restored {
        snapshot: Box<Snapshot>,
        recent: Vec<Slot>,
    },
    Given(Box<Input>),
    /// The run has ended; what comes later is not kept.
    End,
}

/// Why a line is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InputError(String);

// === as written ===

#[derive(Debug, Serialize, Deserialize)]
struct Line {
    n: u64,
    mono_ms: u64,
    wall_ms: i64,
    #[serde(flatten)]
    what: Said,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "input", rename_all = "snake_case")]
enum Said {
    Begin {
        state: String,
        counts: String,
    },
    Restored {
        state: String,
        counts: String,
        recent: Vec<SlotLine>,
    },
    Tick {
        slots: Vec<SlotLine>,
        /// Endpoints, usable, probes sent, probes answered of each pool.
        pools: [(u32, u32, u64, u64); 2],
        gap_us: u64,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        blocks: Vec<BlockLine>,
    },
    HookEnded {
        started: u64,
        passed: bool,
        took_us: u64,
        attempts: u32,
        code: Option<i32>,
        why: String,
        output: String,
    },
    Heard {
        signals: Vec<heard::ReadingLine>,
        outcomes: Vec<heard::OutcomeLine>,
    },
    Stored {
        id: u64,
    },
    StoreFailed {
        why: String,
    },
    Fleet {
        trouble: Option<String>,
        notes: Vec<String>,
    },
    Command {
        by: String,
        reason: String,
        force: bool,
        action: ActionLine,
    },
    End,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct SlotLine {
    start_ms: u64,
    width_us: u64,
    cells: Vec<CellLine>,
}

// === impl Recorder ===

impl Recorder {
    /// Over a gate that came back with this state and these slots.
    pub fn restored(snapshot: &Snapshot, recent: &[Slot], now: Now) -> Self {
        let mut recorder = Self::default();
        if let (true, false) = (snapshot.runs > 0, snapshot.is_over()) {
            recorder.run = Some(snapshot.runs);
            let bytes = state::encode(snapshot);
            recorder.keep(
                now,
                Said::Restored {
                    state: bytes.json,
                    counts: hex(&bytes.counts),
                    recent: recent.iter().map(SlotLine::from).collect(),
                },
            );
        }
        recorder
    }

    /// Gives the gate an input, and keeps it where it belongs to a run.
    pub fn handle(&mut self, gate: &mut Gate, now: Now, input: Input) -> Vec<Effect> {
        let starts =
            matches!(&input, Input::Command(order) if matches!(order.action, Action::Start { .. }));
        let said = (starts || self.run.is_some()).then(|| Said::from(&input));
        let before = starts.then(|| gate.snapshot(now));
        let effects = gate.handle(now, input);
        let refused = effects
            .iter()
            .any(|effect| matches!(effect, Effect::Refuse(_)));
        if let Some(before) = before.filter(|_| !refused) {
            self.run = Some(before.runs + 1);
            self.number = 0;
            let bytes = state::encode(&before);
            self.keep(
                now,
                Said::Begin {
                    state: bytes.json,
                    counts: hex(&bytes.counts),
                },
            );
        }
        if let Some(said) = said {
            self.keep(now, said);
        }
        if self.run.is_some() && gate.phase().is_ended() && gate.is_settled() {
            self.keep(now, Said::End);
            self.run = None;
        }
        effects
    }

    /// What was kept since the last time.
    pub fn take(&mut self) -> Vec<Recorded> {
        std::mem::take(&mut self.lines)
    }

    fn keep(&mut self, now: Now, what: Said) {
        let Some(run) = self.run else { return };
        self.number += 1;
        let line = Line {
            n: self.number,
            mono_ms: now.mono.as_millis(),
            wall_ms: now.wall.as_unix_millis(),
            what,
        };
        let text = serde_json::to_string(&line).expect("numbers, texts and lists of them are JSON");
        if self.lines.last().is_none_or(|last| last.run != run) {
            let text = String::new();
            self.lines.push(Recorded { run, text });
        }
        if let Some(last) = self.lines.last_mut() {
            last.text.push_str(&text);
            last.text.push('\n');
        }
    }
}

/// A command as a line, for another process to carry out.
pub fn command_text(command: &Command) -> String {
    let said = Said::from(&Input::Command(command.clone()));
    serde_json::to_string(&said).expect("numbers, texts and lists of them are JSON")
}

/// And back.
///
/// # Errors
/// What is wrong with it.
pub fn read_command(text: &str) -> Result<Command, InputError> {
    match serde_json::from_str(text).map_err(fault)? {
        Said::Command {
            by,
            reason,
            force,
            action,
        } => Ok(Command {
            by,
            reason,
            force,
            action: action.meant()?,
        }),
        _ => Err(fault("another input than a command")),
    }
}

/// What was heard as a line, for another process to hear.
pub(super) fn heard_text(heard: &Heard) -> String {
    let (signals, outcomes) = heard::lines(heard);
    let said = Said::Heard { signals, outcomes };
    serde_json::to_string(&said).expect("numbers, texts and lists of them are JSON")
}

/// And back.
pub(super) fn read_heard(text: &str) -> Result<Heard, InputError> {
    match serde_json::from_str(text).map_err(fault)? {
        Said::Heard { signals, outcomes } => heard::heard(signals, outcomes),
        _ => Err(fault("another input than what was heard")),
    }
}

/// The name of the inputs' file beside a deployment log's.
pub fn beside(log: &str) -> String {
    format!("{}.inputs.gz", log.strip_suffix(".json").unwrap_or(log))
}

/// Reads a line.
pub fn read(text: &str) -> Result<Entry, InputError> {
    let line: Line = serde_json::from_str(text).map_err(fault)?;
    let what = match line.what {
        Said::Begin { state, counts } => What::Begin(snapshot(&state, &counts)?),
        Said::Restored {
            state,
            counts,
            recent,
        } => What::Restored {
            snapshot: snapshot(&state, &counts)?,
            recent: slots(recent)?,
        },
        Said::End => What::End,
        Said::Tick {
            slots: drained,
            pools,
            gap_us,
            blocks,
        } => given(Input::Tick(Box::new(Observed {
            slots: slots(drained)?,
            pools: pools.map(
                |(endpoints, usable, probes_sent, probes_answered)| PoolHealth {
                    endpoints,
                    usable,
                    probes_sent,
                    probes_answered,
                },
            ),
            learners: Default::default(),
            blocks: blocks
                .into_iter()
                .map(BlockLine::meant)
                .collect::<Result<_, _>>()?,
            gap: std::time::Duration::from_micros(gap_us),
        }))),
        Said::Heard { signals, outcomes } => {
            given(Input::Heard(Box::new(heard::heard(signals, outcomes)?)))
        }
        Said::HookEnded {
            started,
            passed,
            took_us,
            attempts,
            code,
            why,
            output,
        } => given(Input::HookEnded(Box::new(HookEnd {
            started: EventId(started),
            passed,
            took: std::time::Duration::from_micros(took_us),
            attempts,
            code,
            why,
            output,
        }))),
        Said::Stored { id } => given(Input::Stored(EventId(id))),
        Said::StoreFailed { why } => given(Input::StoreFailed(why)),
        Said::Fleet { trouble, notes } => given(Input::Fleet(FleetWord { trouble, notes })),
        Said::Command {
            by,
            reason,
            force,
            action,
        } => given(Input::Command(Command {
            by,
            reason,
            force,
            action: action.meant()?,
        })),
    };
    Ok(Entry {
        number: line.n,
        now: Now {
            mono: Timestamp::from_millis(line.mono_ms),
            wall: WallTime::from_unix_millis(line.wall_ms),
        },
        what,
    })
}

impl From<&Input> for Said {
    fn from(input: &Input) -> Self {
        match input {
            Input::Tick(observed) => Self::Tick {
                slots: observed.slots.iter().map(SlotLine::from).collect(),
                pools: observed.pools.map(|pool| {
                    (
                        pool.endpoints,
                        pool.usable,
                        pool.probes_sent,
                        pool.probes_answered,
                    )
                }),
                gap_us: micros(observed.gap),
                blocks: observed.blocks.iter().map(BlockLine::from).collect(),
            },
            Input::Heard(said) => {
                let (signals, outcomes) = heard::lines(said);
                Self::Heard { signals, outcomes }
            }
            Input::HookEnded(end) => Self::HookEnded {
                started: end.started.0,
                passed: end.passed,
                took_us: micros(end.took),
                attempts: end.attempts,
                code: end.code,
                why: end.why.clone(),
                output: end.output.clone(),
            },
            Input::Stored(id) => Self::Stored { id: id.0 },
            Input::StoreFailed(why) => Self::StoreFailed { why: why.clone() },
            Input::Fleet(word) => Self::Fleet {
                trouble: word.trouble.clone(),
                notes: word.notes.clone(),
            },
            Input::Command(command) => Self::Command {
                by: command.by.clone(),
                reason: command.reason.clone(),
                force: command.force,
                action: ActionLine::from(&command.action),
            },
        }
    }
}

impl From<&Slot> for SlotLine {
    fn from(slot: &Slot) -> Self {
        let cells = slot.cells.iter();
        let cells = cells.map(|(key, cell)| CellLine::new(key, cell));
        Self {
            start_ms: slot.start.as_millis(),
            width_us: micros(slot.width),
            cells: cells.collect(),
        }
    }
}

fn given(input: Input) -> What {
    What::Given(Box::new(input))
}

pub(super) fn snapshot(json: &str, counts: &str) -> Result<Box<Snapshot>, InputError> {
    let snapshot = state::decode(json, &bytes(counts)?).map_err(fault)?;
    Ok(Box::new(snapshot))
}

pub(super) fn slots(lines: Vec<SlotLine>) -> Result<Vec<Slot>, InputError> {
    let slot = |line: SlotLine| {
        let start = Timestamp::from_millis(line.start_ms);
        let mut slot = Slot::empty(start, std::time::Duration::from_micros(line.width_us));
        for cell in line.cells {
            let (key, cell) = cell.read().map_err(fault)?;
            slot.cells.insert(key, cell);
        }
        Ok(slot)
    };
    lines.into_iter().map(slot).collect()
}

fn micros(span: std::time::Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

fn bytes(hex: &str) -> Result<Vec<u8>, InputError> {
    hexadecimal::bytes(hex).ok_or_else(|| fault("bytes that are not in hexadecimal"))
}

fn fault(why: impl std::fmt::Display) -> InputError {
    InputError(why.to_string())
}
