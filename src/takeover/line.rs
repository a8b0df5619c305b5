//! One connection between the two processes: lines of JSON, and descriptors that come along with them.
//!
//! Speaks to processes of its own user alone (SO_PEERCRED). A line has a bound, a wait has an end. What is being said or
//! heard may be dropped half way and taken up again: the bytes are kept here.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::protocol::Message;

/// How long each step may take before the other side goes on without us.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// The longest line: the split of a rollout with 10,000 learners pinned by long ids.
const LONGEST_LINE: usize = 16 << 20;
/// Descriptors that came and were not asked for: more than any machine has cores and listeners.
const MOST_SOCKETS: usize = 4096;
const CHUNK: usize = 64 << 10;

/// Why two processes do not understand each other.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("the connection between the two processes broke: {0}")]
    Broken(#[from] io::Error),
    #[error("the other process ended the connection")]
    Ended,
    #[error("the other process said nothing for {0:?}")]
    Silent(Duration),
    #[error("the other process said something that is not understood: {0}")]
    Strange(String),
    #[error("the other process runs as user {0}, which is not ours")]
    Stranger(u32),
    #[error("the other process refused: {0}")]
    Refused(String),
}

#[derive(Debug)]
pub(super) struct Line {
    stream: UnixStream,
    heard: Vec<u8>,
    to_say: Vec<u8>,
    sockets: VecDeque<OwnedFd>,
}

impl Line {
    /// Takes up a connection with a process of the same user, or of root.
    pub(super) fn new(stream: UnixStream) -> Result<Self, Fault> {
        let uid = stream.peer_cred()?.uid();
        if uid != 0 && uid != rustix::process::geteuid().as_raw() {
            return Err(Fault::Stranger(uid));
        }
        Ok(Self {
            stream,
            heard: Vec::new(),
            to_say: Vec::new(),
            sockets: VecDeque::new(),
        })
    }

    pub(super) async fn say(&mut self, message: &Message) -> Result<(), Fault> {
        self.put(message);
        self.flush().await
    }

    /// Says it with the next `flush`.
    pub(super) fn put(&mut self, message: &Message) {
        let line = serde_json::to_vec(message).expect("texts, numbers and lists of them are JSON");
        self.to_say.extend(line);
        self.to_say.push(b'\n');
    }

    /// Says what was put.
    pub(super) async fn flush(&mut self) -> Result<(), Fault> {
        let said = async {
            while !self.to_say.is_empty() {
                self.stream.writable().await?;
                match self.stream.try_write(&self.to_say) {
                    Ok(written) => drop(self.to_say.drain(..written)),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
            Ok(())
        };
        timeout(PATIENCE, said)
            .await
            .map_err(|_| Fault::Silent(PATIENCE))?
            .map_err(Fault::Broken)
    }

    /// Says it with a descriptor.
    pub(super) async fn hand(
        &mut self,
        message: &Message,
        socket: BorrowedFd<'_>,
    ) -> Result<(), Fault> {
        self.flush().await?;
        self.put(message);
        let Self { stream, to_say, .. } = self;
        let handed = stream.async_io(Interest::WRITABLE, || {
            let sockets = [socket];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut along = SendAncillaryBuffer::new(&mut space);
            if !along.push(SendAncillaryMessage::ScmRights(&sockets)) {
                return Err(io::Error::other("a descriptor has no room in its message"));
            }
            let bytes = [IoSlice::new(to_say)];
            Ok(sendmsg(&stream, &bytes, &mut along, SendFlags::NOSIGNAL)?)
        });
        let written = timeout(PATIENCE, handed)
            .await
            .map_err(|_| Fault::Silent(PATIENCE))??;
        self.to_say.drain(..written);
        self.flush().await
    }

    /// The next message within a time.
    pub(super) async fn hear_within(&mut self, patience: Duration) -> Result<Message, Fault> {
        timeout(patience, self.hear())
            .await
            .map_err(|_| Fault::Silent(patience))?
    }

    /// The next message, whenever it comes; a refusal is a fault.
    pub(super) async fn hear(&mut self) -> Result<Message, Fault> {
        let mut looked = 0;
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.heard[looked..]) {
                let line: Vec<u8> = self.heard.drain(..=looked + end).collect();
                return read(&line);
            }
            looked = self.heard.len();
            if looked > LONGEST_LINE {
                return Err(Fault::Strange("a line without an end".to_owned()));
            }
            if self.fill().await? == 0 {
                return Err(Fault::Ended);
            }
        }
    }

