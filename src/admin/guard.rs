//! Who may pass: the Host that was meant, no web page of another site, a token with the role.
//!
//! A local port is within reach of every web page that the operator looks at, so a browser's request is told apart by
//! what browsers always send (`Origin`, `Sec-Fetch-Site`), and a name that was pointed here (DNS rebinding) by `Host`.
//! curl sends neither and passes. Tokens are compared as SHA-256 in constant time, every one of them each time.

use std::net::IpAddr;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::problem::Problem;
use super::routes::App;
use crate::config::{Admin, Role};
use crate::rollout::name::RoleName;

/// Author of what is done where no tokens are configured.
const LOCAL: &str = "local";
/// Who shows no token where there are some, and asks who he is.
const NOBODY: &str = "nobody";
/// How long an answer may take to begin. Above the 10 s that a weight waits to come into force.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// Recorded as the author of a change.
    pub(super) by: String,
    /// He may read. Whoever may not is asked for a token wherever there is something to read.
    pub(super) reads: bool,
    /// He may do what changes a rollout.
    pub(super) operates: bool,
    /// The roles that he may approve for; `None` where no tokens are configured and anybody may for each.
    pub(super) speaks_for: Option<Vec<RoleName>>,
}

/// What a call needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    Nothing,
    /// Nothing, but who it is: without a token nobody.
    Name,
    Read,
    Operate,
    /// Some role `approve:<role>`; which one the gate looks at.
    Approve,
}

/// Lets a request through to its route, or answers it.
pub(super) async fn guard(State(app): State<App>, mut request: Request, next: Next) -> Response {
    let admitted = admit(
        &app.control.admin(),
        request.method(),
        request.uri(),
        request.headers(),
    );
    let caller = match admitted {
        Ok(caller) => caller,
        Err(problem) => return problem.into_response(),
    };
    request.extensions_mut().insert(caller);
    match tokio::time::timeout(ANSWER_LIMIT, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "the answer took too long")
            .into_response(),
    }
}

fn admit(
    settings: &Admin,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
) -> Result<Caller, Problem> {
    let host = asked_host(uri, headers)?;
    if !is_known(&host, &settings.hosts) {
        let detail = format!("{:?} is not a name of this port (admin.hosts)", host.host());
        return Err(Problem::new(StatusCode::MISDIRECTED_REQUEST, detail));
    }
    let changes = !matches!(*method, Method::GET | Method::HEAD);
    if changes {
        refuse_other_sites(&host, headers)?;
    }
    let need = match uri.path() {
        "/healthz" | "/readyz" | "/" => Need::Nothing,
        // The dashboard's files hold no data; what it shows it asks for with a token.
        path if !changes && path.starts_with("/console/") => Need::Nothing,
        "/api/whoami" => Need::Name,
        "/metrics" if settings.open_metrics => Need::Nothing,
        path if changes && is_for_approvers(path) => Need::Approve,
        _ if changes => Need::Operate,
        _ => Need::Read,
    };
    identify(settings, need, headers)
}

/// `/api/rollouts/R/approve` and `…/reject`.
fn is_for_approvers(path: &str) -> bool {
    let rest = path.strip_prefix("/api/rollouts/");
    let action = rest.and_then(|rest| rest.split_once('/'));
    action.is_some_and(|(_, action)| matches!(action, "approve" | "reject"))
}

/// The authority that the client asked for: exactly one.
fn asked_host(uri: &Uri, headers: &HeaderMap) -> Result<Authority, Problem> {
    let misdirected = |detail: &str| Problem::new(StatusCode::MISDIRECTED_REQUEST, detail);
    let mut hosts = headers.get_all(HOST).iter();
    let (first, more) = (hosts.next(), hosts.next());
    let first = first
        .filter(|_| more.is_none())
        .ok_or_else(|| misdirected("one Host header is needed"))?;
    let host: Authority = first
        .to_str()
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| misdirected("the Host header is no host"))?;
    match uri.authority() {
        Some(target) if *target != host => Err(misdirected(
            "the target names another host than the Host header",
        )),
        Some(_) | None => Ok(host),
    }
}

/// IP literals, localhost, and the names configured.
fn is_known(host: &Authority, names: &[String]) -> bool {
    let name = host.host();
    let literal = name
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(name);
    if host.as_str().contains('@') {
        return false;
    }
    literal.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|known| known.eq_ignore_ascii_case(name))
}

fn refuse_other_sites(host: &Authority, headers: &HeaderMap) -> Result<(), Problem> {
    let forbidden = |detail: &str| Err(Problem::new(StatusCode::FORBIDDEN, detail));
    for origin in headers.get_all(ORIGIN) {
        if !origin
            .to_str()
            .is_ok_and(|origin| is_same_origin(origin, host))
        {
            return forbidden("a page of another origin may not change anything here");
        }
    }
    for site in headers.get_all("sec-fetch-site") {
        if !matches!(site.as_bytes(), b"same-origin" | b"none") {
            return forbidden("a page of another site may not change anything here");
        }
    }
    Ok(())
}

