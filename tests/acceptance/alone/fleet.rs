//! Several proxies and one rollout, over real servers of NATS: one decision, the same weight everywhere, figures summed; whoever dies
//! and whoever is cut off.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use http::HeaderName;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use serin::records::fleet::MemberRecord;
use serin::stub::load::{LoadReport, LoadSettings, Spacing};

use crate::members as light;
use crate::nats::{self, NatsServer, cluster};
use crate::receiver::Receiver;
use crate::relay::Relay;
use crate::support::{
    Analyzer, Connection, Learners, Place, Serin, asked, eventually, eventually_within, free_port,
    get, pause, post, two_pools, unix_ms, wall_ms,
};

const MEMBERS: usize = 5;

const TWO_STAGES: &str = "[[rollouts.analyzer.stages]]\nname = \"first\"\nweight = \"10%\"\nduration = \"8s\"\nwarmup = \"1s\"\nmin_requests = 20\n\
                          [[rollouts.analyzer.stages]]\nname = \"second\"\nweight = \"40%\"\nduration = \"8s\"\nwarmup = \"1s\"\nmin_requests = 20\n";

const ONE_STAGE: &str = "[[rollouts.analyzer.stages]]\nname = \"only\"\nweight = \"20%\"\nduration = \"1h\"\nwarmup = \"1s\"\nmin_requests = 20\n\
                         rollback = [\"regression(any)\", \"error_rate > 10% for 2s over 5s\"]\n";

/// Proxies of one fleet, each with a folder, ports and a journal of its own.
struct Members {
    all: Vec<Serin>,
    _analyzers: Vec<Analyzer>,
}

/// What a member is given beside the plan.
#[derive(Clone)]
struct Given {
    servers: Vec<String>,
    canary: SocketAddr,
    more: String,
}

impl Members {
    /// So many with the same analyzers; `given` may change what one is given.
    fn start(
        many: usize,
        servers: &[NatsServer],
        stages: &str,
        given: impl Fn(usize, Given) -> Given,
    ) -> (Self, Analyzer) {
        let folder = tempfile::tempdir().expect("a folder");
        let original = Analyzer::start(folder.path(), "original");
        let ultra_fast = Analyzer::start(folder.path(), "ultra_fast");
        let member = |at: usize| {
            let place = Place::new();
            let usual = Given {
                servers: servers.iter().map(NatsServer::url).collect(),
                canary: ultra_fast.addr,
                more: String::new(),
            };
            let Given {
                servers,
                canary,
                more,
            } = given(at, usual);
            let rest = two_pools(&[original.addr], &[canary], stages);
            place.write(
                1,
                &format!("[fleet]\nservers = {servers:?}\nname = \"m{at}\"\nregion = \"r{}\"\n{more}\n{rest}", at % 2),
            );
            place.start()
        };
        let all: Vec<Serin> = (0..many).map(member).collect();
        let members = Self {
            all,
            _analyzers: vec![original],
        };
        members.await_one_leader();
        (members, ultra_fast)
    }

    fn await_one_leader(&self) -> String {
        eventually("all members follow one leader", || {
            let seen: Vec<Value> = self.all.iter().map(fleet).collect();
            let leaders: BTreeSet<&str> = seen
                .iter()
                .map(|one| one["leader"].as_str().unwrap_or("nobody"))
                .collect();
            let roles = seen.iter().map(|one| one["role"].as_str().unwrap_or(""));
            let lead = roles.filter(|role| *role == "leads").count();
            let alone = seen.iter().any(|one| one["role"] == "alone");
            let whole = seen
                .iter()
                .all(|one| one["members"].as_array().map_or(0, Vec::len) == self.all.len());
            let leader = (leaders.len() == 1).then(|| leaders.into_iter().next());
            let leader = leader.flatten().filter(|leader| *leader != "nobody");
            leader
                .filter(|_| lead == 1 && !alone && whole)
                .map(str::to_owned)
        })
    }

    fn leader(&self) -> usize {
        let name = self.await_one_leader();
        name[1..].parse().expect("a number")
    }

