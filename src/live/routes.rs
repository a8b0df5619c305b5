//! Which route a request takes: by host, then by the longest path prefix.
//!
//! Owns the lookup and nothing else; a route is known by its place in the configuration.

use std::borrow::Cow;
use std::collections::HashMap;

use crate::config::{HostPattern, Route};

/// All routes, arranged for lookup. The cost of one grows with the segments of the path, not with the routes.
#[derive(Debug, Default)]
pub(super) struct Routes {
    exact: HashMap<Box<str>, Paths>,
    /// Longest suffix first.
    suffixes: Vec<(Box<str>, Paths)>,
    any: Paths,
}

/// The paths of one host.
#[derive(Debug, Default)]
struct Paths {
    by_prefix: HashMap<Box<str>, usize>,
    longest: usize,
    /// The route of `/`, where it is the only one.
    only_root: Option<usize>,
}

// === impl Routes ===

impl Routes {
    pub(super) fn build(routes: &[Route]) -> Self {
        let mut built = Self::default();
        for (index, route) in routes.iter().enumerate() {
            built.paths_of(&route.host).add(&route.path, index);
        }
        built
            .suffixes
            .sort_by_key(|(suffix, _)| std::cmp::Reverse(suffix.len()));
        built
    }

    /// The index of the most specific route: exact host, then the longest wildcard, then none; within a host the
    /// longest path. A host none of whose paths match does not hide the less specific ones.
    pub(super) fn find(&self, host: &str, path: &str) -> Option<usize> {
        if !self.exact.is_empty() || !self.suffixes.is_empty() {
            let host = lower(host);
            if let Some(found) = self.exact.get(&*host).and_then(|paths| paths.find(path)) {
                return Some(found);
            }
            let matching = self
                .suffixes
                .iter()
                .filter(|(suffix, _)| ends_below(&host, suffix));
            if let Some(found) = matching.filter_map(|(_, paths)| paths.find(path)).next() {
                return Some(found);
            }
        }
        self.any.find(path)
    }

    fn paths_of(&mut self, host: &HostPattern) -> &mut Paths {
        match host {
            HostPattern::Any => &mut self.any,
            HostPattern::Exact(name) => self.exact.entry(name.as_str().into()).or_default(),
            HostPattern::Suffix(suffix) => {
                let known = self
                    .suffixes
                    .iter()
                    .position(|(have, _)| **have == **suffix);
                let at = known.unwrap_or_else(|| {
                    self.suffixes
                        .push((suffix.as_str().into(), Paths::default()));
                    self.suffixes.len() - 1
                });
                &mut self.suffixes[at].1
            }
        }
    }
}

// === impl Paths ===

impl Paths {
    fn add(&mut self, path: &str, index: usize) {
        self.by_prefix.entry(path.into()).or_insert(index);
        self.longest = self.longest.max(path.len());
        self.only_root = if self.by_prefix.len() == 1 {
            self.by_prefix.get("/").copied()
        } else {
            None
        };
    }

    // The whole path, then each shorter one at a border of segments, with and without its closing slash.
    fn find(&self, path: &str) -> Option<usize> {
        if self.only_root.is_some() && path.starts_with('/') {
            return self.only_root;
        }
        if self.by_prefix.is_empty() {
            return None;
        }
        let mut rest = path;
        loop {
            if rest.len() <= self.longest
                && let Some(&found) = self.by_prefix.get(rest)
            {
                return Some(found);
            }
            rest = match rest.strip_suffix('/') {
                Some("") | None if !rest.contains('/') => return None,
                Some("") => return None,
                Some(shorter) => shorter,
                None => &rest[..=rest.rfind('/')?],
            };
        }
    }
}

fn ends_below(host: &str, suffix: &str) -> bool {
    host.len() > suffix.len() && host.ends_with(suffix) && !host.starts_with('.')
}

fn lower(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Target;
    use crate::rollout::name::PoolName;

    fn route(host: &str, path: &str) -> Route {
        let host = match host.strip_prefix('*') {
            Some("") => HostPattern::Any,
            Some(suffix) => HostPattern::Suffix(suffix.to_owned()),
            None => HostPattern::Exact(host.to_owned()),
        };
        let target = Target::Pool(PoolName::parse("p").expect("a name"));
        Route {
            host,
            path: path.to_owned(),
            target,
            idempotent: false,
        }
    }

    #[test]
    fn the_most_specific_route_wins() {
        let written = [
            ("*", "/"),
            ("*", "/api"),
            ("*", "/api/v2/"),
            ("a.example.org", "/api"),
            ("*.example.org", "/"),
            ("*.eu.example.org", "/"),
            ("b.example.org", "/only"),
        ];
        let routes = Routes::build(&written.map(|(host, path)| route(host, path)));
        let check = |host: &str, path: &str, expected: (&str, &str)| {
            let found = routes.find(host, path).map(|index| written[index]);
            assert_eq!(found, Some(expected), "{host}{path}");
        };
        check("x", "/", ("*", "/"));
        check("x", "/api", ("*", "/api"));
        check("x", "/api/", ("*", "/api"));
        check("x", "/api/x/y", ("*", "/api"));
        check("x", "/apix", ("*", "/"));
        check("x", "/api/v2", ("*", "/api"));
        check("x", "/api/v2/", ("*", "/api/v2/"));
        check("x", "/api/v2/z/z", ("*", "/api/v2/"));
        check("x", "/api/v2x/z", ("*", "/api"));
        check("A.Example.org", "/api/1", ("a.example.org", "/api"));
        check("a.example.org", "/", ("*.example.org", "/"));
        check("c.eu.example.org", "/api", ("*.eu.example.org", "/"));
        check("example.org", "/api", ("*", "/api"));
        check("b.example.org", "/only/this", ("b.example.org", "/only"));
        check("b.example.org", "/else", ("*.example.org", "/"));
    }

    #[test]
    fn what_no_route_covers_finds_none() {
        let routes = Routes::build(&[route("a", "/x"), route("*", "/y")]);
        for (host, path) in [
            ("a", "/"),
            ("a", "/xy"),
            ("b", "/x"),
            ("b", "*"),
            ("b", ""),
            ("b", "y"),
        ] {
            assert_eq!(routes.find(host, path), None, "{host} {path}");
        }
        assert_eq!(Routes::build(&[route("*", "/")]).find("h", "*"), None);
    }
}
