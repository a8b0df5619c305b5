//! Learners' load: distinct learners asking at a steady rate, whatever the answers.
//!
//! Open loop: requests fall due by the clock, not by the last answer, and latency counts from the
//! moment a request was due, so that a target that stalls is seen to stall. Runs on the runtime it is
//! started on; owns its connections, and knows nothing of what stands behind the target.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{HOST, HeaderName, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};

use super::tally::{Answered, Tally};
use super::{LEARNER_HEADER, POOL_HEADER, SEGMENT_HEADER, lock};
use crate::clock;

pub use super::tally::{Latencies, LoadReport, PoolAnswers};

/// Requests that may wait for a connection; what falls due beyond is missed.
const WAITING_MAX: usize = 20_000;

#[derive(Clone, Debug)]
pub struct LoadSettings {
    pub target: SocketAddr,
    /// Path and query, beginning with `/`.
    pub path: String,
    /// Carries `learner-N`, N from 0.
    pub header: HeaderName,
    /// How many there are; at least 1 asks.
    pub learners: u32,
    /// Learner N is of segment N modulo their number, and says so; nobody says one where there are none.
    pub segments: Vec<HeaderValue>,
    /// Requests a second, of all together. Zero or less: none.
    pub rate_per_s: f64,
    pub spacing: Spacing,
    /// Most connections open at once.
    pub connections: usize,
    /// For one request, from its begin to its answer's last byte.
    pub timeout: Duration,
    /// Of who asks, and when.
    pub seed: u64,
}

/// How requests fall due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spacing {
    Even,
    /// As independent people do: the gaps are exponential.
    Poisson,
}

/// A running load. It goes on until `stop`, or until its runtime ends.
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    /// Closed when the last task is gone.
    tasks: mpsc::Receiver<()>,
}

/// Why a request has no whole answer.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot connect: {0}")]
    Connect(std::io::Error),
    #[error("no whole answer: {0}")]
    Exchange(hyper::Error),
    #[error("no whole answer in time")]
    Timeout,
}

#[derive(Debug)]
struct Shared {
    settings: LoadSettings,
    uri: Uri,
    host: HeaderValue,
    began: Instant,
    tally: Mutex<Tally>,
    connections: Mutex<Connections>,
}

#[derive(Debug, Default)]
struct Connections {
    idle: Vec<Connection>,
    /// Idle ones and those in use.
    open: usize,
    waiting: VecDeque<Due>,
    stopped: bool,
}

type Connection = SendRequest<Empty<Bytes>>;

/// One request that fell due.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    learner: u32,
}

// === impl LoadSettings ===

impl LoadSettings {
    /// 20,000 learners, 3,000 requests a second, Poisson, at most 512 connections.
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            path: "/".to_owned(),
            header: HeaderName::from_static(LEARNER_HEADER),
            learners: 20_000,
            segments: Vec::new(),
            rate_per_s: 3_000.0,
            spacing: Spacing::Poisson,
            connections: 512,
            timeout: Duration::from_secs(30),
            seed: 1,
        }
    }
}

// === impl Load ===

impl Load {
    /// Begins on the calling runtime. Fails only if the path is none.
    pub fn start(settings: LoadSettings) -> Result<Self, http::Error> {
        let uri = settings.path.parse::<Uri>()?;
        let host = HeaderValue::from_str(&settings.target.to_string())?;
        let shared = Arc::new(Shared {
            uri,
            host,
            began: clock::now(),
            tally: Mutex::new(Tally::new(settings.learners)),
            connections: Mutex::default(),
            settings,
        });
        let (stop, stopped) = watch::channel(false);
        let (alive, tasks) = mpsc::channel(1);
        tokio::spawn(Arc::clone(&shared).pace(stopped, alive));
        Ok(Self {
            shared,
            stop,
            tasks,
        })
    }

    /// What was seen until now.
    pub fn snapshot(&self) -> LoadReport {
        self.shared.report()
    }

    /// Begins no further request, waits for the answers to those begun, and closes every connection.
    pub async fn stop(mut self) -> LoadReport {
        self.stop.send_replace(true);
        lock(&self.shared.connections).stop();
        // Nobody sends: this ends when every task has dropped its sender.
        while self.tasks.recv().await.is_some() {}
        self.shared.report()
    }
}

// === impl Shared ===

