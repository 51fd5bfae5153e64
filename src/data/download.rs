//! One file over HTTP, continued where an earlier attempt broke off.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::Duration;

use ureq::Agent;
use ureq::http::{HeaderMap, StatusCode, header};

/// How a download went wrong.
#[derive(Debug)]
pub(super) enum Setback {
    /// The server, or the way to it. The partial file has `gained` more bytes than before, and
    /// another attempt may continue it.
    Mirror { reason: String, gained: u64 },
    /// Another process is at work on the same partial file.
    Busy,
    /// The partial file cannot be written; another server would not help.
    Disk(io::Error),
}

impl Setback {
    fn mirror(reason: impl Into<String>) -> Self {
        Self::Mirror { reason: reason.into(), gained: 0 }
    }
}

/// A client for the server of `url`.
///
/// It waits up to `connect_timeout` for a connection, and up to the longer of the two times for the
/// answer to begin; no silence after that may exceed `stall_timeout`, but a slow download that goes
/// on may take its time.
pub(super) fn agent(url: &str, connect_timeout: Duration, stall_timeout: Duration) -> Agent {
    let config = Agent::config_builder()
        .user_agent(concat!("taylorscope/", env!("CARGO_PKG_VERSION")))
        // The files are packed already, and a range of bytes must be a range of the file.
        .accept_encoding("identity")
        // Statuses are told apart below.
        .http_status_as_error(false)
        .timeout_resolve(Some(connect_timeout))
        .timeout_connect(Some(connect_timeout))
        .timeout_recv_response(Some(connect_timeout.max(stall_timeout)))
        .timeout_per_read(Some(stall_timeout));
    // A proxy would look for the loopback address on its own machine.
    let config = if is_loopback(url) { config.proxy(None) } else { config };
    config.build().into()
}

fn is_loopback(url: &str) -> bool {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    ["127.", "localhost:", "localhost/", "[::1]"].iter().any(|loopback| host.starts_with(loopback))
}

/// Downloads `url` into `partial`, after the bytes that `partial` has already if the server can
/// continue there, else from the start. Tells `received` how many bytes of how many are there.
///
/// Gives whether the file was continued. Refuses to store more than `most_bytes`.
pub(super) fn download(
    agent: &Agent,
    url: &str,
    partial: &Path,
    most_bytes: u64,
    received: &mut dyn FnMut(u64, Option<u64>),
) -> Result<bool, Setback> {
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(partial).map_err(Setback::Disk)?;
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => return Err(Setback::Busy),
        // Where files cannot be locked, the checksum still tells if two processes mixed theirs.
        Ok(()) | Err(TryLockError::Error(_)) => {}
    }

    let mut start = file.metadata().map_err(Setback::Disk)?.len();
    if start > most_bytes {
        start = 0;
    }
    let (mut body, total) = loop {
        let mut request = agent.get(url);
        if start > 0 {
            request = request.header(header::RANGE, format!("bytes={start}-"));
        }
        let response = request.call().map_err(|error| Setback::mirror(error.to_string()))?;
        let (head, body) = response.into_parts();
        match head.status {
            StatusCode::OK => {
                start = 0;
                break (body, body_length(&head.headers));
            }
            StatusCode::PARTIAL_CONTENT if start > 0 => match content_range(&head.headers) {
                Some((first, total)) if first == start => break (body, total),
                // Not the bytes asked for: the whole file is safer.
                _ => start = 0,
            },
            // The file there is not longer than what is here, so that must be of another file.
            StatusCode::RANGE_NOT_SATISFIABLE if start > 0 => start = 0,
            status => return Err(Setback::mirror(format!("the server answered {status}"))),
        }
    };
    if total.is_some_and(|total| total > most_bytes) {
        return Err(too_large(most_bytes));
    }

    file.set_len(start).map_err(Setback::Disk)?;
    file.seek(SeekFrom::Start(start)).map_err(Setback::Disk)?;
    let extent = Extent { start, total, most_bytes };
    copy(body.as_reader(), &mut file, extent, received)?;
    file.sync_all().map_err(Setback::Disk)?;
    Ok(start > 0)
}

/// Which bytes of a file are to come.
struct Extent {
    /// The first of them.
    start: u64,
    /// The length of the whole file, if the server told.
    total: Option<u64>,
    /// The length it may have at most.
    most_bytes: u64,
}

