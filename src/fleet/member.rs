//! One member of the fleet: what it holds, what waits, and what is done when something happens.
//!
//! One task that waits for everything at once. Requests to the servers are jobs of their own, whose ends come back here;
//! when the connection goes they are given up, and what they carried waits for the next one.

mod lead;
mod sight;
mod writes;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::time::{Duration, Instant};

use async_nats::connection::State;
use async_nats::{Client, Event};
use bytes::Bytes;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};

use super::connect::{self, Happened};
use super::engine::{Engine, Lying, Put, PutFault};
use super::lease::{LEASE, Lease, Wish};
use super::letters::Letters;
use super::names::Names;
use super::orders::{Errand, Orders};
use super::records::Records;
use super::tail::Piece;
use super::{Ask, News};
use crate::clock;
use crate::config::Fleet;
use crate::rollout::name::RolloutName;
use crate::shutdown::{Shutdown, Stage};

/// From one sign of life to the next.
const BEAT: Duration = Duration::from_secs(1);
/// The time limit of a member's key.
const MEMBER: Duration = Duration::from_secs(5);
/// Without an acknowledgement for so long, JetStream is away.
const SILENCE: Duration = Duration::from_secs(2);
/// A request about the lease that takes longer is asked again.
const LEASE_PATIENCE: Duration = Duration::from_millis(900);
/// Candidates do not ask all at once.
const SPREAD: Duration = Duration::from_millis(200);
/// A lease that was taken and whose taking is not seen for so long is given back.
const UNSEEN: Duration = Duration::from_secs(3);
/// Before what failed is tried again.
const AGAIN: Duration = Duration::from_millis(300);
/// Before the buckets are looked for again; doubled with each time.
const OPEN_AGAIN: Duration = Duration::from_millis(250);
const OPEN_AGAIN_MOST: Duration = Duration::from_secs(2);
/// For giving back the lease at the end.
const LAST_CALL: Duration = Duration::from_secs(1);

pub(super) struct Member {
    names: Names,
    name: String,
    /// Tells this process from every other one of the same name.
    life: String,
    servers: String,
    news: UnboundedSender<News>,
    client: Option<Client>,
    /// Where the buckets are usable.
    engine: Option<Engine>,
    jobs: JoinSet<Done>,
    pieces: UnboundedSender<(Origin, Piece)>,
    /// Counts connections, and what a leader follows: what an older one still says counts no more.
    epoch: u64,
    followed: u64,
    following: Option<AbortHandle>,
    /// Whether what the members say of themselves is followed, and how often that began.
    watches: bool,
    watched: u64,
    watching: Option<AbortHandle>,
    /// The last reason that was told.
    away: Option<String>,
    opening: bool,
    open_pause: Duration,
    acknowledged: Instant,
    body: Bytes,
    lease: Lease,
    taken_at: Option<Instant>,
    records: Records,
    letters: Letters,
    orders: Orders,
    /// Where a leader follows on.
    position: Option<u64>,
    states: States,
}

/// Which stream a piece is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    States { epoch: u64 },
    Members { epoch: u64, watched: u64 },
    Orders { epoch: u64 },
    Told { epoch: u64, followed: u64 },
}

/// What is known of the bucket of states.
#[derive(Debug, Default)]
struct States {
    /// Of the records, by rollout.
    revisions: BTreeMap<RolloutName, u64>,
    members: BTreeMap<String, Bytes>,
    /// Seen since the bucket was followed from its beginning; `None` once everything was.
    first: Option<First>,
    told_caught_up: bool,
    /// The same of the members.
    first_members: Option<BTreeSet<String>>,
}

#[derive(Debug, Default)]
struct First {
    lease: bool,
}

/// The end of a job.
enum Done {
    Opened(u64, Result<Box<Engine>, String>),
    OpenAgain(u64),
    Beat(Result<u64, PutFault>),
    Wished(Wish, Instant, Result<u64, PutFault>, Option<Option<Lying>>),
    Candidate,
    Recorded(RolloutName, u64, Result<u64, PutFault>, Option<Lying>),
    RecordAgain(RolloutName),
    Told(RolloutName, u64, Result<u64, PutFault>),
    Summed(RolloutName, u64, Result<u64, PutFault>),
    LastSum(RolloutName, Result<Option<Lying>, String>),
    TellAgain(RolloutName),
    Carried(Errand, Result<u64, PutFault>, Option<News>),
    CarryAgain(Errand),
}

