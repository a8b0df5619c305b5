//! The evidence of a run as bytes: every number bit for bit, sets of learners by the gaps between their marks.
//!
//! One fixed order, no names. A page of marks is written mark by mark while that is shorter than the page itself.

use std::sync::Arc;

use super::super::compact::{DecodeError, Reader, put};
use super::counts::{next, piece};
use crate::rollout::evidence::{
    Absolute, Bursts, Edge, Erred, Evidence, Fault, Latency, Limit, Marks, Minute, Others,
    PAGE_PLACES, PAGE_WORDS, PLACES, Recent, Segment, Segments, Track,
};
use crate::rollout::slot::LATENCY_EDGES;
use crate::rollout::stats::Onset;
use crate::rollout::stats::fixed::Steps;
use crate::rollout::time::{Now, Timestamp, WallTime};

/// A gap takes a byte or two; a whole page takes 512.
const SPARSE: usize = 300;
/// Alternatives of one process at most; there are nine.
const MOST_ALTERNATIVES: usize = 64;
/// Added to the number of alternatives where each stands in units; without it they are logarithms, as they were first
/// written.
const IN_UNITS: u64 = 1 << 10;

type Decoded<T> = Result<T, DecodeError>;

pub(super) fn encode(evidence: &Evidence) -> Vec<u8> {
    let mut out = Vec::new();
    put(&mut out, evidence.began.mono.as_millis());
    out.extend_from_slice(&evidence.began.wall.as_unix_millis().to_be_bytes());
    put(&mut out, evidence.restarts);
    put(&mut out, evidence.blocks);
    put(&mut out, evidence.learners);
    put_track(&mut out, &evidence.errors);
    put_track(&mut out, &evidence.client_errors);
    put_latency(&mut out, &evidence.latency);
    put(&mut out, evidence.absolute.len() as u64);
    for absolute in &evidence.absolute {
        put_absolute(&mut out, absolute);
    }
    put_onset(&mut out, &evidence.requests);
    if evidence.segments.most > 0 {
        put_segments(&mut out, &evidence.segments);
    }
    out
}

pub(super) fn decode(bytes: &[u8]) -> Decoded<Evidence> {
    let mut reader = Reader::new(bytes);
    let r = &mut reader;
    let mut evidence = Evidence {
        began: Now {
            mono: timestamp(r)?,
            wall: WallTime::from_unix_millis(i64::from_be_bytes(eight(r)?)),
        },
        restarts: r.number()?,
        blocks: r.number()?,
        learners: r.number()?,
        errors: track(r)?,
        client_errors: track(r)?,
        latency: latency(r)?,
        absolute: many(r, absolute)?,
        segments: Segments::default(),
        requests: onset(r)?,
    };
    // Where no segments are told apart, or were not yet when it was saved, it ends here.
    if reader.end().is_err() {
        evidence.segments = segments(&mut reader)?;
    }
    reader.end()?;
    Ok(evidence)
}

// === out ===

fn put_track(out: &mut Vec<u8>, track: &Track) {
    put_onset(out, &track.onset);
    put_erred(out, &track.erred);
}

fn put_onset(out: &mut Vec<u8>, onset: &Onset) {
    put(out, onset.t);
    put(out, onset.folded);
    put(out, onset.s.len() as u64 + IN_UNITS);
    for number in onset.s.iter().chain([&onset.ln_unit]) {
        out.extend_from_slice(&number.to_bits().to_be_bytes());
    }
}

fn put_erred(out: &mut Vec<u8>, erred: &Erred) {
    put(out, erred.began.map_or(0, |began| began.as_millis() + 1));
    put_all(out, &erred.failing);
    put(out, erred.minute.began.as_millis());
    put_all(out, &erred.minute.active);
    put_all(out, &erred.minute.marked);
    put_marks(out, &erred.current);
    put_marks(out, &erred.previous);
}

fn put_marks(out: &mut Vec<u8>, marks: &Marks) {
    put(out, marks.pages().count() as u64);
    for (number, page) in marks.pages() {
        put(out, number as u64);
        let places: Vec<u32> = places(page).collect();
        if places.len() > SPARSE {
            put(out, 0);
            for word in page {
                out.extend_from_slice(&word.to_be_bytes());
            }
            continue;
        }
        put(out, places.len() as u64);
        let mut last = 0;
        for place in places {
            put(out, u64::from(place - last));
            last = place;
        }
    }
}

