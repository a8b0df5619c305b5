//! Notices that follow from time alone: a reminder while nobody acts on a hold, and the progress of a run.
//!
//! Numbered from what the rollout shows and the wall clock, so that the same round has the same id after a restart and
//! is no second notice.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock;
use crate::config::Channel;
use crate::control::RolloutView;
use crate::records::notice::{NoticeRecord, NoticeWord};
use crate::records::status::StatusRecord;
use crate::report;
use crate::rollout::name::{Arm, RolloutName};
use crate::rollout::time::{WallTime, millis};
use crate::store::{Post, PostKind, Store};

/// What was posted last, by channel and rollout.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    reminders: BTreeMap<(String, RolloutName), String>,
    progress: BTreeMap<(String, RolloutName), i64>,
}

/// A notice that is due.
struct Round {
    id: String,
    word: NoticeWord,
    kind: PostKind,
    text: String,
}

impl Rounds {
    /// Posts what is due by now.
    pub(super) fn post(
        &mut self,
        views: &BTreeMap<RolloutName, Arc<RolloutView>>,
        channels: &[Channel],
        store: &Store,
    ) {
        let now = clock::wall();
        for view in views.values() {
            for channel in channels {
                let reminder = self.reminder(view, channel, now);
                let progress = self.progress(view, channel, now);
                for round in reminder.into_iter().chain(progress) {
                    post(view, channel, round, now, store);
                }
            }
        }
    }

    fn reminder(&mut self, view: &RolloutView, channel: &Channel, now: WallTime) -> Option<Round> {
        let causes = view.status.causes.iter();
        let since = causes.map(|held| held.since.wall).min()?;
        let (number, held) = passed(since, now, channel.escalate_after)?;
        if number == 0 {
            return None;
        }
        let id = format!(
            "{}/held-{}/reminder-{number}",
            view.rollout,
            since.as_unix_millis()
        );
        let key = (channel.name.clone(), view.rollout.clone());
        if self.reminders.insert(key, id.clone()).as_ref() == Some(&id) {
            return None;
        }
        let text = report::reminder(&status(view), held);
        Some(Round {
            id,
            word: NoticeWord::Reminder,
            kind: PostKind::Reminder,
            text,
        })
    }

    // The first look at a run posts nothing: its start has a notice of its own.
    fn progress(&mut self, view: &RolloutView, channel: &Channel, now: WallTime) -> Option<Round> {
        let key = (channel.name.clone(), view.rollout.clone());
        let begin = WallTime::from_unix_millis(0);
        let slot = view
            .status
            .phase
            .is_in_a_run()
            .then(|| passed(begin, now, channel.digest))
            .flatten();
        let Some((slot, _)) = slot else {
            self.progress.remove(&key);
            return None;
        };
        let before = self.progress.insert(key, slot)?;
        (before != slot).then(|| Round {
            id: format!(
                "{}/progress-{}",
                view.rollout,
                slot.saturating_mul(span_ms(channel.digest))
            ),
            word: NoticeWord::Progress,
            kind: PostKind::Progress,
            text: report::progress(&status(view)),
        })
    }
}

fn post(view: &RolloutView, channel: &Channel, round: Round, now: WallTime, store: &Store) {
    let record = NoticeRecord {
        id: round.id.clone(),
        notice: round.word,
        rollout: view.rollout.to_string(),
        at: now.into(),
        text: round.text,
        status: Some(status(view)),
    };
    match serde_json::to_string(&record) {
        Ok(body) => store.post(Post {
            channel: channel.name.clone(),
            id: round.id,
            rollout: view.rollout.clone(),
            kind: round.kind,
            body,
            at: now,
        }),
        Err(why) => tracing::error!(%why, "a notice is no JSON"),
    }
}

fn status(view: &RolloutView) -> StatusRecord {
    StatusRecord::new(
        &view.rollout,
        Arm::ALL.map(|arm| view.pool(arm)),
        &view.status,
        Some(&view.plan),
    )
}

/// How many whole spans passed, and how long it is; `None` where the span is switched off.
fn passed(since: WallTime, now: WallTime, span: Duration) -> Option<(i64, Duration)> {
    let span_ms = span_ms(span);
    if span_ms == 0 {
        return None;
    }
    let passed_ms = now
        .as_unix_millis()
        .saturating_sub(since.as_unix_millis())
        .max(0);
    let held = Duration::from_millis(u64::try_from(passed_ms).unwrap_or(0));
    Some((passed_ms / span_ms, held))
}

fn span_ms(span: Duration) -> i64 {
    i64::try_from(millis(span)).unwrap_or(i64::MAX)
}
