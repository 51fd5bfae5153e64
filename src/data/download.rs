//! One file over HTTP, continued where an earlier attempt broke off.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::transfer::{self, NoResponse, Request, Response, Tool};

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
    /// No program that downloads is on this machine.
    NoTool,
}

impl Setback {
    fn mirror(reason: impl Into<String>) -> Self {
        Self::Mirror { reason: reason.into(), gained: 0 }
    }
}

impl From<NoResponse> for Setback {
    fn from(none: NoResponse) -> Self {
        match none {
            NoResponse::NoTool => Self::NoTool,
            NoResponse::Failed(reason) => Self::mirror(reason),
        }
    }
}

/// Downloads with the first of `tools` that is there.
///
/// It waits up to `connect_timeout` for a connection, and up to the longer of the two times for the
/// answer to begin; no silence after that may exceed `stall_timeout`, but a slow download that goes
/// on may take its time.
pub(super) struct Client {
    pub tools: &'static [Tool],
    pub connect_timeout: Duration,
    pub stall_timeout: Duration,
}

impl Client {
    fn get(&self, url: &str, start: u64) -> Result<Response, Setback> {
        let Client { tools, connect_timeout, stall_timeout } = *self;
        Ok(transfer::send(tools, &Request { url, start, connect_timeout, stall_timeout })?)
    }
}

/// How long to wait for a lock: a process that another thread starts holds copies of our open files, and so their locks, until its own program runs.
const PATIENCE: Duration = Duration::from_secs(1);

/// Locks a file; `false` if another process has it.
fn lock(file: &File) -> bool {
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => {
                std::thread::sleep(Duration::from_millis(10))
            }
            Err(TryLockError::WouldBlock) => return false,
            // Where files cannot be locked, the checksum still tells if two processes mixed theirs.
            Ok(()) | Err(TryLockError::Error(_)) => return true,
        }
    }
}

