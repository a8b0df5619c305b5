//! The fleet's link against real servers of NATS: who leads, what is fenced, what is told and kept, who is away.

#![expect(
    clippy::disallowed_methods,
    reason = "these tests look at the link and at servers from outside, by the machine's own clock"
)]

#[path = "support/certificates.rs"]
#[expect(dead_code, reason = "only the files are needed here")]
mod certificates;
#[path = "support/nats.rs"]
#[expect(dead_code, reason = "what a server costs is looked at elsewhere")]
mod nats;
#[path = "support/relay.rs"]
mod relay;

use std::io::{self, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use certificates::Ca;
use data_encoding::BASE64URL_NOPAD;
use nats::NatsServer;
use nkeys::KeyPair;
use relay::Relay;
use serin::config::{Fleet, parse};
use serin::fleet::{self, Ask, Link, News, name_of};
use serin::rollout::name::RolloutName;
use serin::shutdown::{self, Shutdown, Stage, Trigger, Watched};

const CHILD: &str = "SERIN_TEST_FLEET_CHILD";
/// Of everything that has no limit of its own.
const PATIENCE: Duration = Duration::from_secs(30);

/// A member, and everything it was told.
struct Peer {
    link: Link,
    trigger: Trigger,
    thread: Option<Watched>,
    told: Vec<(Instant, News)>,
}

fn settings(servers: &[String], name: &str, more: &str) -> Fleet {
    let text = format!("[fleet]\nservers = {servers:?}\nname = {name:?}\n{more}\n");
    let config = parse("proxy.toml", &text, &|_| Some("secret".to_owned()));
    let config = config.unwrap_or_else(|faults| panic!("{faults:?}"));
    config.fleet.expect("a fleet")
}

fn join(servers: &[String], name: &str) -> Peer {
    join_with(settings(servers, name, ""))
}

fn join_with(settings: Fleet) -> Peer {
    join_by(settings, fleet::start)
}

fn join_by(
    settings: Fleet,
    start: impl Fn(Fleet, Shutdown) -> io::Result<(Link, Watched)>,
) -> Peer {
    let (trigger, shutdown) = shutdown::channel();
    let (link, thread) = start(settings, shutdown).expect("a thread");
    Peer {
        link,
        trigger,
        thread: Some(thread),
        told: Vec::new(),
    }
}

fn urls(servers: &[NatsServer]) -> Vec<String> {
    servers.iter().map(NatsServer::url).collect()
}

fn rollout() -> RolloutName {
    RolloutName::parse("analyzer.v3").expect("a name")
}

impl Peer {
    fn ask(&self, ask: Ask) {
        self.link.asks.send(ask).expect("the thread lives");
    }

    /// The next news that `wanted` answers to, within `limit`.
    async fn within<T>(&mut self, limit: Duration, wanted: impl Fn(&News) -> Option<T>) -> T {
        let deadline = tokio::time::Instant::now() + limit;
        loop {
            let next = tokio::time::timeout_at(deadline, self.link.news.recv()).await;
            let Ok(next) = next else {
                panic!("not told within {limit:?}; told were {:#?}", self.told);
            };
            let news = next.expect("the thread lives");
            let found = wanted(&news);
            self.told.push((Instant::now(), news));
            if let Some(found) = found {
                return found;
            }
        }
    }

    async fn wait<T>(&mut self, wanted: impl Fn(&News) -> Option<T>) -> T {
        self.within(PATIENCE, wanted).await
    }

    async fn connected(&mut self) {
        self.wait(|news| matches!(news, News::CaughtUp).then_some(()))
            .await;
    }

    async fn leads(&mut self) -> u64 {
        self.wait(leading).await
    }

    /// Everything that was told already.
    fn drain(&mut self) {
        while let Ok(news) = self.link.news.try_recv() {
            self.told.push((Instant::now(), news));
        }
    }

    /// What comes until nothing does for a moment.
    async fn hear(&mut self) {
        let moment = Duration::from_millis(5);
        while let Ok(Some(news)) = tokio::time::timeout(moment, self.link.news.recv()).await {
            self.told.push((Instant::now(), news));
        }
    }

    fn tell(&self, n: u64) {
        let (rollout, body) = (rollout(), Bytes::from(format!("second {n}")));
        self.ask(Ask::Tell { rollout, n, body });
    }

    fn record(&self, term: u64, ticket: u64, text: &str) {
        let (rollout, body) = (rollout(), Bytes::from(text.to_owned()));
        self.ask(Ask::Record {
            rollout,
            term,
            ticket,
            body,
        });
    }

    /// Ends as a process does that is told to.
    fn stop(mut self) {
        self.trigger.advance(Stage::Stopped);
        if let Some(thread) = self.thread.take() {
            assert!(thread.join(), "the thread panicked");
        }
    }
}

fn leading(news: &News) -> Option<u64> {
    match news {
        News::Leading { term } => Some(*term),
        _ => None,
    }
}

/// The ticket of a record that was written, and its revision.
fn recorded(news: &News) -> Option<(u64, u64)> {
    match news {
        News::Recorded {
            ticket, revision, ..
        } => Some((*ticket, *revision)),
        _ => None,
    }
}

/// The ticket of one that was not.
fn fenced(news: &News) -> Option<u64> {
    match news {
        News::Fenced { ticket, .. } => Some(*ticket),
        _ => None,
    }
}

fn away(news: &News) -> Option<String> {
    match news {
        News::Away { why } => Some(why.clone()),
        _ => None,
    }
}

fn numbers(news: &News) -> Option<(u64, u64)> {
    match news {
        News::Told { position, n, .. } => Some((*position, *n)),
        _ => None,
    }
}

/// A member in a process of its own, which can be killed.
fn join_as_a_child(server: &str, name: &str) -> Child {
    let program = std::env::current_exe().expect("this program");
    Command::new(program)
        .args(["--exact", "as_a_child", "--nocapture"])
        .env(CHILD, format!("{server} {name}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("a process")
}

/// Not a test of its own: a member that lives until it is killed.
#[tokio::test]
async fn as_a_child() {
    let Ok(said) = std::env::var(CHILD) else {
        return;
    };
    let (server, name) = said.split_once(' ').expect("a server and a name");
    let peer = join(&[server.to_owned()], name);
    let body = Bytes::from_static(b"{\"alive\":true}");
    peer.ask(Ask::Present { body });
    // Ends with the parent, also where nobody kills it.
    io::copy(&mut io::stdin(), &mut io::sink()).expect("stdin");
    io::stdout().flush().expect("stdout");
}

#[tokio::test]
async fn a_killed_leader_is_followed_within_five_seconds_and_falls_silent() {
    let server = nats::start("");
    let mut other = join(&[server.url()], "other");
    other.ask(Ask::MayLead(false));
    other.connected().await;
    let mut child = join_as_a_child(&server.url(), "killed.one");
    let led = |news: &News| match news {
        News::Led { by: Some(by), term } if by == "killed.one" => Some(*term),
        _ => None,
    };
    let first = other.wait(led).await;
    let present = |news: &News| match news {
        News::Member { name, body } if name == "killed.one" => Some(body.is_some()),
        _ => None,
    };
    // Either comes first.
    if !other
        .told
        .iter()
        .any(|(_, news)| present(news) == Some(true))
    {
        assert!(other.wait(present).await, "it says what it is");
    }
    other.ask(Ask::MayLead(true));
    child.kill().expect("it can be killed");
    child.wait().expect("it is waited for");
    let killed = Instant::now();
    let term = other.within(Duration::from_secs(5), leading).await;
    eprintln!("the lead moved in {:?}", killed.elapsed());
    assert!(term > first, "{term} behind {first}");
    let silent = |news: &News| present(news).filter(|alive| !alive);
    if !other.told.iter().any(|(_, news)| silent(news).is_some()) {
        other.within(Duration::from_secs(6), silent).await;
    }
    other.stop();
}

#[tokio::test]
async fn two_never_lead_at_once() {
    let server = nats::start("");
    let mut peers: Vec<Peer> = ["a", "b", "c"]
        .map(|name| join(&[server.url()], name))
        .into();
    for peer in &mut peers {
        peer.connected().await;
    }
    let mut terms = Vec::new();
    for round in 0..9 {
        let (leader, term) = leader(&mut peers).await;
        assert!(
            terms.iter().all(|known| *known < term),
            "{term} of {terms:?}"
        );
        terms.push(term);
        if round % 3 == 2 {
            // Its driver is gone: the thread ends, and gives the lease back.
            let gone = peers.remove(leader);
            drop(gone.link);
            let name = format!("n{round}");
            peers.push(join(&[server.url()], &name));
            check_alone(&gone.told, &peers);
        } else {
            let not_before = Duration::from_secs(1);
            peers[leader].ask(Ask::Resign { not_before });
            let lost = |news: &News| matches!(news, News::Led { .. }).then_some(());
            peers[leader].wait(lost).await;
        }
    }
    check_alone(&[], &peers);
}

/// Waits until one of them leads.
async fn leader(peers: &mut [Peer]) -> (usize, u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        for (index, peer) in peers.iter_mut().enumerate() {
            peer.hear().await;
            let last = peer.told.iter().rev().find_map(|(_, news)| match news {
                News::Leading { term } => Some(Some(*term)),
                News::Led { .. } => Some(None),
                _ => None,
            });
            if let Some(Some(term)) = last {
                return (index, term);
            }
        }
        assert!(Instant::now() < deadline, "nobody leads");
    }
}

/// From each `Leading` to the next `Led` nobody else leads.
fn check_alone(gone: &[(Instant, News)], peers: &[Peer]) {
    let mut spans: Vec<(Instant, Instant)> = Vec::new();
    for told in peers.iter().map(|peer| &peer.told[..]).chain([gone]) {
        let mut since = None;
        for (at, news) in told {
            match news {
                News::Leading { .. } => since = Some(*at),
                News::Led { .. } => spans.extend(since.take().map(|since| (since, *at))),
                _ => {}
            }
        }
    }
    spans.sort_unstable();
    for pair in spans.windows(2) {
        assert!(pair[0].1 <= pair[1].0, "two led at once: {spans:?}");
    }
}

#[tokio::test]
async fn a_record_is_written_over_what_was_seen_and_nothing_else() {
    let server = nats::start("");
    let mut one = join(&[server.url()], "one");
    let term = one.leads().await;
    for ticket in 1..=20 {
        one.record(term, ticket, &format!("state {ticket}"));
    }
    let mut tickets = Vec::new();
    while tickets.last() != Some(&20) {
        tickets.push(one.wait(recorded).await.0);
    }
    assert_eq!(tickets, (1..=20).collect::<Vec<u64>>());

    // Another member is told the record as it lies there.
    let mut two = join(&[server.url()], "two");
    two.ask(Ask::MayLead(false));
    let body = |news: &News| match news {
        News::State { body, .. } => Some(body.clone()),
        _ => None,
    };
    assert_eq!(two.wait(body).await, Bytes::from_static(b"state 20"));
    two.connected().await;

    // It takes the lead, and the former leader's number is old.
    two.ask(Ask::MayLead(true));
    one.ask(Ask::Resign {
        not_before: Duration::from_secs(600),
    });
    let newer = two.leads().await;
    two.record(newer, 1, "of two");
    let (_, revision) = two.wait(recorded).await;
    assert!(revision > newer && newer > term);
    one.record(term, 21, "of one");
    assert_eq!(one.wait(fenced).await, 21);

    // Also where nobody told it: a write from outside, over which the leader does not write.
    let client = async_nats::connect(server.url()).await.expect("a client");
    let bucket = async_nats::jetstream::new(client)
        .get_key_value("serin_state")
        .await
        .expect("the bucket");
    let key = "rollout.analyzer=2Ev3";
    let stale = bucket.update(key, "late".into(), revision - 1).await;
    assert!(stale.is_err(), "an old revision is refused");
    bucket.put(key, "foreign".into()).await.expect("a write");
    two.record(newer, 2, "of two again");
    assert_eq!(two.wait(fenced).await, 2);
    let lying = bucket.get(key).await.expect("a read");
    assert_eq!(lying, Some(Bytes::from_static(b"foreign")));
    assert!(two.leads().await > newer);
    one.stop();
    two.stop();
}

#[tokio::test]
async fn what_is_too_large_is_told_with_its_limit() {
    let server = nats::start("max_payload: 4096");
    let mut one = join(&[server.url()], "one");
    let term = one.leads().await;
    one.record(term, 7, &"x".repeat(5000));
    let large = |news: &News| match news {
        News::TooLarge {
            ticket,
            size,
            limit,
            ..
        } => Some((*ticket, *size, *limit)),
        _ => None,
    };
    assert_eq!(one.wait(large).await, (7, 5000, 4096));
    one.stop();
}

#[tokio::test]
async fn an_order_is_one_order_however_often_it_is_given() {
    let server = nats::start("");
    let mut leader = join(&[server.url()], "leader");
    leader.leads().await;
    let mut other = join(&[server.url()], "other");
    other.connected().await;
    let order = |news: &News| match news {
        News::Order { id, body } => Some((id.clone(), body.clone())),
        _ => None,
    };
    let ordered = |news: &News| match news {
        News::Ordered { body, .. } => Some(body.clone()),
        _ => None,
    };
    let id = "promote/analyzer 1";
    let give = |peer: &Peer, body: &'static str| {
        let (id, body) = (id.to_owned(), Bytes::from_static(body.as_bytes()));
        peer.ask(Ask::Order { id, body });
    };
    let first = (id.to_owned(), Bytes::from_static(b"first"));
    give(&other, "first");
    assert_eq!(leader.wait(order).await, first);
    assert_eq!(other.wait(order).await, first);
    give(&other, "second");
    assert_eq!(other.wait(order).await, first, "what is there is answered");

    let outcome = Bytes::from_static(b"done");
    leader.ask(Ask::Ordered {
        id: id.to_owned(),
        body: outcome.clone(),
    });
    assert_eq!(other.wait(ordered).await, outcome);
    give(&other, "third");
    assert_eq!(other.wait(ordered).await, outcome);
    leader.wait(ordered).await;
    leader.drain();
    let orders = leader.told.iter().filter(|(_, news)| order(news).is_some());
    assert_eq!(orders.count(), 1, "{:?}", leader.told);

    // One that waits is delivered to whoever leads next.
    other.ask(Ask::Order {
        id: "waits".to_owned(),
        body: Bytes::from_static(b"w"),
    });
    other.wait(order).await;
    leader.stop();
    other.leads().await;
    assert_eq!(other.wait(order).await.0, "waits");
    other.stop();
}

#[tokio::test]
async fn messages_come_once_and_in_order_over_restarts_and_leaders() {
    let mut server = nats::start("");
    let mut one = join(&[server.url()], "one");
    one.leads().await;
    one.ask(Ask::Follow { after: 0 });
    let mut two = join(&[server.url()], "two");
    two.connected().await;
    let kept = |last: u64| {
        move |news: &News| matches!(news, News::Kept { n, .. } if *n == last).then_some(())
    };

    (1..=50).for_each(|n| two.tell(n));
    let mut heard = Vec::new();
    let mut place = 0;
    while heard.len() < 50 {
        let (position, n) = one.wait(numbers).await;
        assert!(position > place, "{position} behind {place}");
        place = position;
        heard.push(n);
    }
    // Told while the server is away, and kept when it is back.
    server.kill();
    two.wait(away).await;
    (51..=100).for_each(|n| two.tell(n));
    server.start();
    two.wait(kept(100)).await;
    while heard.len() < 100 {
        let (position, n) = one.wait(numbers).await;
        place = position;
        heard.push(n);
    }
    // Another leads, and goes on where the first one was.
    one.stop();
    two.leads().await;
    (101..=120).for_each(|n| two.tell(n));
    two.ask(Ask::Follow { after: place });
    while heard.len() < 120 {
        heard.push(two.wait(numbers).await.1);
    }
    assert_eq!(heard, (1..=120).collect::<Vec<u64>>());
    let of = |news: &News| match news {
        News::Told { member, .. } => Some(member.clone()),
        _ => None,
    };
    let members: Vec<String> = two.told.iter().filter_map(|(_, news)| of(news)).collect();
    assert!(
        members.iter().all(|member| name_of(member) == "two"),
        "{members:?}"
    );

    // A new leader that knows nothing hears everything that is kept, each once.
    two.ask(Ask::Follow { after: 0 });
    for n in 1..=120 {
        assert_eq!(two.wait(numbers).await.1, n);
    }
    two.stop();
}

/// Which of the servers leads the bucket of states.
async fn leader_of_states(servers: &[NatsServer]) -> usize {
    let client = async_nats::connect(urls(servers)).await.expect("NATS");
    let bucket = async_nats::jetstream::new(client)
        .get_stream("KV_serin_state")
        .await
        .expect("the bucket");
    let cluster = bucket.cached_info().cluster.as_ref().expect("a cluster");
    let name = cluster.leader.as_deref().expect("it has a leader");
    let number = name.strip_prefix('n').expect("a name");
    number.parse().expect("a number")
}

#[tokio::test]
async fn a_cluster_is_away_without_a_quorum_and_comes_back_with_everything() {
    let mut servers = nats::cluster(3);
    let mut first = join(&urls(&servers), "first");
    first.within(Duration::from_secs(60), leading).await;
    first.stop();
    // The one that leads the bucket is left alone: it still refuses what is stale, and keeps nothing.
    let left = leader_of_states(&servers).await;
    let mut one = join(&[servers[left].url()], "one");
    let term = one.leads().await;
    one.record(term, 1, "agreed");
    one.wait(recorded).await;

    let others: Vec<usize> = (0..3).filter(|at| *at != left).collect();
    others.iter().for_each(|at| servers[*at].kill());
    let killed = Instant::now();
    one.within(Duration::from_secs(3), away).await;
    eprintln!("away after {:?}", killed.elapsed());
    let lost = |news: &News| matches!(news, News::Led { by: None, .. }).then_some(());
    one.within(Duration::from_secs(4), lost).await;

    others.iter().for_each(|at| servers[*at].start());
    let back = Instant::now();
    let limit = Duration::from_secs(60);
    // It may have found the server that was left before, and then is not connected anew.
    let state = |news: &News| match news {
        News::State { body, .. } => Some(body.clone()),
        _ => None,
    };
    assert_eq!(
        one.within(limit, state).await,
        Bytes::from_static(b"agreed")
    );
    let again = one.within(limit, leading).await;
    eprintln!("leads again after {:?}", back.elapsed());
    assert!(again > term);
    one.stop();
}

#[tokio::test]
async fn servers_that_fall_apart_leave_one_leader_and_what_the_other_one_writes_is_refused() {
    // Each server reaches each other one over a way of its own.
    let ways = std::cell::RefCell::new(Vec::new());
    let servers = nats::cluster_over(3, |at, listening| {
        let others = (0..3).filter(|other| *other != at);
        let way = |other: usize| {
            let relay = Relay::start(vec![listening[other]], Duration::ZERO, 0.0);
            let port = relay.ports[0];
            ways.borrow_mut().push((at, other, relay));
            port
        };
        others.map(way).collect()
    });
    let mut first = join(&urls(&servers), "first");
    first.within(Duration::from_secs(60), leading).await;
    first.stop();
    // The leader of the fleet is on the small side, with the server that leads the bucket.
    let small = leader_of_states(&servers).await;
    let mut one = join(&[servers[small].url()], "one");
    let term = one.leads().await;
    one.record(term, 1, "of one");
    let (_, revision) = one.wait(recorded).await;
    let large: Vec<String> = (0..3)
        .filter(|at| *at != small)
        .map(|at| servers[at].url())
        .collect();
    let mut two = join(&large, "two");
    two.connected().await;

    let between = |(from, to, _): &&(usize, usize, Relay)| *from == small || *to == small;
    let ways = ways.into_inner();
    ways.iter()
        .filter(between)
        .for_each(|(_, _, way)| way.cut());
    let gone = async {
        let lost = |news: &News| matches!(news, News::Led { .. }).then_some(());
        one.within(Duration::from_secs(4), lost).await;
        // What it asks for all the same is not even sent.
        one.record(term, 2, "late");
        one.wait(fenced).await;
    };
    let (term_of_two, ()) = tokio::join!(two.within(Duration::from_secs(30), leading), gone);
    assert!(term_of_two > term);
    two.record(term_of_two, 1, "of two");
    let (_, newer) = two.wait(recorded).await;
    // A leader that would not know that it is none: its server cannot keep it, and refuses it when it can.
    let client = async_nats::connect(servers[small].url())
        .await
        .expect("NATS");
    let mut context = async_nats::jetstream::new(client);
    context.set_timeout(Duration::from_secs(1));
    let key = "$KV.serin_state.rollout.analyzer=2Ev3";
    let write = || async {
        let message = async_nats::jetstream::message::PublishMessage::build()
            .expected_last_subject_sequence(revision)
            .payload("of nobody".into());
        let sent = context
            .send_publish(key, message)
            .await
            .expect("it is sent");
        sent.await
    };
    assert!(write().await.is_err(), "kept without a quorum");

    ways.iter()
        .filter(between)
        .for_each(|(_, _, way)| way.mend());
    let follows =
        |news: &News| matches!(news, News::Led { by: Some(by), .. } if by == "two").then_some(());
    one.within(Duration::from_secs(60), follows).await;
    let state = |news: &News| match news {
        News::State { revision, body, .. } => (*body == "of two").then_some(*revision),
        _ => None,
    };
    let seen = match one.told.iter().find_map(|(_, news)| state(news)) {
        Some(seen) => seen,
        None => one.wait(state).await,
    };
    assert_eq!(seen, newer);
    let refused = write().await.expect_err("an old number");
    use async_nats::jetstream::context::PublishErrorKind;
    assert_eq!(
        refused.kind(),
        PublishErrorKind::WrongLastSequence,
        "{refused}"
    );
    check_alone(&[], &[one, two]);
}

#[tokio::test]
async fn a_member_speaks_tls_and_is_known_by_its_certificate_a_token_or_credentials() {
    let ca = Ca::new();
    ca.sign("server", "IP:127.0.0.1", 30);
    ca.sign("member", "DNS:member.example", 30);
    let file = |name: &str| ca.path(name).display().to_string();
    let tls = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {:?}, verify: true }}",
        file("server.pem"),
        file("server.key"),
        file("ca.pem")
    );
    let ours = format!(
        "tls = {{ ca = {:?}, cert = {:?}, key = {:?} }}",
        file("ca.pem"),
        file("member.pem"),
        file("member.key")
    );
    let server = nats::start(&format!("{tls}\nauthorization {{ token: secret }}"));
    let with = |more: &str| join_with(settings(&[server.url()], "one", more));
    let mut one = with(&format!("{ours}\ntoken_env = \"T\""));
    one.leads().await;
    one.stop();
    for (more, wanted) in [
        ("token_env = \"T\"".to_owned(), "certificate"),
        (
            format!("tls = {{ ca = {:?} }}\ntoken_env = \"T\"", file("ca.pem")),
            "cannot be reached",
        ),
        (ours.clone(), "refuses what this member logs in with"),
    ] {
        let mut one = with(&more);
        let why = one.wait(away).await;
        assert!(why.to_lowercase().contains(wanted), "{more}: {why}");
        one.stop();
    }
    // A server that speaks none, where it is required.
    let plain = nats::start("");
    let mut one = join_with(settings(&[plain.url()], "one", "tls = { required = true }"));
    let why = one.wait(away).await;
    assert!(why.contains("speaks no TLS"), "{why}");
    one.stop();

    let (operators, credentials) = credentials();
    let server = nats::start(&operators);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("member.creds");
    std::fs::write(&path, credentials).expect("it is written");
    let known = format!("credentials = {:?}", path.display().to_string());
    let mut one = join_with(settings(&[server.url()], "one", &known));
    one.leads().await;
    one.stop();
    let mut one = join(&[server.url()], "one");
    let why = one.wait(away).await;
    assert!(
        why.contains("refuses what this member logs in with"),
        "{why}"
    );
    one.stop();
}

