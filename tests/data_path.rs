//! What the data path promises to learners, operators and upstreams, on real sockets.

mod support;

#[path = "data_path/deciding.rs"]
mod deciding;
#[path = "data_path/http2.rs"]
mod http2;
#[path = "data_path/limits.rs"]
mod limits;
#[path = "data_path/messages.rs"]
mod messages;
#[path = "data_path/secured.rs"]
mod secured;
#[path = "data_path/shutdown.rs"]
mod shutdown;
#[path = "data_path/strict.rs"]
mod strict;
