//! Why an endpoint gave no answer, as far as that can be told: pure.
//!
//! What matters is whether the request may have been worked on. HTTP/2 says it: a stream that was refused, or that lies
//! above the last one of a GOAWAY, was not (RFC 9113, 8.7).

use std::error::Error;

use crate::upstream::answer::AnswerError;
use crate::upstream::http1;

/// What an error means for the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The connection ends, and this stream was not looked at.
    NotProcessed,
    /// The server refuses this stream, and did nothing for it.
    Refused,
    /// The server ended the handshake after all: with TLS 1.3 it looks at our certificate last.
    NotTrusted,
    /// What the server said makes no sense.
    Malformed,
    /// The request may have been worked on.
    Broken,
}

impl Refusal {
    pub(super) fn of(error: &AnswerError) -> Self {
        let is_malformed = match error {
            AnswerError::Http1(error) => matches!(error, http1::Error::Malformed(_)),
            AnswerError::Http2(error) => error.is_parse(),
        };
        if is_malformed {
            return Self::Malformed;
        }
        match source::<h2::Error>(error) {
            Some(error) => Self::of_stream(error),
            None if is_not_trusted(error) => Self::NotTrusted,
            None => Self::Broken,
        }
    }

    fn of_stream(error: &h2::Error) -> Self {
        if error.is_library() {
            return Self::Malformed;
        }
        if error.is_remote() && error.is_go_away() {
            return Self::NotProcessed;
        }
        if error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM) {
            return Self::Refused;
        }
        Self::Broken
    }
}

fn is_not_trusted(error: &AnswerError) -> bool {
    use rustls::AlertDescription as Alert;
    let inner = source::<std::io::Error>(error).and_then(|error| error.get_ref());
    let Some(rustls::Error::AlertReceived(alert)) = inner.and_then(|inner| inner.downcast_ref())
    else {
        return false;
    };
    matches!(
        alert,
        Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::CertificateRequired
            | Alert::NoCertificate
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::HandshakeFailure
    )
}

fn source<E: Error + 'static>(error: &dyn Error) -> Option<&E> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        cause = error.source();
    }
    None
}