fn put_latency(out: &mut Vec<u8>, latency: &Latency) {
    put(out, latency.seen);
    put_all(out, &latency.over);
    put(out, latency.edges.len() as u64);
    for edge in &latency.edges {
        out.push(edge.edge);
        put_track(out, &edge.track);
    }
    put_bursts(out, latency.bursts);
}

fn put_bursts(out: &mut Vec<u8>, bursts: Bursts) {
    for step in bursts.0 {
        out.extend_from_slice(&step.to_bits().to_be_bytes());
    }
}

fn put_absolute(out: &mut Vec<u8>, absolute: &Absolute) {
    match absolute.limit.fault {
        Fault::Error => out.push(0),
        Fault::Unavailable => out.push(1),
        Fault::Slower(limit_us) => {
            out.push(2);
            put(out, limit_us);
        }
    }
    out.extend_from_slice(&absolute.limit.p0.to_bits().to_be_bytes());
    put_onset(out, &absolute.onset);
    put_erred(out, &absolute.erred);
    put_bursts(out, absolute.bursts);
    put(out, absolute.baseline.len() as u64);
    for recent in &absolute.baseline {
        put(out, recent.start.as_millis());
        put(out, recent.faulty);
        put(out, recent.learners);
    }
}

fn put_segments(out: &mut Vec<u8>, segments: &Segments) {
    put(out, segments.most);
    put(out, segments.each.len() as u64);
    for segment in &segments.each {
        piece(out, segment.name.as_bytes());
        put_onset(out, &segment.own);
        for others in [&segment.errors, &segment.client_errors] {
            put_onset(out, &others.onset);
            put_all(out, &others.failing);
        }
        put(out, segment.absolute.len() as u64);
        for onset in &segment.absolute {
            put_onset(out, onset);
        }
    }
}

fn put_all(out: &mut Vec<u8>, numbers: &[u64]) {
    for &number in numbers {
        put(out, number);
    }
}

fn places(page: &[u64; PAGE_WORDS]) -> impl Iterator<Item = u32> {
    let words = page.iter().zip((0..PAGE_PLACES).step_by(64));
    words.flat_map(|(word, from)| {
        (0..64)
            .filter(move |bit| word >> bit & 1 == 1)
            .map(move |bit| from + bit)
    })
}

// === in ===

fn track(reader: &mut Reader<'_>) -> Decoded<Track> {
    Ok(Track {
        onset: onset(reader)?,
        erred: erred(reader)?,
    })
}

fn onset(reader: &mut Reader<'_>) -> Decoded<Onset> {
    let (t, folded) = (reader.number()?, reader.number()?);
    if folded > t {
        return Err(DecodeError::Range("a number of blocks"));
    }
    let width = reader.number()?;
    let (width, in_units) = match width.checked_sub(IN_UNITS) {
        Some(width) => (width, true),
        None => (width, false),
    };
    if width > MOST_ALTERNATIVES as u64 {
        return Err(DecodeError::Range("the number of alternatives"));
    }
    let s: Vec<f64> = (0..width).map(|_| float(reader)).collect::<Decoded<_>>()?;
    if !s.iter().all(|s| s.is_finite()) {
        return Err(DecodeError::Range("a logarithm"));
    }
    if !in_units {
        return Ok(Onset::of_ln(t, folded, &s));
    }
    let ln_unit = float(reader)?;
    let is_sum = |s: &f64| *s >= 0.0 && s.is_finite();
    if !is_sum(&ln_unit) || !s.iter().all(is_sum) {
        return Err(DecodeError::Range("a sum of evidence"));
    }
    Ok(Onset::of(t, folded, s, ln_unit))
}

fn erred(reader: &mut Reader<'_>) -> Decoded<Erred> {
    Ok(Erred {
        began: reader.number()?.checked_sub(1).map(Timestamp::from_millis),
        failing: all(reader)?,
        minute: Minute {
            began: timestamp(reader)?,
            active: all(reader)?,
            marked: all(reader)?,
        },
        current: marks(reader)?,
        previous: marks(reader)?,
    })
}

fn marks(reader: &mut Reader<'_>) -> Decoded<Marks> {
    let mut marks = Marks::default();
    for _ in 0..reader.count()? {
        let page = reader.number()?;
        let pages = u64::from(PLACES / PAGE_PLACES);
        let page = u32::try_from(page).map_err(|_| DecodeError::Range("a page"))?;
        if u64::from(page) >= pages {
            return Err(DecodeError::Range("a page"));
        }
        let from = page * PAGE_PLACES;
        match reader.number()? {
            0 => {
                let mut words = [0; PAGE_WORDS];
                for word in &mut words {
                    *word = u64::from_be_bytes(eight(reader)?);
                }
                places(&words).for_each(|place| marks.insert(from + place));
            }
            count => {
                let mut place = 0;
                for _ in 0..count {
                    place += reader.number()?;
                    if place >= u64::from(PAGE_PLACES) {
                        return Err(DecodeError::Range("a mark"));
                    }
                    marks.insert(from + place as u32);
                }
            }
        }
    }
    Ok(marks)
}

