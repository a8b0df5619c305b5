//! Who hears of an idle connection on which something comes: most likely that its server has ended it.
//!
//! A waker for each connection, made once, and one bell for all of a worker's: whoever is rung for asks which of them it
//! was. Looks at no connection itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};

use tokio::sync::Notify;

/// Rung when an idle connection stirs. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Bell(Arc<Notify>);

/// Keeps watch over one connection.
#[derive(Debug)]
pub(super) struct Sentry {
    post: Arc<Post>,
    waker: Waker,
}

#[derive(Debug)]
struct Post {
    has_stirred: AtomicBool,
    bell: Bell,
}

// === impl Bell ===

impl Bell {
    /// Waits until a connection has stirred since the last call.
    pub(super) async fn rung(&self) {
        self.0.notified().await;
    }
}

// === impl Sentry ===

impl Sentry {
    pub(super) fn new(bell: &Bell) -> Self {
        let post = Arc::new(Post {
            has_stirred: AtomicBool::new(false),
            bell: bell.clone(),
        });
        Self {
            waker: Waker::from(Arc::clone(&post)),
            post,
        }
    }

    /// To be woken where its connection stirs.
    pub(super) const fn waker(&self) -> &Waker {
        &self.waker
    }

    /// Whether the connection has stirred since the last call.
    pub(super) fn has_stirred(&self) -> bool {
        self.post.has_stirred.load(Ordering::Relaxed)
            && self.post.has_stirred.swap(false, Ordering::Relaxed)
    }
}

// === impl Post ===

impl Wake for Post {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.has_stirred.store(true, Ordering::Relaxed);
        self.bell.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_stirs_rings_the_bell_and_is_known_by_it_once() {
        let bell = Bell::default();
        let (one, other) = (Sentry::new(&bell), Sentry::new(&bell));
        one.waker().wake_by_ref();
        bell.rung().await;
        assert!(!other.has_stirred());
        assert!(one.has_stirred());
        assert!(!one.has_stirred());
    }
}
