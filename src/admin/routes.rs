//! Which call goes where: the one list of routes, in the order of the contract.

use std::sync::Arc;

use axum::Router;
use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodFilter, on};

use super::metrics::own::{self, Answers};
use super::problem::Problem;
use super::{
    approvals, assign, events, fleet, freeze, guard, health, incidents, metrics, mirror, page,
    pins, pools, rehearsals, reload, report, rollouts, samples, segments, signals, weights, whoami,
};
use crate::control::{Handle, Said, Verb};
use crate::shutdown::Shutdown;
use crate::telemetry::Telemetry;

/// What handlers work with.
#[derive(Clone, Debug)]
pub(super) struct App {
    pub(super) control: Handle,
    pub(super) telemetry: Arc<Telemetry>,
    pub(super) shutdown: Shutdown,
    pub(super) answers: Arc<Answers>,
}

/// A router that remembers what was put in it.
#[derive(Default)]
pub(super) struct Routes {
    router: Router<App>,
    listed: Vec<(Method, &'static str)>,
}

impl Routes {
    fn on<H, T>(mut self, method: Method, path: &'static str, handler: H) -> Self
    where
        H: Handler<T, App>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone())
            .expect("the methods used here are known to axum");
        self.router = self.router.route(path, on(filter, handler));
        self.listed.push((method, path));
        self
    }

    /// Every route with its method, as the API's description has to name them.
    #[cfg(test)]
    pub(super) fn listed(&self) -> &[(Method, &'static str)] {
        &self.listed
    }

    /// The whole service, behind its guard.
    pub(super) fn into_service(self, app: App) -> Router {
        tracing::debug!(routes = self.listed.len(), "admin port");
        self.router
            .fallback(|| async {
                Problem::not_found("there is nothing here; GET /api/openapi.json lists the calls")
            })
            .method_not_allowed_fallback(|| async {
                Problem::new(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "not with this method; the Allow header names those",
                )
            })
            .layer(from_fn_with_state(app.clone(), guard::guard))
            .layer(from_fn_with_state(app.clone(), own::count))
            .with_state(app)
    }
}

/// All of them.
pub(super) fn all() -> Routes {
    let routes = Routes::default()
        .on(Method::GET, "/healthz", health::alive)
        .on(Method::GET, "/readyz", health::ready)
        .on(Method::GET, "/metrics", metrics::show)
        .on(Method::GET, "/", page::front)
        .on(Method::GET, "/console/{file}", page::file)
        .on(Method::GET, "/api/whoami", whoami::show)
        .on(Method::GET, "/api/fleet", fleet::show)
        .on(Method::GET, "/api/traffic-weights", weights::show)
        .on(Method::POST, "/api/traffic-weights", weights::set)
        .on(Method::GET, "/api/rollouts", rollouts::list)
        .on(Method::GET, "/api/rollouts/{rollout}", rollouts::show)
        .on(Method::PUT, "/api/rollouts/{rollout}/freeze", freeze::put)
        .on(
            Method::DELETE,
            "/api/rollouts/{rollout}/freeze",
            freeze::remove,
        )
        .on(
            Method::POST,
            "/api/rollouts/{rollout}/incidents",
            incidents::open,
        )
        .on(
            Method::DELETE,
            "/api/rollouts/{rollout}/incidents/{id}",
            incidents::close,
        )
        .on(
            Method::PUT,
            "/api/rollouts/{rollout}/pins/{learner}",
            pins::put,
        )
        .on(
            Method::DELETE,
            "/api/rollouts/{rollout}/pins/{learner}",
            pins::remove,
        )
        .on(
            Method::GET,
            "/api/rollouts/{rollout}/segments",
            segments::list,
        )
        .on(
            Method::PUT,
            "/api/rollouts/{rollout}/segments/{segment}",
            segments::put,
        )
        .on(
            Method::DELETE,
            "/api/rollouts/{rollout}/segments/{segment}",
            segments::remove,
        )
        .on(Method::GET, "/api/rollouts/{rollout}/events", events::show)
        .on(Method::GET, "/api/rollouts/{rollout}/report", report::show)
        .on(
            Method::GET,
            "/api/rollouts/{rollout}/samples",
            samples::show,
        )
        .on(Method::GET, "/api/rollouts/{rollout}/mirror", mirror::show)
        .on(Method::GET, "/api/assign", assign::show)
        .on(Method::GET, "/api/pools", pools::show)
        .on(
            Method::POST,
            "/api/pools/{pool}/endpoints/{endpoint}/drain",
            pools::drain,
        )
        .on(
            Method::POST,
            "/api/pools/{pool}/endpoints/{endpoint}/undrain",
            pools::undrain,
        )
        .on(Method::POST, "/api/signals", signals::push)
        .on(Method::POST, "/api/outcomes", signals::outcomes)
        .on(Method::POST, "/api/reload", reload::reload)
        .on(Method::POST, "/api/rehearsals", rehearsals::start)
        .on(Method::GET, "/api/openapi.json", page::openapi);
    sayings(actions(routes))
}

fn actions(routes: Routes) -> Routes {
    let actions = [
        ("/api/rollouts/{rollout}/start", Verb::Start),
        ("/api/rollouts/{rollout}/pause", Verb::Pause),
        ("/api/rollouts/{rollout}/resume", Verb::Resume),
        ("/api/rollouts/{rollout}/retry", Verb::Retry),
        ("/api/rollouts/{rollout}/hold", Verb::Hold),
        ("/api/rollouts/{rollout}/advance", Verb::Advance),
        ("/api/rollouts/{rollout}/rollback", Verb::Rollback),
        ("/api/rollouts/{rollout}/abort", Verb::Abort),
    ];
    actions.into_iter().fold(routes, |routes, (path, verb)| {
        let act =
            move |app, caller, place, body| rollouts::act(app, caller, place, body, verb.clone());
        routes.on(Method::POST, path, act)
    })
}

/// Of what was said.
type MakeVerb = fn(Said) -> Verb;

fn sayings(routes: Routes) -> Routes {
    let sayings = [
        ("/api/rollouts/{rollout}/approve", Verb::Approve as MakeVerb),
        ("/api/rollouts/{rollout}/reject", Verb::Reject),
    ];
    sayings.into_iter().fold(routes, |routes, (path, verb)| {
        let say = move |app, caller, place, body| approvals::say(app, caller, place, body, verb);
        routes.on(Method::POST, path, say)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_description_names_every_route_and_no_other() {
        let description: serde_json::Value =
            serde_json::from_str(page::OPENAPI).expect("openapi.json is JSON");
        let paths = description["paths"].as_object().expect("paths");
        let described: BTreeSet<(String, String)> = paths
            .iter()
            .flat_map(|(path, calls)| {
                let methods = calls.as_object().expect("an object of methods").keys();
                methods
                    .filter(|key| *key != "parameters")
                    .map(|method| (method.to_uppercase(), path.clone()))
            })
            .collect();
        let routes = all();
        let served: BTreeSet<(String, String)> = routes
            .listed()
            .iter()
            .map(|(method, path)| (method.to_string(), (*path).to_owned()))
            .collect();
        assert_eq!(described, served);
    }
}