/// Runs a member until shutdown, or until nobody holds the other end.
pub(super) async fn run(
    settings: Fleet,
    names: Names,
    mut asked: UnboundedReceiver<Ask>,
    news: UnboundedSender<News>,
    mut shutdown: Shutdown,
) {
    let (pieces, mut seen) = unbounded_channel();
    let (events, mut happened) = unbounded_channel();
    let mut member = Member::new(&settings, names, news, pieces);
    tokio::spawn(connect::connect(settings, events));
    let mut beat = interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stopped = async { shutdown.reached(Stage::Stopped).await };
    tokio::pin!(stopped);
    loop {
        let deadline = member.next_deadline();
        tokio::select! {
            biased;
            () = &mut stopped => break,
            () = sleep_until(deadline.into()) => member.deadline(),
            Some(happened) = happened.recv() => match happened {
                Happened::Client(client) => {
                    member.client = Some(client);
                    member.open();
                }
                Happened::Failed(why) => member.still_gone(why),
                Happened::Event(event) => member.event(event),
            },
            Some(done) = member.jobs.join_next() => match done {
                Ok(done) => member.done(done),
                Err(why) if why.is_cancelled() => {}
                Err(why) => member.broke(&why),
            },
            Some((origin, piece)) = seen.recv() => member.piece(origin, piece),
            ask = asked.recv() => match ask {
                Some(ask) => member.ask(ask),
                None => break,
            },
            _ = beat.tick() => member.beat(),
        }
    }
    member.finish(&mut asked).await;
    member.leave().await;
}

impl Member {
    fn new(
        settings: &Fleet,
        names: Names,
        news: UnboundedSender<News>,
        pieces: UnboundedSender<(Origin, Piece)>,
    ) -> Self {
        let life = format!("{:016x}", rand::random::<u64>());
        Self {
            watches: !names.is_region,
            names,
            name: settings.name.clone(),
            lease: Lease::new(&settings.name, &life),
            life,
            servers: settings.servers.join(", "),
            news,
            client: None,
            engine: None,
            jobs: JoinSet::new(),
            pieces,
            epoch: 0,
            followed: 0,
            following: None,
            watched: 0,
            watching: None,
            away: None,
            opening: false,
            open_pause: OPEN_AGAIN,
            acknowledged: clock::now(),
            body: Bytes::new(),
            taken_at: None,
            records: Records::default(),
            letters: Letters::default(),
            orders: Orders::default(),
            position: None,
            states: States::default(),
        }
    }

    fn tell(&self, news: News) {
        if self.news.send(news).is_err() {
            // The other half of the link is about to go, too.
            tracing::trace!("nobody hears the fleet's news");
        }
    }

    // === the connection ===

    fn event(&mut self, event: Event) {
        match event {
            Event::Connected => {
                tracing::info!(servers = self.servers, "connected to NATS");
                self.close();
                self.open();
            }
            Event::Disconnected | Event::Closed => {
                self.gone("the connection to NATS is gone".to_owned());
            }
            Event::ClientError(why) if self.engine.is_none() => {
                let why = connect::in_words(&why.to_string(), &self.servers);
                self.still_gone(why);
            }
            Event::ServerError(why) => {
                tracing::warn!(%why, "NATS says");
                if self.engine.is_none() {
                    let why = connect::in_words(&why.to_string(), &self.servers);
                    self.still_gone(why);
                }
            }
            event => tracing::debug!(%event, "NATS"),
        }
    }

    /// Looks for the buckets.
    fn open(&mut self) {
        let Some(client) = self.client.clone() else {
            return;
        };
        let connected = client.connection_state() == State::Connected;
        if self.opening || self.engine.is_some() || !connected {
            return;
        }
        self.opening = true;
        let (epoch, names) = (self.epoch, self.names.clone());
        self.jobs.spawn(async move {
            let opened = Engine::open(client, &names).await;
            Done::Opened(epoch, opened.map(Box::new))
        });
    }

    fn opened(&mut self, opened: Result<Box<Engine>, String>) {
        self.opening = false;
        match opened {
            Ok(engine) => {
                self.engine = Some(*engine);
                self.away = None;
                self.open_pause = OPEN_AGAIN;
                self.acknowledged = clock::now();
                self.states.told_caught_up = false;
                tracing::info!(member = self.name, "the fleet can be reached");
                self.tell(News::Connected);
                self.follow_all();
                self.beat();
                self.send_all();
            }
            Err(why) => {
                self.gone(why);
                let (epoch, pause) = (self.epoch, self.open_pause);
                self.open_pause = (pause * 2).min(OPEN_AGAIN_MOST);
                self.later(pause, Done::OpenAgain(epoch));
            }
        }
    }

