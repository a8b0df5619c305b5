//! Frames cut in every way, and each fault with its error.

use super::allowance::{BURST, PER_SECOND, RESET_COST, TURN};
use super::block::{END_HEADERS, PADDED, WITH_PRIORITY};
use super::*;

fn frame(kind: u8, flags: u8, len: usize) -> Vec<u8> {
    let mut bytes = vec![(len >> 16) as u8, (len >> 8) as u8, len as u8, kind, flags];
    bytes.extend([0, 0, 0, 1]);
    // A field of the static table, or a setting that nobody knows.
    bytes.extend(std::iter::repeat_n(0x90, len));
    bytes
}

fn begun() -> Frames {
    let mut frames = Frames::new(0);
    frames.read(PREFACE, 0).expect("a preface");
    frames
}

#[test]
fn the_cut_of_reads_changes_nothing() {
    let mut bytes = PREFACE.to_vec();
    bytes.extend(frame(SETTINGS, 0, 18));
    bytes.extend(frame(HEADERS, 0, 300));
    bytes.extend(frame(CONTINUATION, END_HEADERS, 16_384));
    bytes.extend(frame(DATA, END_STREAM, 0));
    for step in [1, 2, 8, 9, 10, 33, 1000, usize::MAX] {
        let mut frames = Frames::new(0);
        assert!(frames.is_partial());
        for piece in bytes.chunks(step) {
            frames.read(piece, 0).expect("few frames");
        }
        assert!(!frames.is_partial(), "{step}");
        assert_eq!(
            frames.allowance.left(),
            BURST - 2,
            "settings and continuation"
        );
    }
}

#[test]
fn what_has_not_ended_is_known() {
    let check = |bytes: &[u8], expected: bool| {
        let mut frames = begun();
        frames.read(bytes, 0).expect("few frames");
        assert_eq!(frames.is_partial(), expected, "{bytes:?}");
    };
    check(&[], false);
    check(&frame(PING, 0, 8)[..4], true);
    check(&frame(PING, 0, 8)[..16], true);
    check(&frame(PING, 0, 8), false);
    check(&frame(HEADERS, 0, 3), true);
    check(&frame(HEADERS, END_HEADERS, 3), false);
    check(&frame(DATA, 0, 100)[..50], false);
}

#[test]
fn a_length_that_a_frame_cannot_have_ends_the_connection_with_its_own_error() {
    let check = |kind: u8, flags: u8, len: usize, expected: bool| {
        let mut frames = begun();
        let read = frames.read(&frame(kind, flags, len), 0);
        assert_eq!(read.is_ok(), expected, "{kind} {flags} {len}");
        if !expected {
            assert_eq!(read, Err(Ending::FrameSize));
        }
    };
    for (kind, flags, len) in [
        (DATA, 0, 16_384),
        (HEADERS, 0, 16_384),
        (PRIORITY, 0, 5),
        (RST_STREAM, 0, 4),
        (SETTINGS, 0, 12),
        (SETTINGS, ACK, 0),
        (PING, ACK, 8),
        (GOAWAY, 0, 8),
        (GOAWAY, 0, 9),
        (WINDOW_UPDATE, 0, 4),
        (0x42, 0, 16_384),
    ] {
        check(kind, flags, len, true);
    }
    for (kind, flags, len) in [
        (DATA, 0, 16_385),
        (0x42, 0, 16_385),
        (PRIORITY, 0, 4),
        (PRIORITY, 0, 6),
        (RST_STREAM, 0, 3),
        (SETTINGS, 0, 7),
        (SETTINGS, ACK, 6),
        (PING, 0, 0),
        (GOAWAY, 0, 7),
        (WINDOW_UPDATE, 0, 5),
    ] {
        check(kind, flags, len, false);
    }
}

// A request's HEADERS, whole; and how the connection goes on after them.
fn head(stream: u8, flags: u8, block: &[u8]) -> Vec<u8> {
    let len = block.len() as u8;
    let mut bytes = vec![0, 0, len, HEADERS, flags, 0, 0, 0, stream];
    bytes.extend(block);
    bytes
}

#[test]
fn what_comes_on_a_stream_that_its_client_ended_ends_the_connection() {
    let check = |then: &[u8], expected: Result<(), Ending>| {
        let mut frames = begun();
        for (stream, flags) in [(1, END_HEADERS), (3, END_HEADERS | END_STREAM)] {
            let read = frames.read(&head(stream, flags, &[0x82]), 0);
            read.expect("requests");
        }
        assert_eq!(frames.read(then, 0), expected, "{then:?}");
    };
    let data = |stream: u8, flags: u8| vec![0, 0, 0, DATA, flags, 0, 0, 0, stream];
    check(&data(1, 0), Ok(()));
    check(&data(3, 0), Err(Ending::StreamClosed));
    check(&head(3, END_HEADERS, &[0x90]), Err(Ending::StreamClosed));
    check(
        &[data(1, END_STREAM), data(1, 0)].concat(),
        Err(Ending::StreamClosed),
    );
    let trailers = head(1, END_HEADERS | END_STREAM, &[0x90]);
    check(&trailers, Ok(()));
    check(&trailers.repeat(2), Err(Ending::StreamClosed));
    // What is long ago is not known any more; what has not begun is not ours to judge.
    let far = [head(255, END_HEADERS, &[0x82]), data(3, 0)].concat();
    check(&far, Err(Ending::StreamClosed));
    let mut farther = head(3, END_HEADERS, &[0x82]);
    farther[7] = 1;
    check(&[farther, data(3, 0)].concat(), Ok(()));
    check(&data(5, 0), Ok(()));
}

