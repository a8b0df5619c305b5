//! What a plan says about people and time as JSON, both ways: schedules, and the stabilization.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{PlanRecordError, read, read_all, span, texts};
use crate::calendar;
use crate::records::Moment;
use crate::rollout::condition::Condition;
use crate::rollout::name::StageName;
use crate::rollout::plan::{Level, Stabilization};
use crate::rollout::schedule::{DEFAULT_START_GRACE, Days, Daytime, Hours, Schedule};
use crate::rollout::time::format_duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScheduleRecord {
    pub start_at: Option<Moment>,
    pub start_grace: String,
    pub window: Option<WindowRecord>,
}

/// `{"days": ["mon-thu"], "hours": "09:00-16:00", "tz": "UTC"}`, as in proxy.toml.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WindowRecord {
    pub days: Vec<String>,
    pub hours: String,
    pub tz: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StabilizationRecord {
    pub duration: String,
    pub require: Vec<String>,
    pub hold: Vec<String>,
    /// `null` where it is the last stage's.
    pub rollback: Option<Vec<String>>,
    pub levels: Vec<LevelRecord>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelRecord {
    pub name: String,
    #[serde(rename = "for")]
    pub lasts: String,
    pub report: String,
}

impl Default for ScheduleRecord {
    fn default() -> Self {
        Self {
            start_at: None,
            start_grace: format_duration(DEFAULT_START_GRACE),
            window: None,
        }
    }
}

impl From<&Schedule> for ScheduleRecord {
    fn from(schedule: &Schedule) -> Self {
        let window = schedule.window.as_ref().map(|hours| WindowRecord {
            days: hours.days.texts(),
            hours: hours.daytime.to_string(),
            tz: hours.zone.name().to_owned(),
        });
        Self {
            start_at: schedule.start_at.map(Moment::from),
            start_grace: format_duration(schedule.start_grace),
            window,
        }
    }
}

impl ScheduleRecord {
    pub(super) fn schedule(&self) -> Result<Schedule, PlanRecordError> {
        Ok(Schedule {
            start_at: self.start_at.map(|at| at.0),
            start_grace: span("stage.start_grace", &self.start_grace)?,
            window: self.window.as_ref().map(WindowRecord::hours).transpose()?,
        })
    }
}

impl WindowRecord {
    fn hours(&self) -> Result<Hours, PlanRecordError> {
        let key = "stage.window";
        let days = read_all(&self.days, |text| read(key, text, Days::parse))?;
        let days = days.into_iter().reduce(Days::and);
        Ok(Hours {
            days: days.ok_or_else(|| PlanRecordError(format!("{key}: no day")))?,
            daytime: read(key, &self.hours, Daytime::parse)?,
            zone: read(key, &self.tz, calendar::zone)?,
        })
    }
}

impl From<&Stabilization> for StabilizationRecord {
    fn from(settling: &Stabilization) -> Self {
        Self {
            duration: format_duration(settling.duration),
            require: texts(&settling.require),
            hold: texts(&settling.hold),
            rollback: settling.rollback.as_deref().map(texts),
            levels: settling.levels.iter().map(LevelRecord::from).collect(),
        }
    }
}

impl From<&Level> for LevelRecord {
    fn from(level: &Level) -> Self {
        Self {
            name: level.name.to_string(),
            lasts: format_duration(level.lasts),
            report: format_duration(level.report),
        }
    }
}

impl StabilizationRecord {
    pub(super) fn stabilization(&self) -> Result<Stabilization, PlanRecordError> {
        let conditions =
            |key: &str, texts: &[String]| read_all(texts, |text| read(key, text, Condition::parse));
        Ok(Stabilization {
            duration: span("stabilization.duration", &self.duration)?,
            require: conditions("stabilization.require", &self.require)?,
            hold: conditions("stabilization.hold", &self.hold)?,
            rollback: self
                .rollback
                .as_ref()
                .map(|texts| conditions("stabilization.rollback", texts))
                .transpose()?,
            levels: self
                .levels
                .iter()
                .map(LevelRecord::level)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl LevelRecord {
    fn level(&self) -> Result<Level, PlanRecordError> {
        let spans: [Duration; 2] = [
            span("stabilization.levels", &self.lasts)?,
            span("stabilization.levels", &self.report)?,
        ];
        let [lasts, report] = spans;
        Ok(Level {
            name: read("stabilization.levels", &self.name, StageName::parse)?,
            lasts,
            report,
        })
    }
}