/// An operator with one account and one user: the server's configuration, and the user's credentials file.
fn credentials() -> (String, String) {
    let [operator, system, account, user] = [
        KeyPair::new_operator(),
        KeyPair::new_account(),
        KeyPair::new_account(),
        KeyPair::new_user(),
    ];
    let unlimited = serde_json::json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true,
        "conn": -1, "leaf": -1, "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1,
    });
    let of_operator = serde_json::json!({ "type": "operator", "version": 2 });
    let of_account = serde_json::json!({ "type": "account", "version": 2, "limits": unlimited });
    let of_system = serde_json::json!({ "type": "account", "version": 2, "limits": {} });
    let of_user = serde_json::json!({
        "type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1,
    });
    let [operator_jwt, system_jwt, account_jwt, user_jwt] = [
        (&operator, &operator, of_operator),
        (&operator, &system, of_system),
        (&operator, &account, of_account),
        (&account, &user, of_user),
    ]
    .map(|(by, of, says)| jwt(by, of, says));
    let server = format!(
        "operator: {operator_jwt}\nresolver: MEMORY\nsystem_account: {0}\nresolver_preload: {{ {0}: {system_jwt}, {1}: {account_jwt} }}\n",
        system.public_key(),
        account.public_key()
    );
    let seed = user.seed().expect("a seed");
    let user = format!(
        "-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
    );
    (server, user)
}