    fn load(&self, which: impl IntoIterator<Item = usize>, rate: f64) -> Vec<Learners> {
        let start = |at: usize| {
            Learners::start(LoadSettings {
                target: self.all[at].proxy,
                path: "/work".to_owned(),
                header: HeaderName::from_static("x-learner-id"),
                learners: 5_000,
                segments: Vec::new(),
                rate_per_s: rate,
                spacing: Spacing::Poisson,
                connections: 8,
                timeout: Duration::from_secs(10),
                seed: at as u64 + 1,
            })
        };
        which.into_iter().map(start).collect()
    }

    /// What the members say in the same moment, once they say the same.
    fn agreed(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        eventually_within(Duration::from_secs(90), what, &mut || {
            let mut seen = self.all.iter().map(|serin| serin.status("analyzer"));
            let first = seen.next()?;
            let told = |status: &Value| (status["phase"].clone(), status["epoch"].clone());
            let same = seen.all(|status| told(&status) == told(&first));
            (same && fits(&first)).then_some(first)
        })
    }
}

fn urls(link: &Relay) -> Vec<String> {
    let url = |port: &u16| format!("nats://127.0.0.1:{port}");
    link.ports.iter().map(url).collect()
}

fn fleet(serin: &Serin) -> Value {
    serin.get("/api/fleet")
}

fn role(serin: &Serin) -> String {
    fleet(serin)["role"].as_str().expect("a role").to_owned()
}

fn ended(loads: Vec<Learners>) -> Vec<LoadReport> {
    loads.into_iter().map(Learners::stop).collect()
}

/// Requests of the run, of both arms.
fn counted(serin: &Serin) -> u64 {
    let status = serin.status("analyzer");
    let of = |arm: &str| {
        let requests = &status["figures"][arm]["run"]["requests"];
        requests.as_u64().expect("a number of requests")
    };
    of("baseline") + of("canary")
}

fn kinds(events: &[Value]) -> Vec<String> {
    let kind = |event: &Value| event["event"].as_str().expect("a kind").to_owned();
    events.iter().map(kind).collect()
}

fn decisions(events: &[Value]) -> Vec<String> {
    let mut kinds = kinds(events);
    kinds.retain(|kind| !matches!(kind.as_str(), "restarted" | "fleet_noted"));
    kinds
}

/// The pools that a member sends some learners to.
fn pools_of(proxy: SocketAddr, learners: std::ops::Range<u32>) -> BTreeMap<u32, String> {
    let mut connection = Connection::open(proxy).expect("it accepts");
    let pool = |learner: u32| {
        let answer = connection.learner(&format!("learner-{learner}"));
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200);
        let pool = answer.header("x-analyzer-pool").expect("the stub says so");
        (learner, pool.to_owned())
    };
    learners.map(pool).collect()
}

#[test]
fn five_proxies_carry_one_rollout_to_its_end() {
    let servers = cluster(3);
    let (members, _canary) = Members::start(MEMBERS, &servers, TWO_STAGES, |_, given| given);
    let follower = (members.leader() + 1) % MEMBERS;
    let loads = members.load(0..MEMBERS, 60.0);
    let answer = members.all[follower].act("analyzer", "start");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let began = Instant::now();

    for stage in ["first", "second"] {
        let told = |status: &Value| (status["stage"].clone(), status["epoch"].clone());
        // Its weight comes into force when its event is safe.
        let before = members.agreed(stage, |status| {
            status["stage"] == stage && status["awaiting_store"].is_null()
        });
        let everywhere = thread::scope(|scope| {
            let ask = |serin: &Serin| {
                let proxy = serin.proxy;
                scope.spawn(move || pools_of(proxy, 0..100))
            };
            let asked: Vec<_> = members.all.iter().map(ask).collect();
            let pools = asked.into_iter().map(|one| one.join().expect("answers"));
            pools.collect::<BTreeSet<BTreeMap<u32, String>>>()
        });
        let after = members.all[0].status("analyzer");
        assert_eq!(told(&before), told(&after), "a stage is longer than that");
        assert_eq!(
            everywhere.len(),
            1,
            "one learner, one pool, through every proxy"
        );
    }
    members.agreed("the end", |status| status["phase"] == "complete");
    for report in ended(loads) {
        assert_eq!(report.failed, 0, "{report:?}");
    }
    let histories: BTreeSet<String> = members
        .all
        .iter()
        .map(|serin| serde_json::to_string(&serin.events("analyzer")).expect("JSON"))
        .collect();
    assert_eq!(
        histories.len(),
        1,
        "one history, on every member's own disk"
    );
    let events = members.all[0].events("analyzer");
    assert_eq!(
        decisions(&events),
        [
            "started",
            "stage_began",
            "advanced",
            "stage_began",
            "completed"
        ]
    );
    // Five times 60 a second, of which the run saw all but what came before its start and after its end.
    let seconds = began.elapsed().as_secs_f64();
    let counted = counted(&members.all[follower]) as f64;
    assert!(
        counted > 0.7 * 300.0 * seconds && counted < 1.2 * 300.0 * seconds + 3_000.0,
        "{counted} requests in {seconds} s"
    );
}

