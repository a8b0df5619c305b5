//! Names as the servers have them: buckets, the stream, keys, subjects.
//!
//! A key or a word of a subject is of `a-z A-Z 0-9 _ -`; everything else in a name is written `=` and two hexadecimal
//! digits, so that names read as themselves in the tools of NATS and none of them holds a dot.

use std::fmt::Write;

/// How everything of one fleet is called.
#[derive(Clone, Debug)]
pub(super) struct Names {
    prefix: String,
    /// Of a region that adds up, and not of the fleet.
    pub(super) is_region: bool,
}

/// What a key of the bucket of states is of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum StateKey {
    Lease,
    /// By its name.
    Rollout(String),
    /// By its name.
    Member(String),
}

/// What a key of the bucket of orders is of.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OrderKey {
    Order(String),
    Outcome(String),
}

impl Names {
    /// `prefix` is one word of a subject.
    pub(super) fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.to_owned(),
            is_region: false,
        }
    }

    /// Of a region of a fleet with this prefix; its name is that of a member, and any two differ here as well.
    pub(super) fn of_region(prefix: &str, region: &str) -> Self {
        let word = word(region).replace('_', "_5F").replace('=', "_");
        Self {
            prefix: format!("{prefix}_region_{word}"),
            is_region: true,
        }
    }

    pub(super) fn states(&self) -> String {
        format!("{}_state", self.prefix)
    }

    pub(super) fn orders(&self) -> String {
        format!("{}_orders", self.prefix)
    }

    pub(super) fn told(&self) -> String {
        format!("{}_told", self.prefix)
    }

    /// The subjects of every message of members.
    pub(super) fn all_told(&self) -> String {
        format!("{}.told.>", self.prefix)
    }

    pub(super) fn lease(&self) -> String {
        format!("$KV.{}.lease", self.states())
    }

    /// The keys of all rollouts, and of all members.
    pub(super) fn all_rollouts(&self) -> String {
        format!("$KV.{}.rollout.*", self.states())
    }

    pub(super) fn all_members(&self) -> String {
        format!("$KV.{}.member.*", self.states())
    }

    pub(super) fn rollout(&self, name: &str) -> String {
        format!("$KV.{}.rollout.{}", self.states(), word(name))
    }

    pub(super) fn member(&self, name: &str) -> String {
        format!("$KV.{}.member.{}", self.states(), word(name))
    }

    pub(super) fn order(&self, id: &str) -> String {
        format!("$KV.{}.order.{}", self.orders(), word(id))
    }

    pub(super) fn outcome(&self, id: &str) -> String {
        format!("$KV.{}.outcome.{}", self.orders(), word(id))
    }

    pub(super) fn letter(&self, rollout: &str, member: &str) -> String {
        format!("{}.told.{}.{}", self.prefix, word(rollout), word(member))
    }

    /// What a subject of the bucket of states is of; `None` where nobody of ours wrote it.
    pub(super) fn state_key(&self, subject: &str) -> Option<StateKey> {
        let key = subject.strip_prefix(&format!("$KV.{}.", self.states()))?;
        match key.split_once('.') {
            None if key == "lease" => Some(StateKey::Lease),
            Some(("rollout", name)) => text(name).map(StateKey::Rollout),
            Some(("member", name)) => text(name).map(StateKey::Member),
            _ => None,
        }
    }

    /// The same for the bucket of orders.
    pub(super) fn order_key(&self, subject: &str) -> Option<OrderKey> {
        let key = subject.strip_prefix(&format!("$KV.{}.", self.orders()))?;
        match key.split_once('.')? {
            ("order", id) => text(id).map(OrderKey::Order),
            ("outcome", id) => text(id).map(OrderKey::Outcome),
            _ => None,
        }
    }

    /// The rollout that a message of a member is about.
    pub(super) fn letter_rollout(&self, subject: &str) -> Option<String> {
        let rest = subject.strip_prefix(&format!("{}.told.", self.prefix))?;
        text(rest.split_once('.')?.0)
    }
}

/// A name as one word of a subject.
fn word(name: &str) -> String {
    let mut word = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') {
            word.push(char::from(byte));
        } else {
            // A string takes everything.
            write!(word, "={byte:02X}").unwrap_or_default();
        }
    }
    word
}

/// The name that a word stands for, if it stands for one.
fn text(word: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        if *first == b'=' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = rest.get(2..)?;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_one_word_and_comes_back() {
        for name in ["analyzer", "a.b-c_d", "=2E", "Ärger / *>", "x y\u{0}"] {
            let word = word(name);
            let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-=".contains(&byte);
            assert!(word.bytes().all(allowed), "{word}");
            assert_eq!(text(&word).as_deref(), Some(name), "{word}");
        }
        assert_eq!(word("canary-1"), "canary-1");
        for broken in ["a=", "a=2", "a=zz", "=FF"] {
            assert_eq!(text(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_subject_says_what_it_is_of() {
        let names = Names::new("serin");
        let key = |subject: &str| names.state_key(subject);
        assert_eq!(key(&names.lease()), Some(StateKey::Lease));
        let rollout = StateKey::Rollout("a.b".to_owned());
        assert_eq!(key(&names.rollout("a.b")), Some(rollout));
        let member = StateKey::Member("m".to_owned());
        assert_eq!(key(&names.member("m")), Some(member));
        assert_eq!(key("$KV.serin_state.other.x"), None);
        let told = ["eu", "e.u", "e_2Eu"].map(|region| Names::of_region("serin", region).told());
        assert_eq!(
            told,
            ["eu", "e_2Eu", "e_5F2Eu"].map(|word| format!("serin_region_{word}_told"))
        );
        let order = OrderKey::Order("k/1".to_owned());
        assert_eq!(names.order_key(&names.order("k/1")), Some(order));
        let letter = names.letter("a.b", "m.1");
        assert_eq!(names.letter_rollout(&letter).as_deref(), Some("a.b"));
    }
}
