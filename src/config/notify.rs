//! Channels of notices: each with a name of its own, its events as kinds, its secret fetched.
//!
//! No message ever shows a secret, and of a URL only scheme and host: Slack's are secrets themselves.

use std::collections::BTreeSet;

use super::env::Env;
use super::faults::Faults;
use super::leaf::{CallUrl, ChannelName};
use super::{Channel, ChannelKind, Secret, raw};
use crate::records::kinds::kinds_of;

/// Checks the list and fetches the secrets.
pub(super) fn check(typed: &[raw::Notify], env: Env<'_>, faults: &mut Faults) -> Vec<Channel> {
    let mut names = BTreeSet::new();
    let mut channels = Vec::new();
    for (index, raw) in typed.iter().enumerate() {
        let key = format!("notify[{index}]");
        let secret = secret(raw, &key, env, faults);
        let (Some(kind), Some(CallUrl(url))) = (raw.kind, raw.url.clone()) else {
            continue;
        };
        let name = match &raw.name {
            Some(ChannelName(name)) => name.clone(),
            None => kind.as_str().to_owned(),
        };
        if !names.insert(name.clone()) {
            let why = format!("two channels are called {name:?}; give one a name of its own");
            faults.add(&format!("{key}.name"), why);
        }
        if kind == ChannelKind::Slack && secret.is_some() {
            let why = "slack takes no signature: its URL is the secret";
            faults.add(&format!("{key}.secret"), why);
        }
        if raw.events.is_empty() {
            faults.add(&format!("{key}.events"), "empty: nothing would be told");
        }
        let events = raw.events.iter().flat_map(|word| kinds_of(&word.0));
        channels.push(Channel {
            name,
            kind,
            url: Secret::new(url.to_string()),
            events: events.copied().collect(),
            secret,
            escalate_after: raw.escalate_after,
            digest: raw.digest,
            timeout: raw.timeout.0,
        });
    }
    channels
}

fn secret(raw: &raw::Notify, key: &str, env: Env<'_>, faults: &mut Faults) -> Option<Secret> {
    let found = match (&raw.secret, &raw.secret_env) {
        (None, None) => return None,
        (Some(_), Some(_)) => Err((
            "secret_env",
            "one of secret and secret_env is enough".to_owned(),
        )),
        (Some(secret), None) => Ok(secret.clone()),
        (None, Some(variable)) => env(variable).ok_or_else(|| {
            let why = format!("the environment variable {variable} is not set");
            ("secret_env", why)
        }),
    };
    match found {
        Ok(secret) if secret.trim().is_empty() => {
            faults.add(&format!("{key}.secret"), "the secret is empty");
            None
        }
        Ok(secret) => Some(Secret::new(secret.trim().to_owned())),
        Err((field, why)) => {
            faults.add(&format!("{key}.{field}"), why);
            None
        }
    }
}
