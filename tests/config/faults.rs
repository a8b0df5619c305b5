use std::path::Path;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serin::config::{Fault, load, parse};

/// Two pools on two lines, so that a row's own text begins on line 3.
const POOLS: &str = "pools.a.endpoints = [\"h:1\"]\npools.b.endpoints = [\"h:2\"]\n";

fn env(name: &str) -> Option<String> {
    match name {
        "PORT" => Some("9000".to_owned()),
        "TOKEN" => Some("secret".to_owned()),
        "BLANK" => Some(" \n".to_owned()),
        _ => None,
    }
}

fn faults(text: &str) -> Vec<Fault> {
    parse("proxy.toml", text, &env).err().unwrap_or_default()
}

/// Every fault, in order: line, key, and a part of the message. Not one more, not one less.
fn check(text: &str, expected: &[(usize, &str, &str)]) {
    let found = faults(text);
    let told: String = found.iter().map(|fault| format!("{fault}\n")).collect();
    assert_eq!(
        found.len(),
        expected.len(),
        "in\n{text}\nwere found\n{told}"
    );
    for (fault, (line, key, part)) in found.iter().zip(expected) {
        assert_eq!(
            (fault.line, fault.key.as_str()),
            (Some(*line), *key),
            "in\n{text}\nwere found\n{told}"
        );
        assert!(fault.message.contains(part), "{part:?} is not in {fault}");
    }
}

/// The same for a text that stands below two good pools, `a` and `b`; its first line is 3.
fn check_with_pools(text: &str, expected: &[(usize, &str, &str)]) {
    check(&format!("{POOLS}{text}"), expected);
}

/// The same for the keys of rollout `r`, on lines from 7 on, which has all it needs.
fn check_rollout(text: &str, expected: &[(usize, &str, &str)]) {
    let needed = "[rollouts.r]\nbaseline = \"a\"\ncanary = \"b\"\nstages = [{ name = \"s\", weight = \"1%\", duration = \"1h\" }]\n";
    check(&format!("{POOLS}{needed}{text}"), expected);
}

/// The same for the keys of the one stage of rollout `r`, on lines from 7 on; name, weight and duration are below.
fn check_stage(text: &str, expected: &[(usize, &str, &str)]) {
    let needed = "[rollouts.r]\nbaseline = \"a\"\ncanary = \"b\"\n[[rollouts.r.stages]]\n";
    check(
        &format!("{POOLS}{needed}{text}\nname = \"s\"\nweight = \"10%\"\nduration = \"1h\"\n"),
        expected,
    );
}

#[test]
fn what_is_good_has_no_fault() {
    check("", &[]);
    check(POOLS, &[]);
    check_rollout("", &[]);
    check_stage("", &[]);
}

#[test]
fn unknown_keys_are_told_with_the_nearest_known_one() {
    check("[servr]\n", &[(1, "servr", "did you mean `server`?")]);
    check(
        "\n\n[server]\nworker = 1\n",
        &[(4, "server.worker", "did you mean `workers`?")],
    );
    check(
        "[server]\ncolour = 1\n",
        &[(2, "server.colour", "unknown key")],
    );
    check(
        "[server.timeouts]\nkeepalive = \"5s\"\n",
        &[(2, "server.timeouts.keepalive", "`keep_alive`")],
    );
    check(
        "server = { limits = { bdy = \"0\" } }",
        &[(1, "server.limits.bdy", "`body`")],
    );
    check_with_pools(
        "pools.a.blance = \"p2c\"\n",
        &[(3, "pools.a.blance", "`balance`")],
    );
    check_stage(
        "rolback = []",
        &[(7, "rollouts.r.stages[0].rolback", "`rollback`")],
    );
    check("\"a b\" = 1\n", &[(1, "\"a b\"", "unknown key")]);
}

