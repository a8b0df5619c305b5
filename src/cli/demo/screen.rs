//! What the demo shows: events as they happen, and below them the stage's progress and both pools' figures.
//!
//! On a terminal the lower part is redrawn in place; elsewhere it is one line every two seconds.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::Scenario;
use crate::cli::figures::{self, span};
use crate::clock;
use crate::records::event::EventRecord;
use crate::records::status::StatusRecord;
use crate::rollout::name::Arm;
use crate::rollout::verdict::Purpose;

/// Where nothing can be redrawn, a line this often.
const PLAIN_EVERY: Duration = Duration::from_secs(2);

pub(super) struct Screen {
    bar: ProgressBar,
    speed: f64,
    began: Instant,
    last_plain: Cell<Instant>,
}

impl Screen {
    pub(super) fn new(speed: f64) -> Self {
        let bar = ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stdout());
        let style = ProgressStyle::with_template("\n{prefix} [{bar:40}]\n{msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        let began = clock::now();
        Self {
            bar,
            speed,
            began,
            last_plain: Cell::new(began),
        }
    }

    pub(super) fn introduce(
        &self,
        scenario: Scenario,
        proxy: SocketAddr,
        admin: SocketAddr,
        planned: Duration,
    ) {
        self.say(&format!(
            "serin demo, scenario {}",
            format!("{scenario:?}").to_lowercase()
        ));
        self.say(
            "8 original and 2 ultra_fast stub analyzers, 20000 learners, 3000 requests a second",
        );
        self.say(&format!("proxy http://{proxy}   admin http://{admin}"));
        self.say(&format!(
            "the plan's clock runs {} times as fast: {} s in all; min_requests = 300 and a warm-up of 2 s per stage\n",
            self.speed,
            planned.as_secs()
        ));
    }

    /// One line of text above the figures.
    pub(super) fn say(&self, line: &str) {
        if self.bar.is_hidden() {
            // A reader who has gone away ends nothing.
            drop(crate::cli::print(&format!("{line}\n")));
        } else {
            self.bar.println(line);
        }
    }

    pub(super) fn event(&self, event: &EventRecord) {
        let mark = if figures::is_alarm(event) { "!" } else { " " };
        let stage = event.stage.as_deref().unwrap_or("-");
        let seconds = clock::now()
            .saturating_duration_since(self.began)
            .as_secs_f64();
        self.say(&format!(
            "{seconds:6.1}s {mark} {stage:<8} {}",
            figures::event_line(event)
        ));
    }

    pub(super) fn show(&self, status: &StatusRecord) {
        if self.bar.is_hidden() {
            self.show_plain(status);
            return;
        }
        let end = status.stage_ends_at_ms.unwrap_or(1).max(1);
        self.bar.set_length(end);
        self.bar.set_position(status.stage_time_ms.min(end));
        self.bar.set_prefix(self.progress(status));
        self.bar
            .set_message(format!("{}{}", figures::table(status), criteria(status)));
    }

    fn show_plain(&self, status: &StatusRecord) {
        let now = clock::now();
        if now.saturating_duration_since(self.last_plain.get()) < PLAIN_EVERY {
            return;
        }
        self.last_plain.set(now);
        let (baseline, canary) = (
            figures::brief(status, Arm::Baseline),
            figures::brief(status, Arm::Canary),
        );
        let seconds = now.saturating_duration_since(self.began).as_secs_f64();
        self.say(&format!(
            "{seconds:6.1}s   {} | {baseline} | {canary}",
            self.progress(status)
        ));
    }

    /// `ramp 10%  6.2s of 30s, by the plan 49m of 4h`.
    fn progress(&self, status: &StatusRecord) -> String {
        let stage = status.stage.as_deref().unwrap_or("-");
        let Some(end) = status.stage_ends_at_ms else {
            return figures::headline(status);
        };
        let planned = |ms: u64| span((ms as f64 * self.speed) as u64 / 60_000 * 60_000);
        let warming = if status.warming_up {
            ", warming up"
        } else {
            ""
        };
        format!(
            "{stage:<8} {:>4}  {} of {}, by the plan {} of {}{warming}",
            figures::percent(status.weight),
            span(status.stage_time_ms),
            span(end),
            planned(status.stage_time_ms),
            planned(end)
        )
    }

    /// Clears the figures, and prints the report.
    pub(super) fn conclude(&self, status: &StatusRecord, report: &str, written: &Path) {
        self.bar.finish_and_clear();
        let logs = written.parent().unwrap_or(written).display();
        let text = format!(
            "\n{}\n\n{report}\nreport: {}; the log of the run is in {logs}/ as well\n\n",
            figures::headline(status),
            written.display()
        );
        drop(crate::cli::print(&text));
    }
}

/// Each criterion of the stage and where it stands, a line each.
fn criteria(status: &StatusRecord) -> String {
    let advance = status
        .evaluations
        .iter()
        .filter(|evaluation| evaluation.purpose == Purpose::Advance);
    advance
        .map(|evaluation| format!("  {}\n", figures::evaluation_line(evaluation)))
        .collect()
}
