//! The table of the fleet: what it means, what it is told, and what a reload says of it.

use std::time::Duration;

use serin::config::{Aggregate, Fleet, Login, OnIsolated, diff, parse};

fn env(name: &str) -> Option<String> {
    match name {
        "SECRET" => Some(" s3cret \n".to_owned()),
        "BLANK" => Some(" \n".to_owned()),
        _ => None,
    }
}

/// The table with these keys, beside the servers and a name.
fn with(keys: &str) -> String {
    format!("[fleet]\nservers = [\"nats://h:1\"]\nname = \"m\"\n{keys}\n")
}

fn fleet(text: &str) -> Fleet {
    let config = parse("f", text, &env).unwrap_or_else(|faults| panic!("{faults:?}"));
    config.fleet.expect("a fleet")
}

/// Each fault, as the key and a part of its message.
fn check(text: &str, expected: &[(&str, &str)]) {
    let found = parse("f", text, &env).err().unwrap_or_default();
    assert_eq!(found.len(), expected.len(), "{text}\n{found:?}");
    for (fault, (key, part)) in found.iter().zip(expected) {
        assert_eq!(fault.key, *key, "{fault}");
        assert!(fault.message.contains(part), "{part:?} is not in {fault}");
        assert!(!fault.message.contains("s3cret"), "{fault}");
    }
}

#[test]
fn a_file_without_the_table_is_of_a_proxy_alone() {
    let config = parse("f", "", &env).expect("a good file");
    assert_eq!(config.fleet, None);
}

#[test]
fn servers_are_enough_and_the_rest_has_defaults() {
    let fleet = fleet("[fleet]\nservers = [\"nats://a\", \"tls://b:1\"]\nname = \"m.1\"");
    assert_eq!(fleet.servers, ["nats://a:4222", "tls://b:1"]);
    assert_eq!((&*fleet.name, &*fleet.region), ("m.1", ""));
    assert_eq!(fleet.aggregate, Aggregate::Fleet);
    assert_eq!(fleet.bucket, "serin");
    assert_eq!(fleet.login, Login::Nobody);
    assert!(!fleet.tls.required);
    assert_eq!(fleet.on_isolated, OnIsolated::Keep);
    assert_eq!(fleet.isolated_after, Duration::from_secs(60));
}

#[test]
fn a_member_without_a_name_has_its_hosts() {
    let text = "[fleet]\nservers = [\"nats://a\"]";
    match parse("f", text, &env) {
        Ok(config) => {
            let host = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
            assert_eq!(config.fleet.expect("a fleet").name, host.trim());
        }
        // Not every host has a name that is one here.
        Err(faults) => assert_eq!(faults[0].key, "fleet.name", "{faults:?}"),
    }
}

