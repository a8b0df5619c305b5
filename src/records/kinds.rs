//! The words of the field `event`, and the groups that a channel of notices may ask for.
//!
//! One list of words, twin of `Detail`; a test compares the two.

/// Every word of the field `event` that this version writes.
pub const KINDS: &[&str] = &[
    "started",
    "stage_began",
    "checkpoint",
    "interval_failed",
    "advanced",
    "completed",
    "extended",
    "held",
    "cause_ended",
    "resumed",
    "retried",
    "paused",
    "rolled_back",
    "recovered",
    "not_recovered",
    "aborted",
    "weight_set",
    "pinned",
    "unpinned",
    "ceiling_set",
    "ceiling_lifted",
    "segment_lowered",
    "incident_opened",
    "incident_closed",
    "alarm_noted",
    "canary_replaced",
    "rehearsal_began",
    "rehearsal_ended",
    "restarted",
    "fleet_noted",
    "clock_jumped",
    "scheduled",
    "approval_asked",
    "approved",
    "approvals_voided",
    "waits",
    "frozen",
    "unfrozen",
    "level_began",
    "day_began",
    "stabilization_restarted",
    "reminded",
    "hook_started",
    "hook_ended",
];

/// A word for several kinds.
#[derive(Clone, Copy, Debug)]
pub struct Group {
    pub name: &'static str,
    pub kinds: &'static [&'static str],
}

/// What a channel may ask for beside single kinds.
pub const GROUPS: &[Group] = &[
    Group {
        name: "all",
        kinds: KINDS,
    },
    Group {
        name: "decisions",
        kinds: &[
            "started",
            "advanced",
            "completed",
            "extended",
            "held",
            "cause_ended",
            "resumed",
            "retried",
            "paused",
            "rolled_back",
            "recovered",
            "not_recovered",
            "aborted",
            "weight_set",
            "ceiling_set",
            "ceiling_lifted",
            "segment_lowered",
            "scheduled",
            "approval_asked",
            "approved",
            "waits",
            "frozen",
            "unfrozen",
        ],
    },
    Group {
        name: "hooks",
        kinds: &["hook_started", "hook_ended"],
    },
    Group {
        name: "alarms",
        kinds: &[
            "interval_failed",
            "held",
            "rolled_back",
            "not_recovered",
            "alarm_noted",
            "incident_opened",
            "incident_closed",
            "canary_replaced",
            "segment_lowered",
            "approvals_voided",
            "stabilization_restarted",
            "rehearsal_began",
            "rehearsal_ended",
            "fleet_noted",
            "clock_jumped",
        ],
    },
];

/// The kinds that a word stands for: a group's, or itself; none where the word is neither.
pub fn kinds_of(word: &str) -> &'static [&'static str] {
    let group = GROUPS.iter().find(|group| group.name == word);
    let alone = || KINDS.iter().position(|kind| *kind == word);
    match group {
        Some(group) => group.kinds,
        None => alone().map_or(&[], |at| &KINDS[at..=at]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_that_of_the_events() {
        let source = include_str!("event/detail.rs");
        let begin = source.find("const fn word(&self)").expect("the words");
        let body = &source[begin..];
        let body = &body[..body.find("\n    }\n").expect("its end")];
        let words: Vec<&str> = body
            .lines()
            .filter_map(|line| line.split_once("=> \"")?.1.split('"').next())
            .filter(|word| *word != "unknown")
            .collect();
        assert_eq!(words, KINDS);
    }

    #[test]
    fn groups_hold_kinds_only() {
        for group in GROUPS {
            for kind in group.kinds {
                assert!(KINDS.contains(kind), "{} holds {kind:?}", group.name);
            }
            assert!(!KINDS.contains(&group.name), "{} is a kind", group.name);
        }
        assert_eq!(kinds_of("held"), ["held"]);
        assert_eq!(kinds_of("all"), KINDS);
        assert!(kinds_of("nonsense").is_empty());
    }
}
