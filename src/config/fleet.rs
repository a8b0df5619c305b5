//! The fleet: which NATS servers join the proxies that carry the same rollouts, who this member is, how it logs in.
//!
//! No message ever shows a password, a token or what a credentials file holds.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::env::Env;
use super::faults::Faults;
use super::leaf::{MemberName, parse_member_name};
use super::transport::place;
use super::word::FleetTlsTable;
use super::{Secret, raw};
use crate::tls::{self, CertificateFiles, ClientFiles, ClientLoaded};

/// The key of the table.
const KEY: &str = "fleet";
/// The port of NATS where an address names none.
const PORT: u16 = 4222;

/// A member of a fleet.
#[derive(Clone, Debug, PartialEq)]
pub struct Fleet {
    /// `nats://host:port` or `tls://host:port`; at least one.
    pub servers: Vec<String>,
    /// Unique in the fleet: 1 to 64 of `a-z A-Z 0-9 _ - .`, beginning with a letter or a digit.
    pub name: String,
    /// Where this member stands; empty = nowhere. Of the same letters as a name where it aggregates.
    pub region: String,
    pub aggregate: Aggregate,
    /// What the buckets, the stream and its subjects begin with: of `a-z A-Z 0-9 _ -`.
    pub bucket: String,
    pub login: Login,
    pub tls: FleetTls,
    pub on_isolated: OnIsolated,
    /// How long NATS is away until a member counts as isolated.
    pub isolated_after: Duration,
}

/// Whom the servers know a member as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    Nobody,
    /// What a credentials file of NATS holds: a JWT and its key.
    Credentials(Secret),
    Password {
        user: String,
        password: Secret,
    },
    Token(Secret),
}

/// TLS to the servers of NATS.
#[derive(Clone, Debug, PartialEq)]
pub struct FleetTls {
    /// What the files said; used with every server that asks for TLS.
    pub loaded: ClientLoaded,
    /// Whether a server that does not speak it is refused.
    pub required: bool,
}

/// Where a member's seconds are added up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregate {
    /// By the member that leads the fleet.
    Fleet,
    /// By one member of its region, for all that stand there.
    Region,
}

/// What a member does with its canaries when NATS has been away for `isolated_after`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnIsolated {
    /// It keeps the weight that was agreed last.
    Keep,
    /// It takes everybody to baseline.
    Baseline,
}

/// Where a server of NATS is, with its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NatsUrl(pub(super) String);

impl Aggregate {
    /// The word of the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fleet => "fleet",
            Self::Region => "region",
        }
    }
}

impl OnIsolated {
    /// The word of the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Baseline => "baseline",
        }
    }
}

/// Checks the table and fetches what the member logs in with; `None` without a table, or after a fault was added.
pub(super) fn check(typed: Option<raw::Fleet>, env: Env<'_>, faults: &mut Faults) -> Option<Fleet> {
    let typed = typed?;
    let login = login(&typed, env, faults);
    let tls = tls(&typed.tls, faults);
    let servers: Vec<String> = typed.servers?.into_iter().map(|url| url.0).collect();
    if servers.is_empty() {
        faults.add(&at("servers"), "empty: at least one server is needed");
    }
    for (index, server) in servers.iter().enumerate() {
        if servers[..index].contains(server) {
            faults.add(&at(&format!("servers[{index}]")), "listed twice");
        }
    }
    let bucket = typed.bucket.0;
    if bucket.contains('.') {
        let why = format!("{bucket:?} holds a dot, which parts the words of a subject");
        faults.add(&at("bucket"), why);
    }
    let region = typed.region;
    if typed.aggregate == Aggregate::Region
        && let Err(why) = parse_member_name(&region)
    {
        let missing = "missing: a member that aggregates in its region needs one".to_owned();
        let why = if region.is_empty() { missing } else { why };
        faults.add(&at("region"), why);
    }
    Some(Fleet {
        servers,
        name: name(typed.name, faults)?,
        region,
        aggregate: typed.aggregate,
        bucket,
        login: login?,
        tls: tls?,
        on_isolated: typed.on_isolated,
        isolated_after: typed.isolated_after.0,
    })
}

fn at(name: &str) -> String {
    format!("{KEY}.{name}")
}

fn name(typed: Option<MemberName>, faults: &mut Faults) -> Option<String> {
    if let Some(MemberName(name)) = typed {
        return Some(name);
    }
    // One that is there and faulty was told already.
    if faults.has_key(&at("name")) {
        return None;
    }
    let host = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned();
    match parse_member_name(&host) {
        Ok(MemberName(name)) => Some(name),
        Err(why) => {
            faults.add(
                &at("name"),
                format!("missing, and the host's name does not do: {why}"),
            );
            None
        }
    }
}

// `None` after a fault was added.
fn login(typed: &raw::Fleet, env: Env<'_>, faults: &mut Faults) -> Option<Login> {
    let has = |name: &str, faults: &Faults| faults.has_key(&at(name));
    let ways = [
        ("credentials", has("credentials", faults)),
        ("user", has("user", faults)),
        (
            "a token",
            has("token_env", faults) || has("token_file", faults),
        ),
    ];
    let given: Vec<&str> = ways
        .iter()
        .filter(|(_, given)| *given)
        .map(|(way, _)| *way)
        .collect();
    if given.len() > 1 {
        faults.add(
            KEY,
            format!(
                "one of credentials, user and a token is enough, {} are given",
                given.join(" and ")
            ),
        );
        return None;
    }
    let passwords = has("password_env", faults) || has("password_file", faults);
    if passwords && typed.user.is_none() && !has("user", faults) {
        faults.add(&at("user"), "missing: a password needs its user");
        return None;
    }
    if let Some(path) = &typed.credentials {
        return credentials(path, faults).map(Login::Credentials);
    }
    if let Some(user) = &typed.user {
        if user.trim().is_empty() {
            faults.add(&at("user"), "empty");
            return None;
        }
        let sources = (&typed.password_env, &typed.password_file);
        let password = secret("password", sources, env, faults)?;
        let user = user.clone();
        return Some(Login::Password { user, password });
    }
    if has("token_env", faults) || has("token_file", faults) {
        let sources = (&typed.token_env, &typed.token_file);
        return secret("token", sources, env, faults).map(Login::Token);
    }
    (given.is_empty()).then_some(Login::Nobody)
}

