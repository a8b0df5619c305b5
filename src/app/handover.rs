//! The steps of giving our place to another process. Until the last of them we can go on: then steering starts anew, with
//! what the store has.

use tokio::net::UnixStream;

use super::ports::Ports;
use super::steering::{Ground, Steering};
use crate::takeover::{Fault, Newcomer, Successor};

/// Why nobody took over.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandoverError {
    #[error(transparent)]
    Fault(#[from] Fault),
    #[error("{0}")]
    Refused(String),
    #[error("the sockets cannot be handed over: {0}")]
    Sockets(#[from] std::io::Error),
}

/// Hands over sockets, stops steering, and waits until the other process carries traffic. With an error steering may have
/// been stopped: it is `None` then, and is to be started again.
pub(super) async fn hand_over(
    steering: &mut Option<Steering>,
    ground: &mut Ground,
    ports: &Ports,
    asking: UnixStream,
) -> Result<Successor, HandoverError> {
    let mut newcomer = Newcomer::greet(asking).await?;
    let pid = newcomer.pid;
    tracing::info!(pid, "another serin wants to take over");
    if let Some(why) = objection(steering.as_ref()) {
        newcomer.refuse(&why).await?;
        return Err(HandoverError::Refused(why));
    }
    newcomer.prepare(&ports.duplicates()?).await?;
    if let Some(running) = steering.take() {
        ground.config = running.handle().config();
        // It blocks: operators' last answers, the gates' last look, the disk.
        let stopped = tokio::task::spawn_blocking(move || running.stop()).await;
        if stopped.is_err() {
            tracing::warn!("stopping the gates panicked");
        }
    }
    Ok(newcomer.release().await?)
}

/// What is decided and not on disk would be lost on the way.
fn objection(steering: Option<&Steering>) -> Option<String> {
    match steering {
        None => Some("the gates of the serin that runs are just starting".to_owned()),
        Some(running) => {
            let fault = running.handle().store_fault()?;
            Some(format!("its journal cannot be written: {fault}"))
        }
    }
}