#[test]
fn a_weight_reaches_all_five_within_a_quarter_of_a_second() {
    const CHANGES: usize = 200;
    let servers = cluster(3);
    let (members, _canary) = Members::start(MEMBERS, &servers, ONE_STAGE, |_, given| given);
    let mut dice = StdRng::seed_from_u64(7);
    let mut admins: Vec<Connection> = members
        .all
        .iter()
        .map(|serin| Connection::open(serin.admin).expect("it accepts"))
        .collect();
    let mut took = Vec::new();
    for change in 0..CHANGES {
        let ppm = 10_000 + 4_000 * (change as u64 % 200) + dice.random_range(0..4_000_u64);
        let body = json!({ "original": 1_000_000 - ppm, "ultra_fast": ppm }).to_string();
        let asked = &members.all[dice.random_range(0..MEMBERS)];
        let began = Instant::now();
        let answer = asked.set_weights(&body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert_eq!(weights(asked), ppm, "it is answered when it is in force");
        let mut left: Vec<usize> = (0..MEMBERS).collect();
        while !left.is_empty() {
            left.retain(|&at| {
                let request = "GET /api/traffic-weights HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n";
                let answer = admins[at].exchange(request.as_bytes()).expect("an answer");
                let share = answer.json()["ultra_fast"].as_f64().expect("a share");
                (share * 1e6).round() as u64 != ppm
            });
            assert!(
                began.elapsed() < Duration::from_secs(10),
                "change {change}: {left:?}"
            );
        }
        took.push(began.elapsed());
    }
    took.sort();
    let (median, p99) = (took[CHANGES / 2], took[CHANGES * 99 / 100 - 1]);
    println!("from the order to all five: median {median:?}, p99 {p99:?}");
    // The tail of a machine that does other work as well is its own; docs/FLEET.md has the figures of a quiet one.
    assert!(
        median < Duration::from_millis(250),
        "median {median:?}, p99 {p99:?}"
    );
}

#[test]
fn a_leader_that_is_killed_is_followed_by_another_and_no_request_is_counted_twice() {
    let kills = asked("SERIN_KILLS", 4);
    let leads = |seen: &Value| seen["role"] == "leads";
    let history = kill_and_count(kills, "", leads, Duration::from_secs(5));
    assert!(
        history.contains("is another process") || kills == 0,
        "the member that was killed is named: {history}"
    );
}

#[test]
fn whoever_adds_up_for_a_region_may_die_and_no_request_is_counted_twice() {
    let kills = asked("SERIN_KILLS", 3);
    let adds_up = |seen: &Value| seen["adds_up"] == true && seen["region"] == "r0";
    let more = "aggregate = \"region\"";
    let history = kill_and_count(kills, more, adds_up, Duration::from_secs(8));
    assert!(
        history.contains("is another process") || kills == 0,
        "a region tells what became of its members: {history}"
    );
}

/// Kills whoever `of_interest` is true of, so many times, while learners speak to others: each time there is another one `within`
/// that time, and in the end every request was counted once. Gives the sentences of the history.
fn kill_and_count(
    kills: usize,
    more: &str,
    of_interest: impl Fn(&Value) -> bool,
    within: Duration,
) -> String {
    let servers = cluster(3);
    let (mut members, _canary) = Members::start(MEMBERS, &servers, ONE_STAGE, |_, given| Given {
        more: more.to_owned(),
        ..given
    });
    let answer = members.all[0].act("analyzer", "start");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let of_interest = |all: &[Serin], but: Option<usize>| {
        eventually("there is one", || {
            let mut others = (0..MEMBERS).filter(|at| Some(*at) != but);
            others.find(|&at| of_interest(&fleet(&all[at])))
        })
    };
    // Of the members that learners speak to none is killed: what these answer is counted.
    let loads = members.load(0..2, 100.0);
    for kill in 0..kills {
        members.await_one_leader();
        let one = of_interest(&members.all, None);
        if one < 2 {
            // One that learners speak to leaves as it should, and what it has counted is told.
            hang_up(&mut members.all[one]);
            continue;
        }
        let began = Instant::now();
        members.all[one].process.kill();
        of_interest(&members.all, Some(one));
        let took = began.elapsed();
        println!("kill {kill}: another one after {took:?}");
        assert!(took < within, "kill {kill}: {took:?}");
        members.all[one].restart();
    }
    members.await_one_leader();
    let answered: u64 = ended(loads)
        .iter()
        .map(|report| {
            assert_eq!(report.failed, 0, "{report:?}");
            let pools = report.pools.values();
            pools.map(|pool| pool.ok + pool.errors).sum::<u64>()
        })
        .sum();
    let mut sum = 0;
    eventually(&format!("all of {answered} are counted"), || {
        let now = counted(&members.all[0]);
        if now != sum {
            sum = now;
            println!("{sum} of {answered} are counted");
        }
        (sum >= answered).then_some(())
    });
    assert_eq!(sum, answered, "no more than was answered");
    let events = members.all[0].events("analyzer");
    let ids: Vec<u64> = events
        .iter()
        .filter_map(|event| event["id"].as_u64())
        .collect();
    assert_eq!(ids, (1..=ids.len() as u64).collect::<Vec<u64>>());
    assert_eq!(
        decisions(&events),
        ["started", "stage_began"],
        "nothing twice"
    );
    let sentences = events.iter().filter_map(|event| event["sentence"].as_str());
    sentences.collect::<Vec<_>>().join("\n")
}

#[test]
fn notices_that_a_dead_leader_left_are_sent_by_the_next_one_and_each_by_one_member() {
    let servers = cluster(3);
    let pager = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let channel = format!(
        "[[notify]]\nkind = \"webhook\"\nname = \"pager\"\nurl = \"http://{pager}/\"\nevents = [\"started\", \"held\", \"resumed\"]\nescalate_after = \"2s\"\n"
    );
    let (mut members, _canary) = Members::start(3, &servers, ONE_STAGE, |_, given| Given {
        more: channel.clone(),
        ..given
    });
    assert_eq!(members.all[0].act("analyzer", "start").status, 200);
    assert_eq!(members.all[1].act("analyzer", "hold").status, 200);
    // Nobody took a notice so far.
    let first = members.leader();
    members.all[first].process.kill();
    let receiver = Receiver::start(pager);
    // How often each notice came, with what it is.
    let arrived = || {
        let mut arrived: BTreeMap<(String, String), u32> = BTreeMap::new();
        for call in receiver.calls() {
            let (id, json) = (call.header("x-serin-notice").expect("an id"), call.json());
            let word = json["event"].as_str().or_else(|| json["notice"].as_str());
            let word = word.expect("a kind").to_owned();
            *arrived.entry((word, id.to_owned())).or_default() += 1;
        }
        arrived
    };
    let many = |word: &str| arrived().keys().filter(|(of, _)| of == word).count();
    eventually("what the dead one left, and two reminders", || {
        let all = many("started") == 1 && many("held") == 1 && many("reminder") >= 2;
        all.then_some(())
    });
    let left = (0..3).find(|at| *at != first).expect("one that lives");
    assert_eq!(members.all[left].act("analyzer", "resume").status, 200);
    eventually("the last one", || (many("resumed") == 1).then_some(()));
    assert!(
        arrived().values().all(|times| *times == 1),
        "{:#?}",
        arrived()
    );

    // What was told is not told again by the next one, nor by the first when it is back.
    members.all[first].restart();
    let second = members.leader();
    members.all[second].process.kill();
    let third = eventually("another one leads", || {
        let mut others = (0..3).filter(|at| *at != second);
        others.find(|at| role(&members.all[*at]) == "leads")
    });
    assert_eq!(members.all[third].act("analyzer", "hold").status, 200);
    eventually("another hold", || (many("held") == 2).then_some(()));
    let again = arrived();
    let again = again
        .iter()
        .find(|((word, _), times)| word == "started" && **times > 1);
    assert_eq!(again, None);
}

/// `load-tests/members` asks for more of them by SERIN_MEMBERS, and prints what each costs.
#[test]
fn in_a_large_fleet_the_leader_alone_knows_everybody_and_counts_all_of_them() {
    count_many(2, 0);
}

/// The same where two regions add up, with two proxies in each.
#[test]
fn in_a_large_fleet_of_regions_two_words_a_second_count_all_of_them() {
    count_many(4, 2);
}

fn count_many(proxies: usize, regions: usize) {
    let many = asked("SERIN_MEMBERS", 80);
    let changes = asked("SERIN_CHANGES", 3);
    let server = nats::start("");
    let servers = [server];
    let more = if regions > 0 {
        "aggregate = \"region\""
    } else {
        ""
    };
    let (mut proxies, _canary) = Members::start(proxies, &servers, ONE_STAGE, |_, given| Given {
        more: more.to_owned(),
        ..given
    });
    let leader = proxies.leader();
    let me = fleet(&proxies.all[leader]);
    let me = me["members"].as_array().expect("members");
    let name = format!("m{leader}");
    let me = me.iter().find(|member| member["name"] == name.as_str());
    let says: MemberRecord = serde_json::from_value(me.expect("itself").clone()).expect("a member");
    let light = light::Members::join(many, regions, &servers[0].url(), &says);
    let all = many + proxies.all.len();
    eventually_within(
        Duration::from_secs(120),
        "the leader hears all",
        &mut || (known(&proxies.all[leader]) == [all, all]).then_some(()),
    );
    let joining = Instant::now();
    eventually_within(
        Duration::from_secs(120),
        "all members follow the records",
        &mut || {
            let seen = light.so_far().seen;
            seen.iter().all(|seen| !seen.is_empty()).then_some(())
        },
    );
    println!(
        "all of them follow {:.0?} after they are heard",
        joining.elapsed()
    );
    let other = (leader + 1) % proxies.all.len();
    let seen = eventually("the other one knows itself", || {
        let seen = fleet(&proxies.all[other]);
        let knows = seen["members"].as_array().map_or(0, Vec::len);
        // How many there are it has from the leader's records.
        (knows == 1 && seen["count"] == all).then_some(seen)
    });
    assert_eq!(seen["may_lead"], true);

    let began = (light.so_far(), Instant::now());
    let pids = [
        proxies.all[leader].process.child.id(),
        proxies.all[other].process.child.id(),
        servers[0].pid(),
        std::process::id(),
    ];
    let cpu = pids.map(cpu_ms);
    let mut took: Vec<Duration> = Vec::new();
    for change in 0..changes {
        light.forget_seen();
        let ppm = 210_000 + change as u64 * 1_000;
        let ordered = Instant::now();
        let body = json!({ "original": 1_000_000 - ppm, "ultra_fast": ppm }).to_string();
        let answer = proxies.all[change % proxies.all.len()].set_weights(&body);
        assert_eq!(answer.status, 200, "{}", answer.text());
        let revision = eventually("it is read", || {
            let so_far = light.so_far();
            (u64::from(so_far.weight_ppm) == ppm).then_some(so_far.revision)
        });
        took.extend(eventually("all members have it", || {
            let seen = light.so_far().seen;
            let first = seen.iter().map(|seen| {
                let at = seen.iter().find(|(of, _)| *of >= revision)?.1;
                Some(at.saturating_duration_since(ordered))
            });
            first.collect::<Option<Vec<Duration>>>()
        }));
    }
    // Some more seconds, so that what a member costs does not only hang on the changes.
    let until = Instant::now() + Duration::from_secs(asked("SERIN_SPAN", 2) as u64);
    while Instant::now() < until {
        pause();
    }
    let (before, span) = (began.0, began.1.elapsed().as_secs_f64());
    let after = light.so_far();
    let spent: Vec<f64> = pids
        .iter()
        .zip(cpu)
        .map(|(pid, before)| (cpu_ms(*pid) - before) as f64 / 10.0 / span)
        .collect();
    took.sort_unstable();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    println!(
        "{many} members beside {} proxies, {regions} regions, {span:.0} s: a weight reaches them in {:?} (median), {:?} (p99), {:?} (last)",
        proxies.all.len(),
        at(0.5),
        at(0.99),
        at(1.0)
    );
    println!(
        "CPU of a core: leader {:.1} %, other proxy {:.1} %, NATS {:.1} %, each member {:.3} %",
        spent[0],
        spent[1],
        spent[2],
        spent[3] / many as f64
    );
    let each = |bytes: u64, count: u64| bytes / count.max(1);
    println!(
        "a message {} bytes; a record {} bytes, {:.1} a second to each member, read in {:?}",
        each(
            after.message_bytes - before.message_bytes,
            after.messages - before.messages
        ),
        each(
            after.record_bytes - before.record_bytes,
            after.records - before.records
        ),
        (after.records - before.records) as f64 / many as f64 / span,
        after.reading / after.read.max(1),
    );
    for (name, pid) in ["leader", "other proxy", "NATS"].iter().zip(pids) {
        println!("memory of {name}: {} MiB", memory_mib(pid));
    }

    // Of a run every second is counted once, though another one leads before its end: one that knows everybody.
    light.leave();
    // What was told before the run is counted before it.
    eventually("nobody else is heard", || {
        let heard = known(&proxies.all[leader])[1];
        (heard == proxies.all.len()).then_some(())
    });
    let answer = proxies.all[other].act("analyzer", "start");
    assert_eq!(answer.status, 200, "{}", answer.text());
    let light = light::Members::join(many, regions, &servers[0].url(), &says);
    eventually_within(
        Duration::from_secs(120),
        "the leader hears all",
        &mut || (known(&proxies.all[leader])[1] == all).then_some(()),
    );
    proxies.all[leader].process.kill();
    let next = eventually("another one leads and hears all", || {
        let mut others = (0..proxies.all.len()).filter(|at| *at != leader);
        let next = others.find(|&at| role(&proxies.all[at]) == "leads")?;
        let all = known(&proxies.all[next]).iter().all(|known| *known > many);
        all.then_some(next)
    });
    let told = light.leave();
    let mut sum = 0;
    eventually(&format!("all of {} are counted", told.requests), || {
        sum = counted(&proxies.all[next]);
        (sum >= told.requests).then_some(())
    });
    assert_eq!(sum, told.requests, "each once");
}

/// How many members one lists, and of how many it has the seconds of the rollout, by themselves or by the word of their region.
fn known(serin: &Serin) -> [usize; 2] {
    let seen = fleet(serin);
    let len = |list: &Value| list.as_array().map_or(0, Vec::len);
    let regions = seen["regions"]["analyzer"].as_object();
    let in_regions = regions.map_or(0, |regions| {
        let members = regions.values().filter_map(Value::as_u64);
        members.sum::<u64>() as usize - regions.len()
    });
    let heard = len(&seen["heard"]["analyzer"]) + in_regions;
    [len(&seen["members"]), heard]
}

/// The processor's time that a process took so far, in milliseconds.
fn cpu_ms(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let behind = stat.rsplit_once(')').expect("its name").1;
    let fields = behind.split_whitespace();
    let ticks = fields.skip(11).take(2);
    // Of a hundredth of a second.
    ticks
        .map(|ticks| ticks.parse::<u64>().expect("a number") * 10)
        .sum()
}

fn memory_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next());
    kib.expect("a size").parse::<u64>().expect("a number") / 1024
}

