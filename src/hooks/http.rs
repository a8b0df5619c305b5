//! A hook that is an HTTP call: 2xx passes, anything else fails; the same call again carries the same key.

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Uri};
use serde_json::json;

use super::{Attempt, Due};
use crate::outbound::{ANSWER_LIMIT, Call, Client};
use crate::rollout::plan::HookMethod;

const KEY: HeaderName = HeaderName::from_static("idempotency-key");

pub(super) async fn call(client: &Client, method: HookMethod, url: &str, due: &Due) -> Attempt {
    let failed = |why: String| Attempt {
        passed: false,
        code: None,
        why,
        output: String::new(),
    };
    let (Ok(url), Ok(key)) = (url.parse::<Uri>(), HeaderValue::from_str(&due.key())) else {
        return failed("its URL cannot be read".to_owned());
    };
    let order = &due.order;
    let body = json!({
        "rollout": due.rollout.as_str(),
        "run": order.run,
        "stage": order.hook.stage.as_str(),
        "hook": order.hook.name,
        "kind": order.hook.kind.as_str(),
        "event": order.started.0,
    });
    let method = match method {
        HookMethod::Get => Method::GET,
        HookMethod::Post => Method::POST,
        HookMethod::Put => Method::PUT,
        HookMethod::Patch => Method::PATCH,
        HookMethod::Delete => Method::DELETE,
    };
    let body = match method {
        Method::GET => Bytes::new(),
        _ => Bytes::from(body.to_string()),
    };
    let json = HeaderValue::from_static("application/json");
    let answer = client
        .call(Call {
            method,
            url,
            headers: vec![(CONTENT_TYPE, json), (KEY, key)],
            body,
            timeout: order.timeout,
            limit: ANSWER_LIMIT,
        })
        .await;
    match answer {
        Ok(answer) => Attempt {
            passed: answer.status.is_success(),
            code: Some(i32::from(answer.status.as_u16())),
            why: format!("answered {}", answer.status.as_u16()),
            output: String::from_utf8_lossy(&answer.body).into_owned(),
        },
        Err(why) => failed(why.to_string()),
    }
}
