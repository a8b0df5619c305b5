//! Headers by the bytes of the specification, and what holds of any bytes.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Header, HeaderError, Introduction, Version, parse, write};

fn introduction(source: &str, destination: &str) -> Introduction {
    let address = |text: &str| text.parse().expect("an address");
    Introduction {
        source: address(source),
        destination: address(destination),
    }
}

fn binary(command: u8, family: u8, length: u16, rest: &[u8]) -> Vec<u8> {
    let mut header = b"\x0D\x0A\x0D\x0A\x00\x0D\x0A\x51\x55\x49\x54\x0A".to_vec();
    header.extend([command, family]);
    header.extend(length.to_be_bytes());
    header.extend(rest);
    header
}

// What the bytes are, with more behind them, and that no beginning of theirs is anything yet.
#[track_caller]
fn reads(header: &[u8], expected: Option<Introduction>) {
    let whole = Header {
        length: header.len(),
        introduction: expected,
    };
    let shown = header.escape_ascii();
    assert_eq!(parse(header), Ok(Some(whole)), "{shown}");
    let followed = [header, b"GET / HTTP/1.1\r\n"].concat();
    assert_eq!(parse(&followed), Ok(Some(whole)), "{shown}");
    for end in 0..header.len() {
        assert_eq!(parse(&header[..end]), Ok(None), "{end} bytes of {shown}");
    }
}

#[track_caller]
fn refuses(bytes: &[u8], what: &str) {
    let found = parse(bytes).expect_err("a fault").to_string();
    assert!(
        found.contains(what),
        "{found:?} of {}",
        bytes.escape_ascii()
    );
}

// The examples of section 2.1, and its longest lines.
#[test]
fn lines_name_the_client() {
    reads(
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        Some(introduction(
            "255.255.255.255:65535",
            "255.255.255.255:65535",
        )),
    );
    reads(
        b"PROXY TCP4 192.168.0.1 192.168.0.11 56324 443\r\n",
        Some(introduction("192.168.0.1:56324", "192.168.0.11:443")),
    );
    let ffff = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
    let long = format!("PROXY TCP6 {ffff} {ffff} 65535 65535\r\n");
    let both = format!("[{ffff}]:65535");
    reads(long.as_bytes(), Some(introduction(&both, &both)));
    reads(
        b"PROXY TCP6 2001:db8::1 ::1 0 443\r\n",
        Some(introduction("[2001:db8::1]:0", "[::1]:443")),
    );
    reads(b"PROXY UNKNOWN\r\n", None);
    let longest = format!("PROXY UNKNOWN {ffff} {ffff} 65535 65535\r\n");
    assert_eq!(longest.len(), 107);
    reads(longest.as_bytes(), None);
    reads(b"PROXY UNKNOWN \xff\0whatever\r\n", None);
}

#[test]
fn a_line_is_exact_or_none() {
    for line in [
        &b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n"[..],
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 3\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2 \r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        b"PROXY TCP4 1.2.3.4\r\n",
        b"PROXY TCP4\r\n",
        b"PROXY \r\n",
        b"PROXY  TCP4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP4\t1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY tcp4 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP5 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY UNKNOWNS\r\n",
        b"PROXY TCP4 1.2.3.04 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 1.2.3.256 5.6.7.8 1 2\r\n",
        b"PROXY TCP4 ::1 ::2 1 2\r\n",
        b"PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n",
        b"PROXY TCP6 [::1] ::2 1 2\r\n",
        b"PROXY TCP6 fe80::1%eth0 ::2 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 -1 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 +1 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 01 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2x\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1 \xff\r\n",
    ] {
        refuses(line, "malformed");
    }
    let endless = [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat();
    assert_eq!(parse(&endless[..106]), Ok(None));
    refuses(&endless[..107], "107 bytes");
    let too_long = [&endless[..106], b"\r\n"].concat();
    refuses(&too_long, "107 bytes");
}

// Section 2.2, byte by byte.
#[test]
fn binary_headers_name_the_client() {
    let v4 = [192, 168, 0, 1, 192, 168, 0, 11, 0xDC, 0x04, 0x01, 0xBB];
    let expected = introduction("192.168.0.1:56324", "192.168.0.11:443");
    reads(&binary(0x21, 0x11, 12, &v4), Some(expected));
    let v6 = [
        [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    ];
    let v6 = [v6.as_flattened(), &[0xFF, 0xFF, 0, 80]].concat();
    let expected_v6 = introduction("[2001:db8::1]:65535", "[::1]:80");
    reads(&binary(0x21, 0x21, 36, &v6), Some(expected_v6));
    // Extensions are skipped: PP2_TYPE_ALPN "h2", and NOOPs up to the most that is taken.
    let extended = [&v4[..], &[0x01, 0, 2, b'h', b'2']].concat();
    reads(&binary(0x21, 0x11, 17, &extended), Some(expected));
    let mut padded = v4.to_vec();
    padded.resize(4080, 4);
    reads(&binary(0x21, 0x11, 4080, &padded), Some(expected));
}

#[test]
fn some_binary_headers_name_nobody() {
    reads(&binary(0x20, 0x00, 0, b""), None);
    // Of LOCAL all the rest is ignored.
    reads(&binary(0x20, 0x11, 3, b"abc"), None);
    reads(&binary(0x20, 0xFF, 0, b""), None);
    reads(&binary(0x21, 0x00, 0, b""), None);
    reads(&binary(0x21, 0x00, 4, b"abcd"), None);
    reads(&binary(0x21, 0x12, 12, &[0; 12]), None);
    reads(&binary(0x21, 0x22, 36, &[0; 36]), None);
    reads(&binary(0x21, 0x31, 216, &[b'/'; 216]), None);
    reads(&binary(0x21, 0x32, 216, &[b'/'; 216]), None);
}

#[test]
fn a_binary_header_is_exact_or_none() {
    for command in [0x11, 0x22, 0x2F, 0x31, 0x00] {
        refuses(&binary(command, 0x11, 12, &[0; 12]), "version 2");
    }
    for family in [0x01, 0x10, 0x13, 0x20, 0x30, 0x33, 0x41, 0xFF] {
        refuses(&binary(0x21, family, 216, &[0; 216]), "no family");
    }
    for (family, length) in [(0x11, 11), (0x12, 11), (0x21, 35), (0x22, 35), (0x31, 215)] {
        refuses(&binary(0x21, family, length, b""), "too short");
    }
    refuses(&binary(0x21, 0x11, 4081, b""), "4096 bytes");
    refuses(&binary(0x20, 0x00, 0xFFFF, b""), "4096 bytes");
}

#[test]
fn what_is_no_header_is_known_at_its_first_wrong_byte() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"P0",
        b"PRI * HTTP/2.0",
        b"PROXY\r\n",
        b"proxy TCP4",
        b" PROXY",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\r\nG",
        b"\x16\x03\x01\x02",
    ] {
        assert_eq!(
            parse(bytes),
            Err(HeaderError::Missing),
            "{}",
            bytes.escape_ascii()
        );
        assert_eq!(parse(&bytes[..0]), Ok(None));
    }
}