    /// JetStream is away: told once for each reason.
    fn gone(&mut self, why: String) {
        let was_there = self.engine.is_some();
        self.close();
        if was_there {
            self.away = None;
        }
        self.still_gone(why);
    }

    fn still_gone(&mut self, why: String) {
        if self.away.as_ref() != Some(&why) {
            tracing::warn!(why, "the fleet cannot be reached");
            self.away = Some(why.clone());
            self.tell(News::Away { why });
        }
    }

    /// Gives up what is under way, and keeps what it carried.
    fn close(&mut self) {
        self.epoch += 1;
        self.engine = None;
        self.opening = false;
        self.jobs = JoinSet::new();
        self.following = None;
        self.watching = None;
        self.lease.busy = false;
        self.records.interrupt();
        self.letters.interrupt();
        self.orders.interrupt();
    }

    fn broke(&mut self, why: &tokio::task::JoinError) {
        tracing::error!(%why, "a job of the fleet's link broke");
        self.gone("a request to JetStream broke".to_owned());
        self.open();
    }

    // === time ===

    /// The next moment at which something is over.
    fn next_deadline(&self) -> Instant {
        let silence = self.beats().map(|_| self.acknowledged + SILENCE);
        let ends = [silence, self.lease.deadline()];
        let far = clock::now() + BEAT;
        ends.into_iter().flatten().fold(far, Instant::min)
    }

    fn deadline(&mut self) {
        let now = clock::now();
        let turn = self.lease.expire(now);
        self.turn(turn);
        if self.beats().is_some() && now.saturating_duration_since(self.acknowledged) >= SILENCE {
            self.gone(
                "JetStream acknowledges nothing: its servers have no quorum, or cannot be reached"
                    .to_owned(),
            );
            self.open();
        }
    }

    /// Once a second: the sign of life, the lease, and what is overdue.
    fn beat(&mut self) {
        let now = clock::now();
        for id in self.orders.overdue(now) {
            let why = "JetStream did not acknowledge it in time".to_owned();
            self.tell(News::Refused { id, why });
        }
        let unseen = self
            .taken_at
            .is_some_and(|at| now.saturating_duration_since(at) >= UNSEEN);
        if unseen && self.lease.leads().is_none() {
            self.resign(UNSEEN);
        }
        if self.beats().is_some() {
            let put = Put {
                subject: self.names.member(&self.name),
                body: self.body.clone(),
                time_limit: Some(MEMBER),
                ..Put::default()
            };
            self.job(|engine| async move { Done::Beat(engine.put(put).await) });
        }
        self.wish();
    }

    /// Where signs of life are given. In a region nobody needs them: the fleet has them.
    fn beats(&self) -> Option<&Engine> {
        self.engine.as_ref().filter(|_| !self.names.is_region)
    }

    // === jobs ===

    fn job<F>(&mut self, job: impl FnOnce(Engine) -> F) -> Option<AbortHandle>
    where
        F: Future<Output = Done> + Send + 'static,
    {
        let engine = self.engine.clone()?;
        Some(self.jobs.spawn(job(engine)))
    }

    fn later(&mut self, pause: Duration, done: Done) {
        self.jobs.spawn(async move {
            tokio::time::sleep(pause).await;
            done
        });
    }

    fn done(&mut self, done: Done) {
        match done {
            Done::Opened(epoch, opened) if epoch == self.epoch => self.opened(opened),
            Done::OpenAgain(epoch) if epoch == self.epoch => self.open(),
            Done::Opened(..) | Done::OpenAgain(_) => {}
            Done::Beat(beaten) => self.heard(&beaten),
            Done::Wished(wish, sent, granted, lying) => {
                self.heard(&granted);
                self.wished(wish, sent, granted, lying);
            }
            Done::Candidate => self.wish(),
            Done::Recorded(rollout, number, written, lying) => {
                self.heard(&written);
                self.recorded(&rollout, number, written, lying);
            }
            Done::RecordAgain(rollout) => self.write(&rollout),
            Done::Told(rollout, n, kept) => {
                self.heard(&kept);
                self.letter_told(rollout, n, kept);
            }
            Done::Summed(rollout, n, kept) => {
                self.heard(&kept);
                self.summed(rollout, n, kept);
            }
            Done::LastSum(rollout, found) => self.last_sum(rollout, found),
            Done::TellAgain(rollout) => {
                self.letters.again(&rollout);
                self.send_letters();
            }
            Done::Carried(errand, carried, there) => {
                self.heard(&carried);
                self.carried(errand, carried, there);
            }
            Done::CarryAgain(errand) => {
                self.orders.again(&errand);
                self.carry();
            }
        }
    }

