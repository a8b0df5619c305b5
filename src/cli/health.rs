//! `health`: whether a serin, or what it was asked about, answers: for the health checks of containers.
//!
//! Exit 0 on an answer 2xx, 1 on any other and on none. Needs no token, and prints one line.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use http::Uri;

use super::client::{Client, admin_url};
use super::secure::Trust;
use crate::rollout::time::parse_duration;

#[derive(Debug, clap::Args)]
pub(super) struct HealthArgs {
    /// What is asked; without a path, the admin port of a serin [default: $SERIN_ADMIN, else http://127.0.0.1:9901]
    #[arg(value_name = "URL")]
    url: Option<String>,
    /// Ask whether it lives, and not whether it should be given traffic, which it should not on its way out
    #[arg(long)]
    live: bool,
    /// How long the answer may take
    #[arg(long, value_parser = parse_duration, default_value = "2s")]
    timeout: Duration,
}

pub(super) fn run(args: &HealthArgs) -> anyhow::Result<ExitCode> {
    let url = args.url.clone().unwrap_or_else(|| admin_url(None));
    let (server, path) = target(&url, args.live)?;
    super::block_on(async {
        let client = Client::new(&server, None, &Trust::from_env())?;
        let answer = client.get_text(&path, "text/plain");
        let answer = tokio::time::timeout(args.timeout, answer).await;
        let body = answer.with_context(|| format!("no answer from {url} in time"))??;
        let said = String::from_utf8_lossy(&body);
        super::print(&format!("{}\n", said.lines().next().unwrap_or_default()))?;
        Ok(ExitCode::SUCCESS)
    })
}

/// The server of a URL, and the path that is asked of it.
fn target(url: &str, live: bool) -> anyhow::Result<(String, String)> {
    let parsed: Uri = url.parse().with_context(|| format!("{url:?} is no URL"))?;
    let path = parsed.path_and_query().map_or("/", |path| path.as_str());
    let asked = match path {
        "/" if live => "/healthz",
        "/" => "/readyz",
        path => path,
    };
    let server = url.strip_suffix(path).unwrap_or(url);
    Ok((server.to_owned(), asked.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_admin_port_is_asked_for_its_probes_and_others_for_their_path() {
        let check = |url: &str, live: bool, server: &str, path: &str| {
            let found = target(url, live).expect(url);
            assert_eq!(found, (server.to_owned(), path.to_owned()), "{url}");
        };
        check(
            "http://127.0.0.1:9901",
            false,
            "http://127.0.0.1:9901",
            "/readyz",
        );
        check(
            "http://127.0.0.1:9901/",
            true,
            "http://127.0.0.1:9901",
            "/healthz",
        );
        check(
            "http://a:9101/health?deep",
            false,
            "http://a:9101",
            "/health?deep",
        );
        check("https://[::1]:9901", false, "https://[::1]:9901", "/readyz");
        assert!(target("not a url", false).is_err());
    }
}