#[test]
fn values_of_the_wrong_kind_are_told_with_what_was_expected() {
    check(
        "server = 5",
        &[(1, "server", "expected a table, found an integer")],
    );
    check(
        "[server]\nworkers = \"many\"",
        &[(
            2,
            "server.workers",
            "expected a whole number, found a string",
        )],
    );
    check(
        "[server]\nworkers = -1",
        &[(2, "server.workers", "from 0 to 1024")],
    );
    check(
        "[server]\nworkers = 1.5",
        &[(2, "server.workers", "found a float")],
    );
    check(
        "[server]\nmax_connections = 99999999999999999999",
        &[(2, "server.max_connections", "0 or more")],
    );
    check(
        "[server]\nlisten = \"127.0.0.1:80\"",
        &[(2, "server.listen", "expected an array, found a string")],
    );
    check(
        "[server]\nlisten = [\n 1,\n 1979-05-27,\n]",
        &[
            (3, "server.listen[0]", "an address"),
            (4, "server.listen[1]", "found a date"),
        ],
    );
    check(
        "admin.open_metrics = \"yes\"",
        &[(1, "admin.open_metrics", "true or false")],
    );
    check(
        "routes = {}",
        &[(1, "routes", "expected an array, found a table")],
    );
    check("pools = []", &[(1, "pools", "expected a table")]);
    check("pools.a = []", &[(1, "pools.a", "expected a table")]);
    check_with_pools(
        "pools.a.health = true",
        &[(3, "pools.a.health", "expected false")],
    );
}

#[test]
fn durations_sizes_shares_and_words_are_read_strictly() {
    check(
        "server.timeouts.head = \"5 s\"",
        &[(1, "server.timeouts.head", "not a duration")],
    );
    check(
        "server.timeouts.head = 5",
        &[(
            1,
            "server.timeouts.head",
            "expected a duration above \"0s\" like \"5s\"",
        )],
    );
    check(
        "server.timeouts.head = \"0s\"",
        &[(1, "server.timeouts.head", "longer than")],
    );
    check(
        "server.limits.head = \"64kib\"",
        &[(1, "server.limits.head", "not a size")],
    );
    check(
        "server.limits.head = -1",
        &[(1, "server.limits.head", "0 bytes or more")],
    );
    check(
        "server.log.level = \"loud\"",
        &[(1, "server.log.level", "\"error\", \"warn\"")],
    );
    check(
        "server.log.format = \"jsn\"",
        &[(1, "server.log.format", "did you mean \"json\"?")],
    );
    check(
        "server.log.access = \"error\"",
        &[(1, "server.log.access", "did you mean \"errors\"?")],
    );
    check_rollout("holdout = 5", &[(7, "rollouts.r.holdout", "is 5% meant?")]);
    check_rollout("holdout = -0.1", &[(7, "rollouts.r.holdout", "0 or more")]);
    check_with_pools(
        "pools.a.retries.budget = \"20\"",
        &[(3, "pools.a.retries.budget", "the % is missing")],
    );
    check("state.path = \"\"", &[(1, "state.path", "not a path")]);
    check(
        "state.retention = \"4000d\"",
        &[(1, "state.retention", "ten years")],
    );
}

#[test]
fn addresses_and_names_are_read_strictly() {
    check(
        "server.listen = [\"localhost:80\"]",
        &[(1, "server.listen[0]", "not an address")],
    );
    check("server.listen = []", &[(1, "server.listen", "nowhere")]);
    check(
        "server.listen = [{ adress = \"127.0.0.1:1\" }]",
        &[
            (1, "server.listen[0].address", "missing"),
            (1, "server.listen[0].adress", "`address`"),
        ],
    );
    check(
        "server.listen = [\"127.0.0.1:1\", { address = \"127.0.0.1:1\" }]",
        &[(1, "server.listen[1]", "listed twice")],
    );
    check("server.listen = [\"127.0.0.1:0\", \"127.0.0.1:0\"]", &[]);
    check(
        "server.trusted = [\"10.0.0.0/33\"]",
        &[(1, "server.trusted[0]", "not a network")],
    );
    check(
        "admin.hosts = [\"*.example.org\"]",
        &[(1, "admin.hosts[0]", "not the name of one host")],
    );
    check(
        "[pools.\"a b\"]\nendpoints = [\"h:1\"]",
        &[(1, "pools.\"a b\"", "not a name")],
    );
    check_with_pools(
        "pools.a.request_headers = { \"a b\" = \"x\", x = \"\\n\" }",
        &[
            (3, "pools.a.request_headers.\"a b\"", "not a header name"),
            (3, "pools.a.request_headers.x", "not a header value"),
        ],
    );
    check_with_pools(
        "pools.a.request_headers = { Host = \"x\", X_Serin_Pool = \"b\", x-a = \"1\", X_A = \"2\" }",
        &[
            (3, "pools.a.request_headers.Host", "serin sets"),
            (3, "pools.a.request_headers.X_Serin_Pool", "serin sets"),
            (3, "pools.a.request_headers.x-a", "the same header as `x_a`"),
        ],
    );
    check_with_pools(
        "pools.a.overload = { in_flight = -1, wait = \"0s\", adaptive = \"yes\" }",
        &[
            (3, "pools.a.overload.adaptive", "expected true or false"),
            (3, "pools.a.overload.in_flight", "expected a whole number"),
            (3, "pools.a.overload.wait", "longer than"),
        ],
    );
    check_with_pools(
        "pools.a.ejection.on = [\"slow\"]",
        &[(3, "pools.a.ejection.on[0]", "expected \"connect\"")],
    );
    check_with_pools(
        "pools.a.ejection = { share = \"0%\", time_out = \"1m\", max_time_out = \"1s\" }",
        &[
            (3, "pools.a.ejection.max_time_out", "shorter than time_out"),
            (3, "pools.a.ejection.share", "above 0%"),
        ],
    );
    check_with_pools(
        "pools.a.health.path = \"health\"",
        &[(3, "pools.a.health.path", "begin with /")],
    );
}