#[test]
fn a_member_logs_in_in_one_way() {
    let login = |keys: &str| fleet(&with(keys)).login;
    let directory = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let password = write("password", "s3cret\n");
    for from in [
        "password_env = \"SECRET\"".to_owned(),
        format!("password_file = {password:?}"),
    ] {
        let Login::Password { user, password } = login(&format!("user = \"u\"\n{from}")) else {
            panic!("no password from {from}");
        };
        assert_eq!((&*user, password.expose()), ("u", "s3cret"));
    }
    let Login::Token(token) = login("token_env = \"SECRET\"") else {
        panic!("no token");
    };
    assert_eq!(token.expose(), "s3cret");
    let creds = write(
        "creds",
        "-----BEGIN NATS USER JWT-----\nx\n-----BEGIN USER NKEY SEED-----\ny\n",
    );
    assert!(matches!(
        login(&format!("credentials = {creds:?}")),
        Login::Credentials(_)
    ));

    let both = format!("credentials = {creds:?}\ntoken_env = \"SECRET\"");
    check(
        &with(&both),
        &[("fleet", "credentials and a token are given")],
    );
    check(
        &with("user = \"u\""),
        &[(
            "fleet.password_env",
            "one of password_env and password_file is needed",
        )],
    );
    check(
        &with("user = \" \"\npassword_env = \"SECRET\""),
        &[("fleet.user", "empty")],
    );
    check(
        &with("password_env = \"SECRET\""),
        &[("fleet.user", "a password needs its user")],
    );
    check(
        &with("user = \"u\"\npassword_env = \"UNSET\""),
        &[("fleet.password_env", "UNSET is not set")],
    );
    check(
        &with("user = \"u\"\npassword_env = \"BLANK\""),
        &[("fleet.password_env", "the password is empty")],
    );
    let two = format!("user = \"u\"\npassword_env = \"SECRET\"\npassword_file = {password:?}");
    check(&with(&two), &[("fleet.password_file", "is enough")]);
    check(
        &with("token_file = \"/nowhere\""),
        &[("fleet.token_file", "cannot read /nowhere")],
    );
    check(
        &with("credentials = \"/nowhere\""),
        &[("fleet.credentials", "cannot read /nowhere")],
    );
    let text = format!("credentials = {password:?}");
    check(
        &with(&text),
        &[("fleet.credentials", "is no credentials file")],
    );
}

#[test]
fn everything_the_table_can_get_wrong_is_told() {
    check("[fleet]\nname = \"m\"", &[("fleet.servers", "missing")]);
    check(
        "[fleet]\nservers = []\nname = \"m\"",
        &[("fleet.servers", "at least one")],
    );
    check(
        "[fleet]\nservers = [\"nats://h\", \"nats://h:4222\"]\nname = \"m\"",
        &[("fleet.servers[1]", "listed twice")],
    );
    check(
        "[fleet]\nservers = [\"nats://u:s3cret@h\"]\nname = \"m\"",
        &[("fleet.servers[0]", "do not belong in it")],
    );
    check(
        "[fleet]\nservers = [\"nats://h\"]\nname = \"a b\"",
        &[("fleet.name", "is not a name")],
    );
    check(&with("bucket = \"a.b\""), &[("fleet.bucket", "a dot")]);
    check(
        &with("aggregate = \"regions\""),
        &[("fleet.aggregate", "region")],
    );
    check(
        &with("aggregate = \"region\""),
        &[("fleet.region", "missing")],
    );
    check(
        &with("aggregate = \"region\"\nregion = \"a b\""),
        &[("fleet.region", "is not a name")],
    );
    check(
        &with("on_isolated = \"kep\""),
        &[("fleet.on_isolated", "keep")],
    );
    check(
        &with("isolated_after = \"0s\""),
        &[("fleet.isolated_after", "longer than")],
    );
    check(
        &with("tls = { cert = \"a\" }"),
        &[("fleet.tls.key", "missing")],
    );
    check(
        &with("tls = { key = \"a\" }"),
        &[("fleet.tls.cert", "missing")],
    );
    check(
        &with("tls = { ca = \"/nowhere\" }"),
        &[("fleet.tls.ca", "/nowhere")],
    );
    check(
        &with("serverz = 1"),
        &[("fleet.serverz", "did you mean `servers`?")],
    );
}

#[test]
fn a_change_of_the_fleet_needs_a_restart_and_shows_no_secret() {
    let config = |text: &str| parse("f", text, &env).unwrap_or_else(|faults| panic!("{faults:?}"));
    let restart = |new: &str| diff(&config(&with("")), &config(new)).restart;
    assert_eq!(restart(&with("bucket = \"serin\"")), [""; 0]);
    assert_eq!(
        restart(&with("region = \"eu\"")),
        ["fleet.region: \"\" -> \"eu\""]
    );
    assert_eq!(
        restart(&with("token_env = \"SECRET\"")),
        ["fleet: what it logs in with, or its tls, changed"]
    );
    assert!(restart("").contains(&"fleet.name: m -> none".to_owned()));
}
