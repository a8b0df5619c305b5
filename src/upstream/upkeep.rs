//! The upkeep of the pools in force: a thread that probes their endpoints and looks up their names.
//!
//! Follows the pools as they change; never touches a request.

use std::io;
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::{Notify, watch};
use tokio::task::LocalSet;

use super::discover::Lookups;
use super::health::Probers;
use super::pool::Pool;
use crate::shutdown::{Shutdown, Stage, Watched};

/// The pools in force, as they change.
pub type PoolsInForce = watch::Receiver<Arc<[Arc<Pool>]>>;

/// Looks after the pools in force until shutdown, on a thread of its own.
pub fn start(pools: PoolsInForce, shutdown: Shutdown) -> io::Result<Watched> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Watched::spawn("probes", move || {
        LocalSet::new().block_on(&runtime, follow(pools, shutdown));
    })
}

async fn follow(mut pools: PoolsInForce, mut shutdown: Shutdown) {
    let found = Rc::new(Notify::new());
    let (mut probers, mut lookups) = (Probers::default(), Lookups::new(&found));
    loop {
        let in_force = Arc::clone(&pools.borrow_and_update());
        lookups.reconcile(&in_force);
        probers.reconcile(&in_force);
        tokio::select! {
            changed = pools.changed() => if changed.is_err() { return },
            () = found.notified() => {}
            () = shutdown.reached(Stage::Draining) => return,
        }
    }
}
