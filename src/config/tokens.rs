//! Tokens of the admin port: where each comes from, kept only as its SHA-256.
//!
//! No message ever shows a token.

use std::collections::BTreeSet;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::env::Env;
use super::faults::Faults;
use super::leaf::Sha256Hex;
use super::{Token, raw};

/// Checks the list and fetches the tokens.
pub(super) fn check(typed: &[raw::Token], env: Env<'_>, faults: &mut Faults) -> Vec<Token> {
    let mut names = BTreeSet::new();
    let mut tokens = Vec::new();
    for (index, token) in typed.iter().enumerate() {
        let key = format!("admin.tokens[{index}]");
        let sha256 = fetch(token, &key, env, faults);
        if token.roles.is_empty() {
            faults.add(&format!("{key}.roles"), "empty: this token may do nothing");
        }
        let Some(name) = token.name.as_ref().map(|name| name.0.clone()) else {
            continue;
        };
        if !names.insert(name.clone()) {
            faults.add(
                &format!("{key}.name"),
                format!("two tokens are called {name:?}"),
            );
        }
        tokens.extend(sha256.map(|sha256| Token {
            name,
            roles: token.roles.clone(),
            sha256,
        }));
    }
    tokens
}

fn fetch(token: &raw::Token, key: &str, env: Env<'_>, faults: &mut Faults) -> Option<[u8; 32]> {
    let source = ["token_env", "token_file", "sha256"].map(|name| format!("{key}.{name}"));
    let given = source.iter().filter(|key| faults.has_key(key)).count();
    if given != 1 {
        faults.add(
            key,
            format!("exactly one of token_env, token_file and sha256 is needed, {given} are given"),
        );
        return None;
    }
    let [env_key, file_key, _] = source;
    if let Some(variable) = &token.token_env {
        let value =
            env(variable).ok_or_else(|| format!("the environment variable {variable} is not set"));
        return hashed(value.map(String::into_bytes), &env_key, faults);
    }
    if let Some(path) = &token.token_file {
        return hashed(read(path), &file_key, faults);
    }
    token.sha256.map(|Sha256Hex(hash)| hash)
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|why| format!("cannot read {}: {why}", path.display()))
}

/// Hashes a token without the blanks and the line end that editors leave behind it.
fn hashed(token: Result<Vec<u8>, String>, key: &str, faults: &mut Faults) -> Option<[u8; 32]> {
    match token {
        Ok(token) if token.trim_ascii().is_empty() => faults.add(key, "the token is empty"),
        Ok(token) => return Some(Sha256::digest(token.trim_ascii()).into()),
        Err(why) => faults.add(key, why),
    }
    None
}