#[test]
fn pools_have_endpoints_that_differ() {
    check(
        "[pools.a]",
        &[(1, "pools.a.endpoints", "missing; it has no default")],
    );
    check(
        "[pools.a]\nendpoints = []",
        &[(2, "pools.a.endpoints", "empty")],
    );
    check(
        "[pools.a]\nendpoints = [\"h:1\"]\ndns = \"a.b:1\"",
        &[(3, "pools.a.dns", "not both")],
    );
    check(
        "[pools.a]\ndns = \"_http._tcp.a.b\"\ntls = {}",
        &[(3, "pools.a.tls.server_name", "missing")],
    );
    check(
        "[pools.a]\ndns = \"127.0.0.1:80\"",
        &[(2, "pools.a.dns", "belongs in endpoints")],
    );
    check(
        "[pools.a]\ndns = { servers = [\"here\"] }",
        &[
            (2, "pools.a.dns.name", "missing"),
            (2, "pools.a.dns.servers[0]", "not an address"),
        ],
    );
    check(
        "[pools.a]\nendpoints = [\"h:1\", \"g\", \"h:0\"]",
        &[
            (2, "pools.a.endpoints[1]", "the port is missing"),
            (2, "pools.a.endpoints[2]", "1 to 65535"),
        ],
    );
    check(
        "[pools.a]\nendpoints = [\"h:1\",\n\"H:1\"]",
        &[(3, "pools.a.endpoints[1]", "h:1 is listed twice")],
    );
}

#[test]
fn routes_have_one_target_that_exists_and_differ() {
    check("[[routes]]\npath = \"/\"", &[(1, "routes[0]", "neither")]);
    check_with_pools(
        "[[routes]]\npool = \"a\"\nrollout = \"r\"",
        &[
            (3, "routes[0]", "both"),
            (5, "routes[0].rollout", "no rollout \"r\""),
        ],
    );
    check_with_pools(
        "[[routes]]\npool = \"c\"",
        &[(4, "routes[0].pool", "there is no pool \"c\"")],
    );
    check_with_pools(
        "[[routes]]\npool = \"a\"\n[[routes]]\npath = \"/\"\npool = \"b\"",
        &[(5, "routes[1]", "routes[0] matches any host and /")],
    );
    check_with_pools(
        "routes = [{ pool = \"a\", path = \"/x\" }, { pool = \"a\", path = \"/x/\" }]",
        &[(3, "routes[1]", "already")],
    );
    check_with_pools(
        "routes = [{ pool = \"a\", host = \"A.org\" }, { pool = \"a\", host = \"a.org\" }, { pool = \"a\", host = \"*.a.org\" }]",
        &[(3, "routes[1]", "routes[0] matches a.org")],
    );
    check_with_pools(
        "[[routes]]\npool = \"a\"\npath = \"x\"\nhost = \"a:80\"",
        &[
            (5, "routes[0].path", "begin with /"),
            (6, "routes[0].host", "not a host"),
        ],
    );
    check_with_pools(
        "[[routes]]\npool = \"a\"\npath = \"/x?y\"",
        &[(5, "routes[0].path", "do not belong")],
    );
}