/// SIGTERM, and again from its folder: learners are answered meanwhile by the same process until it has drained.
fn hang_up(serin: &mut Serin) {
    let log = format!("taken-over-{}.log", unix_ms());
    let mut before = serin.take_over(&log);
    before.wait();
}

#[test]
fn when_nats_is_away_nobody_advances_and_each_member_guards_itself() {
    let mut servers = cluster(3);
    let (members, canary) = Members::start(MEMBERS, &servers, ONE_STAGE, |_, given| given);
    assert_eq!(members.all[0].act("analyzer", "start").status, 200);
    let loads = members.load(0..MEMBERS, 60.0);
    members.agreed("the stage begins", |status| status["stage_time_ms"] != 0);

    servers[0].kill();
    // Longer than any member waits before it goes on alone.
    let until = Instant::now() + Duration::from_secs(17);
    while Instant::now() < until {
        for serin in &members.all {
            let status = serin.status("analyzer");
            assert_eq!(
                (&status["phase"], &status["weight_ppm"]),
                (&json!("running"), &json!(200_000))
            );
        }
        pause();
    }
    members.await_one_leader();
    servers[0].start();

    for server in &mut servers[1..] {
        server.kill();
    }
    eventually("everybody is alone", || {
        members
            .all
            .iter()
            .all(|serin| role(serin) == "alone")
            .then_some(())
    });
    let refused = members.all[0].act("analyzer", "advance");
    assert_eq!(refused.status, 503, "{}", refused.text());
    for serin in &members.all {
        let status = serin.status("analyzer");
        assert_eq!(status["phase"], "held");
        assert_eq!(status["causes"][0]["cause"], "fleet", "{status}");
    }
    canary.behave(&json!({ "error_rate": 0.5 }));
    eventually("each goes back alone", || {
        let back = |serin: &Serin| weights(serin) == 0;
        members.all.iter().all(back).then_some(())
    });

    for server in &mut servers[1..] {
        server.start();
    }
    members.await_one_leader();
    members.agreed("one state again", |status| status["phase"] == "rolled_back");
    for report in ended(loads) {
        // What failed on canary was answered by baseline: learners saw nothing of all this.
        assert_eq!(report.failed, 0, "{report:?}");
    }
    // What each had done alone is rolled back, too, until the fleet's own history has it.
    let rollbacks = |serin: &Serin| {
        let kinds = kinds(&serin.events("analyzer"));
        kinds.iter().filter(|kind| *kind == "rolled_back").count()
    };
    for serin in &members.all {
        eventually("the fleet's history has it", || {
            (rollbacks(serin) > 0).then_some(())
        });
    }
    for serin in &members.all {
        assert_eq!(rollbacks(serin), 1);
    }
}

