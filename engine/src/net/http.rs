//! HTTP/1.1 requests as far as a question writes them and an answer names them (RFC 9112 3). Owns no policy: nothing
//! here judges a request.

use std::fmt::Write as _;

/// Bytes of a path that an answer shows at most.
const SHOWN: usize = 64;

/// The first line of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestLine<'p> {
    /// `GET`
    pub method: &'p str,
    /// `/api/v1`
    pub path: &'p str,
}

impl<'p> RequestLine<'p> {
    /// That of a payload which begins with one.
    pub fn of(payload: &'p [u8]) -> Option<Self> {
        let end = payload.windows(2).position(|two| two == b"\r\n")?;
        let line = std::str::from_utf8(payload.get(..end)?).ok()?;
        let mut words = line.split(' ');
        let (method, path, version) = (words.next()?, words.next()?, words.next()?);
        let is_one = is_method(method) && version.starts_with("HTTP/1.") && words.next().is_none();
        (is_one && is_path(path)).then_some(Self { method, path })
    }

    /// Whether it asks for nothing but to be told something (RFC 9110 9.2.1), as probes may.
    pub fn is_plain(&self) -> bool {
        matches!(self.method, "GET" | "HEAD")
    }

    /// `HTTP GET /api/v1`; a long path is cut.
    pub fn in_words(&self) -> String {
        let Self { method, path } = self;
        match path.get(..SHOWN) {
            Some(begin) if path.len() > SHOWN => format!("HTTP {method} {begin}..."),
            _ => format!("HTTP {method} {path}"),
        }
    }
}

/// Whether a word is a method as all that are registered are: capital letters, with `-` between them.
pub fn is_method(word: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_uppercase() || byte == b'-';
    word.len() <= 20
        && word.starts_with(|first: char| first.is_ascii_uppercase())
        && word.bytes().all(is_letter)
}

/// Whether a text is a path that a request line can hold.
pub fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The smallest whole request: its line, whom it is for, and where a method usually has a body that it has none.
pub fn request(method: &str, path: &str, host: &str) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
    if matches!(method, "POST" | "PUT" | "PATCH") {
        // Writing into a string cannot fail.
        let _ = write!(text, "Content-Length: 0\r\n");
    }
    text.push_str("\r\n");
    text.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_named_by_their_line() {
        let get = request("GET", "/api/v1?x=(1)", "10.0.0.1");
        assert_eq!(get, b"GET /api/v1?x=(1) HTTP/1.1\r\nHost: 10.0.0.1\r\n\r\n");
        let line = RequestLine::of(&get).unwrap();
        assert_eq!((line.in_words().as_str(), line.is_plain()), ("HTTP GET /api/v1?x=(1)", true));
        let post = request("POST", "/", "a");
        assert!(post.ends_with(b"Host: a\r\nContent-Length: 0\r\n\r\n"));
        assert!(!RequestLine::of(&post).unwrap().is_plain());
        let long = request("HEAD", &format!("/{}", "x".repeat(100)), "a");
        let words = RequestLine::of(&long).unwrap().in_words();
        assert_eq!(words.len(), "HTTP HEAD ".len() + SHOWN + 3);
    }

    #[test]
    fn what_is_no_request_has_no_line() {
        for other in [
            &b""[..],
            b"GET / HTTP/1.1",
            b"get / HTTP/1.1\r\n",
            b"GET x HTTP/1.1\r\n",
            b"GET / a HTTP/1.1\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"GET /\xff HTTP/1.1\r\n",
            b"GET / SPDY\r\n",
            b"\r\n",
        ] {
            assert_eq!(RequestLine::of(other), None, "{other:?}");
        }
    }
}