#[test]
fn rollouts_name_pools_that_exist_and_differ() {
    check(
        "[rollouts.r]",
        &[
            (1, "rollouts.r.baseline", "missing"),
            (1, "rollouts.r.canary", "missing"),
            (1, "rollouts.r.stages", "missing"),
        ],
    );
    let stages = "stages = [{ name = \"s\", weight = \"1%\", duration = \"1h\" }]";
    check_with_pools(
        &format!("[rollouts.r]\nbaseline = \"a\"\ncanary = \"c\"\n{stages}"),
        &[(5, "rollouts.r.canary", "no pool \"c\"")],
    );
    check_with_pools(
        &format!("[rollouts.r]\nbaseline = \"a\"\ncanary = \"a\"\n{stages}"),
        &[(5, "rollouts.r.canary", "baseline as well")],
    );
    check_with_pools(
        "[rollouts.r]\nbaseline = \"a\"\ncanary = \"b\"\nstages = []",
        &[(6, "rollouts.r.stages", "no stage")],
    );
}

#[test]
fn learners_and_segments_come_from_known_sources() {
    check_rollout("learner = []", &[(7, "rollouts.r.learner", "empty")]);
    check_rollout(
        "learner = [\"header:a b\", \"ip\"]",
        &[
            (7, "rollouts.r.learner[0]", "not a header name"),
            (7, "rollouts.r.learner[1]", "not a source"),
        ],
    );
    check_rollout(
        "learner = [\"client_ip\", \"cookie:x\"]",
        &[(7, "rollouts.r.learner[1]", "never reached")],
    );
    check_rollout(
        "segment = \"client_ip\"",
        &[(7, "rollouts.r.segment", "a segment of each learner")],
    );
    check_rollout("segment = false", &[]);
    check_rollout(
        "salt = \"a\\u0000b\"",
        &[(7, "rollouts.r.salt", "zero byte")],
    );
    check_rollout(
        "failover = [\"connect\", \"4xx\"]",
        &[(7, "rollouts.r.failover[1]", "\"connect\", \"reset\"")],
    );
    check_rollout(
        "error_statuses = [404, 99]",
        &[(7, "rollouts.r.error_statuses[1]", "from 100 to 599")],
    );
    check_rollout(
        "weight_at_rest = \"60%\"\nholdout = \"50%\"",
        &[(7, "rollouts.r.weight_at_rest", "more than the whole")],
    );
}

#[test]
fn faults_of_the_plan_stand_on_the_lines_of_their_keys() {
    check_stage(
        "checkpoints = [\"30m\", \"15m\", \"2h\"]",
        &[
            (7, "rollouts.r.stages[0].checkpoints[1]", "not after"),
            (
                7,
                "rollouts.r.stages[0].checkpoints[2]",
                "after the stage's end",
            ),
        ],
    );
    check_stage(
        "advance = [\n\"error_rate < 1%\",\n\"errorrate < 1%\",\n\"p99 < 1%\",\n\"p98 < 1 %\"]",
        &[
            (
                9,
                "rollouts.r.stages[0].advance[1]",
                "neither a metric nor a declared signal; no signal is declared; did you mean \"error_rate\"",
            ),
            (10, "rollouts.r.stages[0].advance[2]", "duration"),
            (11, "rollouts.r.stages[0].advance[3]", "not understood"),
        ],
    );
    check_stage(
        "on_failure = { weight = \"10%\" }",
        &[(7, "rollouts.r.stages[0].on_failure.weight", "not below")],
    );
    check_stage(
        "on_rollback = { weight = \"50%\" }",
        &[(7, "rollouts.r.stages[0].on_rollback.weight", "not below")],
    );
    check_stage(
        "on_failure = \"panic\"",
        &[(
            7,
            "rollouts.r.stages[0].on_failure",
            "\"hold\" or \"rollback\"",
        )],
    );
    check_rollout("holdout = \"100%\"", &[(7, "rollouts.r.holdout", "nobody")]);
    check_rollout(
        "[rollouts.r.gate]\ntripwire = true",
        &[(8, "rollouts.r.gate.tripwire", "expected false")],
    );
    check_rollout(
        "[rollouts.r.gate]\ntripwire = \"error_rate > 50% throughout\"",
        &[(8, "rollouts.r.gate.tripwire", "`throughout`")],
    );
}

