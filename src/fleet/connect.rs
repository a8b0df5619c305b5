//! The connection to the servers: from the settings to a client that reconnects for ever, and its faults in words.

use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event};
use tokio::sync::mpsc::UnboundedSender;

use super::engine;
use crate::config::{Fleet, Login};

/// How long a server may take to a connection.
const CONNECT: Duration = Duration::from_secs(3);
/// How often a silent connection is asked whether it lives.
const PING: Duration = Duration::from_secs(2);
/// Between two attempts: doubled with each, and spread, so that a fleet does not come back at once.
const PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Messages that may wait to be read; one that finds no room is asked for again.
const UNREAD: usize = 64 << 10;

/// What happens to the connection.
#[derive(Debug)]
pub(super) enum Happened {
    /// There is a client, which may not be connected yet.
    Client(Client),
    /// There is none, and another attempt follows.
    Failed(String),
    Event(Event),
}

/// Makes the client, however often it takes; what happens is told to `tell`. The library would try again by itself, and
/// keep why it failed to itself.
pub(super) async fn connect(settings: Fleet, tell: UnboundedSender<Happened>) {
    let mut attempts = 1;
    loop {
        let made = match options(&settings, &tell) {
            Ok(options) => options
                .connect(settings.servers.clone())
                .await
                .map_err(|why| in_words(&engine::in_words(&why), &settings.servers.join(", "))),
            Err(why) => Err(why),
        };
        let done = made.is_ok();
        let happened = made.map_or_else(Happened::Failed, Happened::Client);
        if tell.send(happened).is_err() || done {
            return;
        }
        attempts += 1;
        tokio::time::sleep(pause(attempts)).await;
    }
}

fn options(settings: &Fleet, tell: &UnboundedSender<Happened>) -> Result<ConnectOptions, String> {
    let tell = tell.clone();
    let options = ConnectOptions::new()
        .name(format!("serin {}", settings.name))
        .connection_timeout(CONNECT)
        .ping_interval(PING)
        .subscription_capacity(UNREAD)
        .reconnect_delay_callback(pause)
        .require_tls(settings.tls.required)
        .tls_client_config(settings.tls.loaded.handshakes().clone())
        .event_callback(move |event| {
            let heard = tell.send(Happened::Event(event)).is_ok();
            // Where nobody hears it, the link is about to end.
            async move { tracing::trace!(heard, "an event of NATS") }
        });
    match &settings.login {
        Login::Nobody => Ok(options),
        Login::Password { user, password } => {
            Ok(options.user_and_password(user.clone(), password.expose().to_owned()))
        }
        Login::Token(token) => Ok(options.token(token.expose().to_owned())),
        Login::Credentials(text) => options
            .credentials(text.expose())
            .map_err(|why| format!("fleet.credentials cannot be used: {why}")),
    }
}

/// How long to wait before an attempt.
fn pause(attempts: usize) -> Duration {
    if attempts <= 1 {
        return Duration::ZERO;
    }
    let doublings = u32::try_from(attempts - 2).unwrap_or(u32::MAX).min(10);
    let pause = PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE);
    pause.mul_f64(0.5 + 0.5 * rand::random::<f64>())
}

/// What the client says of a failure, for operators.
pub(super) fn in_words(said: &str, servers: &str) -> String {
    let lower = said.to_lowercase();
    if lower.contains("authorization violation") || lower.contains("authentication") {
        return format!(
            "NATS at {servers} refuses what this member logs in with ({}): see credentials, user and token_env of [fleet]",
            said.trim_start_matches("nats: ")
        );
    }
    if said.contains("InvalidContentType") {
        return format!("NATS at {servers} speaks no TLS, which tls.required of [fleet] asks for");
    }
    format!(
        "NATS at {servers} cannot be reached: {}",
        said.trim_start_matches("nats: ")
    )
}