/// Downloads `url` into `partial`, after the bytes that `partial` has already if the server can
/// continue there, else from the start. Tells `received` how many bytes of how many are there.
///
/// Gives whether the file was continued. Refuses to store more than `most_bytes`.
pub(super) fn download(
    client: &Client,
    url: &str,
    partial: &Path,
    most_bytes: u64,
    received: &mut dyn FnMut(u64, Option<u64>),
) -> Result<bool, Setback> {
    let mut file =
        OpenOptions::new().read(true).write(true).create(true).truncate(false).open(partial).map_err(Setback::Disk)?;
    if !lock(&file) {
        return Err(Setback::Busy);
    }
    let mut start = file.metadata().map_err(Setback::Disk)?.len();
    if start > most_bytes {
        start = 0;
    }
    let (mut body, total) = loop {
        let response = client.get(url, start)?;
        match response.status {
            200 => {
                start = 0;
                let total = body_length(&response);
                break (response.body, total);
            }
            206 if start > 0 => match response.header("content-range").and_then(content_range) {
                Some((first, total)) if first == start => break (response.body, total),
                // Not the bytes asked for: the whole file is safer.
                _ => start = 0,
            },
            // The file there is not longer than what is here, so that must be of another file.
            416 if start > 0 => start = 0,
            _ => return Err(Setback::mirror(format!("the server answered {}", response.status_line))),
        }
    };
    if total.is_some_and(|total| total > most_bytes) {
        return Err(too_large(most_bytes));
    }

    file.set_len(start).map_err(Setback::Disk)?;
    file.seek(SeekFrom::Start(start)).map_err(Setback::Disk)?;
    let extent = Extent { start, total, most_bytes };
    copy(&mut body, &mut file, extent, received)?;
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

fn body_length(response: &Response) -> Option<u64> {
    response.header("content-length")?.parse().ok()
}

/// The first byte and, unless the server left it open, the length of the whole file, from
/// `Content-Range: bytes FIRST-LAST/TOTAL` (RFC 9110, section 14.4).
fn content_range(value: &str) -> Option<(u64, Option<u64>)> {
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
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

    const fn client(tools: &'static [Tool], stall_timeout: Duration) -> Client {
        Client { tools, connect_timeout: Duration::from_secs(5), stall_timeout }
    }

    const CURL: Client = client(&[Tool::Curl], Duration::from_secs(5));
    const WGET: Client = client(&[Tool::Wget], Duration::from_secs(5));

    /// Downloads from a server that answers as told, after `there` bytes of an earlier attempt.
    fn attempt(
        client: &Client,
        there: &[u8],
        most_bytes: u64,
        answer: impl Fn(&Request) -> Reply + Send + 'static,
    ) -> (Result<bool, Setback>, Vec<u8>, Vec<Request>) {
        let folder = TempDir::new().unwrap();
        let partial = folder.path().join("file.part");
        fs::write(&partial, there).unwrap();
        let server = TestServer::start(answer);
        let url = server.url("/file");
        let outcome = download(client, &url, &partial, most_bytes, &mut |_, _| {});
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
        for client in [&CURL, &WGET] {
            let (outcome, bytes, requests) = attempt(client, b"", 100, |_| Reply::ok(b"content"));
            assert!(!outcome.unwrap());
            assert_eq!(bytes, b"content");
            assert_eq!(requests.len(), 1);
            assert_eq!(requests[0].range_start, None);
        }
    }

    #[test]
    fn a_broken_download_is_continued_by_a_range() {
        let (outcome, bytes, requests) =
            attempt(&CURL, b"con", 100, |request| Reply::range(b"content", request.range_start.unwrap()));
        assert!(outcome.unwrap());
        assert_eq!(bytes, b"content");
        assert_eq!(requests[0].range_start, Some(3));
    }

    #[test]
    fn a_server_without_ranges_sends_the_file_from_the_start() {
        for client in [&CURL, &WGET] {
            let (outcome, bytes, _) = attempt(client, b"longer than the file", 100, |_| Reply::ok(b"content"));
            assert!(!outcome.unwrap());
            assert_eq!(bytes, b"content");
        }
    }

    #[test]
    fn a_range_that_cannot_be_had_starts_again() {
        for refusal in [Reply::status(416), Reply::range(b"content", 1)] {
            let (outcome, bytes, requests) = attempt(&CURL, b"conte", 100, move |request| match request.range_start {
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
        for client in [&CURL, &WGET] {
            let (outcome, bytes, _) = attempt(client, b"", 100, |_| Reply::ok(b"content").cut_after(4));
            let (reason, gained) = reason(outcome);
            assert!(reason.contains("broke off after 4 of 7 bytes"), "{reason}");
            assert_eq!(gained, 4);
            assert_eq!(bytes, b"cont");
        }
    }

    #[test]
    fn other_statuses_are_setbacks_and_leave_the_partial_file_alone() {
        for (status, client) in [(403, &CURL), (404, &CURL), (500, &CURL), (503, &CURL), (404, &WGET), (503, &WGET)] {
            let (outcome, bytes, _) = attempt(client, b"con", 100, move |_| Reply::status(status));
            let (reason, gained) = reason(outcome);
            assert!(reason.contains(&status.to_string()), "{reason}");
            assert_eq!((gained, &bytes[..]), (0, &b"con"[..]));
        }
    }

    #[test]
    fn nothing_beyond_the_limit_is_stored() {
        for client in [&CURL, &WGET] {
            let (outcome, bytes, _) = attempt(client, b"", 6, |_| Reply::ok(b"content"));
            assert!(reason(outcome).0.contains("larger than 6 bytes"));
            assert!(bytes.is_empty());
            // Nor if the server keeps the length to itself.
            let (outcome, bytes, _) = attempt(client, b"", 6, |_| Reply::ok(b"content").without_length());
            assert!(reason(outcome).0.contains("larger than 6 bytes"));
            assert!(bytes.is_empty());
        }
    }

    #[test]
    fn a_body_shorter_than_announced_is_no_success() {
        // curl sees to announced lengths of bodies, but not to the length of the whole file, which a
        // range may announce alone.
        let mut file = tempfile::tempfile().unwrap();
        let extent = Extent { start: 3, total: Some(7), most_bytes: 100 };
        let outcome = copy(&b"ten"[..], &mut file, extent, &mut |_, _| {});
        assert!(matches!(outcome, Err(Setback::Mirror { gained: 3, .. })), "{outcome:?}");
    }

    #[test]
    fn a_silent_server_is_given_up() {
        for tools in [&[Tool::Curl], &[Tool::Wget]] {
            let server = TestServer::start(|_| Reply::ok(b"content").cut_after(2).then_silence());
            let folder = TempDir::new().unwrap();
            let partial = folder.path().join("file.part");
            let outcome = download(&client(tools, SECOND / 5), &server.url("/file"), &partial, 100, &mut |_, _| {});
            let (reason, gained) = reason(outcome);
            assert!(reason.contains("silent for 0.2 s"), "{reason}");
            assert_eq!(gained, 2);
            assert_eq!(fs::read(&partial).unwrap(), b"co");
        }
    }

    #[test]
    fn redirections_are_followed() {
        for client in [&CURL, &WGET] {
            let (outcome, bytes, requests) = attempt(client, b"", 100, |request| match request.path.as_str() {
                "/file" => Reply::moved("/elsewhere"),
                _ => Reply::ok(b"content"),
            });
            assert!(!outcome.unwrap());
            assert_eq!((&bytes[..], requests.len()), (&b"content"[..], 2));
        }
    }

    #[test]
    fn only_servers_are_asked() {
        let folder = TempDir::new().unwrap();
        let secret = folder.path().join("secret");
        fs::write(&secret, "content").unwrap();
        let (url, partial) = (format!("file://{}", secret.display()), folder.path().join("file.part"));
        for client in [&CURL, &WGET] {
            reason(download(client, &url, &partial, 100, &mut |_, _| {}));
            assert!(fs::read(&partial).unwrap().is_empty());
        }
    }

    #[test]
    fn a_machine_without_tools_is_told_apart() {
        let folder = TempDir::new().unwrap();
        let outcome = download(
            &client(&[], SECOND),
            "http://127.0.0.1:9/file",
            &folder.path().join("file.part"),
            9,
            &mut |_, _| {},
        );
        assert!(matches!(outcome, Err(Setback::NoTool)), "{outcome:?}");
    }

    #[test]
    fn a_partial_file_in_use_is_left_alone() {
        let folder = TempDir::new().unwrap();
        let partial = folder.path().join("file.part");
        let other = File::create(&partial).unwrap();
        other.lock().unwrap();
        let outcome = download(&CURL, "http://127.0.0.1:9/file", &partial, 9, &mut |_, _| {});
        assert!(matches!(outcome, Err(Setback::Busy)), "{outcome:?}");
    }

    #[test]
    fn progress_counts_the_bytes_already_there() {
        let server = TestServer::start(|_| Reply::range(b"content", 3));
        let folder = TempDir::new().unwrap();
        let partial = folder.path().join("file.part");
        fs::write(&partial, b"con").unwrap();
        let mut seen = Vec::new();
        download(&CURL, &server.url("/file"), &partial, 9, &mut |at, of| seen.push((at, of))).unwrap();
        assert_eq!(seen.first(), Some(&(3, Some(7))));
        assert_eq!(seen.last(), Some(&(7, Some(7))));
    }

    #[test]
    fn content_ranges_are_parsed_with_care() {
        assert_eq!(content_range("bytes 3-6/7"), Some((3, Some(7))));
        assert_eq!(content_range("bytes 3-6/*"), Some((3, None)));
        for malformed in ["", "bytes", "bytes */7", "bytes 3/7", "items 3-6/7", "bytes -1-2/3"] {
            assert_eq!(content_range(malformed), None, "{malformed}");
        }
    }
}
