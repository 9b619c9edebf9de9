//! What came back: as much of it as is wanted, and when to come again.

use std::error::Error;
use std::time::Duration;

use reqwest::Response;
use reqwest::header::RETRY_AFTER;

/// Of an answer that says no, so much is kept for people.
const CHARS_KEPT: usize = 200;

/// The first bytes of an answer. Read to its end if it is short, so that the connection can be used again.
pub async fn read(mut answer: Response, bytes_max: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > bytes_max {
            bytes.truncate(bytes_max);
            break;
        }
    }
    bytes
}

/// The first words of a text from outside, on one line.
pub fn first_words(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    // PostgreSQL cannot store the NUL character.
    line.chars().filter(|letter| !letter.is_control()).take(CHARS_KEPT).collect()
}

/// The pause that an answer asks for.
pub fn asked_pause(answer: &Response, now_us: i64) -> Option<Duration> {
    retry_after(answer.headers().get(RETRY_AFTER)?.to_str().ok()?, now_us)
}

/// Reads the header Retry-After: seconds, or a moment.
pub fn retry_after(header: &str, now_us: i64) -> Option<Duration> {
    let header = header.trim();
    if let Ok(seconds) = header.parse::<u64>() {
        return Some(Duration::from_secs(seconds));
    }
    let at_us = chrono::DateTime::parse_from_rfc2822(header).ok()?.timestamp_micros();
    u64::try_from(at_us.saturating_sub(now_us)).ok().map(Duration::from_micros)
}

/// What went wrong with a request, with all causes but repetitions, and without the URL.
pub fn problem(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut parts = vec![error.to_string()];
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if parts.last() != Some(&text) {
            parts.push(text);
        }
        source = cause.source();
    }
    parts.join(": ").replace('\0', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_moment() {
        let now_us = 1_445_412_440_000_000; // Wed, 21 Oct 2015 07:27:20 GMT
        assert_eq!(retry_after(" 120 ", now_us), Some(Duration::from_secs(120)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:28:00 GMT", now_us), Some(Duration::from_secs(40)));
        assert_eq!(retry_after("Wed, 21 Oct 2015 07:00:00 GMT", now_us), None);
        assert_eq!(retry_after("soon", now_us), None);
    }
}
