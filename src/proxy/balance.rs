//! How many connections each worker has, and the handing of a new one to the worker that has fewest.
//!
//! The kernel chooses among the sockets of an address by a hash of a connection's ends: of a few that stay, as a sidecar's or
//! gRPC's do, one worker may get all. Only a connection that begins is handed on; it then stays where it is. Knows nothing of
//! what it carries.

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// One connection more in so many is left where it is: among many the kernel's choice is even enough, and to hand one on
/// wakes another thread.
const EVEN_ENOUGH: usize = 8;

/// A connection that another worker accepted.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) stream: TcpStream,
    pub(super) peer: SocketAddr,
    /// Where it was accepted, as the configuration has it.
    pub(super) configured: SocketAddr,
}

/// What one worker knows of the others.
#[derive(Debug)]
pub(super) struct Balance {
    own: usize,
    open: Arc<[AtomicUsize]>,
    /// No bound is needed: a worker is handed no more than brings it level with who hands.
    doors: Arc<[UnboundedSender<Handed>]>,
}

/// For each of so many workers its balance, and what it is handed.
pub(super) fn among(workers: usize) -> Vec<(Balance, UnboundedReceiver<Handed>)> {
    let open: Arc<[AtomicUsize]> = (0..workers).map(|_| AtomicUsize::new(0)).collect();
    let (doors, handed): (Vec<_>, Vec<_>) = (0..workers).map(|_| unbounded_channel()).unzip();
    let doors: Arc<[_]> = doors.into();
    let one = |(own, handed)| {
        let (open, doors) = (Arc::clone(&open), Arc::clone(&doors));
        (Balance { own, open, doors }, handed)
    };
    handed.into_iter().enumerate().map(one).collect()
}

impl Balance {
    /// How many connections each worker has, those on their way to it among them.
    pub(super) fn counts(&self) -> Arc<[AtomicUsize]> {
        Arc::clone(&self.open)
    }

    /// A connection of this worker has begun.
    pub(super) fn begun(&self) {
        self.open[self.own].fetch_add(1, Ordering::Relaxed);
    }

    /// A connection of this worker has ended, or one that was handed to it is counted by `begun` from now on.
    pub(super) fn ended(&self) {
        self.open[self.own].fetch_sub(1, Ordering::Relaxed);
    }

    /// The worker that a new connection of this one is to be handed to; `None` where it is to stay.
    pub(super) fn better(&self) -> Option<usize> {
        let open = |worker: &usize| self.open[*worker].load(Ordering::Relaxed);
        let others = (0..self.open.len()).filter(|worker| *worker != self.own);
        let other = others.min_by_key(open)?;
        let fewest = open(&other);
        (open(&self.own) > fewest + fewest / EVEN_ENOUGH).then_some(other)
    }

    /// Hands a connection to another worker.
    ///
    /// # Errors
    /// The connection, where that worker takes none any more: it drains.
    pub(super) fn hand(&self, worker: usize, handed: Handed) -> Result<(), Handed> {
        self.open[worker].fetch_add(1, Ordering::Relaxed);
        self.doors[worker].send(handed).map_err(|refused| {
            self.open[worker].fetch_sub(1, Ordering::Relaxed);
            refused.0
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn connection() -> Handed {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let configured = listener.local_addr().expect("it is bound");
        let stream = TcpStream::connect(configured).expect("it listens");
        let peer = stream.local_addr().expect("it is connected");
        Handed {
            stream,
            peer,
            configured,
        }
    }

    #[test]
    fn what_one_worker_accepts_alone_is_everybodys() {
        let mut workers = among(4);
        let open = workers[0].0.counts();
        for _ in 0..12 {
            let (balance, _) = &workers[2];
            match balance.better() {
                None => balance.begun(),
                Some(other) => balance.hand(other, connection()).expect("it takes it"),
            }
        }
        let each: Vec<usize> = open.iter().map(|one| one.load(Ordering::Relaxed)).collect();
        assert_eq!(each, [3; 4]);
        // It stays counted once when it has begun where it was handed to.
        let (balance, handed) = &mut workers[0];
        assert!(handed.try_recv().is_ok());
        balance.begun();
        balance.ended();
        assert_eq!(open[0].load(Ordering::Relaxed), 3);
    }

    #[test]
    fn among_many_a_small_difference_is_left_alone() {
        let workers = among(2);
        let open = workers[0].0.counts();
        open[1].store(800, Ordering::Relaxed);
        for (own, better) in [(800, None), (900, None), (901, Some(1)), (2_000, Some(1))] {
            open[0].store(own, Ordering::Relaxed);
            assert_eq!(workers[0].0.better(), better, "{own}");
        }
        assert_eq!(among(1)[0].0.better(), None);
    }

    #[test]
    fn a_worker_that_drains_takes_what_it_was_handed_and_refuses_the_next() {
        let mut workers = among(2);
        let open = workers[0].0.counts();
        workers[0].0.hand(1, connection()).expect("it takes it");
        let drains = &mut workers[1].1;
        drains.close();
        assert!(drains.try_recv().is_ok());
        assert!(workers[0].0.hand(1, connection()).is_err());
        assert_eq!(open[1].load(Ordering::Relaxed), 1);
    }
}
