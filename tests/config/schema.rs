use serde_json::Value;
use serin::config::{parse, schema};

const DOCUMENTED: &str = include_str!("../../proxy.toml");

fn json(text: &str) -> Value {
    let table: toml::Table = text.parse().expect("TOML");
    serde_json::to_value(table).expect("JSON")
}

/// Both must agree on a file whose fault is in one value.
fn check(text: &str, valid: bool) {
    let validator = jsonschema::draft202012::new(&schema()).expect("a valid schema");
    let found: Vec<String> = validator
        .iter_errors(&json(text))
        .map(|fault| fault.to_string())
        .collect();
    assert_eq!(
        found.is_empty(),
        valid,
        "the schema on\n{text}\nsays {found:?}"
    );
    let faults = parse("proxy.toml", text, &|_| None)
        .err()
        .unwrap_or_default();
    assert_eq!(
        faults.is_empty(),
        valid,
        "the reader on\n{text}\nsays {faults:?}"
    );
}

#[test]
fn the_schema_is_itself_valid_and_accepts_the_documented_file() {
    jsonschema::meta::validate(&schema()).expect("a schema of its draft");
    check(DOCUMENTED, true);
    check("", true);
}

#[test]
fn the_schema_and_the_reader_agree_on_single_values() {
    for text in [
        "server.workers = \"${WORKERS:-4}\"",
        "server.limits.body = 0",
        "server.limits.body = \"10MiB\"",
        "server.log.access = \"off\"",
        "server.log.access = \"all\"",
        "server.log.access = \"1%\"",
        "server.log.access = 0.01",
        "server.listen = [{ address = \"[::1]:80\", proxy_protocol = false }]",
        "server.listen = [{ address = \"[::1]:80\", proxy_protocol = true }]",
        "pools.a = { endpoints = [\"h:1\"], proxy_protocol = \"v2\" }",
        "pools.a = { endpoints = [\"h:1\"], proxy_protocol = false }",
        "server.trusted = [\"10.0.0.0/8\", \"::1\"]",
        "pools.a = { endpoints = [\"analyzer.svc:80\"], health = false, request_headers = { x-a = \"b\" } }",
        "pools.a = { endpoints = [\"h:1\", { address = \"h:2\", weight = 1000, zone = \"x\" }], balance = \"ring\" }",
        "pools.a.dns = \"analyzer.svc:80\"",
        "pools.a.dns = { name = \"_http._tcp.analyzer.svc\", servers = [\"127.0.0.1:53\"] }",
        "rehearsal.enabled = true",
        "fleet = { servers = [\"nats://h:1\", \"tls://n.svc\"], name = \"a\", on_isolated = \"baseline\" }",
    ] {
        check(text, true);
    }
    let mirror = |keys: &str| {
        format!(
            "pools.a.endpoints = [\"h:1\"]\npools.b.endpoints = [\"h:2\"]\n[rollouts.r]\nbaseline = \"a\"\n\
             canary = \"b\"\nstages = [{{ name = \"s\", weight = \"1%\", duration = \"1h\" }}]\nmirror = {{ {keys} }}\n"
        )
    };
    for (keys, valid) in [
        ("share = 0.01", true),
        (
            "share = \"0%\", methods = [\"GET\", \"POST\"], max_body = 1, in_flight = 1",
            true,
        ),
        ("share = \"1%\", compare = false", true),
        (
            "share = \"1%\", compare = { json = { ignore = [\"/a/*/b~1c\"] }, headers = [\"x-a\"], samples = 0 }",
            true,
        ),
        ("methods = [\"GET\"]", false),
        ("share = \"1%\", methods = [\"get\"]", false),
        ("share = \"1%\", methods = [\"CONNECT\"]", false),
        ("share = \"1%\", compare = true", false),
        (
            "share = \"1%\", compare = { json = { ignore = [\"id\"] } }",
            false,
        ),
        ("share = \"1%\", compare = { headers = [\"a b\"] }", false),
        ("share = \"1%\", compare = { samples = 101 }", false),
        ("share = \"1%\", in_flight = 0", false),
        ("share = \"1%\", timeout = 5", false),
    ] {
        check(&mirror(keys), valid);
    }
    for text in [
        "colour = 1",
        "server.worker = 1",
        "server.workers = -1",
        "server.workers = \"four\"",
        "server.timeouts.head = 5",
        "server.timeouts.head = \"soon\"",
        "server.limits.head = \"64kib\"",
        "server.log.level = \"loud\"",
        "server.log.access = \"some\"",
        "server.listen = [\"localhost:80\"]",
        "server.listen = [{ address = \"127.0.0.1:80\", tls = {} }]",
        "server.listen = [{ address = \"127.0.0.1:80\", proxy_protocol = \"v1\" }]",
        "server.proxy_protocol = true",
        "pools.a = { endpoints = [\"h:1\"], proxy_protocol = true }",
        "pools.a = { endpoints = [\"h:1\"], proxy_protocol = \"v3\" }",
        "admin.tls = { cert = \"a\" }",
        "admin.open_metrics = 1",
        "state.path = \"\"",
        "pools.a = {}",
        "pools.a = { endpoints = [\"h:1\"], dns = \"a.b:1\" }",
        "pools.a = { endpoints = [\"nohost\"] }",
        "pools.\"a b\" = { endpoints = [\"h:1\"] }",
        "pools.a = { endpoints = [\"h:1\"], balance = \"rings\" }",
        "pools.a.endpoints = [{ address = \"h:1\", weight = 0 }]",
        "pools.a.endpoints = [{ weight = 2 }]",
        "pools.a = { endpoints = [\"h:1\"], health = true }",
        "pools.a = { endpoints = [\"h:1\"], dns = \"x\" }",
        "routes = [{ path = \"api\", pool = \"a\" }]",
        "rehearsal.enabled = 1",
        "fleet = []",
        "fleet = { name = \"a\" }",
        "fleet = { servers = [\"http://h:1\"], name = \"a\" }",
        "fleet = { servers = [\"nats://h:1\"], name = \"a\", on_isolated = \"stay\" }",
        "[rollouts.r]",
    ] {
        check(text, false);
    }
}

