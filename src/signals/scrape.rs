//! The endpoints' own Prometheus text: the same series of each, and one figure of them all.
//!
//! Owns what counters were at the last scrape. A figure needs at least half of a pool's endpoints to answer.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::{Job, fetch, text};
use crate::clock;
use crate::config::{OverEndpoints, Query, Selector, SignalSource};
use crate::outbound::Client;
use crate::rollout::name::Arm;
use crate::rollout::signal::Said;

/// What an endpoint said: the two sums of the query; the second is 1 where it is no ratio.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Sums {
    above: f64,
    below: f64,
}

/// Remembers counters from one scrape to the next, by arm and endpoint.
#[derive(Debug, Default)]
pub(super) struct Scraper {
    before: HashMap<(Arm, String), (Instant, Sums)>,
}

impl Scraper {
    /// A figure of each arm, by `Arm::index`; `None` while counters were seen but once.
    pub(super) async fn once(&mut self, client: &Client, job: &Job) -> [Option<Said>; 2] {
        let SignalSource::Scrape {
            path,
            query,
            rate,
            over_endpoints,
        } = &job.signal.source
        else {
            return [None, None];
        };
        let mut answers = JoinSet::new();
        for arm in Arm::ALL {
            for endpoint in &job.endpoints[arm.index()] {
                let url = format!("http://{endpoint}{path}");
                let (client, endpoint) = (client.clone(), endpoint.clone());
                let (query, limit) = (query.clone(), job.signal.timeout);
                answers.spawn_local(async move {
                    let read = read(&client, &url, &query, limit).await;
                    (arm, endpoint, read)
                });
            }
        }
        let mut found: [Vec<Sums>; 2] = Default::default();
        let mut faults: [Vec<String>; 2] = Default::default();
        let mut first_looks = [0; 2];
        while let Some(answer) = answers.join_next().await {
            let Ok((arm, endpoint, answer)) = answer else {
                continue;
            };
            let index = arm.index();
            match answer {
                Err(why) => faults[index].push(format!("{endpoint}: {why}")),
                Ok(sums) if !*rate => found[index].push(sums),
                Ok(sums) => match self.growth(arm, endpoint, sums, query.is_ratio()) {
                    Some(sums) => found[index].push(sums),
                    None => first_looks[index] += 1,
                },
            }
        }
        Arm::ALL.map(|arm| {
            let index = arm.index();
            faults[index].sort();
            let of = job.endpoints[index].len();
            figure(
                &found[index],
                first_looks[index],
                &faults[index],
                of,
                *over_endpoints,
            )
        })
    }

    /// Growth per second since the last scrape. A counter that is smaller than it was began anew.
    fn growth(&mut self, arm: Arm, endpoint: String, sums: Sums, is_ratio: bool) -> Option<Sums> {
        let now = clock::now();
        let (then, before) = self.before.insert((arm, endpoint), (now, sums))?;
        let seconds = now.saturating_duration_since(then).as_secs_f64();
        let grown =
            |now: f64, before: f64| (if now < before { now } else { now - before }) / seconds;
        (seconds > 0.0).then(|| Sums {
            above: grown(sums.above, before.above),
            below: if is_ratio {
                grown(sums.below, before.below)
            } else {
                1.0
            },
        })
    }
}

async fn read(client: &Client, url: &str, query: &Query, limit: Duration) -> Result<Sums, String> {
    let answer = fetch::get(client, url, limit)
        .await
        .map_err(|why| why.to_string())?;
    if !answer.status.is_success() {
        return Err(format!("answered {}", answer.status.as_u16()));
    }
    sums(&String::from_utf8_lossy(&answer.body), query)
}

fn sums(text: &str, query: &Query) -> Result<Sums, String> {
    let sum = |selectors: &[Selector]| {
        selectors
            .iter()
            .map(|selector| series(text, selector))
            .sum::<Result<f64, String>>()
    };
    let above = sum(&query.numerator)?;
    let below = if query.is_ratio() {
        sum(&query.denominator)?
    } else {
        1.0
    };
    Ok(Sums { above, below })
}

fn series(text: &str, selector: &Selector) -> Result<f64, String> {
    let matching = text::samples(text)
        .filter(|sample| selector.matches(sample.metric, |label| sample.label(label)));
    let mut values = matching.map(|sample| sample.value).peekable();
    match values.peek() {
        Some(_) => Ok(values.sum()),
        None => Err(format!("there is no series {selector}")),
    }
}

