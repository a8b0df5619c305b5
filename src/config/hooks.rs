//! Hooks of a stage: what each does, said once, with the names and defaults that follow from it.

use super::faults::Faults;
use super::leaf::{CallUrl, ChannelName};
use super::staged;
use crate::rollout::plan::{Act, Hook, HookKind, HookMethod, Hooks, Verify};

/// The hooks of a stage as meant; those with faults are left out after these were added.
pub(super) fn check(typed: &staged::Hooks, key: &str, faults: &mut Faults) -> Hooks {
    let mut list = |kind: HookKind, typed: &[staged::Hook]| -> Vec<Hook> {
        let hooks = typed.iter().enumerate();
        hooks
            .filter_map(|(at, typed)| {
                let key = format!("{key}.hooks.{}[{at}]", kind.as_str());
                hook(
                    typed,
                    &format!("{}-{}", kind.as_str(), at + 1),
                    &key,
                    faults,
                )
            })
            .collect()
    };
    Hooks {
        before: list(HookKind::Before, &typed.before),
        after: list(HookKind::After, &typed.after),
        rollback: list(HookKind::Rollback, &typed.rollback),
        on_no_baseline: list(HookKind::OnNoBaseline, &typed.on_no_baseline),
    }
}

fn hook(typed: &staged::Hook, name: &str, key: &str, faults: &mut Faults) -> Option<Hook> {
    let act = act(
        typed.command.as_deref(),
        typed.url.as_ref(),
        typed.method,
        key,
        faults,
    );
    let verify = typed.verify.as_ref().map(|verify| {
        let key = format!("{key}.verify");
        let (command, url) = (verify.command.as_deref(), verify.url.as_ref());
        Some(Verify {
            act: self::act(command, url, verify.method, &key, faults)?,
            timeout: verify.timeout.0,
        })
    });
    let act = act?;
    let by_itself = matches!(act, Act::Http { .. });
    Some(Hook {
        name: match &typed.name {
            Some(ChannelName(name)) => name.clone(),
            None => name.to_owned(),
        },
        act,
        timeout: typed.timeout.0,
        retries: u32::try_from(typed.retries.0).unwrap_or(0),
        idempotent: typed.idempotent.unwrap_or(by_itself),
        when: typed.when,
        verify: verify.flatten(),
    })
}

fn act(
    command: Option<&[String]>,
    url: Option<&CallUrl>,
    method: Option<HookMethod>,
    key: &str,
    faults: &mut Faults,
) -> Option<Act> {
    match (command, url) {
        (Some([program, ..]), None) if !program.is_empty() => {
            if method.is_some() {
                faults.add(&format!("{key}.method"), "a command has no method");
            }
            command.map(|command| Act::Command(command.to_vec()))
        }
        (Some(_), None) => {
            faults.add(&format!("{key}.command"), "empty: it names no program");
            None
        }
        (None, Some(CallUrl(url))) => Some(Act::Http {
            method: method.unwrap_or(HookMethod::Post),
            url: url.to_string(),
        }),
        (Some(_), Some(_)) | (None, None) => {
            // A value with a fault of its own was told already.
            let given = ["command", "url"]
                .iter()
                .filter(|name| faults.has_key(&format!("{key}.{name}")))
                .count();
            if given != 1 {
                faults.add(key, "exactly one of command and url is needed");
            }
            None
        }
    }
}