/// Keys that the documented file has in comments only.
const COMMENTED: &str = r#"
admin.tokens = [{ name = "ci", roles = ["operate"], token_env = "A", token_file = "b", sha256 = "c" }]
routes = [{ host = "*.example.org", pool = "original" }]
server.listen = [{ address = "[::1]:80", proxy_protocol = true }]
admin.tls = { cert = "a", key = "b", client_ca = "c" }
pools.original.tls = { ca = "a", cert = "b", key = "c", server_name = "d.example" }
fleet = { servers = ["nats://h:1"], name = "a", region = "b", aggregate = "region", bucket = "c", credentials = "d", user = "e", password_env = "F", password_file = "g", token_env = "H", token_file = "i", tls = { ca = "j", cert = "k", key = "l", required = true }, on_isolated = "keep", isolated_after = "60s" }
[rollouts.analyzer]
failover_after = "800ms"
mirror = { share = "1%", methods = ["GET"], max_body = "64KiB", in_flight = 64, timeout = "30s", compare = { status = true, headers = ["content-type"], body = true, json = { ignore = ["/id"] }, samples = 20 } }
stages = [{ on_rollback = { weight = "0.2%" }, on_failure = { weight = "0.5%" } }]
"#;

/// Each key of the documented file, asked for in the schema by its path.
#[test]
fn every_documented_key_is_described() {
    fn walk(value: &Value, schema: &Value, path: &str) {
        let Some(table) = value.as_object() else {
            return;
        };
        let options = schema["anyOf"]
            .as_array()
            .into_iter()
            .flatten()
            .chain([schema]);
        let schema = options
            .into_iter()
            .find(|option| option["type"] == "object")
            .unwrap_or_else(|| panic!("{path} is no table in the schema"));
        for (name, value) in table {
            let path = format!("{path}.{name}");
            let key = match &schema["properties"][name] {
                Value::Null => &schema["additionalProperties"],
                key => key,
            };
            assert!(key.is_object(), "{path} is not in the schema");
            if schema["properties"][name].is_object() {
                assert!(
                    key["description"]
                        .as_str()
                        .is_some_and(|words| !words.is_empty()),
                    "{path} is not described"
                );
            }
            match value.as_array() {
                Some(list) => list
                    .iter()
                    .enumerate()
                    .for_each(|(at, item)| walk(item, &key["items"], &format!("{path}[{at}]"))),
                None => walk(value, key, &path),
            }
        }
    }
    walk(&json(DOCUMENTED), &schema(), "");
    walk(&json(COMMENTED), &schema(), "");
}
