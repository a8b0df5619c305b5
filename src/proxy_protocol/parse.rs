//! Reads a PROXY header from the first bytes of a connection.
//!
//! Pure, and the same however the bytes come: a verdict on a beginning is the verdict on all that begins so. Strict
//! where the specification is, since a header that is guessed at names the wrong client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::{BLOCK_V4, BLOCK_V6, Introduction, LOCAL, PROXY, SIGNATURE, TCP_V4, TCP_V6};

const WORD: &[u8; 6] = b"PROXY ";
/// The longest line that the specification has room for, with its end.
const LINE_MAX: usize = 107;
/// Of version 2: the signature, version and command, family and transport, length of the rest.
const FIXED: usize = 16;
/// The longest header of version 2, with everything that is skipped in it; nginx takes as much.
const BINARY_MAX: usize = 4096;
/// The other families, whose clients are known by no address of TCP.
const UNSPECIFIED: u8 = 0x00;
const UDP_V4: u8 = 0x12;
const UDP_V6: u8 = 0x22;
const UNIX_STREAM: u8 = 0x31;
const UNIX_DATAGRAM: u8 = 0x32;
/// Two names of 108 bytes each.
const BLOCK_UNIX: u8 = 216;

/// A header that is whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// In bytes; what follows is the client's.
    pub length: usize,
    /// `None` where the header names nobody: the connection is the proxy's own, as of a health check, or its client is
    /// no TCP connection.
    pub introduction: Option<Introduction>,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    #[error("no PROXY header")]
    Missing,
    #[error("malformed PROXY header: {0}")]
    Malformed(&'static str),
}

/// Reads a header that these bytes begin with; `None` while it is not whole.
///
/// # Errors
/// The bytes begin no header, whatever follows.
pub fn parse(bytes: &[u8]) -> Result<Option<Header>, HeaderError> {
    if is_beginning(bytes, WORD) {
        parse_line(bytes)
    } else if is_beginning(bytes, SIGNATURE) {
        parse_binary(bytes)
    } else {
        Err(HeaderError::Missing)
    }
}

// Whether the bytes begin as the mark does, as far as they go.
fn is_beginning(bytes: &[u8], mark: &[u8]) -> bool {
    bytes.iter().zip(mark).all(|(byte, mark)| byte == mark)
}

fn parse_line(bytes: &[u8]) -> Result<Option<Header>, HeaderError> {
    let head = &bytes[..bytes.len().min(LINE_MAX)];
    let Some(end) = head.iter().position(|&byte| byte == b'\n') else {
        return if bytes.len() < LINE_MAX {
            Ok(None)
        } else {
            Err(HeaderError::Malformed("a line of more than 107 bytes"))
        };
    };
    let line = head[..end]
        .strip_suffix(b"\r")
        .ok_or(HeaderError::Malformed("a line without CR"))?;
    Ok(Some(Header {
        length: end + 1,
        introduction: read_line(line.strip_prefix(WORD).unwrap_or_default())?,
    }))
}

fn read_line(rest: &[u8]) -> Result<Option<Introduction>, HeaderError> {
    if rest == b"UNKNOWN" || rest.starts_with(b"UNKNOWN ") {
        return Ok(None);
    }
    let text =
        str::from_utf8(rest).map_err(|_| HeaderError::Malformed("a line that is no text"))?;
    let mut fields = text.split(' ');
    let mut field = || fields.next().unwrap_or_default();
    let (family, source, destination) = (field(), field(), field());
    let (source_port, destination_port) = (field(), field());
    let introduction = match family {
        "TCP4" => Introduction {
            source: address::<Ipv4Addr>(source, source_port)?,
            destination: address::<Ipv4Addr>(destination, destination_port)?,
        },
        "TCP6" => Introduction {
            source: address::<Ipv6Addr>(source, source_port)?,
            destination: address::<Ipv6Addr>(destination, destination_port)?,
        },
        _ => return Err(HeaderError::Malformed("none of TCP4, TCP6 and UNKNOWN")),
    };
    match fields.next() {
        None => Ok(Some(introduction)),
        Some(_) => Err(HeaderError::Malformed("more than two addresses and ports")),
    }
}

fn address<T: FromStr + Into<IpAddr>>(ip: &str, port: &str) -> Result<SocketAddr, HeaderError> {
    let ip: T = ip
        .parse()
        .map_err(|_| HeaderError::Malformed("no address of its family"))?;
    // Rust would read a sign and leading zeros too.
    let is_written_out = port.bytes().all(|byte| byte.is_ascii_digit());
    let is_padded = port.len() > 1 && port.starts_with('0');
    match port.parse() {
        Ok(port) if is_written_out && !is_padded => Ok(SocketAddr::new(ip.into(), port)),
        _ => Err(HeaderError::Malformed("no port")),
    }
}

fn parse_binary(bytes: &[u8]) -> Result<Option<Header>, HeaderError> {
    let Some(&[.., version_command, family, high, low]) = bytes.first_chunk::<FIXED>() else {
        return Ok(None);
    };
    let is_local = match version_command {
        LOCAL => true,
        PROXY => false,
        _ => return Err(HeaderError::Malformed("not version 2, or no command of it")),
    };
    let length = FIXED + usize::from(u16::from_be_bytes([high, low]));
    if length > BINARY_MAX {
        return Err(HeaderError::Malformed("more than 4096 bytes"));
    }
    if !is_local && length - FIXED < least(family)? {
        return Err(HeaderError::Malformed("too short for its addresses"));
    }
    // What follows the addresses are extensions, none of which matters here.
    Ok(bytes.get(FIXED..length).map(|block| Header {
        length,
        introduction: if is_local {
            None
        } else {
            read_block(family, block)
        },
    }))
}

// How long the addresses of a family are.
fn least(family: u8) -> Result<usize, HeaderError> {
    let least = match family {
        UNSPECIFIED => 0,
        TCP_V4 | UDP_V4 => BLOCK_V4,
        TCP_V6 | UDP_V6 => BLOCK_V6,
        UNIX_STREAM | UNIX_DATAGRAM => BLOCK_UNIX,
        _ => return Err(HeaderError::Malformed("no family of addresses")),
    };
    Ok(least.into())
}

fn read_block(family: u8, block: &[u8]) -> Option<Introduction> {
    match family {
        TCP_V4 => read_pair::<4>(block),
        TCP_V6 => read_pair::<16>(block),
        _ => None,
    }
}

// Two addresses of so many bytes, then their ports.
fn read_pair<const N: usize>(block: &[u8]) -> Option<Introduction>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = block.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let [a, b, c, d] = *rest.first_chunk()?;
    Some(Introduction {
        source: SocketAddr::new((*source).into(), u16::from_be_bytes([a, b])),
        destination: SocketAddr::new((*destination).into(), u16::from_be_bytes([c, d])),
    })
}
