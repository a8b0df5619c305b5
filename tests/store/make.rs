//! What the tests write: plans, snapshots, events and slots, and a store whose reports can be waited for.

use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serin::records::event::EventRecord;
use serin::rollout::assign::Split;
use serin::rollout::evidence::{Evidence, Shares};
use serin::rollout::gate::{
    Event, EventId, EventKind, Phase, PoolHealth, Progress, Run, Snapshot, Watch,
};
use serin::rollout::name::{Arm, RolloutName, StageName};
use serin::rollout::plan::Plan;
use serin::rollout::slot::{Cell, CellKey, Slot};
use serin::rollout::time::{Now, Timestamp, WallTime};
use serin::rollout::weight::Weight;
use serin::store::{AccessLines, Batch, Disk, Recovered, Report, Settings, Store, StoreError};

/// 2025-11-01T14:00:00.000Z.
pub(crate) const START: i64 = 1_762_005_600_000;
/// Nothing here takes longer unless it is broken.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn rollout() -> RolloutName {
    RolloutName::parse("analyzer").expect("a name")
}

/// A moment this many milliseconds after the start, on both clocks.
pub(crate) fn at(ms: u64) -> Now {
    Now {
        mono: Timestamp::from_millis(ms),
        wall: WallTime::from_unix_millis(START + ms as i64),
    }
}

pub(crate) fn plan() -> Plan {
    let json = include_str!("../data/plan.json");
    let record: serin::records::plan::PlanRecord =
        serde_json::from_str(json).expect("a plan's record");
    Plan::try_from(&record).expect("a valid plan")
}

pub(crate) fn event(id: u64, run: u64, kind: EventKind) -> EventRecord {
    let event = Event {
        id: EventId(id),
        run,
        at: at(id * 1000),
        phase: Phase::Running,
        stage: Some(StageName::parse("canary").expect("a name")),
        weight: Weight::from_ppm(10_000).expect("below the whole"),
        stage_time: Duration::from_millis(id * 900),
        by: "gate".to_owned(),
        reason: format!("reason {id}"),
        kind,
    };
    EventRecord::new(&rollout(), &event)
}

/// The state after event `id`, in run `runs`.
pub(crate) fn snapshot(id: u64, runs: u64) -> Snapshot {
    Snapshot {
        saved: at(id * 1000),
        phase: Phase::Running,
        last_event: EventId(id),
        stored: EventId(id.saturating_sub(1)),
        runs,
        split: Split::baseline_only(),
        awaiting: None,
        raises: Vec::new(),
        retreat: None,
        guarded: true,
        causes: Vec::new(),
        incidents: Vec::new(),
        incidents_opened: 0,
        last_tick: Some(at(id * 1000)),
        pools: [PoolHealth::default(); 2],
        probes: Vec::new(),
        stepped_up: None,
        rolled_back: None,
        recovery: None,
        store_fault: None,
        fleet_trouble: None,
        decided: None,
        thin_baseline_told: false,
        freeze: None,
        reminder: None,
        rehearsal: None,
        watch: Watch {
            stage: 0,
            epoch: 1,
            since: Timestamp::default(),
            began: None,
            warmed: Duration::ZERO,
            warm_until: None,
            breaches: Vec::new(),
            shares: Shares::new(1),
        },
        signals: Default::default(),
        splits: Default::default(),
        hooks: Default::default(),
        run: (runs > 0).then(run),
    }
}

pub(crate) fn run() -> Run {
    let plan = plan();
    Run {
        evidence: Evidence::new(at(0), &plan),
        plan,
        started: at(0),
        ended: None,
        completed: true,
        baseline_endpoints: 8,
        version: "v2".to_owned(),
        fallback_used: false,
        failed_segments: Default::default(),
        confidence: None,
        stage: Progress {
            index: 0,
            began: Some(at(10)),
            time: Duration::from_millis(900),
            checkpoints_done: 0,
            extended_until: None,
            totals: Default::default(),
            learners: Default::default(),
            interval_from: Duration::ZERO,
            interval: Default::default(),
            interval_incidents: 0,
            failed: Default::default(),
            ask: None,
            waits_for: Vec::new(),
            levels_told: 0,
        },
        totals: Default::default(),
        learners: Default::default(),
        outcomes: Default::default(),
    }
}

/// One second with this many canary requests of 20 ms.
pub(crate) fn slot(second: u64, requests: u64) -> Slot {
    let mut cell = Cell {
        counted: requests,
        ..Cell::default()
    };
    cell.latency.record(20_000, requests);
    let key = CellKey {
        epoch: 1,
        arm: Arm::Canary,
        segment: None,
    };
    Slot {
        start: Timestamp::from_millis(second * 1000),
        width: Duration::from_secs(1),
        cells: [(key, cell)].into(),
    }
}

pub(crate) fn batch(events: Vec<EventRecord>, slots: Vec<Slot>) -> Batch {
    let last = events.last().map_or(0, |event| event.id);
    let run = events.last().map_or(0, |event| event.run);
    Batch {
        rollout: rollout(),
        state: Box::new(snapshot(last, run)),
        events,
        slots,
        run,
        notices: Vec::new(),
        inputs: Vec::new(),
        replaces: false,
    }
}

/// One event of run 0 and the state after it.
pub(crate) fn one(id: u64) -> Batch {
    batch(vec![event(id, 0, EventKind::Resumed)], Vec::new())
}

pub(crate) fn settings(directory: &Path) -> Settings {
    Settings {
        path: directory.join("state").join("serin.db"),
        deployment_logs: directory.join("deployment-logs"),
        retention: Duration::from_secs(100 * 365 * 86_400),
        access_lines: AccessLines::default(),
    }
}

/// A store whose reports can be read.
pub(crate) struct Opened {
    pub(crate) store: Store,
    pub(crate) recovered: Recovered,
    pub(crate) reports: Receiver<Report>,
}

pub(crate) fn open(directory: &Path) -> Opened {
    open_settings(&settings(directory)).expect("the store opens")
}

pub(crate) fn open_settings(settings: &Settings) -> Result<Opened, StoreError> {
    let (send, reports) = channel();
    // The receiver may be gone at the end of a test.
    let tell = Box::new(move |report| drop(send.send(report)));
    let (store, recovered) = Store::open(settings, tell)?;
    Ok(Opened {
        store,
        recovered,
        reports,
    })
}

pub(crate) fn open_on(disk: impl Disk + 'static, directory: &Path) -> Opened {
    let (send, reports) = channel();
    let tell = Box::new(move |report| drop(send.send(report)));
    let (store, recovered) =
        Store::open_on(Box::new(disk), &settings(directory), tell).expect("the store opens");
    Opened {
        store,
        recovered,
        reports,
    }
}

impl Opened {
    pub(crate) fn next(&self) -> Report {
        self.reports
            .recv_timeout(PATIENCE)
            .expect("the store reports in time")
    }

    /// Waits until this event is reported stored.
    pub(crate) fn wait_stored(&self, id: u64) {
        loop {
            if let Report::Stored { id: stored, .. } = self.next()
                && stored >= EventId(id)
            {
                return;
            }
        }
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        let history = self
            .store
            .history(&rollout(), EventId(0), usize::MAX)
            .expect("the journal is read");
        history.iter().map(|record| record.id).collect()
    }
}
