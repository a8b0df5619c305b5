//! What is sent upstream, in a form that can be sent again.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use http::header::{EXPECT, HOST};
use http::{Extensions, HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};

use super::body::{Source, Upload};
use super::learner::Asker;
use super::mirror::Shadow;
use super::outgoing::to_http2;
use super::upgrade::Asked;
use crate::upstream::connect::Hold;
use crate::upstream::endpoint::Endpoint;
use crate::upstream::pool::Pool;

/// One request as it goes upstream, but for what a pool adds.
pub(super) struct Order {
    pub(super) method: Method,
    /// In origin form.
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
    pub(super) extensions: Extensions,
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

    /// The request for one attempt; what it is made of stays here.
    pub(super) fn copy(&self, pool: &Pool, endpoint: &Endpoint, hold: Hold) -> Request<Upload> {
        let mut request = Request::new(self.upload(hold));
        *request.headers_mut() = self.headers.clone();
        *request.uri_mut() = self.uri.clone();
        *request.extensions_mut() = self.extensions.clone();
        self.finish(request, pool, endpoint)
    }

    /// The request for an attempt that is the last one, unless it comes back unsent.
    pub(super) fn give(&mut self, pool: &Pool, endpoint: &Endpoint, hold: Hold) -> Request<Upload> {
        let mut request = Request::new(self.upload(hold));
        *request.headers_mut() = std::mem::take(&mut self.headers);
        *request.uri_mut() = self.uri.clone();
        *request.extensions_mut() = std::mem::take(&mut self.extensions);
        self.finish(request, pool, endpoint)
    }

    /// Takes a request back that was not sent.
    pub(super) fn take_back(&mut self, request: Request<Upload>, pool: &Pool) {
        let (mut parts, _) = request.into_parts();
        for (name, _) in &pool.request_headers {
            parts.headers.remove(name);
        }
        self.headers = parts.headers;
        self.extensions = parts.extensions;
    }

    fn upload(&self, hold: Hold) -> Upload {
        match &self.source {
            Some(source) => source.upload(hold),
            None => Upload::none(),
        }
    }

    fn finish(
        &self,
        mut request: Request<Upload>,
        pool: &Pool,
        endpoint: &Endpoint,
    ) -> Request<Upload> {
        *request.method_mut() = self.method.clone();
        addressed(&mut request, pool, endpoint);
        // Interim answers of HTTP/2 do not reach us, so that nothing is held back for one.
        if !pool.transport.is_http2()
            && request.headers().contains_key(EXPECT)
            && let Some(source) = &self.source
        {
            let go = source.hold_back();
            hyper::ext::on_informational(&mut request, move |head| {
                if head.status() == StatusCode::CONTINUE {
                    go.store(true, Ordering::Relaxed);
                }
            });
        }
        request
    }
}

/// Says what an endpoint of this pool is to hear beside what was asked, in the protocol it speaks.
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
    if pool.transport.is_http2() {
        to_http2(request, pool.transport.scheme(), endpoint.address());
    }
}