fn latency(reader: &mut Reader<'_>) -> Decoded<Latency> {
    Ok(Latency {
        seen: reader.number()?,
        over: all::<LATENCY_EDGES>(reader)?,
        edges: many(reader, |reader| {
            Ok(Edge {
                edge: reader.byte()?,
                track: track(reader)?,
            })
        })?,
        bursts: bursts(reader)?,
    })
}

fn bursts(reader: &mut Reader<'_>) -> Decoded<Bursts> {
    Ok(Bursts([float(reader)?, float(reader)?]))
}

fn absolute(reader: &mut Reader<'_>) -> Decoded<Absolute> {
    let fault = match reader.byte()? {
        0 => Fault::Error,
        1 => Fault::Unavailable,
        2 => Fault::Slower(reader.number()?),
        _ => return Err(DecodeError::Range("a fault")),
    };
    let p0 = float(reader)?;
    Ok(Absolute {
        limit: Limit { fault, p0 },
        steps: Steps::of(p0),
        onset: onset(reader)?,
        erred: erred(reader)?,
        bursts: bursts(reader)?,
        baseline: many(reader, |reader| {
            Ok(Recent {
                start: timestamp(reader)?,
                faulty: reader.number()?,
                learners: reader.number()?,
            })
        })?
        .into(),
    })
}

fn segments(reader: &mut Reader<'_>) -> Decoded<Segments> {
    Ok(Segments {
        most: reader.number()?,
        each: many(reader, |reader| {
            let name = std::str::from_utf8(next(reader)?)
                .map_err(|_| DecodeError::Range("the name of a segment"))?;
            Ok(Segment {
                name: Arc::from(name),
                own: onset(reader)?,
                errors: others(reader)?,
                client_errors: others(reader)?,
                absolute: many(reader, onset)?,
            })
        })?,
    })
}

fn others(reader: &mut Reader<'_>) -> Decoded<Others> {
    Ok(Others {
        onset: onset(reader)?,
        failing: all(reader)?,
    })
}

fn many<T>(
    reader: &mut Reader<'_>,
    mut one: impl FnMut(&mut Reader<'_>) -> Decoded<T>,
) -> Decoded<Vec<T>> {
    let count = reader.count()?;
    (0..count).map(|_| one(reader)).collect()
}

fn all<const N: usize>(reader: &mut Reader<'_>) -> Decoded<[u64; N]> {
    let mut numbers = [0; N];
    for number in &mut numbers {
        *number = reader.number()?;
    }
    Ok(numbers)
}

fn timestamp(reader: &mut Reader<'_>) -> Decoded<Timestamp> {
    reader.number().map(Timestamp::from_millis)
}

fn float(reader: &mut Reader<'_>) -> Decoded<f64> {
    Ok(f64::from_bits(u64::from_be_bytes(eight(reader)?)))
}

fn eight(reader: &mut Reader<'_>) -> Decoded<[u8; 8]> {
    reader.take(8)?.try_into().map_err(|_| DecodeError::Short)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_come_back_sparse_and_dense() {
        let mut marks = Marks::default();
        for place in [0, 1, 4095, 4096, PLACES - 1] {
            marks.insert(place);
        }
        // A page beyond the sparse form.
        (0..2048).for_each(|place| marks.insert(40_960 + 2 * place));
        let mut bytes = Vec::new();
        put_marks(&mut bytes, &marks);
        assert!(bytes.len() < 560, "{} bytes", bytes.len());
        let mut reader = Reader::new(&bytes);
        assert_eq!(super::marks(&mut reader), Ok(marks));
        assert_eq!(reader.end(), Ok(()));
    }

    #[test]
    fn what_is_out_of_range_is_refused() {
        let mut bytes = Vec::new();
        for number in [1, 1024, 1, 0] {
            put(&mut bytes, number);
        }
        let refused = marks(&mut Reader::new(&bytes));
        assert_eq!(refused, Err(DecodeError::Range("a page")));
        let mut bytes = Vec::new();
        for number in [1, 0, 2, 4000, 96] {
            put(&mut bytes, number);
        }
        let refused = marks(&mut Reader::new(&bytes));
        assert_eq!(refused, Err(DecodeError::Range("a mark")));
    }
}
