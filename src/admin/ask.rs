//! What a request says: the parts of its path, its query, its body. Each with limits, each refused by a sentence.

use std::borrow::Cow;
use std::sync::Arc;

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::StatusCode;
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;

use super::problem::Problem;
use super::routes::App;
use crate::control::RolloutView;

/// Largest body taken.
const BODY_BYTES: usize = 1 << 20;

/// The parts of the path, percent-decoded to bytes: learner ids need not be text.
#[derive(Clone, Debug)]
pub(super) struct Place(Vec<Vec<u8>>);

/// The query, percent-decoded; `+` stays, as in learner ids on the data path.
#[derive(Clone, Debug)]
pub(super) struct Query(Vec<(String, Vec<u8>)>);

/// A whole body within the limit. Its content type is not looked at: curl names a form's where JSON is sent.
#[derive(Clone, Debug)]
pub(super) struct Body(pub(super) Bytes);

impl<S: Sync> FromRequestParts<S> for Place {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let path = parts.uri.path().trim_start_matches('/');
        Ok(Self(
            path.split('/')
                .map(|part| percent_decode_str(part).collect())
                .collect(),
        ))
    }
}

impl Place {
    /// The part at a place, 0 = the first.
    pub(super) fn bytes(&self, index: usize) -> &[u8] {
        self.0.get(index).map_or(&[], Vec::as_slice)
    }

    /// The same as text, for names: what is not UTF-8 is nobody's name.
    pub(super) fn text(&self, index: usize) -> Cow<'_, str> {
        String::from_utf8_lossy(self.bytes(index))
    }

    /// The rollout of `/api/rollouts/R…`.
    pub(super) fn rollout(&self, app: &App) -> Result<Arc<RolloutView>, Problem> {
        named(app, &self.text(2))
    }
}

impl<S: Sync> FromRequestParts<S> for Query {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        Ok(Self::parse(parts.uri.query().unwrap_or_default()))
    }
}

impl Query {
    fn parse(text: &str) -> Self {
        let pair = |part: &str| {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            (
                percent_decode_str(name).decode_utf8_lossy().into_owned(),
                percent_decode_str(value).collect(),
            )
        };
        Self(
            text.split('&')
                .filter(|part| !part.is_empty())
                .map(pair)
                .collect(),
        )
    }

    /// Refuses a name that the call does not know, and one given twice.
    pub(super) fn only(self, known: &[&str]) -> Result<Self, Problem> {
        for (place, (name, _)) in self.0.iter().enumerate() {
            if !known.contains(&name.as_str()) {
                return Err(Problem::invalid(format!(
                    "this call has no parameter {name:?}"
                )));
            }
            if self.0[..place].iter().any(|(earlier, _)| earlier == name) {
                return Err(Problem::invalid(format!(
                    "the parameter {name:?} is given twice"
                )));
            }
        }
        Ok(self)
    }

    pub(super) fn bytes(&self, name: &str) -> Option<&[u8]> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_slice())
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        let Some(value) = self.bytes(name) else {
            return Ok(None);
        };
        let text = std::str::from_utf8(value);
        text.map(Some)
            .map_err(|_| Problem::invalid(format!("the parameter {name:?} is not UTF-8")))
    }

    /// A whole number.
    pub(super) fn number(&self, name: &str) -> Result<Option<u64>, Problem> {
        let Some(text) = self.text(name)? else {
            return Ok(None);
        };
        let number = text.parse();
        number
            .map(Some)
            .map_err(|_| Problem::invalid(format!("{name} = {text:?} is not a whole number")))
    }

    /// The rollout of `?rollout=R`, which may be left out where there is one.
    pub(super) fn rollout(&self, app: &App) -> Result<Arc<RolloutView>, Problem> {
        named_or_only(app, self.text("rollout")?)
    }
}

/// The rollout of this name, or the only one there is.
pub(super) fn named_or_only(app: &App, name: Option<&str>) -> Result<Arc<RolloutView>, Problem> {
    if let Some(name) = name {
        return named(app, name);
    }
    let rollouts = app.control.rollouts();
    let mut views = rollouts.values();
    match (views.next(), views.next()) {
        (Some(only), None) => Ok(Arc::clone(only)),
        (None, _) => Err(Problem::not_found("no rollout is configured")),
        (Some(_), Some(_)) => {
            let names: Vec<&str> = rollouts.keys().map(|name| name.as_str()).collect();
            Err(Problem::invalid(format!(
                "say which: rollout is one of {}",
                names.join(", ")
            )))
        }
    }
}

fn named(app: &App, name: &str) -> Result<Arc<RolloutView>, Problem> {
    app.control
        .rollout(name)
        .ok_or_else(|| Problem::not_found(format!("there is no rollout {name:?}")))
}

impl<S: Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let declared = http_body::Body::size_hint(request.body()).lower();
        let too_large = || Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "a body may have 1 MiB");
        if declared > BODY_BYTES as u64 {
            return Err(too_large());
        }
        let read = to_bytes(request.into_body(), BODY_BYTES).await;
        read.map(Self).map_err(|error| {
            let limit = std::error::Error::source(&error)
                .is_some_and(|why| why.is::<http_body_util::LengthLimitError>());
            if limit {
                too_large()
            } else {
                Problem::new(StatusCode::BAD_REQUEST, "the body broke off")
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_bytes_with_plus_kept() {
        let query = Query::parse("learner=a%2Bb+c%ff&&segment=eu&flag");
        assert_eq!(query.bytes("learner"), Some(b"a+b+c\xff".as_slice()));
        assert_eq!(query.text("segment").ok().flatten(), Some("eu"));
        assert_eq!(query.bytes("flag"), Some(b"".as_slice()));
        assert_eq!(query.bytes("other"), None);
        assert!(query.text("learner").is_err());
    }

    #[test]
    fn unknown_doubled_and_crooked_parameters_are_refused() {
        assert!(Query::parse("a=1&b=2").only(&["a", "b"]).is_ok());
        assert!(Query::parse("a=1&c=2").only(&["a", "b"]).is_err());
        assert!(Query::parse("a=1&a=1").only(&["a", "b"]).is_err());
        for text in [
            "after=x",
            "after=-1",
            "after=",
            "after=1.5",
            "after=99999999999999999999",
        ] {
            assert!(Query::parse(text).number("after").is_err(), "{text}");
        }
        assert_eq!(
            Query::parse("after=7").number("after").ok().flatten(),
            Some(7)
        );
    }
}