#[test]
fn stages_are_judged_even_where_another_one_lacks_something() {
    let text = r#"[rollouts.r]
baseline = "a"
canary = "b"
[[rollouts.r.stages]]
weight = "101%"
duration = "1h"
[[rollouts.r.stages]]
name = "ramp"
weight = "10%"
duration = "soon"
[[rollouts.r.stages]]
name = "more"
weight = "50%"
duration = "1h"
[[rollouts.r.stages]]
name = "more"
weight = "20%"
duration = "1h"
"#;
    check_with_pools(
        text,
        &[
            (6, "rollouts.r.stages[0].name", "missing"),
            (7, "rollouts.r.stages[0].weight", "above 100%"),
            (12, "rollouts.r.stages[1].duration", "not a duration"),
            (18, "rollouts.r.stages[3].name", "twice"),
            (19, "rollouts.r.stages[3].weight", "stage order"),
        ],
    );
}

#[test]
fn what_comes_later_is_refused_by_name() {
    check("server.tls = {}", &[(1, "server.tls", "unknown key")]);
    check_with_pools(
        "[pools.c]\nendpoints = [\"h:1\"]\nhealth = { kind = \"grpc\" }",
        &[(5, "pools.c.health.kind", "speaks HTTP/1.1")],
    );
    check_with_pools(
        "[pools.c]\nendpoints = [\"h:1\"]\nhealth = { service = \"a\" }",
        &[(5, "pools.c.health.service", "only for")],
    );
    check_rollout("mode = \"a/b\"", &[(7, "rollouts.r.mode", "\"aa\"")]);
    check_rollout(
        "[rollouts.r.gate]\nalpha = 0.05\nodds_margin = \"2\"",
        &[(9, "rollouts.r.gate.odds_margin", "expected a number")],
    );
    check_stage(
        "rollback = [\"regression(all)\"]",
        &[(7, "rollouts.r.stages[0].rollback[0]", "evidence is one of")],
    );
}

#[test]
fn proxy_headers_are_of_a_version_and_of_one_client() {
    check(
        "server.listen = [{ address = \"127.0.0.1:1\", proxy_protocol = \"v1\" }]",
        &[(1, "server.listen[0].proxy_protocol", "true or false")],
    );
    check(
        "server.listen = [{ proxy_protocol = true }]",
        &[(1, "server.listen[0].address", "missing")],
    );
    let pool = |keys: &str| format!("[pools.c]\nendpoints = [\"h:1\"]\n{keys}");
    let key = "pools.c.proxy_protocol";
    let words = "\"v1\" or \"v2\"";
    check_with_pools(&pool("proxy_protocol = \"v3\""), &[(5, key, words)]);
    check_with_pools(
        &pool("proxy_protocol = true"),
        &[(5, key, "expected false")],
    );
    check_with_pools(
        &pool("proxy_protocol = \"v2\"\nprotocol = \"h2c\""),
        &[(5, key, "share the connections of HTTP/2")],
    );
}

#[test]
fn what_was_new_may_say_its_default() {
    check(
        "rehearsal.enabled = false\nserver.listen = [{ address = \"127.0.0.1:1\", proxy_protocol = false }]",
        &[],
    );
    check_with_pools(
        "pools.a.protocol = \"http1\"\npools.a.proxy_protocol = false",
        &[],
    );
    check_rollout(
        "mode = \"rollout\"\nmax_segments = 64\n[rollouts.r.gate]\nalpha = 0.01\nodds_margin = 1.5\napproval_ttl = \"12h\"",
        &[],
    );
    check_stage("on_success = \"advance\"\nstart_grace = \"15m\"", &[]);
}

#[test]
fn channels_have_a_name_an_address_and_events_that_exist() {
    let channel =
        |rest: &str| format!("[[notify]]\nkind = \"webhook\"\nurl = \"http://h/x\"\n{rest}");
    check(
        &channel("secret = \"x\"\nevents = [\"all\", \"held\"]"),
        &[],
    );
    check(
        "[[notify]]\nkind = \"mail\"\nurl = \"ftp://h\"",
        &[
            (2, "notify[0].kind", "expected \"slack\" or \"webhook\""),
            (3, "notify[0].url", "must begin with http"),
        ],
    );
    check(
        "[[notify]]\nkind = \"slack\"",
        &[(1, "notify[0].url", "missing")],
    );
    check(
        &channel("events = [\"held\", \"roled_back\"]"),
        &[(4, "notify[0].events[1]", "did you mean \"rolled_back\"")],
    );
    check(
        &channel("events = []\nsecret_env = \"UNSET\""),
        &[
            (4, "notify[0].events", "nothing would be told"),
            (5, "notify[0].secret_env", "UNSET is not set"),
        ],
    );
    check(
        &format!("{}\n{}", channel(""), channel("")),
        &[(5, "notify[1].name", "two channels are called \"webhook\"")],
    );
    check(
        "[[notify]]\nkind = \"slack\"\nurl = \"https://u:p@h/x\"",
        &[(3, "notify[0].url", "a user and a password")],
    );
    check(
        "[[notify]]\nkind = \"slack\"\nurl = \"https://h/x\"\nsecret = \"x\"",
        &[(4, "notify[0].secret", "slack takes no signature")],
    );
}

