//! One loop that hands bytes on and looks for the end of each head, as the floor does, over a runtime that has two drivers: the
//! kernel is asked by epoll and plain reads and writes, or by io_uring. The code is the same, so that the difference is the driver's.

use std::io;
use std::net::SocketAddr;

use monoio::io::{AsyncReadRent, AsyncWriteRent, AsyncWriteRentExt, Splitable};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};

use super::PIECE;

/// Of io_uring: as many operations as may wait to be told to the kernel.
const ENTRIES: u32 = 4096;

pub(super) fn epoll(listen: SocketAddr, to: SocketAddr) -> io::Result<()> {
    let mut runtime = RuntimeBuilder::<LegacyDriver>::new().build()?;
    runtime.block_on(serve(listen, to))
}

pub(super) fn uring(listen: SocketAddr, to: SocketAddr) -> io::Result<()> {
    let mut runtime = RuntimeBuilder::<IoUringDriver>::new()
        .with_entries(ENTRIES)
        .build()?;
    runtime.block_on(serve(listen, to))
}

async fn serve(listen: SocketAddr, to: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    loop {
        let (client, _) = listener.accept().await?;
        monoio::spawn(async move {
            // Whoever ends first ends both.
            let _ended = pair(client, to).await;
        });
    }
}

async fn pair(client: TcpStream, to: SocketAddr) -> io::Result<()> {
    let upstream = TcpStream::connect(to).await?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let (from_client, to_client) = client.into_split();
    let (from_upstream, to_upstream) = upstream.into_split();
    monoio::select! {
        ended = pass(from_client, to_upstream) => ended,
        ended = pass(from_upstream, to_client) => ended,
    }
}

async fn pass(mut from: impl AsyncReadRent, mut to: impl AsyncWriteRent) -> io::Result<()> {
    let mut piece = Vec::with_capacity(PIECE);
    let mut heads = 0;
    loop {
        let (read, filled) = from.read(piece).await;
        if read? == 0 {
            return Ok(());
        }
        heads += memchr::memmem::find_iter(&filled, b"\r\n\r\n").count();
        std::hint::black_box(heads);
        let (written, emptied) = to.write_all(filled).await;
        written?;
        piece = emptied;
    }
}