impl Shared {
    async fn pace(self: Arc<Self>, mut stopped: watch::Receiver<bool>, alive: mpsc::Sender<()>) {
        let rate = self.settings.rate_per_s;
        if rate.is_nan() || rate <= 0.0 {
            return;
        }
        let mut rng = StdRng::seed_from_u64(self.settings.seed);
        let mut next = self.began;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                // Also where the handle is gone: nobody could stop it any more.
                _ = stopped.wait_for(|stopped| *stopped) => return,
            }
            let now = clock::now();
            while next <= now {
                let learner = rng.random_range(0..self.settings.learners.max(1));
                self.begin(Due { at: next, learner }, &alive);
                next += gap(self.settings.spacing, rate, &mut rng);
            }
        }
    }

    fn begin(self: &Arc<Self>, due: Due, alive: &mpsc::Sender<()>) {
        let mut connections = lock(&self.connections);
        if connections.stopped {
            return;
        }
        let connection = connections.take_idle();
        if connection.is_none() {
            if connections.open >= self.settings.connections.max(1) {
                if connections.waiting.len() < WAITING_MAX {
                    connections.waiting.push_back(due);
                } else {
                    lock(&self.tally).missed();
                }
                return;
            }
            connections.open += 1;
        }
        drop(connections);
        tokio::spawn(Arc::clone(self).ask(connection, due, alive.clone()));
    }

    // Asks on one connection until nothing is due.
    async fn ask(
        self: Arc<Self>,
        mut connection: Option<Connection>,
        mut due: Due,
        _alive: mpsc::Sender<()>,
    ) {
        loop {
            lock(&self.tally).sent(due.learner);
            let asked = self.ask_once(connection, due.learner);
            let asked = tokio::time::timeout(self.settings.timeout, asked).await;
            connection = None;
            match asked.unwrap_or(Err(Failure::Timeout)) {
                Ok((answer, kept)) => {
                    let latency = clock::now().saturating_duration_since(due.at);
                    let answered = Answered { latency, ..answer };
                    lock(&self.tally).answered(due.learner, &answered);
                    connection = kept;
                }
                Err(failure) => lock(&self.tally).failed(due.learner, failure.to_string()),
            }
            match lock(&self.connections).next(connection) {
                Some((kept, next)) => (connection, due) = (kept, next),
                None => return,
            }
        }
    }

    // The answer, and the connection if it can be used again.
    async fn ask_once(
        &self,
        connection: Option<Connection>,
        learner: u32,
    ) -> Result<(Answered, Option<Connection>), Failure> {
        let mut request = self.request(learner);
        if let Some(mut kept) = connection {
            match kept.try_send_request(request).await {
                Ok(answer) => return finish(answer, kept).await,
                // An idle connection was closed before the request was sent: that is no failure, and
                // any client asks again.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(Failure::Exchange(error.into_error())),
                },
            }
        }
        let mut fresh = connect(self.settings.target).await?;
        let answer = fresh
            .send_request(request)
            .await
            .map_err(Failure::Exchange)?;
        finish(answer, fresh).await
    }

    fn request(&self, learner: u32) -> Request<Empty<Bytes>> {
        let id = HeaderValue::try_from(format!("learner-{learner}"));
        let id = id.expect("letters, digits and a hyphen are a header value");
        let mut request = Request::new(Empty::new());
        *request.uri_mut() = self.uri.clone();
        request.headers_mut().insert(HOST, self.host.clone());
        request
            .headers_mut()
            .insert(self.settings.header.clone(), id);
        let segments = &self.settings.segments;
        let place = (learner as usize).checked_rem(segments.len());
        if let Some(segment) = place.and_then(|place| segments.get(place)) {
            let name = HeaderName::from_static(SEGMENT_HEADER);
            request.headers_mut().insert(name, segment.clone());
        }
        request
    }

    fn report(&self) -> LoadReport {
        let took = clock::now().saturating_duration_since(self.began);
        lock(&self.tally).report(took)
    }
}

// === impl Connections ===

impl Connections {
    // The one used last: so that few are kept busy rather than many.
    fn take_idle(&mut self) -> Option<Connection> {
        while let Some(connection) = self.idle.pop() {
            if connection.is_ready() {
                return Some(connection);
            }
            self.open -= 1;
        }
        None
    }

    // Gives a connection back (`None` where it was lost) and answers with what it is to do next.
    fn next(&mut self, connection: Option<Connection>) -> Option<(Option<Connection>, Due)> {
        if let Some(due) = self.waiting.pop_front() {
            return Some((connection, due));
        }
        match connection {
            Some(connection) if !self.stopped => self.idle.push(connection),
            _ => self.open -= 1,
        }
        None
    }

    fn stop(&mut self) {
        self.stopped = true;
        self.waiting.clear();
        self.open -= self.idle.len();
        self.idle.clear();
    }
}

async fn connect(target: SocketAddr) -> Result<Connection, Failure> {
    let stream = TcpStream::connect(target).await.map_err(Failure::Connect)?;
    stream.set_nodelay(true).map_err(Failure::Connect)?;
    let (connection, driver) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(Failure::Exchange)?;
    tokio::spawn(async move {
        if let Err(error) = driver.await {
            tracing::trace!("a learner's connection ended: {error}");
        }
    });
    Ok(connection)
}

async fn finish(
    answer: Response<Incoming>,
    mut connection: Connection,
) -> Result<(Answered, Option<Connection>), Failure> {
    let (head, mut body) = answer.into_parts();
    while let Some(frame) = body.frame().await {
        frame.map_err(Failure::Exchange)?;
    }
    let pool = head.headers.get(POOL_HEADER);
    let answered = Answered {
        pool: pool.and_then(|pool| Some(pool.to_str().ok()?.to_owned())),
        status: head.status.as_u16(),
        latency: Duration::ZERO,
    };
    let kept = connection.ready().await.is_ok().then_some(connection);
    Ok((answered, kept))
}

fn gap(spacing: Spacing, rate_per_s: f64, rng: &mut StdRng) -> Duration {
    let mean = 1.0 / rate_per_s;
    let seconds = match spacing {
        Spacing::Even => mean,
        Spacing::Poisson => -mean * (1.0 - rng.random::<f64>()).ln(),
    };
    // Never so short that time stands still, nor longer than a day.
    Duration::from_secs_f64(seconds.clamp(1e-9, 86_400.0))
}