#[test]
fn tokens_have_one_source_and_a_name() {
    let token = |rest: &str| format!("[[admin.tokens]]\n{rest}");
    check(&token("name = \"a\"\ntoken_env = \"TOKEN\""), &[]);
    check(
        &token("name = \"a\""),
        &[(1, "admin.tokens[0]", "exactly one of")],
    );
    check(
        &token("name = \"a\"\ntoken_env = \"TOKEN\"\nsha256 = \"00\""),
        &[
            (1, "admin.tokens[0]", "2 are given"),
            (4, "admin.tokens[0].sha256", "64 hexadecimal digits"),
        ],
    );
    check(
        &token("name = \"a\"\ntoken_env = \"UNSET\""),
        &[(3, "admin.tokens[0].token_env", "UNSET is not set")],
    );
    check(
        &token("name = \"a\"\ntoken_env = \"BLANK\""),
        &[(3, "admin.tokens[0].token_env", "empty")],
    );
    check(
        &token("name = \"a\"\ntoken_file = \"/nonexistent/token\""),
        &[(3, "admin.tokens[0].token_file", "cannot read")],
    );
    check(
        &token("name = \"gate\"\ntoken_env = \"TOKEN\"\nroles = [\"admin\"]"),
        &[
            (2, "admin.tokens[0].name", "signs with itself"),
            (4, "admin.tokens[0].roles[0]", "not a role"),
        ],
    );
    check(
        &format!(
            "{}\n{}",
            token("name = \"a\"\ntoken_env = \"TOKEN\""),
            token("name = \"a\"\ntoken_env = \"TOKEN\"")
        ),
        &[(5, "admin.tokens[1].name", "two tokens")],
    );
    check(
        "admin.listen = \"0.0.0.0:9901\"",
        &[(1, "admin.listen", "at least one token")],
    );
    check(
        &format!(
            "admin.listen = \"0.0.0.0:9901\"\n{}",
            token("name = \"a\"\ntoken_env = \"TOKEN\"")
        ),
        &[],
    );
}

#[test]
fn the_environment_stands_in_for_strings_and_numbers() {
    check(
        "server.listen = [\"127.0.0.1:${PORT}\"]\nserver.workers = \"${WORKERS:-2}\"\nadmin.open_metrics = \"${OPEN:-true}\"",
        &[],
    );
    check(
        "server.listen = [\n\"${HOST}:${PORT}\"]",
        &[(2, "server.listen[0]", "HOST is not set")],
    );
    check(
        "server.workers = \"${PORT}\"",
        &[(1, "server.workers", "from 0 to 1024")],
    );
    check(
        "state.path = \"${PORT\"",
        &[(1, "state.path", "without its `}`")],
    );
    check_rollout("holdout = \"${HOLDOUT:-0.05}\"", &[]);
    let config = parse("f", "server.listen = [\"127.0.0.1:${PORT}\"]", &env).expect("a good file");
    assert_eq!(config.server.listen[0].port(), 9000);
}

#[test]
fn what_is_no_toml_is_told_with_everything_else() {
    check(
        "[server]\nworkers = 1\nworkers = 2\n",
        &[(3, "server.workers", "duplicate key, given on line 2")],
    );
    check(
        "[server]\nworkers = 1\n[admin]\n[server]\nlog.level = \"info\"\n",
        &[(4, "server", "duplicate key")],
    );
    check(
        &format!("{POOLS}[pools.c]\nendpoints = [\"h:3\"]\n[pools.c]\nendpoints = [\"h:4\"]\n"),
        &[
            (5, "pools.c", "duplicate key"),
            (6, "pools.c.endpoints", "duplicate key"),
        ],
    );
    check(
        "[server]\nworkers = \n[admin]\nopen_metrics = 5\n",
        &[
            (2, "", "not TOML"),
            (4, "admin.open_metrics", "true or false"),
        ],
    );
    check_rollout(
        "holdout = 101%\nmode = \"bb\"\n}}} trailing",
        &[
            (7, "", "not TOML"),
            (8, "rollouts.r.mode", "expected \"rollout\""),
            (9, "", "not TOML"),
        ],
    );
}