/// Whether an `Origin` is that of the page that this port itself serves.
fn is_same_origin(origin: &str, host: &Authority) -> bool {
    let Ok(origin) = origin.parse::<Uri>() else {
        return false;
    };
    let default_port = match origin.scheme_str() {
        Some("http") => 80,
        Some("https") => 443,
        Some(_) | None => return false,
    };
    let Some(authority) = origin.authority() else {
        return false;
    };
    let port = |authority: &Authority| authority.port_u16().unwrap_or(default_port);
    authority.host().eq_ignore_ascii_case(host.host()) && port(authority) == port(host)
}

fn identify(settings: &Admin, need: Need, headers: &HeaderMap) -> Result<Caller, Problem> {
    if settings.tokens.is_empty() || need == Need::Nothing {
        return Ok(Caller {
            by: LOCAL.to_owned(),
            reads: true,
            operates: true,
            speaks_for: None,
        });
    }
    if need == Need::Name && !headers.contains_key(AUTHORIZATION) {
        return Ok(Caller {
            by: NOBODY.to_owned(),
            reads: false,
            operates: false,
            speaks_for: Some(Vec::new()),
        });
    }
    let unauthorized = |detail: &str| Problem::new(StatusCode::UNAUTHORIZED, detail);
    let token = bearer(headers)
        .ok_or_else(|| unauthorized("a token is needed: Authorization: Bearer TOKEN"))?;
    let given: [u8; 32] = Sha256::digest(token).into();
    let known = settings.tokens.iter().fold(None, |found, token| {
        let same: bool = token.sha256.ct_eq(&given).into();
        if same { Some(token) } else { found }
    });
    let token = known.ok_or_else(|| unauthorized("the token is not known"))?;
    let speaks_for: Vec<RoleName> = token.roles.iter().filter_map(role_of).collect();
    let operates = token.roles.contains(&Role::Operate);
    let reads = !token.roles.is_empty();
    let allowed = match need {
        Need::Nothing | Need::Name | Need::Read => reads,
        Need::Operate => operates,
        Need::Approve => !speaks_for.is_empty(),
    };
    if !allowed {
        let role = match need {
            Need::Approve => "approve:<role>",
            Need::Nothing | Need::Name | Need::Read | Need::Operate => "operate",
        };
        let detail = format!(
            "the token {:?} may not do this: the role `{role}` is needed",
            token.name
        );
        return Err(Problem::new(StatusCode::FORBIDDEN, detail));
    }
    Ok(Caller {
        by: token.name.clone(),
        reads,
        operates,
        speaks_for: Some(speaks_for),
    })
}