    /// The descriptor that came along with the message heard last.
    pub(super) fn socket(&mut self) -> Result<OwnedFd, Fault> {
        self.sockets
            .pop_front()
            .ok_or_else(|| Fault::Strange("a socket without its descriptor".to_owned()))
    }

    async fn fill(&mut self) -> Result<usize, Fault> {
        let Self {
            stream,
            heard,
            sockets,
            ..
        } = self;
        let came = stream.async_io(Interest::READABLE, || {
            let mut chunk = [0; CHUNK];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
            let mut along = RecvAncillaryBuffer::new(&mut space);
            let mut bytes = [IoSliceMut::new(&mut chunk)];
            let came = recvmsg(&stream, &mut bytes, &mut along, RecvFlags::CMSG_CLOEXEC)?.bytes;
            for message in along.drain() {
                if let RecvAncillaryMessage::ScmRights(descriptors) = message {
                    sockets.extend(descriptors);
                }
            }
            heard.extend_from_slice(&chunk[..came]);
            Ok(came)
        });
        let came = came.await?;
        if self.sockets.len() > MOST_SOCKETS {
            return Err(Fault::Strange("descriptors without end".to_owned()));
        }
        Ok(came)
    }
}

fn read(line: &[u8]) -> Result<Message, Fault> {
    match serde_json::from_slice(line) {
        Ok(Message::Refused { why }) => Err(Fault::Refused(why)),
        Ok(message) => Ok(message),
        Err(why) => Err(Fault::Strange(why.to_string())),
    }
}

/// What was said where something else had to be.
pub(super) fn out_of_turn(message: &Message) -> Fault {
    let text = serde_json::to_string(message).unwrap_or_default();
    let shown: String = text.chars().take(200).collect();
    Fault::Strange(format!("{shown} out of turn"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::os::fd::AsFd;

    use super::super::protocol::{Port, VERSION};
    use super::*;

    fn pair() -> (Line, Line) {
        let (a, b) = UnixStream::pair().expect("two ends");
        let line = |end| Line::new(end).expect("our own user");
        (line(a), line(b))
    }

    #[tokio::test]
    async fn a_socket_arrives_with_its_line_and_still_listens() {
        let (mut old, mut new) = pair();
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let configured = listener.local_addr().expect("it is bound");
        let message = Message::Socket {
            port: Port::Proxy,
            configured,
        };
        for _ in 0..3 {
            old.hand(&message, listener.as_fd()).await.expect("sent");
        }
        drop(listener);
        for _ in 0..3 {
            let heard = new.hear_within(PATIENCE).await.expect("heard");
            assert!(matches!(
                heard,
                Message::Socket {
                    port: Port::Proxy,
                    ..
                }
            ));
            let inherited = TcpListener::from(new.socket().expect("it came along"));
            assert_eq!(inherited.local_addr().expect("it is bound"), configured);
            std::net::TcpStream::connect(configured).expect("it listens");
            inherited.accept().expect("a connection waits");
        }
        assert!(new.socket().is_err(), "one each");
    }

    #[tokio::test]
    async fn a_long_line_passes_while_the_other_side_reads() {
        let (mut old, mut new) = pair();
        let why = "x".repeat(1 << 20);
        let heard = async { new.hear_within(PATIENCE).await };
        let message = Message::Refused { why: why.clone() };
        let said = old.say(&message);
        let (said, heard) = tokio::join!(said, heard);
        said.expect("sent");
        let Err(Fault::Refused(read)) = heard else {
            panic!("{heard:?}");
        };
        assert_eq!(read, why);
    }

    #[tokio::test]
    async fn what_is_no_message_and_an_end_are_faults() {
        for bytes in ["{}\n", "hello\n", "{\"say\":\"jump\"}\n", "\u{0}\n"] {
            let (old, mut new) = pair();
            old.stream.try_write(bytes.as_bytes()).expect("sent");
            let heard = new.hear_within(PATIENCE).await;
            assert!(matches!(heard, Err(Fault::Strange(_))), "{heard:?}");
        }
        let (old, mut new) = pair();
        old.stream.try_write(b"{\"say\":\"ready\"").expect("sent");
        drop(old);
        assert!(matches!(new.hear_within(PATIENCE).await, Err(Fault::Ended)));
        let (mut old, mut new) = pair();
        let silence = Duration::from_millis(10);
        assert!(matches!(
            new.hear_within(silence).await,
            Err(Fault::Silent(_))
        ));
        let hello = Message::Hello {
            version: VERSION,
            pid: 1,
        };
        old.say(&hello).await.expect("sent");
        assert!(matches!(
            new.hear_within(PATIENCE).await,
            Ok(Message::Hello { .. })
        ));
    }
}