#[test]
fn one_file_with_every_kind_of_mistake_tells_them_all() {
    let text = r#"[server]
listen = ["127.0.0.1"]
wrkers = 4
timeouts = { head = "ten" }

[pools.original]
endpoints = []

[pools.ultra_fast]
endpoints = ["127.0.0.1:9201", "127.0.0.1:9201"]

[[routes]]
rollout = "nobody"

[rollouts.analyzer]
baseline = "original"
canary = "fast"

[[rollouts.analyzer.stages]]
name = "canary"
weight = "101%"
duration = "2h"

[[rollouts.analyzer.stages]]
name = "ramp"
weight = "10%"
duration = "4h"

[[rollouts.analyzer.stages]]
name = "ramp"
weight = "5%"
duration = "2h"

trailing garbage
"#;
    check(
        text,
        &[
            (2, "server.listen[0]", "not an address"),
            (3, "server.wrkers", "did you mean `workers`?"),
            (4, "server.timeouts.head", "not a duration"),
            (7, "pools.original.endpoints", "empty"),
            (10, "pools.ultra_fast.endpoints[1]", "listed twice"),
            (13, "routes[0].rollout", "no rollout \"nobody\""),
            (17, "rollouts.analyzer.canary", "no pool \"fast\""),
            (21, "rollouts.analyzer.stages[0].weight", "above 100%"),
            (30, "rollouts.analyzer.stages[2].name", "twice"),
            (31, "rollouts.analyzer.stages[2].weight", "stage order"),
            (34, "", "not TOML"),
        ],
    );
}

#[test]
fn a_file_that_cannot_be_read_is_a_fault_like_any_other() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let check = |path: &Path, line: Option<usize>, part: &str| {
        let faults = load(path).expect_err("no configuration");
        assert_eq!((faults.len(), faults[0].line), (1, line), "{faults:?}");
        assert!(faults[0].message.contains(part), "{}", faults[0]);
        assert!(
            faults[0]
                .to_string()
                .starts_with(&path.display().to_string())
        );
    };
    check(&dir.path().join("none.toml"), None, "cannot be read");
    check(dir.path(), None, "is a directory");
    let broken = dir.path().join("latin1.toml");
    std::fs::write(&broken, b"[server]\n# caf\xe9\n").expect("a file");
    check(&broken, Some(2), "not UTF-8");
}

#[test]
fn a_token_file_may_end_with_a_line_end() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let file = dir.path().join("token");
    std::fs::write(&file, "secret\n").expect("a file");
    let tokens = |source: String| {
        let text = format!("[[admin.tokens]]\nname = \"ci\"\n{source}");
        parse("f", &text, &env).expect("a good file").admin.tokens
    };
    // printf secret | sha256sum
    let digest = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    let by_hash = tokens(format!("sha256 = \"{digest}\""));
    assert_eq!(
        tokens(format!("token_file = {:?}", file.display().to_string())),
        by_hash
    );
    assert_eq!(tokens("token_env = \"TOKEN\"".to_owned()), by_hash);
}