    /// Only what was kept shows that there is a quorum: a server that lost it goes on refusing stale writes for a while.
    fn heard(&mut self, answered: &Result<u64, PutFault>) {
        if answered.is_ok() {
            self.acknowledged = clock::now();
        }
    }

    fn send_all(&mut self) {
        self.write_all();
        self.send_letters();
        self.carry();
    }

    // === asks ===

    fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Tell { rollout, n, body } => {
                if let Some((n, count)) = self.letters.add(&rollout, n, body) {
                    if count.is_power_of_two() {
                        tracing::warn!(%rollout, count, "messages for the leader are dropped");
                    }
                    self.tell(News::Dropped { rollout, n, count });
                }
                self.send_letters();
            }
            Ask::Record {
                rollout,
                term,
                ticket,
                body,
            } => self.record(rollout, term, ticket, body),
            Ask::Sum {
                rollout,
                region,
                n,
                behind,
                body,
            } => self.sum(rollout, &region, (n, behind), body),
            Ask::LastSum { rollout, region } => self.find_sum(rollout, &region),
            Ask::Present { body } => {
                let first = self.body.is_empty();
                self.body = body;
                if first {
                    self.beat();
                }
            }
            Ask::Order { id, body } => match self.orders.give(&id, body, clock::now()) {
                Ok(()) => self.carry(),
                Err(why) => self.tell(News::Refused { id, why }),
            },
            Ask::Ordered { id, body } => {
                self.orders.answer(&id, body, clock::now());
                self.carry();
            }
            Ask::Follow { after } => {
                self.position = Some(after);
                self.tell(News::Follows { after });
                self.follow_told();
            }
            Ask::Unfollow => {
                self.position = None;
                self.followed += 1;
                if let Some(following) = self.following.take() {
                    following.abort();
                }
            }
            Ask::Watch(watches) => {
                self.watches = watches;
                if !watches {
                    self.states.members.clear();
                }
                self.watch_members();
            }
            Ask::Resign { not_before } => self.resign(not_before),
            Ask::MayLead(may) => {
                self.lease.may = may;
                if may {
                    self.wish();
                } else {
                    self.resign(Duration::ZERO);
                }
            }
        }
    }

    // === the end ===

    /// Gives back the lease and this member's key, if they can be reached.
    /// What was asked before the end is still done, as far as a moment lets it.
    async fn finish(&mut self, asked: &mut UnboundedReceiver<Ask>) {
        while let Ok(ask) = asked.try_recv() {
            // The lead is given back when its last records lie in the bucket.
            if !matches!(ask, Ask::Resign { .. }) {
                self.ask(ask);
            }
        }
        let writing = async {
            while self.engine.is_some() && !(self.letters.is_empty() && self.records.is_empty()) {
                match self.jobs.join_next().await {
                    Some(Ok(done)) => self.done(done),
                    Some(Err(_)) => {}
                    None => break,
                }
            }
        };
        if timeout(LAST_CALL, writing).await.is_err() {
            tracing::warn!("what was told last did not reach the fleet");
        }
    }

    async fn leave(mut self) {
        let held = self.lease.revision();
        let turn = self.lease.resign(clock::now(), LEASE);
        self.turn(turn);
        let Some(engine) = self.engine.take() else {
            return;
        };
        let delete = |subject, expected| Put {
            subject,
            expected,
            delete: true,
            ..Put::default()
        };
        self.jobs.shutdown().await;
        let member = delete(self.names.member(&self.name), None);
        let (lease, is_region) = (self.names.lease(), self.names.is_region);
        let leaving = async {
            if let Some(revision) = held {
                let deleted = engine.put(delete(lease.clone(), Some(revision))).await;
                // A renewal that was under way came first.
                if deleted == Err(PutFault::Stale)
                    && let Ok(Some(lying)) = engine.read(&lease).await
                    && self.lease.is_ours(&lying)
                {
                    engine.put(delete(lease, Some(lying.revision))).await?;
                }
            }
            if is_region {
                return Ok(0);
            }
            engine.put(member).await
        };
        match timeout(LAST_CALL, leaving).await {
            Ok(Ok(_)) => {}
            Ok(Err(why)) => tracing::debug!(?why, "the fleet was left without a word"),
            Err(_) => tracing::debug!("the fleet was left without a word"),
        }
    }
}
