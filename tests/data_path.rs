//! What the data path promises to learners, operators and upstreams, on real sockets.

mod support;

#[path = "data_path/activated.rs"]
mod activated;
#[path = "data_path/balancing.rs"]
mod balancing;
#[path = "data_path/broken_upstreams.rs"]
mod broken_upstreams;
#[path = "data_path/connect.rs"]
mod connect;
#[path = "data_path/deciding.rs"]
mod deciding;
#[path = "data_path/grpc.rs"]
mod grpc;
#[path = "data_path/http2.rs"]
mod http2;
#[path = "data_path/introduced.rs"]
mod introduced;
#[path = "data_path/introducing.rs"]
mod introducing;
#[path = "data_path/limits.rs"]
mod limits;
#[path = "data_path/messages.rs"]
mod messages;
#[path = "data_path/mirror.rs"]
mod mirror;
#[path = "data_path/names.rs"]
mod names;
#[path = "data_path/operators.rs"]
mod operators;
#[path = "data_path/outages.rs"]
mod outages;
#[path = "data_path/overload.rs"]
mod overload;
#[path = "data_path/pools_http2.rs"]
mod pools_http2;
#[path = "data_path/pools_tls.rs"]
mod pools_tls;
#[path = "data_path/reasons.rs"]
mod reasons;
#[path = "data_path/retrying.rs"]
mod retrying;
#[path = "data_path/secured.rs"]
mod secured;
#[path = "data_path/shutdown.rs"]
mod shutdown;
#[path = "data_path/streams.rs"]
mod streams;
#[path = "data_path/strict.rs"]
mod strict;
#[path = "data_path/tunnels.rs"]
mod tunnels;
#[path = "data_path/websocket.rs"]
mod websocket;
#[path = "data_path/workers.rs"]
mod workers;
