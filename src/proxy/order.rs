//! What is sent upstream, in a form that can be sent again.

use std::rc::Rc;

use http::header::{EXPECT, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};

use super::body::{Source, Upload};
use super::learner::Asker;
use super::mirror::Shadow;
use super::outgoing::to_http2;
use super::upgrade::Asked;
use crate::upstream::connect::{Hold, Outgoing};
use crate::upstream::endpoint::Endpoint;
use crate::upstream::http1::{RequestHead, Spelling};
use crate::upstream::pool::Pool;

/// One request as it goes upstream, but for what a pool adds.
pub(super) struct Order {
    pub(super) method: Method,
    /// In origin form.
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    /// How the client wrote the names of its headers.
    pub(super) spelling: Spelling,
    pub(super) source: Option<Rc<Source>>,
    /// Another protocol than HTTP, which the headers ask for.
    pub(super) asked: Option<Asked>,
    /// May be sent twice.
    pub(super) is_idempotent: bool,
    /// A call of gRPC.
    pub(super) is_call: bool,
    /// The client's address, for an assignment that is made again.
    pub(super) address: Rc<str>,
    /// What is to become a copy for canary.
    pub(super) shadow: Option<Box<Shadow>>,
}

/// An order as one endpoint of a pool gets it; what it is made of stays with the order.
pub(super) struct Sending<'a> {
    pub(super) order: &'a Order,
    pub(super) pool: &'a Pool,
    pub(super) endpoint: &'a Endpoint,
    pub(super) hold: Hold,
}

// === impl Order ===

impl Order {
    /// Whether it may be sent again after it was sent.
    pub(super) fn is_replayable(&self) -> bool {
        self.is_idempotent && self.is_whole()
    }

    /// Whether all of its body can still be sent.
    pub(super) fn is_whole(&self) -> bool {
        self.source.as_ref().is_none_or(|source| source.is_whole())
    }

    pub(super) fn asker(&self) -> Asker<'_> {
        Asker {
            headers: &self.headers,
            uri: &self.uri,
            address: &self.address,
        }
    }
}

// === impl Sending ===

impl Outgoing<Upload> for Sending<'_> {
    fn head(&self) -> RequestHead<'_> {
        RequestHead {
            method: &self.order.method,
            target: &self.order.uri,
            headers: &self.order.headers,
            set: &self.pool.request_headers,
            host: self.endpoint.address(),
            spelling: &self.order.spelling,
        }
    }

    fn body(&self) -> Upload {
        let Some(source) = &self.order.source else {
            return Upload::none();
        };
        // Interim answers of HTTP/2 do not reach us, so that nothing is held back for one.
        if self.order.headers.contains_key(EXPECT) && !self.pool.transport.is_http2() {
            source.hold_back();
        }
        source.upload(self.hold.clone())
    }

    fn proceed(&self) {
        if let Some(source) = &self.order.source {
            source.proceed();
        }
    }

    fn request(&self) -> Request<Upload> {
        let mut request = Request::new(self.body());
        *request.method_mut() = self.order.method.clone();
        *request.headers_mut() = self.order.headers.clone();
        *request.uri_mut() = self.order.uri.clone();
        addressed(&mut request, self.pool, self.endpoint);
        request
    }
}

/// Says what an endpoint of a pool that speaks HTTP/2 is to hear beside what was asked.
pub(super) fn addressed<B>(request: &mut Request<B>, pool: &Pool, endpoint: &Endpoint) {
    *request.version_mut() = Version::HTTP_11;
    let headers = request.headers_mut();
    for (name, value) in &pool.request_headers {
        headers.insert(name.clone(), value.clone());
    }
    if !headers.contains_key(HOST)
        && let Ok(host) = HeaderValue::from_str(endpoint.address())
    {
        // Only HTTP/1.0 may come without one.
        headers.insert(HOST, host);
    }
    to_http2(request, pool.transport.scheme(), endpoint.address());
}