/// What `by` says of `of`, signed, as servers of NATS read it.
fn jwt(by: &KeyPair, of: &KeyPair, says: serde_json::Value) -> String {
    let claims = serde_json::json!({
        "jti": "test", "iat": 1_700_000_000, "iss": by.public_key(), "sub": of.public_key(),
        "name": "test", "nats": says,
    });
    let header = BASE64URL_NOPAD.encode(br#"{"typ":"JWT","alg":"ed25519-nkey"}"#);
    let claims = BASE64URL_NOPAD.encode(claims.to_string().as_bytes());
    let said = format!("{header}.{claims}");
    let signature = by.sign(said.as_bytes()).expect("it signs");
    format!("{said}.{}", BASE64URL_NOPAD.encode(&signature))
}

#[tokio::test]
async fn why_nats_cannot_be_used_is_said_in_words() {
    // An old server says so in its first line.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        use std::io::{BufRead, BufReader};
        for stream in listener.incoming().map_while(Result::ok) {
            let info = format!(
                "INFO {{\"server_id\":\"x\",\"version\":\"2.9.10\",\"proto\":1,\"host\":\"127.0.0.1\",\"port\":{port},\
                 \"headers\":true,\"max_payload\":1048576,\"jetstream\":true}}\r\n"
            );
            let mut out = stream.try_clone().expect("a socket");
            out.write_all(info.as_bytes()).expect("a greeting");
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                if line.starts_with("PING") && out.write_all(b"PONG\r\n").is_err() {
                    break;
                }
            }
        }
    });
    let mut one = join(&[format!("nats://127.0.0.1:{port}")], "one");
    let why = one.wait(away).await;
    let wanted = format!("nats-server 2.9.10 at 127.0.0.1:{port} is too old: 2.11 or newer");
    assert!(why.contains(&wanted), "{why}");
    one.stop();

    let server = nats::start("authorization { user: u, password: secret }");
    let mut one = join_with(settings(
        &[server.url()],
        "one",
        "user = \"x\"\npassword_env = \"P\"",
    ));
    let why = one.wait(away).await;
    assert!(
        why.contains("refuses what this member logs in with"),
        "{why}"
    );
    one.stop();
    let mut one = join_with(settings(
        &[server.url()],
        "one",
        "user = \"u\"\npassword_env = \"P\"",
    ));
    one.leads().await;
    one.stop();

    let server = nats::start_with("", "");
    let mut one = join(&[server.url()], "one");
    let why = one.wait(away).await;
    assert!(why.contains("JetStream is not enabled"), "{why}");
    one.stop();

    let port = server.port;
    drop(server);
    let mut one = join(&[format!("nats://127.0.0.1:{port}")], "one");
    let why = one.wait(away).await;
    assert!(why.contains("cannot be reached"), "{why}");
    one.stop();
}