fn credentials(path: &Path, faults: &mut Faults) -> Option<Secret> {
    let key = at("credentials");
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(why) => {
            faults.add(&key, format!("cannot read {}: {why}", path.display()));
            return None;
        }
    };
    let parts = ["BEGIN NATS USER JWT", "BEGIN USER NKEY SEED"];
    if parts.iter().all(|part| text.contains(part)) {
        return Some(Secret::new(text));
    }
    let why = format!(
        "{} is no credentials file: it holds a user's JWT and the seed of its key",
        path.display()
    );
    faults.add(&key, why);
    None
}

// Exactly one of `<what>_env` and `<what>_file`.
fn secret(
    what: &str,
    sources: (&Option<String>, &Option<PathBuf>),
    env: Env<'_>,
    faults: &mut Faults,
) -> Option<Secret> {
    let [env_key, file_key] = ["env", "file"].map(|from| at(&format!("{what}_{from}")));
    let (key, found) = match sources {
        (Some(_), Some(_)) => {
            let why = format!("one of {what}_env and {what}_file is enough");
            (file_key, Err(why))
        }
        (Some(variable), None) => {
            let why = || format!("the environment variable {variable} is not set");
            (env_key, env(variable).ok_or_else(why))
        }
        (None, Some(path)) => {
            let read = std::fs::read_to_string(path);
            let why = |error| format!("cannot read {}: {error}", path.display());
            (file_key, read.map_err(why))
        }
        // What is there and faulty was told already.
        (None, None) if faults.has_key(&env_key) || faults.has_key(&file_key) => return None,
        (None, None) => {
            let why = format!("missing: one of {what}_env and {what}_file is needed");
            (env_key, Err(why))
        }
    };
    let checked = found.and_then(|text| match text.trim() {
        "" => Err(format!("the {what} is empty")),
        text => Ok(Secret::new(text)),
    });
    checked.map_err(|why| faults.add(&key, why)).ok()
}

fn tls(typed: &FleetTlsTable, faults: &mut Faults) -> Option<FleetTls> {
    let table = at("tls");
    let own = match (&typed.cert, &typed.key) {
        (Some(cert), Some(key)) => Some(CertificateFiles {
            cert: cert.clone(),
            key: key.clone(),
        }),
        (None, None) => None,
        (Some(_), None) => {
            faults.add(&format!("{table}.key"), "missing: cert needs its key");
            return None;
        }
        (None, Some(_)) => {
            faults.add(&format!("{table}.cert"), "missing: key needs its cert");
            return None;
        }
    };
    let files = ClientFiles {
        ca: typed.ca.clone(),
        own,
        protocol: None,
    };
    let required = typed.required;
    match tls::load_client(&files) {
        Ok(loaded) => Some(FleetTls { loaded, required }),
        Err(found) => {
            for fault in found {
                faults.add(&place(fault.place, &table), fault.to_string());
            }
            None
        }
    }
}

/// Reads an address of NATS. Its host and port are kept, the port of NATS where none is named.
pub(super) fn parse_nats_url(text: &str) -> Result<NatsUrl, String> {
    let fault = |why: &str| {
        Err(format!(
            "not an address like \"nats://127.0.0.1:4222\": {why}"
        ))
    };
    let Some((scheme, rest)) = text.split_once("://") else {
        return fault("it must begin with nats:// or tls://");
    };
    if !matches!(scheme, "nats" | "tls") {
        return fault("it must begin with nats:// or tls://");
    }
    // A password may be in it, so that no message shows the text.
    if rest.contains('@') {
        return fault("a user and a password do not belong in it: see user, password_env");
    }
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let Ok(authority) = rest.parse::<http::uri::Authority>() else {
        return fault("it has no host, or more than host and port");
    };
    if authority.host().is_empty() {
        return fault("the host is missing");
    }
    let port = match (authority.port(), authority.port_u16()) {
        // A port too large is none to the reader of addresses.
        (None, _) if authority.as_str() != authority.host() => {
            return fault("the port is not 1 to 65535");
        }
        (None, _) => PORT,
        (Some(_), None | Some(0)) => return fault("the port is not 1 to 65535"),
        (Some(_), Some(port)) => port,
    };
    Ok(NatsUrl(format!("{scheme}://{}:{port}", authority.host())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_a_host_and_a_port() {
        for (text, meant) in [
            ("nats://127.0.0.1:4333", "nats://127.0.0.1:4333"),
            ("nats://nats.svc", "nats://nats.svc:4222"),
            ("tls://[::1]:1/", "tls://[::1]:1"),
        ] {
            assert_eq!(parse_nats_url(text), Ok(NatsUrl(meant.to_owned())));
        }
        for text in [
            "",
            "127.0.0.1:4222",
            "http://127.0.0.1:4222",
            "nats://",
            "nats://:4222",
            "nats://h:",
            "nats://h:0",
            "nats://h:65536",
            "nats://u:p@h:4222",
            "nats://h:4222/x",
            "nats://a b",
        ] {
            assert!(parse_nats_url(text).is_err(), "{text:?} was accepted");
        }
    }
}