#[test]
fn blocks_are_judged_without_what_surrounds_them() {
    let check = |frames_of_it: &[Vec<u8>], expected: Result<(), Ending>| {
        let bytes = frames_of_it.concat();
        for step in [1, 10, usize::MAX] {
            let mut frames = begun();
            let mut pieces = bytes.chunks(step);
            let read = pieces.try_for_each(|piece| frames.read(piece, 0));
            assert_eq!(read, expected, "{bytes:?} by {step}");
        }
    };
    let continued = |stream: u8, flags: u8, block: &[u8]| {
        let mut bytes = head(stream, flags, block);
        bytes[3] = CONTINUATION;
        bytes
    };
    let padded = PADDED | WITH_PRIORITY | END_HEADERS;
    check(
        &[head(1, padded, &[2, 0, 0, 0, 0, 9, 0x82, 0x41, 0])],
        Ok(()),
    );
    check(
        &[head(1, padded, &[3, 0, 0, 0, 0, 9, 0])],
        Err(Ending::Protocol),
    );
    check(&[head(1, padded, &[0, 0, 0])], Err(Ending::FrameSize));
    check(&[head(1, END_HEADERS, &[0x41])], Err(Ending::Compression));
    // A field over three frames.
    let parts = |last: &[u8]| {
        [
            head(1, 0, &[0x82, 0x41]),
            continued(1, 0, &[]),
            continued(1, END_HEADERS, last),
        ]
    };
    check(&parts(&[1, b'a']), Ok(()));
    check(&parts(&[2, b'a']), Err(Ending::Compression));
    for cut_into in [
        continued(3, END_HEADERS, &[1, b'a']),
        head(1, END_HEADERS, &[1, b'a']),
        frame(PING, 0, 8),
    ] {
        check(
            &[head(1, 0, &[0x82, 0x41]), cut_into],
            Err(Ending::Protocol),
        );
    }
    check(&[continued(1, END_HEADERS, &[0x82])], Err(Ending::Protocol));
    // Trailers: a pseudo-header from the static table, and from the one that the request has filled.
    let begins = head(1, END_HEADERS, &[0x82, 0x41, 1, b'a', 0x40, 1, b'x', 0]);
    let ends = |field: u8| head(1, END_HEADERS | END_STREAM, &[field]);
    check(&[begins.clone(), ends(0xbe)], Ok(()));
    check(&[begins.clone(), ends(0xbf)], Err(Ending::Protocol));
    check(&[begins, ends(0x83)], Err(Ending::Protocol));
}

#[test]
fn a_window_wider_than_any_ends_the_connection() {
    let check = |payload: &[u8], expected: Result<(), Ending>| {
        let mut bytes = frame(SETTINGS, 0, 0);
        bytes[2] = payload.len() as u8;
        bytes.extend(payload);
        assert_eq!(begun().read(&bytes, 0), expected, "{payload:?}");
    };
    check(&[0, 4, 0x7f, 0xff, 0xff, 0xff], Ok(()));
    check(&[0, 3, 0x80, 0, 0, 0], Ok(()));
    check(
        &[0, 3, 0, 0, 0, 1, 0, 4, 0x80, 0, 0, 0],
        Err(Ending::FlowControl),
    );
}

#[test]
fn the_last_frame_names_the_last_stream_and_the_error() {
    let mut frames = begun();
    for stream in [1, 7, 3] {
        let mut head = frame(HEADERS, END_HEADERS, 0);
        head[8] = stream;
        head[5] = 0x80;
        frames.read(&head, 0).expect("requests");
    }
    let said = frames.goodbye(Ending::FrameSize);
    assert_eq!(said[..9], [0, 0, 8, GOAWAY, 0, 0, 0, 0, 0]);
    assert_eq!(said[9..], [0, 0, 0, 7, 0, 0, 0, 6]);
    assert_eq!(frames.goodbye(Ending::Flood)[16], 0xb);
}

#[test]
fn floods_of_control_frames_end_and_calm_ones_do_not() {
    let flood = |kind: u8, len: usize, many: u32| {
        let mut frames = begun();
        // Of HEADERS the last of their block.
        let flags = if kind == HEADERS { END_HEADERS } else { 0 };
        (0..many).try_for_each(|_| frames.read(&frame(kind, flags, len), 0))
    };
    for (kind, len, cost) in [
        (PING, 8, 1),
        (SETTINGS, 0, 1),
        (0x2, 5, 1),
        (0x8, 4, 1),
        (DATA, 0, 1),
        (0x42, 0, 1),
        (RST_STREAM, 4, RESET_COST),
    ] {
        assert_eq!(flood(kind, len, BURST / cost), Ok(()), "{kind}");
        assert_eq!(
            flood(kind, len, BURST / cost + 1),
            Err(Ending::Flood),
            "{kind}"
        );
    }
    assert_eq!(flood(DATA, 1, 2 * BURST), Ok(()), "a body");
    assert_eq!(flood(HEADERS, 1, 2 * BURST), Ok(()), "requests");

    let mut frames = begun();
    for second in 0..60 {
        for _ in 0..PER_SECOND {
            let at = second * 1000;
            frames.read(&frame(PING, 0, 8), at).expect("a calm client");
        }
    }
    let mut frames = begun();
    let pings = frame(PING, 0, 8).repeat(TURN as usize);
    frames.read(&pings[17..], 0).expect("few frames");
    assert!(!frames.gives_way());
    frames.read(&pings[..17], 0).expect("few frames");
    assert!(frames.gives_way() && !frames.gives_way(), "once");

    let mut frames = begun();
    for _ in 0..10 * BURST {
        frames.wrote(1024);
        frames.read(&frame(0x8, 0, 4), 0).expect("a reader");
    }
}