#[test]
fn what_is_written_is_what_is_read() {
    for (source, destination) in [
        ("192.0.2.1:1", "198.51.100.2:65535"),
        ("[2001:db8::1]:1", "[2001:db8::2]:443"),
    ] {
        let expected = introduction(source, destination);
        for version in [Version::V1, Version::V2] {
            reads(&write(version, Some(&expected)), Some(expected));
            reads(&write(version, None), None);
        }
    }
    let check = |source, destination, line: &str| {
        let written = write(Version::V1, Some(&introduction(source, destination)));
        assert_eq!(written.escape_ascii().to_string(), line);
    };
    check(
        "1.2.3.4:5",
        "6.7.8.9:10",
        "PROXY TCP4 1.2.3.4 6.7.8.9 5 10\\r\\n",
    );
    check(
        "[::ffff:1.2.3.4]:5",
        "6.7.8.9:10",
        "PROXY TCP4 1.2.3.4 6.7.8.9 5 10\\r\\n",
    );
    check(
        "1.2.3.4:5",
        "[::1]:10",
        "PROXY TCP6 ::ffff:1.2.3.4 ::1 5 10\\r\\n",
    );
    assert_eq!(write(Version::V2, None), binary(0x20, 0, 0, b""));
}

/// Bytes that are near to a header: whole ones with a few bytes changed, taken out or put in.
fn nearly(random: &mut StdRng) -> Vec<u8> {
    let v4 = introduction("192.0.2.1:80", "198.51.100.2:443");
    let v6 = introduction("[2001:db8::1]:80", "[2001:db8::2]:443");
    let version = if random.random() {
        Version::V1
    } else {
        Version::V2
    };
    let introduction = [None, Some(&v4), Some(&v6)][random.random_range(0..3)];
    let mut bytes = write(version, introduction);
    bytes.extend((0..random.random_range(0..150)).map(|_| random.random::<u8>()));
    for _ in 0..random.random_range(0..4) {
        let at = random.random_range(0..bytes.len());
        match random.random_range(0..3) {
            0 => bytes[at] = random.random(),
            1 => _ = bytes.remove(at),
            _ => bytes.insert(at, b" \r\n\0P0"[random.random_range(0..6)]),
        }
    }
    bytes
}

#[test]
fn a_verdict_holds_however_the_bytes_come() {
    let seed: u64 = std::env::var("SERIN_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random);
    let mut random = StdRng::seed_from_u64(seed);
    let (mut whole, mut refused) = (0, 0);
    for _ in 0..5000 {
        let bytes = nearly(&mut random);
        let mut verdict = Ok(None);
        for end in 0..=bytes.len() {
            let found = parse(&bytes[..end]);
            if verdict == Ok(None) {
                verdict = found;
                if let Ok(Some(header)) = found {
                    assert_eq!(header.length, end, "seed {seed}: {}", bytes.escape_ascii());
                }
            }
            assert_eq!(
                found,
                verdict,
                "seed {seed}: {end} of {}",
                bytes.escape_ascii()
            );
        }
        match verdict {
            Ok(Some(_)) => whole += 1,
            Ok(None) => {}
            Err(_) => refused += 1,
        }
    }
    assert!(whole > 500 && refused > 500, "{whole} {refused}");
}
