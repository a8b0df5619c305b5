//! The bytes of an event stream into the documents it carries (WHATWG, server-sent events), as far as serin writes it.
//!
//! Comments, which keep the stream alive, say nothing. Holds a bounded part of one event.

use serde_json::Value;

/// An event is a few kilobytes; a stream that sends more without an end is none of ours.
const LONGEST: usize = 4 << 20;

#[derive(Debug, Default)]
pub(super) struct Reader {
    /// What came of a line that has not ended.
    line: Vec<u8>,
    data: String,
}

/// Why a stream cannot be read on.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum StreamError {
    #[error("an event of the stream is longer than {LONGEST} bytes")]
    TooLong,
    #[error("an event of the stream is no JSON: {0}")]
    Strange(String),
}

impl Reader {
    /// Takes in some bytes; the documents of the events that they end.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Result<Vec<Value>, StreamError> {
        let mut found = Vec::new();
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(part);
            if self.line.len() + self.data.len() > LONGEST {
                return Err(StreamError::TooLong);
            }
            if part.ends_with(b"\n") {
                let line = std::mem::take(&mut self.line);
                found.extend(self.take(&String::from_utf8_lossy(&line))?);
            }
        }
        Ok(found)
    }

    fn take(&mut self, line: &str) -> Result<Option<Value>, StreamError> {
        let line = line.trim_end_matches(['\r', '\n']);
        if let Some(data) = line.strip_prefix("data:") {
            if !self.data.is_empty() {
                self.data.push('\n');
            }
            self.data.push_str(data.strip_prefix(' ').unwrap_or(data));
            return Ok(None);
        }
        if !line.is_empty() || self.data.is_empty() {
            return Ok(None);
        }
        let data = std::mem::take(&mut self.data);
        let document = serde_json::from_str(&data);
        document
            .map(Some)
            .map_err(|why| StreamError::Strange(why.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn events_come_whole_however_their_bytes_come() {
        let stream = b"id: 1\ndata: {\"a\":\ndata: 1}\n\n:\n\n: still there\r\n\r\nid:2\r\ndata:{\"a\":2}\r\n\r\nevent: x\n\n";
        for size in [1, 2, 3, 7, 1_000] {
            let mut reader = Reader::default();
            let mut found = Vec::new();
            for bytes in stream.chunks(size) {
                found.extend(reader.read(bytes).expect("a stream"));
            }
            assert_eq!(found, [json!({ "a": 1 }), json!({ "a": 2 })], "by {size}");
        }
    }

    #[test]
    fn what_is_no_event_of_ours_ends_the_stream() {
        let mut reader = Reader::default();
        assert!(matches!(
            reader.read(b"data: <html>\n\n"),
            Err(StreamError::Strange(_))
        ));
        let mut reader = Reader::default();
        let long = vec![b'x'; LONGEST / 2];
        assert_eq!(reader.read(&long), Ok(Vec::new()));
        assert_eq!(reader.read(&long), Ok(Vec::new()));
        assert_eq!(reader.read(b"x"), Err(StreamError::TooLong));
    }
}