fn weights(serin: &Serin) -> u64 {
    let share = get(serin.admin, "/api/traffic-weights").json()["ultra_fast"].clone();
    (share.as_f64().expect("a share") * 1e6).round() as u64
}

#[test]
fn what_one_member_does_alone_is_judged_by_the_figures_of_all() {
    let servers = cluster(3);
    let folder = tempfile::tempdir().expect("a folder");
    let own = Analyzer::start(folder.path(), "ultra_fast");
    let link = Relay::start(
        servers.iter().map(|server| server.port).collect(),
        Duration::ZERO,
        0.0,
    );
    let (members, _canary) = Members::start(MEMBERS, &servers, ONE_STAGE, |at, given| match at {
        4 => Given {
            servers: urls(&link),
            canary: own.addr,
            ..given
        },
        _ => given,
    });
    assert_eq!(members.all[0].act("analyzer", "start").status, 200);
    let loads = members.load(0..MEMBERS, 60.0);
    members.agreed("the stage begins", |status| status["stage_time_ms"] != 0);

    link.cut();
    let lonely = &members.all[4];
    eventually("it is alone", || (role(lonely) == "alone").then_some(()));
    own.behave(&json!({ "error_rate": 0.6 }));
    eventually("it goes back alone", || {
        (weights(lonely) == 0).then_some(())
    });
    for serin in &members.all[..4] {
        assert_eq!(weights(serin), 200_000, "one member pulls nobody down");
    }
    own.behave(&json!({ "error_rate": 0.0 }));
    // What happens while it is away, and is told to nobody any more when it is back.
    let body = json!({ "summary": "pager" }).to_string();
    let opened = post(
        members.all[0].admin,
        "/api/rollouts/analyzer/incidents",
        &body,
    );
    assert!(opened.status < 300, "{}", opened.text());
    eventually("the others have it, and say so", || {
        let events = members.all[0].events("analyzer");
        let opened = events
            .iter()
            .find(|event| event["event"] == "incident_opened")?;
        let seen = fleet(&members.all[0]);
        let mut each = seen["members"].as_array()?.iter();
        let has = |member: &Value| {
            member["events"]["analyzer"].as_u64() >= opened["id"].as_u64() || member["name"] == "m4"
        };
        each.all(has).then_some(())
    });
    link.mend();
    let healed = Instant::now();
    eventually("the fleet holds while that is judged", || {
        let status = members.all[0].status("analyzer");
        (status["phase"] == "held" && status["causes"][0]["cause"] == "fleet").then_some(())
    });
    assert_eq!(weights(lonely), 0, "until it is judged");
    eventually_within(Duration::from_secs(40), "it is undone", &mut || {
        (weights(lonely) == 200_000).then_some(())
    });
    let took = healed.elapsed();
    assert!(took < Duration::from_secs(35), "{took:?}");
    for report in ended(loads) {
        assert_eq!(report.failed, 0, "{report:?}");
    }
    eventually("the history says so", || {
        let events = members.all[0].events("analyzer");
        let mut told = events.iter().filter_map(|event| event["sentence"].as_str());
        told.find(|what| what.contains("m4") && what.contains("undone"))
            .map(|_| ())
    });
    eventually("it has the history of all, what it missed as well", || {
        let numbers = |serin: &Serin| -> Vec<Value> {
            let events = serin.events("analyzer");
            let numbered = events.iter();
            numbered
                .map(|event| json!([event["id"], event["event"]]))
                .collect()
        };
        (numbers(lonely) == numbers(&members.all[0])).then_some(())
    });
}