#[tokio::test]
async fn members_are_delivered_to_whoever_asks_for_them() {
    let server = nats::start("");
    let mut one = join(&[server.url()], "one");
    let mut two = join(&[server.url()], "two");
    for (peer, body) in [(&one, "of one"), (&two, "of two")] {
        let body = Bytes::from(body);
        peer.ask(Ask::Present { body });
    }
    let said = |of: &'static str| {
        move |news: &News| match news {
            News::Member { name, body } if name == of => Some(body.clone()),
            _ => None,
        }
    };
    one.wait(|news| said("two")(news).flatten()).await;
    // Unasked, one hears of nobody, whatever happens to the others.
    one.ask(Ask::Watch(false));
    let body = Bytes::from("of two, later");
    two.ask(Ask::Present { body: body.clone() });
    two.wait(|news| said("two")(news).flatten().filter(|said| *said == body))
        .await;
    one.drain();
    one.told.clear();
    two.ask(Ask::Present {
        body: Bytes::from("last"),
    });
    two.wait(|news| said("two")(news).flatten().filter(|said| said == "last"))
        .await;
    one.ask(Ask::Watch(true));
    let seen = |news: &News| matches!(news, News::MembersSeen).then_some(());
    one.wait(seen).await;
    let heard: Vec<Bytes> = one
        .told
        .iter()
        .filter_map(|(_, news)| said("two")(news).flatten())
        .collect();
    assert_eq!(heard, ["last"]);
    one.stop();
    two.stop();
}

