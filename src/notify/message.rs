//! What a channel is sent: the record as the API shows it, signed, for a webhook; its text for Slack.
//!
//! `x-serin-notice` is the stable id: who sees one twice has seen one notice twice. `x-serin-signature` is
//! `t=<unix seconds>,v1=<hex>` with the HMAC-SHA256, under the channel's secret, of `<unix seconds>.<body>`; a receiver
//! refuses what is older than it likes, so that nothing recorded can be played back later.

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Uri};
use serde_json::json;
use sha2::Sha256;

use crate::config::{Channel, ChannelKind, Secret};
use crate::outbound::{ANSWER_LIMIT, Call};
use crate::records::event::EventRecord;
use crate::records::notice::{NoticeRecord, NoticeWord};
use crate::records::told::ToldEvent;
use crate::report;
use crate::rollout::time::WallTime;

const ID: HeaderName = HeaderName::from_static("x-serin-notice");
const SIGNATURE: HeaderName = HeaderName::from_static("x-serin-signature");

/// The call that delivers a notice. `record` is an event or a notice of its own, as JSON.
pub(super) fn call(
    channel: &Channel,
    id: &str,
    record: &str,
    now: WallTime,
) -> Result<Call, String> {
    let url: Uri = channel
        .url
        .expose()
        .parse()
        .map_err(|_| "its URL cannot be read".to_owned())?;
    let json = HeaderValue::from_static("application/json");
    let mut headers = vec![(CONTENT_TYPE, json)];
    let body = match channel.kind {
        ChannelKind::Webhook => {
            let id = HeaderValue::from_str(id).map_err(|_| "its id is no header".to_owned())?;
            headers.push((ID, id));
            let body = shown(record)?;
            if let Some(secret) = &channel.secret {
                headers.push((SIGNATURE, signature(secret, &body, now)?));
            }
            body
        }
        ChannelKind::Slack => json!({ "text": escaped(&text(record)?) }).to_string(),
    };
    Ok(Call {
        method: Method::POST,
        url,
        headers,
        body: Bytes::from(body),
        timeout: channel.timeout,
        limit: ANSWER_LIMIT,
    })
}

/// A notice that only says that the channel works.
pub fn test(channel: &Channel, now: WallTime) -> Result<Call, String> {
    let record = NoticeRecord {
        id: format!("test/{}", now.as_unix_millis()),
        notice: NoticeWord::Test,
        rollout: String::new(),
        at: now.into(),
        text: format!(
            "serin: a test of the channel {}; nothing happened",
            channel.name
        ),
        status: None,
    };
    let body = serde_json::to_string(&record).map_err(|why| why.to_string())?;
    call(channel, &record.id, &body, now)
}

// An event has its sentence beside it; a notice of its own has its text.
fn shown(record: &str) -> Result<String, String> {
    let Ok(event) = serde_json::from_str::<EventRecord>(record) else {
        return Ok(record.to_owned());
    };
    let told = ToldEvent {
        sentence: report::sentence(&event),
        event,
    };
    serde_json::to_string(&told).map_err(|why| why.to_string())
}

fn text(record: &str) -> Result<String, String> {
    let unreadable = |why: serde_json::Error| format!("its record cannot be read: {why}");
    if let Ok(event) = serde_json::from_str::<EventRecord>(record) {
        return Ok(report::event_notice(&event));
    }
    let notice: NoticeRecord = serde_json::from_str(record).map_err(unreadable)?;
    Ok(notice.text)
}

/// Slack's three control characters.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn signature(secret: &Secret, body: &str, now: WallTime) -> Result<HeaderValue, String> {
    let seconds = now.as_unix_millis().div_euclid(1000);
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes())
        .map_err(|why| why.to_string())?;
    mac.update(format!("{seconds}.{body}").as_bytes());
    let hex: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    HeaderValue::from_str(&format!("t={seconds},v1={hex}")).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn channel(kind: ChannelKind, secret: Option<&str>) -> Channel {
        Channel {
            name: "ops".to_owned(),
            kind,
            url: Secret::new("http://127.0.0.1:1/x"),
            events: Default::default(),
            secret: secret.map(Secret::new),
            escalate_after: Duration::ZERO,
            digest: Duration::ZERO,
            timeout: Duration::from_secs(1),
        }
    }

    fn header(call: &Call, name: &HeaderName) -> Option<String> {
        let found = call.headers.iter().find(|(header, _)| header == name);
        found.and_then(|(_, value)| Some(value.to_str().ok()?.to_owned()))
    }

    // The expected figure is `printf '1762005600.{"id":17}' | openssl dgst -sha256 -hmac "a secret"`.
    #[test]
    fn a_webhook_is_signed_over_time_and_body() {
        let now = WallTime::from_unix_millis(1_762_005_600_999);
        let record = r#"{"id":17}"#;
        let signed = channel(ChannelKind::Webhook, Some("a secret"));
        let call_signed = call(&signed, "analyzer/17", record, now).expect("a call");
        assert_eq!(
            header(&call_signed, &SIGNATURE).as_deref(),
            Some(
                "t=1762005600,v1=b882d5f89b75c9de2edde090de80165f02d2a84fbdfe0b02e5f00455867673f1"
            )
        );
        assert_eq!(header(&call_signed, &ID).as_deref(), Some("analyzer/17"));
        assert_eq!(call_signed.body, record.as_bytes());

        let open = channel(ChannelKind::Webhook, None);
        let call_open = call(&open, "analyzer/17", record, now).expect("a call");
        assert_eq!(header(&call_open, &SIGNATURE), None);
    }

    #[test]
    fn slack_gets_a_text_with_its_control_characters_escaped() {
        let now = WallTime::from_unix_millis(0);
        let record = NoticeRecord {
            id: "x".to_owned(),
            notice: NoticeWord::Progress,
            rollout: "analyzer".to_owned(),
            at: now.into(),
            text: "p99 < 200ms & <!channel>".to_owned(),
            status: None,
        };
        let json = serde_json::to_string(&record).expect("JSON");
        let slack = channel(ChannelKind::Slack, None);
        let sent = call(&slack, "x", &json, now).expect("a call");
        assert_eq!(
            sent.body,
            r#"{"text":"p99 &lt; 200ms &amp; &lt;!channel&gt;"}"#.as_bytes()
        );
    }
}