/// One figure of `of` endpoints, or why there is none.
fn figure(
    found: &[Sums],
    first_looks: usize,
    faults: &[String],
    of: usize,
    over_endpoints: OverEndpoints,
) -> Option<Said> {
    if (found.len() + first_looks) * 2 < of || of == 0 {
        let why = faults
            .first()
            .map_or("the pool has no endpoint", String::as_str);
        let answered = found.len() + first_looks;
        return Some(Said::Failed(format!(
            "{answered} of {of} endpoints answered; {why}"
        )));
    }
    if found.is_empty() {
        return None;
    }
    let shares = || {
        found
            .iter()
            .filter(|sums| sums.below != 0.0)
            .map(|sums| sums.above / sums.below)
    };
    let many = shares().count();
    let value = match over_endpoints {
        OverEndpoints::Max => shares().reduce(f64::max),
        OverEndpoints::Sum => (many > 0).then(|| shares().sum()),
        OverEndpoints::Avg => (many > 0).then(|| shares().sum::<f64>() / many as f64),
        OverEndpoints::Ratio => {
            let below: f64 = found.iter().map(|sums| sums.below).sum();
            let above: f64 = found.iter().map(|sums| sums.above).sum();
            (below != 0.0).then(|| above / below)
        }
    };
    Some(match value {
        Some(value) => Said::Value { value, count: 1 },
        None => Said::Failed("nothing was counted below the line of the ratio".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(above: &[&str], below: &[&str]) -> Query {
        let selectors = |names: &[&str]| {
            let selector = |name: &&str| Selector {
                metric: (*name).to_owned(),
                labels: Vec::new(),
            };
            names.iter().map(selector).collect()
        };
        Query {
            numerator: selectors(above),
            denominator: selectors(below),
        }
    }

    #[test]
    fn series_of_an_endpoint_are_added() {
        let text = "hits{tier=\"1\"} 6\nhits{tier=\"2\"} 3\nmisses 1\n";
        let read = |above: &[&str], below: &[&str]| sums(text, &query(above, below));
        assert_eq!(
            read(&["hits"], &[]),
            Ok(Sums {
                above: 9.0,
                below: 1.0
            })
        );
        assert_eq!(
            read(&["hits"], &["hits", "misses"]),
            Ok(Sums {
                above: 9.0,
                below: 10.0
            })
        );
        let none = read(&["hits"], &["other"]);
        assert_eq!(none, Err("there is no series other".to_owned()));
        let one_tier = Selector {
            metric: "hits".to_owned(),
            labels: vec![("tier".to_owned(), "2".to_owned())],
        };
        assert_eq!(series(text, &one_tier), Ok(3.0));
    }

    #[test]
    fn one_figure_of_the_endpoints_that_answered() {
        let found =
            [(8.0, 10.0), (1.0, 10.0), (9.0, 20.0)].map(|(above, below)| Sums { above, below });
        let value = |over| match figure(&found, 0, &[], 3, over) {
            Some(Said::Value { value, .. }) => value,
            other => panic!("{other:?}"),
        };
        assert_eq!(value(OverEndpoints::Max), 0.8);
        assert!((value(OverEndpoints::Sum) - 1.35).abs() < 1e-12);
        assert!((value(OverEndpoints::Avg) - 0.45).abs() < 1e-12);
        assert_eq!(value(OverEndpoints::Ratio), 18.0 / 40.0);
        // Half of them must answer.
        let fault = ["a: refused".to_owned()];
        assert!(matches!(
            figure(&found, 0, &fault, 6, OverEndpoints::Max),
            Some(Said::Value { .. })
        ));
        let few = figure(&found, 0, &fault, 7, OverEndpoints::Max);
        assert_eq!(
            few,
            Some(Said::Failed(
                "3 of 7 endpoints answered; a: refused".to_owned()
            ))
        );
        assert_eq!(figure(&[], 2, &[], 2, OverEndpoints::Max), None);
        let idle = [Sums {
            above: 0.0,
            below: 0.0,
        }];
        assert!(matches!(
            figure(&idle, 0, &[], 1, OverEndpoints::Ratio),
            Some(Said::Failed(_))
        ));
    }

    #[test]
    fn a_counter_that_began_anew_is_not_negative() {
        let mut scraper = Scraper::default();
        let mut grown = |above| {
            scraper.growth(
                Arm::Canary,
                "a".to_owned(),
                Sums { above, below: 1.0 },
                false,
            )
        };
        assert_eq!(grown(100.0), None);
        let restarted = grown(40.0).map(|sums| sums.above);
        assert!(restarted.is_none_or(|rate| rate > 0.0), "{restarted:?}");
    }
}