#[tokio::test]
async fn one_member_of_a_region_adds_up_and_its_sums_lie_behind_each_other() {
    let server = nats::start("");
    let servers = [server.url()];
    let mut leader = join(&servers, "leader");
    leader.leads().await;
    leader.ask(Ask::Follow { after: 0 });
    let region = |name: &str| {
        let settings = settings(&servers, name, "region = \"e.u\"\naggregate = \"region\"");
        join_by(settings, fleet::start_region)
    };
    let mut adds_up = region("one");
    adds_up.leads().await;
    let other = region("two");
    // What members of a region tell, whoever adds up reads, and not the fleet.
    other.tell(1);
    adds_up.ask(Ask::Follow { after: 0 });
    adds_up.wait(numbers).await;

    let sum = |peer: &Peer, n: u64, behind: u64, text: &str| {
        let (rollout, body) = (rollout(), Bytes::from(text.to_owned()));
        peer.ask(Ask::Sum {
            rollout,
            region: "e.u".to_owned(),
            n,
            behind,
            body,
        });
    };
    let last = |peer: &Peer| {
        let (rollout, region) = (rollout(), "e.u".to_owned());
        peer.ask(Ask::LastSum { rollout, region });
    };
    let found = |news: &News| match news {
        News::LastSum { found, .. } => Some(found.clone()),
        _ => None,
    };
    let summed = |news: &News| match news {
        News::Summed { n, position, .. } => Some((*n, Some(*position))),
        News::Unsummed { n, .. } => Some((*n, None)),
        _ => None,
    };
    // Told by any link with the fleet.
    let mut first = join(&servers, "first");
    let mut second = join(&servers, "second");
    for peer in [&mut first, &mut second] {
        peer.connected().await;
        last(peer);
        assert_eq!(peer.wait(found).await, None);
    }
    sum(&first, 1, 0, "a");
    let (_, place) = first.wait(summed).await;
    let place = place.expect("there was none");
    sum(&second, 7, 0, "b");
    assert_eq!(second.wait(summed).await, (7, None), "there is one");
    last(&second);
    let lies = Some((place, Bytes::from("a")));
    assert_eq!(second.wait(found).await, lies);
    sum(&second, 8, place, "b");
    assert!(second.wait(summed).await.1.is_some_and(|next| next > place));
    sum(&first, 2, place, "c");
    assert_eq!(first.wait(summed).await, (2, None), "it is not the last");
    // The leader hears those two, under the region's name.
    for body in ["a", "b"] {
        let told = |news: &News| match news {
            News::Told { member, body, .. } => Some((name_of(member).to_owned(), body.clone())),
            _ => None,
        };
        let expected = ("region:e.u".to_owned(), Bytes::from(body));
        assert_eq!(leader.wait(told).await, expected);
    }
    for peer in [adds_up, other, first, second, leader] {
        peer.stop();
    }
}

#[tokio::test]
async fn every_stream_has_room_for_more_than_the_thousand_who_may_follow_by_themselves() {
    let server = nats::start("");
    let servers = [server.url()];
    let mut one = join(&servers, "one");
    one.leads().await;
    let settings = settings(&servers, "one", "region = \"eu\"\naggregate = \"region\"");
    let mut of_region = join_by(settings, fleet::start_region);
    of_region.leads().await;
    let client = async_nats::connect(&servers[..]).await.expect("NATS");
    let context = async_nats::jetstream::new(client);
    for name in [
        "KV_serin_state",
        "KV_serin_orders",
        "serin_told",
        "KV_serin_region_eu_state",
        "serin_region_eu_told",
    ] {
        let stream = context.get_stream(name).await.expect(name);
        let room = stream.cached_info().config.max_consumers;
        assert_eq!(room, 100_000, "{name}");
    }
    one.stop();
    of_region.stop();
}
