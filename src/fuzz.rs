//! What reads bytes or text from outside, as targets of fuzzing: for any bytes no panic, and what each promises holds.
//!
//! Built for tests and for `fuzz/` alone. The kept corpus runs through every target in each test run; `load-tests/fuzz`
//! looks for more.

use crate::config;
use crate::proxy_protocol::{self, HeaderError, Version};
use crate::records::event::EventRecord;
use crate::records::fleet::{MemberRecord, OrderRecord, OutcomeRecord, Stated, Told};
use crate::records::{compact, inputs, state};
use crate::rollout::condition::Condition;

pub use crate::proxy::fuzz::{frames, learner, request_head};
pub use crate::upstream::http1::fuzz::answer;

/// What follows a header is its client's.
const BEHIND: &[u8] = b"GET / HTTP/1.1\r\n";

/// A PROXY header: the verdict on its bytes is the verdict on all that begins so, none is given before its end, and what
/// it says is read again from what we would write.
pub fn proxy_protocol(data: &[u8]) {
    let more = [data, BEHIND].concat();
    match proxy_protocol::parse(data) {
        Ok(None) => {}
        Err(why) => {
            // Too long a line is one whose end may still come, somewhere else.
            assert!(proxy_protocol::parse(&more).is_err(), "{why}");
        }
        Ok(Some(header)) => {
            assert_eq!(proxy_protocol::parse(&more), Ok(Some(header)));
            let (whole, _) = data.split_at(header.length);
            for end in 0..whole.len() {
                let (part, _) = whole.split_at(end);
                assert_eq!(proxy_protocol::parse(part), Ok(None), "{end} bytes of it");
            }
            for version in [Version::V1, Version::V2] {
                let written = proxy_protocol::write(version, header.introduction.as_ref());
                let read = proxy_protocol::parse(&written);
                let addresses = |found: Result<Option<proxy_protocol::Header>, HeaderError>| {
                    let introduction = found.ok().flatten()?.introduction?;
                    let pair = [introduction.source, introduction.destination];
                    Some(pair.map(|address| (address.ip().to_canonical(), address.port())))
                };
                assert_eq!(addresses(read), addresses(Ok(Some(header))));
            }
        }
    }
}

/// What members of a fleet tell each other: what is read is written as it was, and what is none is an error.
pub fn fleet(data: &[u8]) {
    if let Ok(told) = Told::decode(data) {
        let written = told.encode();
        let again = Told::decode(&written).expect("as it was written");
        assert_eq!(again.encode(), written);
    }
    if let Ok(stated) = Stated::decode(data) {
        let again = Stated::decode(&stated.encode()).expect("as it was written");
        assert_eq!(again.record, stated.record);
    }
    if let Ok(says) = MemberRecord::decode(data) {
        let again = MemberRecord::decode(&says.encode()).expect("as it was written");
        assert_eq!(again, says);
    }
    if let Ok(order) = OrderRecord::decode(data) {
        let again = OrderRecord::decode(&order.encode()).expect("as it was written");
        assert_eq!(again, order);
        assert_eq!(order.command().is_ok(), again.command().is_ok());
    }
    if let Ok(outcome) = OutcomeRecord::decode(data) {
        let again = OutcomeRecord::decode(&outcome.encode()).expect("as it was written");
        assert_eq!(again, outcome);
    }
}

/// The counts of a second, or a sketch of learners, as the store keeps them.
pub fn cells(data: &[u8]) {
    if let Ok(cell) = compact::decode_cell(data) {
        let written = compact::encode_cell(&cell);
        let again = compact::decode_cell(&written).expect("as it was written");
        assert_eq!(compact::encode_cell(&again), written);
    }
    if let Ok(sketch) = compact::decode_sketch(data) {
        let written = compact::encode_sketch(&sketch);
        let again = compact::decode_sketch(&written).expect("as it was written");
        assert_eq!(compact::encode_sketch(&again), written);
    }
}

/// A condition of a plan: printed, it is read as the same.
pub fn conditions(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(condition) = Condition::parse(text) {
        let printed = condition.to_string();
        assert_eq!(
            Condition::parse(&printed).as_ref(),
            Ok(&condition),
            "{printed}"
        );
    }
}

/// A configuration: it is read, or every fault is named.
pub fn proxy_toml(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let env = |name: &str| (name == "TOKEN").then(|| "secret".to_owned());
    if let Err(faults) = config::parse("proxy.toml", text, &env) {
        assert!(!faults.is_empty());
        for fault in faults {
            assert!(!fault.to_string().is_empty());
        }
    }
}

/// A line of the journal or of recorded inputs, or a saved state with its counts behind a zero byte: what is read is
/// written as something that reads the same.
pub fn records(data: &[u8]) {
    let mut halves = data.splitn(2, |byte| *byte == 0);
    let text = halves.next().unwrap_or_default();
    let Ok(text) = std::str::from_utf8(text) else {
        return;
    };
    inputs::read(text).map(drop).unwrap_or_default();
    if let Ok(event) = serde_json::from_str::<EventRecord>(text) {
        let written = serde_json::to_string(&event).expect("it was JSON");
        let again: EventRecord = serde_json::from_str(&written).expect("as it was written");
        assert_eq!(serde_json::to_string(&again).ok(), Some(written));
    }
    if let Ok(snapshot) = state::decode(text, halves.next().unwrap_or_default()) {
        let written = state::encode(&snapshot);
        let again = state::decode(&written.json, &written.counts).expect("as it was written");
        let again = state::encode(&again);
        assert_eq!((again.json, again.counts), (written.json, written.counts));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    type Target = fn(&[u8]);

    const TARGETS: [(&str, Target); 10] = [
        ("answer", answer),
        ("cells", cells),
        ("conditions", conditions),
        ("fleet", fleet),
        ("frames", frames),
        ("learner", learner),
        ("proxy_protocol", proxy_protocol),
        ("proxy_toml", proxy_toml),
        ("records", records),
        ("request_head", request_head),
    ];

    fn entries(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap_or_else(|why| panic!("{folder:?}: {why}"));
        entries
            .map(|entry| entry.expect("an entry").path())
            .collect()
    }

    #[test]
    fn the_kept_corpus_finds_nothing() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
        for (name, target) in TARGETS {
            let files = entries(&root.join("corpus").join(name));
            assert!(!files.is_empty(), "{name} has no corpus");
            for file in files {
                println!("{}", file.display());
                target(&fs::read(&file).expect("a file"));
            }
        }
        let names = |folder: &str| -> BTreeSet<String> {
            let files = entries(&root.join(folder)).into_iter();
            let stems = files.filter_map(|file| Some(file.file_stem()?.to_str()?.to_owned()));
            stems.collect()
        };
        let known: BTreeSet<String> = TARGETS.map(|(name, _)| name.to_owned()).into();
        assert_eq!((names("corpus"), names("targets")), (known.clone(), known));
    }
}
