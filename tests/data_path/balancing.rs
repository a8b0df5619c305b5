//! Which endpoint of its pool a request goes to.

use std::collections::BTreeSet;

use crate::support::{Proxy, Upstream, only, pool, reply, rollout};

fn answering(names: &[&str]) -> Vec<Upstream> {
    let upstream = |name: &&str| Upstream::answering(reply(name));
    names.iter().map(upstream).collect()
}

fn ask(proxy: &Proxy, learner: &str) -> String {
    let request = format!("GET / HTTP/1.1\r\nhost: h\r\nx-learner-id: {learner}\r\n\r\n");
    proxy.ask(&request).text()
}

#[test]
fn weights_are_shares_of_the_requests() {
    let upstreams = answering(&["a", "b"]);
    let listed = format!(
        "[pools.base]\nhealth = false\nendpoints = [{{ address = \"{}\", weight = 3 }}, \"{}\"]\n",
        upstreams[0].address(),
        upstreams[1].address()
    );
    let proxy = Proxy::start("", &format!("{listed}[[routes]]\npool = \"base\"\n"));
    for _ in 0..20 {
        ask(&proxy, "x");
    }
    assert_eq!((upstreams[0].requests(), upstreams[1].requests()), (15, 5));
    let views = proxy.live.load().pools();
    let weights: Vec<u32> = views[0].endpoints.iter().map(|view| view.weight).collect();
    assert_eq!(weights, [3, 1]);
}

#[test]
fn a_ring_keeps_each_learner_on_one_endpoint() {
    let (base, new) = (answering(&["base"]), answering(&["a", "b", "c"]));
    let at: Vec<_> = new.iter().map(Upstream::address).collect();
    let text = rollout(&[base[0].address()], &at, "").replace(
        &pool("new", &at, ""),
        &pool("new", &at, "balance = \"ring\""),
    );
    let mut proxy = Proxy::start("", &text);
    proxy.set_weight("20%");
    let mut homes = BTreeSet::new();
    for learner in 0..100 {
        let home = ask(&proxy, &learner.to_string());
        assert_eq!(ask(&proxy, &learner.to_string()), home, "learner {learner}");
        homes.insert(home);
    }
    let all = ["a", "b", "base", "c"].map(str::to_owned);
    assert_eq!(homes, all.into(), "all endpoints have learners");
}

#[test]
fn a_ring_without_a_rollout_goes_by_the_clients_address() {
    let upstreams = answering(&["a", "b", "c"]);
    let at: Vec<_> = upstreams.iter().map(Upstream::address).collect();
    let proxy = Proxy::start(
        "trusted = [\"127.0.0.0/8\"]",
        &only(&at, "balance = \"ring\""),
    );
    let from = |client: u32| {
        let request =
            format!("GET / HTTP/1.1\r\nhost: h\r\nx-forwarded-for: 192.0.2.{client}\r\n\r\n");
        proxy.ask(&request).text()
    };
    let homes: BTreeSet<String> = (0..30).map(from).collect();
    assert_eq!(homes.len(), 3);
    for client in 0..30 {
        assert_eq!(from(client), from(client), "192.0.2.{client}");
    }
}