fn role_of(role: &Role) -> Option<RoleName> {
    match role {
        Role::Approve(name) => RoleName::parse(name).ok(),
        Role::Read | Role::Operate => None,
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return None;
    };
    let (scheme, token) = value.as_bytes().split_at_checked(7)?;
    scheme
        .eq_ignore_ascii_case(b"bearer ")
        .then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::http::HeaderName;

    use super::*;
    use crate::config::Token;

    fn settings(tokens: &[(&str, Role)]) -> Admin {
        let token = |(name, role): &(&str, Role)| Token {
            name: (*name).to_owned(),
            roles: vec![role.clone()],
            sha256: Sha256::digest(format!("secret-{name}")).into(),
        };
        Admin {
            tls: None,
            listen: SocketAddr::from(([127, 0, 0, 1], 9901)),
            hosts: vec!["serin.example.org".to_owned()],
            open_metrics: false,
            tokens: tokens.iter().map(token).collect(),
        }
    }

    fn ask(
        settings: &Admin,
        method: &str,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<String, u16> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(
                HeaderName::from_static(name),
                value.parse().expect("a header value"),
            );
        }
        let method: Method = method.parse().expect("a method");
        let uri: Uri = path.parse().expect("a target");
        admit(settings, &method, &uri, &map)
            .map(|caller| caller.by)
            .map_err(|problem| problem.status.as_u16())
    }

    #[test]
    fn only_the_names_of_this_port_are_answered() {
        let settings = settings(&[]);
        let check = |host: &str, expected: Result<&str, u16>| {
            let answer = ask(&settings, "GET", "/api/pools", &[("host", host)]);
            assert_eq!(answer.as_deref(), expected.as_ref().map(|by| *by), "{host}");
        };
        for host in [
            "127.0.0.1:9901",
            "10.1.2.3",
            "[::1]:9901",
            "[::1]",
            "localhost:1",
            "LOCALHOST",
            "serin.example.org:9901",
        ] {
            check(host, Ok("local"));
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example:9901",
            "",
            "a b",
            "x@127.0.0.1",
            "localhost@evil.example",
            "2130706433",
        ] {
            check(host, Err(421));
        }
        assert_eq!(ask(&settings, "GET", "/", &[]), Err(421));
        assert_eq!(
            ask(
                &settings,
                "GET",
                "/",
                &[("host", "localhost"), ("host", "localhost")]
            ),
            Err(421)
        );
        assert_eq!(
            ask(
                &settings,
                "GET",
                "http://evil.example/",
                &[("host", "localhost")]
            ),
            Err(421)
        );
    }

    #[test]
    fn a_page_of_another_site_cannot_change_anything() {
        let settings = settings(&[]);
        let check = |method: &str, extra: &[(&'static str, &str)], expected: Result<&str, u16>| {
            let headers = [&[("host", "127.0.0.1:9901")], extra].concat();
            let answer = ask(&settings, method, "/api/traffic-weights", &headers);
            assert_eq!(
                answer.as_deref(),
                expected.as_ref().map(|by| *by),
                "{method} {extra:?}"
            );
        };
        check("POST", &[], Ok("local"));
        check("POST", &[("origin", "http://127.0.0.1:9901")], Ok("local"));
        check("POST", &[("sec-fetch-site", "same-origin")], Ok("local"));
        check("POST", &[("sec-fetch-site", "none")], Ok("local"));
        for origin in [
            "http://evil.example",
            "http://127.0.0.1:8000",
            "https://127.0.0.1:9901.evil.example",
            "null",
            "",
            "file://",
        ] {
            check("POST", &[("origin", origin)], Err(403));
            check("PUT", &[("origin", origin)], Err(403));
            check("DELETE", &[("origin", origin)], Err(403));
            check("GET", &[("origin", origin)], Ok("local"));
        }
        check(
            "POST",
            &[
                ("origin", "http://127.0.0.1:9901"),
                ("origin", "http://evil.example"),
            ],
            Err(403),
        );
        check("POST", &[("sec-fetch-site", "cross-site")], Err(403));
        check("POST", &[("sec-fetch-site", "same-site")], Err(403));
    }

    #[test]
    fn where_there_are_tokens_they_are_needed_and_their_roles_hold() {
        let approver = Role::Approve("product".to_owned());
        let settings = settings(&[
            ("reader", Role::Read),
            ("ci", Role::Operate),
            ("product", approver),
        ]);
        let check = |method: &str, path: &str, token: Option<&str>, expected: Result<&str, u16>| {
            let mut headers = vec![("host", "localhost")];
            headers.extend(token.map(|token| ("authorization", token)));
            let answer = ask(&settings, method, path, &headers);
            assert_eq!(
                answer.as_deref(),
                expected.as_ref().map(|by| *by),
                "{method} {path} {token:?}"
            );
        };
        check("GET", "/api/pools", None, Err(401));
        check("GET", "/api/pools", Some("Bearer nonsense"), Err(401));
        check("GET", "/api/pools", Some("secret-ci"), Err(401));
        check("GET", "/api/pools", Some("Basic secret-ci"), Err(401));
        check("GET", "/api/pools", Some("Bearer"), Err(401));
        check(
            "GET",
            "/api/pools",
            Some("Bearer secret-reader"),
            Ok("reader"),
        );
        check(
            "GET",
            "/api/pools",
            Some("bearer secret-product"),
            Ok("product"),
        );
        check(
            "POST",
            "/api/reload",
            Some("Bearer secret-reader"),
            Err(403),
        );
        check(
            "POST",
            "/api/reload",
            Some("Bearer secret-product"),
            Err(403),
        );
        check("POST", "/api/reload", Some("Bearer secret-ci"), Ok("ci"));
        // Who may approve may not operate, and the reverse.
        let approve = "/api/rollouts/analyzer/approve";
        check(
            "POST",
            approve,
            Some("Bearer secret-product"),
            Ok("product"),
        );
        check("POST", approve, Some("Bearer secret-ci"), Err(403));
        check("POST", approve, Some("Bearer secret-reader"), Err(403));
        check("POST", approve, None, Err(401));
        check(
            "POST",
            "/api/rollouts/approve/start",
            Some("Bearer secret-product"),
            Err(403),
        );
        check("GET", "/metrics", None, Err(401));
        check("GET", "/healthz", None, Ok("local"));
        check("GET", "/readyz", None, Ok("local"));
        check("GET", "/", None, Ok("local"));
        check("GET", "/console/app.js", None, Ok("local"));
        check("POST", "/console/app.js", None, Err(401));
        check("GET", "/api/whoami", None, Ok("nobody"));
        check("GET", "/api/whoami", Some("Bearer nonsense"), Err(401));
        check("GET", "/api/whoami", Some("Bearer secret-ci"), Ok("ci"));
        check("GET", "/api/console/app.js", None, Err(401));
        let open = Admin {
            open_metrics: true,
            ..settings.clone()
        };
        assert_eq!(
            ask(&open, "GET", "/metrics", &[("host", "localhost")]),
            Ok("local".to_owned())
        );
    }
}