#[test]
fn a_rollback_is_in_force_everywhere_within_two_seconds_over_a_slow_link() {
    let servers = cluster(3);
    let link = Relay::start(
        servers.iter().map(|server| server.port).collect(),
        Duration::from_millis(50),
        0.01,
    );
    // Those of the other region: 100 ms there and back, and one piece in a hundred is sent again.
    let (members, canary) =
        Members::start(MEMBERS, &servers, ONE_STAGE, |at, given| match at % 2 {
            1 => Given {
                servers: urls(&link),
                ..given
            },
            _ => given,
        });
    assert_eq!(members.all[0].act("analyzer", "start").status, 200);
    let loads = members.load(0..MEMBERS, 100.0);
    members.agreed("the stage begins", |status| status["stage_time_ms"] != 0);
    let back: Arc<Mutex<BTreeMap<usize, i64>>> = Arc::default();
    thread::scope(|scope| {
        for (at, serin) in members.all.iter().enumerate() {
            let back = Arc::clone(&back);
            scope.spawn(move || {
                eventually_within(Duration::from_secs(60), "it is back", &mut || {
                    (weights(serin) == 0).then_some(())
                });
                back.lock().expect("whole").insert(at, unix_ms());
            });
        }
        canary.behave(&json!({ "error_rate": 0.5 }));
    });
    members.agreed("everybody says so", |status| {
        status["phase"] == "rolled_back"
    });
    let events = members.all[1].events("analyzer");
    let decided = events.iter().find(|event| event["event"] == "rolled_back");
    let decided = wall_ms(decided.expect("it was rolled back"));
    let back = back.lock().expect("whole");
    let took: Vec<i64> = back.values().map(|at| at - decided).collect();
    println!("from the decision to each member, in ms: {took:?}");
    assert!(took.iter().all(|&took| took < 2_000), "{took:?}");
    for report in ended(loads) {
        assert_eq!(report.failed, 0, "{report:?}");
    }
}

#[test]
fn a_member_with_another_plan_carries_traffic_and_has_no_vote() {
    let servers = cluster(3);
    let (mut members, _canary) = Members::start(3, &servers, ONE_STAGE, |_, given| given);
    let other = &mut members.all[2];
    let file = other.folder.path().join("proxy.toml");
    let text = std::fs::read_to_string(&file).expect("its file");
    std::fs::write(&file, text.replace("weight = \"20%\"", "weight = \"30%\"")).expect("a file");
    assert_eq!(post(other.admin, "/api/reload", "").status, 200);
    eventually("it may not lead", || {
        (fleet(&members.all[2])["may_lead"] == false).then_some(())
    });
    let refused = members.all[2].act("analyzer", "start");
    assert_eq!(refused.status, 409, "{}", refused.text());
    assert!(
        refused.text().contains("one file first"),
        "{}",
        refused.text()
    );
    assert_eq!(members.all[0].act("analyzer", "start").status, 200);
    members.agreed("it runs", |status| status["phase"] == "running");
    for serin in &members.all {
        assert_eq!(weights(serin), 200_000, "the agreed weight");
    }
    assert_ne!(members.leader(), 2);
}
