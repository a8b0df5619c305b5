//! What is known of the rollout that is watched: its state, its last events, its recent past, and how old all that is.
//!
//! Is told what was heard and when; asks nobody, draws nothing, knows no clock.

use std::collections::VecDeque;
use std::time::Duration;

use super::series::Series;
use crate::admin::wire::RolloutAnswer;
use crate::records::Moment;
use crate::records::event::EventRecord;
use crate::records::sample::SampleRecord;
use crate::rollout::time::WallTime;

/// More events than a person scrolls through; the report has all.
const EVENTS: usize = 500;
/// Figures that are this many times older than they should be are called old.
const LATE: u32 = 3;
/// For so long it is said that the connection is back.
const BACK: Duration = Duration::from_secs(60);

/// A moment on the clock of this process and on the wall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct At {
    /// Since the watch began.
    pub(super) since: Duration,
    pub(super) wall: WallTime,
}

/// What the connection brings.
#[derive(Debug)]
pub(super) enum Heard {
    State(Box<RolloutAnswer>),
    /// Of the last minutes, some of them known already, and how long a step of them is.
    Samples {
        step: Duration,
        samples: Vec<SampleRecord>,
    },
    /// They cannot be had.
    NoSamples(String),
    /// No answer, and why.
    Lost(String),
    Event(Box<EventRecord>),
    /// The stream of events is there.
    EventsFlow,
    EventsStopped(String),
    /// What became of an action.
    Done(super::action::Done),
}

/// Since when something is not heard any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Lost {
    pub(super) since: At,
    pub(super) why: String,
}

/// A connection that came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Back {
    at: At,
    after: Duration,
}

#[derive(Debug)]
pub(super) struct Model {
    pub(super) rollout: String,
    /// How often the state is asked for.
    every: Duration,
    pub(super) answer: Option<Box<RolloutAnswer>>,
    heard: Option<At>,
    pub(super) lost: Option<Lost>,
    pub(super) events_lost: Option<Lost>,
    back: Option<Back>,
    /// Oldest first.
    pub(super) events: VecDeque<EventRecord>,
    pub(super) series: Series,
    /// Why there is no recent past.
    pub(super) no_samples: Option<String>,
}

impl Model {
    pub(super) fn new(rollout: String, every: Duration) -> Self {
        Self {
            rollout,
            every,
            answer: None,
            heard: None,
            lost: None,
            events_lost: None,
            back: None,
            events: VecDeque::new(),
            series: Series::default(),
            no_samples: None,
        }
    }

    /// Takes in what was heard, and gives back what is for the person and not for the picture.
    pub(super) fn hear(&mut self, at: At, heard: Heard) -> Option<super::action::Done> {
        match heard {
            Heard::State(answer) => self.state(at, answer),
            Heard::Samples { step, samples } => {
                self.no_samples = None;
                self.series.merge(step, samples);
            }
            Heard::NoSamples(why) => self.no_samples = Some(why),
            Heard::Lost(why) => {
                let since = self.heard.unwrap_or(at);
                let since = self.lost.take().map_or(since, |lost| lost.since);
                self.lost = Some(Lost { since, why });
            }
            Heard::Event(event) => self.event(*event),
            Heard::EventsFlow => self.events_lost = None,
            Heard::EventsStopped(why) => {
                let since = self.events_lost.take().map_or(at, |lost| lost.since);
                self.events_lost = Some(Lost { since, why });
            }
            Heard::Done(done) => return Some(done),
        }
        None
    }

    fn state(&mut self, at: At, answer: Box<RolloutAnswer>) {
        if let Some(lost) = self.lost.take() {
            self.back = Some(Back {
                at,
                after: at.since.saturating_sub(lost.since.since),
            });
        }
        self.heard = Some(at);
        self.answer = Some(answer);
    }

    // Events are numbered without gaps. A number that is known already begins another journal: what was known is of a
    // rollout that is gone.
    fn event(&mut self, event: EventRecord) {
        if self.last_event().is_some_and(|last| event.id <= last) {
            self.events.clear();
        }
        self.events.push_back(event);
        while self.events.len() > EVENTS {
            self.events.pop_front();
        }
    }

    pub(super) fn last_event(&self) -> Option<u64> {
        self.events.back().map(|event| event.id)
    }

    /// How old the figures are.
    pub(super) fn age(&self, now: At) -> Option<Duration> {
        self.heard
            .map(|heard| now.since.saturating_sub(heard.since))
    }

    /// Whether the figures are older than they should be: nobody must take them for now.
    pub(super) fn is_old(&self, now: At) -> bool {
        self.lost.is_some() || self.age(now).is_some_and(|age| age > self.every * LATE)
    }

    /// When the connection came back and how long it was away, while that is news.
    pub(super) fn back(&self, now: At) -> Option<(Moment, Duration)> {
        let back = self.back?;
        let is_news = now.since.saturating_sub(back.at.since) < BACK;
        is_news.then(|| (Moment::from(back.at.wall), back.after))
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples::{answer, at, event};
    use super::*;

    fn model() -> Model {
        Model::new("analyzer".to_owned(), Duration::from_secs(2))
    }

    #[test]
    fn figures_grow_old_and_say_so() {
        let mut model = model();
        assert_eq!((model.age(at(0)), model.is_old(at(0))), (None, false));
        model.hear(at(1), Heard::State(Box::new(answer())));
        for (now, age, old) in [(1, 0, false), (7, 6, false), (8, 7, true)] {
            assert_eq!(model.age(at(now)), Some(Duration::from_secs(age)));
            assert_eq!(model.is_old(at(now)), old, "after {now} s");
        }
    }

    #[test]
    fn a_lost_connection_is_told_from_the_last_answer_on_and_its_return_for_a_minute() {
        let mut model = model();
        model.hear(at(10), Heard::State(Box::new(answer())));
        model.hear(at(13), Heard::Lost("refused".to_owned()));
        model.hear(at(15), Heard::Lost("no route".to_owned()));
        let lost = model.lost.clone().expect("lost");
        assert_eq!((lost.since, lost.why.as_str()), (at(10), "no route"));
        assert!(model.is_old(at(15)));
        assert_eq!(model.back(at(15)), None);

        model.hear(at(52), Heard::State(Box::new(answer())));
        assert_eq!(model.lost, None);
        let back = Some((Moment::from(at(52).wall), Duration::from_secs(42)));
        assert_eq!(model.back(at(52)), back);
        assert_eq!(model.back(at(111)), back);
        assert_eq!(model.back(at(112)), None);
    }

    #[test]
    fn who_never_was_there_is_missed_since_he_was_asked() {
        let mut model = model();
        model.hear(at(3), Heard::Lost("refused".to_owned()));
        assert_eq!(model.lost.map(|lost| lost.since), Some(at(3)));
    }

    #[test]
    fn events_of_another_journal_replace_those_known() {
        let mut model = model();
        for id in [7, 8, 9, 1, 2] {
            model.hear(at(0), Heard::Event(Box::new(event(id))));
        }
        let known: Vec<u64> = model.events.iter().map(|event| event.id).collect();
        assert_eq!(known, [1, 2]);
        for id in 3..2_000 {
            model.hear(at(0), Heard::Event(Box::new(event(id))));
        }
        assert_eq!(
            (model.events.len(), model.last_event()),
            (EVENTS, Some(1_999))
        );
    }
}