fn copy(
    mut body: impl Read,
    file: &mut File,
    extent: Extent,
    received: &mut dyn FnMut(u64, Option<u64>),
) -> Result<(), Setback> {
    let Extent { start, total, most_bytes } = extent;
    let mut at = start;
    let mut buffer = vec![0; 1 << 16];
    received(at, total);
    let trouble = loop {
        match body.read(&mut buffer) {
            Ok(0) => break None,
            Ok(count) => {
                at += count as u64;
                if at > most_bytes {
                    file.set_len(0).map_err(Setback::Disk)?;
                    return Err(too_large(most_bytes));
                }
                file.write_all(&buffer[..count]).map_err(Setback::Disk)?;
                received(at, total);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => break Some(error.to_string()),
        }
    };
    let whole = total.is_none_or(|total| at == total);
    match trouble {
        None if whole => Ok(()),
        trouble => {
            let length = total.map_or("unknown".to_owned(), |total| total.to_string());
            let trouble = trouble.unwrap_or_else(|| "the server closed the connection".to_owned());
            Err(Setback::Mirror {
                reason: format!("broke off after {at} of {length} bytes: {trouble}"),
                gained: at - start,
            })
        }
    }
}

fn too_large(most_bytes: u64) -> Setback {
    Setback::mirror(format!("the file is larger than {most_bytes} bytes, so it is not the published one"))
}

fn body_length(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(header::CONTENT_LENGTH)?.to_str().ok()?;
    text.trim().parse().ok()
}

/// The first byte and, unless the server left it open, the length of the whole file, from
/// `Content-Range: bytes FIRST-LAST/TOTAL` (RFC 9110, section 14.4).
fn content_range(headers: &HeaderMap) -> Option<(u64, Option<u64>)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    let (first, _) = range.split_once('-')?;
    Some((first.trim().parse().ok()?, total.trim().parse().ok()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::super::test_server::{Reply, Request, TestServer};
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Downloads from a server that answers as told, after `there` bytes of an earlier attempt.
    fn attempt(
        there: &[u8],
        most_bytes: u64,
        answer: impl Fn(&Request) -> Reply + Send + 'static,
    ) -> (Result<bool, Setback>, Vec<u8>, Vec<Request>) {
        let folder = TempDir::new().unwrap();
        let partial = folder.path().join("file.part");
        fs::write(&partial, there).unwrap();
        let server = TestServer::start(answer);
        let url = server.url("/file");
        let outcome = download(&agent(&url, 5 * SECOND, 5 * SECOND), &url, &partial, most_bytes, &mut |_, _| {});
        (outcome, fs::read(&partial).unwrap(), server.requests())
    }

    fn reason(outcome: Result<bool, Setback>) -> (String, u64) {
        match outcome {
            Err(Setback::Mirror { reason, gained }) => (reason, gained),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_fresh_download_asks_for_the_whole_file() {
        let (outcome, bytes, requests) = attempt(b"", 100, |_| Reply::ok(b"content"));
        assert!(!outcome.unwrap());
        assert_eq!(bytes, b"content");
        assert_eq!(requests.len(), 1);
        assert_eq!(requests[0].range_start, None);
    }

    #[test]
    fn a_broken_download_is_continued_by_a_range() {
        let (outcome, bytes, requests) =
            attempt(b"con", 100, |request| Reply::range(b"content", request.range_start.unwrap()));
        assert!(outcome.unwrap());
        assert_eq!(bytes, b"content");
        assert_eq!(requests[0].range_start, Some(3));
    }

    #[test]
    fn a_server_without_ranges_sends_the_file_from_the_start() {
        let (outcome, bytes, _) = attempt(b"longer than the file", 100, |_| Reply::ok(b"content"));
        assert!(!outcome.unwrap());
        assert_eq!(bytes, b"content");
    }

    #[test]
    fn a_range_that_cannot_be_had_starts_again() {
        for refusal in [Reply::status(416), Reply::range(b"content", 1)] {
            let (outcome, bytes, requests) = attempt(b"conte", 100, move |request| match request.range_start {
                Some(_) => refusal.clone(),
                None => Reply::ok(b"content"),
            });
            assert!(!outcome.unwrap());
            assert_eq!(bytes, b"content");
            assert_eq!(requests.len(), 2);
        }
    }

    #[test]
    fn what_came_before_the_break_is_kept() {
        let (outcome, bytes, _) = attempt(b"", 100, |_| Reply::ok(b"content").cut_after(4));
        let (reason, gained) = reason(outcome);
        assert!(reason.contains("broke off after 4 of 7 bytes"), "{reason}");
        assert_eq!(gained, 4);
        assert_eq!(bytes, b"cont");
    }

    #[test]
    fn other_statuses_are_setbacks_and_leave_the_partial_file_alone() {
        for status in [403, 404, 500, 503] {
            let (outcome, bytes, _) = attempt(b"con", 100, move |_| Reply::status(status));
            let (reason, gained) = reason(outcome);
            assert!(reason.contains(&status.to_string()), "{reason}");
            assert_eq!((gained, &bytes[..]), (0, &b"con"[..]));
        }
    }

    #[test]
    fn nothing_beyond_the_limit_is_stored() {
        let (outcome, bytes, _) = attempt(b"", 6, |_| Reply::ok(b"content"));
        assert!(reason(outcome).0.contains("larger than 6 bytes"));
        assert!(bytes.is_empty());
        // Nor if the server keeps the length to itself.
        let (outcome, bytes, _) = attempt(b"", 6, |_| Reply::ok(b"content").without_length());
        assert!(reason(outcome).0.contains("larger than 6 bytes"));
        assert!(bytes.is_empty());
    }

    #[test]
    fn a_body_shorter_than_announced_is_no_success() {
        // The client library sees to announced lengths of bodies, but not to the length of the
        // whole file, which a range may announce alone.
        let mut file = tempfile::tempfile().unwrap();
        let extent = Extent { start: 3, total: Some(7), most_bytes: 100 };
        let outcome = copy(&b"ten"[..], &mut file, extent, &mut |_, _| {});
        assert!(matches!(outcome, Err(Setback::Mirror { gained: 3, .. })), "{outcome:?}");
    }

    #[test]
    fn a_silent_server_is_given_up() {
        let server = TestServer::start(|_| Reply::ok(b"content").cut_after(2).then_silence());
        let url = server.url("/file");
        let folder = TempDir::new().unwrap();
        let partial = folder.path().join("file.part");
        let outcome = download(&agent(&url, SECOND, SECOND / 5), &url, &partial, 100, &mut |_, _| {});
        assert_eq!(reason(outcome).1, 2);
        assert_eq!(fs::read(&partial).unwrap(), b"co");
    }

    #[test]
    fn a_partial_file_in_use_is_left_alone() {
        let folder = TempDir::new().unwrap();
        let partial = folder.path().join("file.part");
        let other = File::create(&partial).unwrap();
        other.lock().unwrap();
        let url = "http://127.0.0.1:9/file";
        let outcome = download(&agent(url, SECOND, SECOND), url, &partial, 9, &mut |_, _| {});
        assert!(matches!(outcome, Err(Setback::Busy)), "{outcome:?}");
    }

    #[test]
    fn progress_counts_the_bytes_already_there() {
        let server = TestServer::start(|_| Reply::range(b"content", 3));
        let url = server.url("/file");
        let folder = TempDir::new().unwrap();
        let partial = folder.path().join("file.part");
        fs::write(&partial, b"con").unwrap();
        let mut seen = Vec::new();
        let agent = agent(&url, SECOND, SECOND);
        download(&agent, &url, &partial, 9, &mut |at, of| seen.push((at, of))).unwrap();
        assert_eq!(seen.first(), Some(&(3, Some(7))));
        assert_eq!(seen.last(), Some(&(7, Some(7))));
    }

    #[test]
    fn loopback_addresses_are_recognized() {
        for url in ["http://127.0.0.1:80/a", "http://localhost/a", "http://localhost:1/", "http://[::1]:1/"] {
            assert!(is_loopback(url), "{url}");
        }
        for url in ["https://example.org/127.0.0.1", "http://localhost.example/", ""] {
            assert!(!is_loopback(url), "{url}");
        }
    }

    #[test]
    fn content_ranges_are_parsed_with_care() {
        let parse = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, text.parse().unwrap());
            content_range(&headers)
        };
        assert_eq!(parse("bytes 3-6/7"), Some((3, Some(7))));
        assert_eq!(parse("bytes 3-6/*"), Some((3, None)));
        for malformed in ["", "bytes", "bytes */7", "bytes 3/7", "items 3-6/7", "bytes -1-2/3"] {
            assert_eq!(parse(malformed), None, "{malformed}");
        }
    }
}
