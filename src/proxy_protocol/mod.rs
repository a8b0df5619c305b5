//! The PROXY protocol, versions 1 and 2: how a proxy tells the next one whose connection it passes on.
//!
//! `parse` reads a header and `write` makes one, both pure functions of bytes. Touches no socket, and never decides who
//! is believed. Source: <https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>.

mod parse;
#[cfg(test)]
mod tests;
mod write;

use std::net::SocketAddr;

pub use parse::{Header, HeaderError, parse};
pub use write::write;

/// What a header of version 2 begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2 with its commands: a connection of the proxy's own, or a client's.
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
/// Families of addresses in version 2 with the transport TCP, and how long two addresses with their ports are.
const TCP_V4: u8 = 0x11;
const TCP_V6: u8 = 0x21;
const BLOCK_V4: u8 = 12;
const BLOCK_V6: u8 = 36;

/// A version of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// A client's connection: who made it, and where to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Introduction {
    pub source: SocketAddr,
    pub destination: SocketAddr,
}

impl Version {
    /// The word of the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
        }
    }
}
