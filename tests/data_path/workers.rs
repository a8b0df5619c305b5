//! Connections and the workers that serve them.

use crate::support::{Client, Proxy, Upstream, config, only, reply, wait_for};

const GET: &str = "GET / HTTP/1.1\r\nhost: h\r\n\r\n";
const WORKERS: usize = 4;

fn open(proxy: &Proxy, worker: usize) -> u64 {
    let label = format!("worker=\"{worker}\"");
    proxy.metric("serin_worker_connections_open", &[&label])
}

// The kernel alone would give eight connections to four workers evenly once in 26 times.
#[test]
fn a_few_connections_that_stay_are_spread_over_all_workers() {
    let upstream = Upstream::answering(reply("x"));
    let mut config = config("", &only(&[upstream.address()], ""));
    config.server.workers = WORKERS;
    let proxy = Proxy::start_with(&config);
    let mut clients: Vec<Client> = Vec::new();
    for _ in 0..2 * WORKERS {
        let mut client = proxy.client();
        client.send(GET);
        assert_eq!(client.answer().status, 200);
        clients.push(client);
    }
    for worker in 0..WORKERS {
        assert_eq!(open(&proxy, worker), 2, "worker {worker}");
    }
    // Where they were handed to they go on, and are counted once when they end.
    for client in &mut clients {
        client.send(GET);
        assert_eq!(client.answer().status, 200);
    }
    assert_eq!(proxy.metric("serin_connections_open", &[]), 8);
    drop(clients);
    wait_for("the end of all", || {
        (0..WORKERS).all(|worker| open(&proxy, worker) == 0)
            && proxy.metric("serin_connections_open", &[]) == 0
    });
}
