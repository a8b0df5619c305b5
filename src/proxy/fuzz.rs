//! What the data path reads from clients, and what must hold for any bytes. Built for tests and fuzzing alone.

use std::net::{IpAddr, Ipv4Addr};

use http::Request;
use http::header::HeaderName;
use http::request::Parts;

use super::check;
use super::frames::{Ending, Frames};
use super::guard::{Guard, Refused};
use super::learner::{self, Asker, Learner};
use crate::config::{LearnerSource, Limits};

const LIMITS: Limits = Limits {
    head_bytes: 1000,
    headers: 20,
    target_bytes: 100,
    body_bytes: 0,
};
/// Who sent it, and in its one text form.
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
const ADDRESS: &str = "192.0.2.1";

/// A byte that says how long the pieces are, then what a client sends: as one piece the same of it passes. As a head it is
/// checked without a panic.
pub fn request_head(data: &[u8]) {
    let Some((piece, bytes)) = data.split_first() else {
        return;
    };
    let whole = passed(bytes, bytes.len());
    assert_eq!(whole, passed(bytes, usize::from(*piece)));
    assert!(whole.0 <= bytes.len());
    if let Some(parts) = parts(bytes) {
        check::head(&parts, &LIMITS).map(drop).unwrap_or_default();
    }
}

/// A head: its learner and segment are found, and are never empty; nobody whom we do not trust says who he is.
pub fn learner(data: &[u8]) {
    let Some(parts) = parts(data) else {
        return;
    };
    let asker = Asker {
        headers: &parts.headers,
        uri: &parts.uri,
        address: ADDRESS,
    };
    let carried = [
        LearnerSource::Header(HeaderName::from_static("x-learner-id")),
        LearnerSource::Cookie("learner_id".to_owned()),
        LearnerSource::Query("learner_id".to_owned()),
    ];
    for source in &carried {
        if let Learner::Id(id) = learner::learner(std::slice::from_ref(source), asker) {
            assert!(!id.is_empty());
        }
        assert_ne!(learner::segment(source, asker).as_deref(), Some(""));
    }
    let last = [LearnerSource::ClientIp];
    assert_eq!(learner::learner(&last, asker), Learner::Address(ADDRESS));

    let trusted = ["192.0.2.0/24", "10.0.0.0/8"].map(|net| net.parse().expect("a network"));
    let client = |trusted| learner::client_address(PEER, trusted, &parts.headers);
    assert_eq!(client(&[]), PEER);
    assert_eq!(client(&trusted), client(&trusted).to_canonical());
}

/// A byte that says how long the pieces are, then frames of HTTP/2: as one piece they end the connection in the same way.
pub fn frames(data: &[u8]) {
    let Some((piece, bytes)) = data.split_first() else {
        return;
    };
    let read = |piece: usize| -> Result<bool, Ending> {
        let mut frames = Frames::new(0);
        for bytes in bytes.chunks(piece.max(1)) {
            frames.read(bytes, 0)?;
        }
        Ok(frames.is_partial())
    };
    assert_eq!(read(bytes.len()), read(usize::from(*piece)));
}

// How many bytes pass, in pieces of this length, and what was refused then. What did not pass comes again with more behind it.
fn passed(bytes: &[u8], piece: usize) -> (usize, Option<Refused>) {
    let mut guard = Guard::new(LIMITS);
    let (mut passed, mut given) = (0, 0);
    while given < bytes.len() {
        given = (given + piece.max(1)).min(bytes.len());
        let taken = guard.take(bytes.get(passed..given).unwrap_or_default());
        passed += taken.passed;
        if taken.refused.is_some() {
            return (passed, taken.refused);
        }
    }
    (passed, None)
}

// A head as http reads its parts: METHOD TARGET, then lines of headers.
fn parts(bytes: &[u8]) -> Option<Parts> {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
    let mut words = lines.next()?.split(|byte| *byte == b' ');
    let mut request = Request::builder().method(words.next()?).uri(words.next()?);
    for line in lines.take_while(|line| !line.is_empty()) {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = line.split_at(colon);
        request = request.header(name, value.get(1..)?.trim_ascii());
    }
    Some(request.body(()).ok()?.into_parts().0)
}
