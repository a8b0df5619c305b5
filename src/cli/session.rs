//! A connection to the admin port that is kept from one call to the next, and one that an event stream comes over.
//!
//! Over a slow link opening a connection is most of a small call. Knows nothing of what the resources mean.

use std::time::Duration;

use bytes::Bytes;
use http::header::HeaderValue;
use http::{Method, Request};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use serde_json::Value;

use super::client::{Client, ClientError};

/// The port says something at least every 15 s; who has heard nothing for so long is alone.
pub(super) const SILENCE: Duration = Duration::from_secs(45);

pub(super) struct Session {
    client: Client,
    kept: Option<SendRequest<Full<Bytes>>>,
}

impl Session {
    pub(super) const fn new(client: Client) -> Self {
        Self { client, kept: None }
    }

    /// Fetches a JSON document.
    pub(super) async fn get(&mut self, path: &str) -> Result<Value, ClientError> {
        if let Some(sender) = self.kept.take() {
            // The port closes a connection that was idle for long, perhaps at this moment: asked anew, this is no fault.
            match self.exchange(sender, path).await {
                Err(ClientError::Unreachable { .. }) => {}
                answered => return answered,
            }
        }
        let sender = self.client.within(self.client.connect()).await?;
        self.exchange(sender, path).await
    }

    async fn exchange(
        &mut self,
        mut sender: SendRequest<Full<Bytes>>,
        path: &str,
    ) -> Result<Value, ClientError> {
        let client = &self.client;
        let request = client.request(Method::GET, path, "application/json", None)?;
        let answered = async {
            ready(client, &mut sender).await?;
            let answer = sender.send_request(request).await;
            let answer = answer.map_err(|why| client.unreachable(why.to_string()))?;
            client.read(answer).await
        };
        let body = client.within(answered).await;
        // After a refusal the connection is as good as after an answer.
        if matches!(body, Ok(_) | Err(ClientError::Refused { .. })) {
            self.kept = Some(sender);
        }
        client.parse(&body?)
    }
}

async fn ready(client: &Client, sender: &mut SendRequest<Full<Bytes>>) -> Result<(), ClientError> {
    let ready = sender.ready().await;
    ready.map_err(|why| client.unreachable(why.to_string()))
}

/// Opens a stream of events that goes on after the event `after`. Its body comes as it is written.
pub(super) async fn events(
    client: &Client,
    path: &str,
    after: u64,
) -> Result<Incoming, ClientError> {
    let mut request: Request<Full<Bytes>> =
        client.request(Method::GET, path, "text/event-stream", None)?;
    let headers = request.headers_mut();
    headers.insert("last-event-id", HeaderValue::from(after));
    let opened = async {
        let mut sender = client.connect().await?;
        let answer = sender.send_request(request).await;
        let answer = answer.map_err(|why| client.unreachable(why.to_string()))?;
        if answer.status().is_success() {
            return Ok(answer.into_body());
        }
        client.read(answer).await?;
        Err(client.strange("an event stream without a body".to_owned()))
    };
    client.within(opened).await
}