#[test]
fn no_text_whatever_makes_it_panic() {
    const PIECES: [&str; 24] = [
        "[", "]", "[[", "]]", "{", "}", "\"", "'", "\"\"\"", "=", ".", ",", "\n", "#", "${", "}",
        "%", "stages", "pools", "-", "1e999", "\\u0000", "[a]\n", "[[a]]\n",
    ];
    let whole = include_str!("../../proxy.toml");
    let lines: Vec<&str> = whole.lines().collect();
    let seed = std::env::var("SERIN_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random::<u64>);
    println!("SERIN_SEED={seed}");
    let mut dice = StdRng::seed_from_u64(seed);
    for _ in 0..2_000 {
        let begin = dice.random_range(0..lines.len());
        let end = dice.random_range(begin..=lines.len());
        let mut bytes = lines[begin..end].join("\n").into_bytes();
        for _ in 0..dice.random_range(1..12) {
            mutate(&mut bytes, &mut dice, &PIECES);
        }
        let text = String::from_utf8_lossy(&bytes);
        for fault in faults(&text) {
            let last = text.lines().count().max(1) + 1;
            assert!(
                fault.line.is_some_and(|line| (1..=last).contains(&line)),
                "{fault} in\n{text}"
            );
        }
    }
}

fn mutate(bytes: &mut Vec<u8>, dice: &mut StdRng, pieces: &[&str]) {
    let at = dice.random_range(0..=bytes.len());
    let to = (at + dice.random_range(0..20)).min(bytes.len());
    match dice.random_range(0..4) {
        0 => {
            bytes.drain(at..to);
        }
        1 => {
            let piece = pieces[dice.random_range(0..pieces.len())];
            bytes.splice(at..at, piece.bytes());
        }
        2 => {
            let copy = bytes[at..to].to_vec();
            let target = dice.random_range(0..=bytes.len());
            bytes.splice(target..target, copy);
        }
        _ => {
            bytes.splice(at..at, [dice.random::<u8>()]);
        }
    }
}

#[test]
fn every_fault_of_a_mirror_is_told_at_its_place() {
    let check = |text: &str, expected: &[(usize, &str, &str)]| {
        let text = format!("[rollouts.r.mirror]\n{text}\n");
        check_rollout(&text, expected);
    };
    check("share = \"1%\"", &[]);
    check("", &[(7, "rollouts.r.mirror.share", "missing")]);
    check(
        "share = \"1%\"\nmethods = []",
        &[(9, "rollouts.r.mirror.methods", "nothing would be copied")],
    );
    check(
        "share = \"1%\"\nmethods = [\"GET\", \"PSOT\"]",
        &[(9, "rollouts.r.mirror.methods[1]", "found \"PSOT\"")],
    );
    for size in ["0", "\"1025KiB\""] {
        check(
            &format!("share = \"1%\"\nmax_body = {size}"),
            &[(9, "rollouts.r.mirror.max_body", "1 byte to 1MiB")],
        );
    }
    check(
        "share = \"1%\"\nmax_body = \"1MiB\"\nin_flight = 342",
        &[(
            10,
            "rollouts.r.mirror.in_flight",
            "more than 1GiB of memory",
        )],
    );
    check("share = \"1%\"\nmax_body = \"1MiB\"\nin_flight = 341", &[]);
    check(
        "share = \"1%\"\nshares = 1\ncompare = { status = false, headers = [], body = false }",
        &[
            (9, "rollouts.r.mirror.shares", "did you mean `share`?"),
            (10, "rollouts.r.mirror.compare", "compares nothing"),
        ],
    );
    check(
        "share = \"1%\"\ncompare = { body = false, json = { ignore = [\"/id\"] } }",
        &[(9, "rollouts.r.mirror.compare.json.ignore", "no use")],
    );
    check(
        "share = \"1%\"\ncompare = { headers = [\"Connection\"], json = { ignore = [\"id\", \"/a~b\"] } }",
        &[
            (9, "rollouts.r.mirror.compare.headers[0]", "of a connection"),
            (
                9,
                "rollouts.r.mirror.compare.json.ignore[0]",
                "begin with /",
            ),
            (9, "rollouts.r.mirror.compare.json.ignore[1]", "~0"),
        ],
    );
}

#[test]
fn a_condition_on_what_a_mirror_finds_needs_one_that_compares() {
    let stage = "advance = [\"mirror_difference < 1% over 1h\"]\nname = \"s\"\nweight = \"10%\"\nduration = \"1h\"\n";
    let file = |mirror: &str| {
        format!(
            "{POOLS}[rollouts.r]\nbaseline = \"a\"\ncanary = \"b\"\n{mirror}\n[[rollouts.r.stages]]\n{stage}"
        )
    };
    check(&file("mirror = { share = \"1%\", compare = {} }"), &[]);
    for (mirror, line) in [("", 3), ("mirror = { share = \"1%\" }", 6)] {
        check(
            &file(mirror),
            &[(
                line,
                "rollouts.r.mirror.compare",
                "nothing is compared without mirror.compare",
            )],
        );
    }
    check_stage(
        "hold = [\"miror_difference > 1%\"]",
        &[(
            7,
            "rollouts.r.stages[0].hold[0]",
            "did you mean \"mirror_difference\"?",
        )],
    );
}
