//! One request over HTTP, carried out by `curl` or else `wget`: every machine has one of them, with the certificates and
//! proxies that its owner has set up.
//!
//! The programs carry bytes, nothing more: what a status means, how much may be stored, and whether the bytes are the
//! published ones is decided here and by the checksums.

use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

/// A program that downloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    Curl,
    /// GNU wget. It cannot be asked for the rest of a file without being trusted with the part that is here, so it
    /// starts from the beginning.
    Wget,
}

impl Tool {
    /// Best first.
    pub const ALL: &'static [Tool] = &[Tool::Curl, Tool::Wget];

    fn name(self) -> &'static str {
        match self {
            Tool::Curl => "curl",
            Tool::Wget => "wget",
        }
    }

    /// The command that writes the heads of all responses, an empty line behind each, and the body of the last one to
    /// its standard output.
    fn command(self, request: &Request) -> Command {
        let mut command = Command::new(self.name());
        let agent = concat!("taylorscope/", env!("CARGO_PKG_VERSION"));
        let connect = request.connect_timeout.as_secs_f64();
        // The silence is timed below, too; this ends a program that we left behind because we were stopped.
        let stall = request.stall_timeout.as_secs() + 1;
        match self {
            Tool::Curl => {
                // First, so that no configuration of the user changes the output.
                command.arg("--disable");
                command.args(["--silent", "--show-error", "--no-buffer", "--globoff"]);
                command.args(["--include", "--suppress-connect-headers", "--location", "--max-redirs", "10"]);
                command.args(["--proto", "=http,https", "--user-agent", agent]);
                command.args(["--connect-timeout", &format!("{connect:.3}")]);
                command.args(["--speed-limit", "1", "--speed-time", &stall.to_string()]);
                if request.start > 0 {
                    command.args(["--range", &format!("{}-", request.start)]);
                }
                if is_loopback(request.url) {
                    command.args(["--noproxy", "*"]);
                }
                command.args(["--url", request.url]);
            }
            Tool::Wget => {
                command.args(["--no-config", "--no-verbose", "--save-headers", "--content-on-error"]);
                command.args(["--tries=1", "--max-redirect=10", "--output-document=-"]);
                command.arg(format!("--user-agent={agent}"));
                command.arg(format!("--connect-timeout={connect:.3}"));
                command.arg(format!("--read-timeout={stall}"));
                if is_loopback(request.url) {
                    command.arg("--no-proxy");
                }
                command.args(["--", request.url]);
            }
        }
        // In a group of its own: a Ctrl-C is for us, and what the program would say of it is not for the user.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }
}

/// A proxy would look for the loopback address on its own machine.
fn is_loopback(url: &str) -> bool {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest);
    ["127.", "localhost:", "localhost/", "[::1]"].iter().any(|loopback| host.starts_with(loopback))
}

/// What to ask for.
pub(super) struct Request<'a> {
    pub url: &'a str,
    /// The first byte wanted.
    pub start: u64,
    /// The time that the server has to accept a connection; its answer may take the longer of the two times to begin.
    pub connect_timeout: Duration,
    /// The longest silence once bytes come.
    pub stall_timeout: Duration,
}

/// Why there is no response.
#[derive(Debug)]
pub(super) enum NoResponse {
    /// None of the programs is on this machine.
    NoTool,
    /// What the program said.
    Failed(String),
}

/// The head of a response, and its body to be read.
pub(super) struct Response {
    pub status: u16,
    /// The status with the server's words for it, such as `404 Not Found`.
    pub status_line: String,
    headers: Vec<(String, String)>,
    pub body: Body,
}

impl Response {
    /// The value of the header `name`, given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Sends the request by the first of the `tools` that is on this machine.
pub(super) fn send(tools: &[Tool], request: &Request) -> Result<Response, NoResponse> {
    for &tool in tools {
        match tool.command(request).spawn() {
            Ok(child) => return read_response(tool, child, request),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(NoResponse::Failed(format!("{} cannot be started: {error}", tool.name()))),
        }
    }
    Err(NoResponse::NoTool)
}

fn read_response(tool: Tool, mut child: Child, request: &Request) -> Result<Response, NoResponse> {
    let patience = request.connect_timeout + request.connect_timeout.max(request.stall_timeout);
    let output = child.stdout.take().map(Chunks::of);
    let mut body = BufReader::new(Body { tool, child, output, rest: Vec::new(), at: 0, patience });
    loop {
        let head = read_head(&mut body).map_err(|error| NoResponse::Failed(error.to_string()))?;
        let Some(head) = head else {
            return Err(NoResponse::Failed(format!("the answer passed on by {} is not of HTTP", tool.name())));
        };
        let moved = head.status / 100 == 3 && head.headers.iter().any(|(key, _)| key == "location");
        // Interim responses and redirections that the program has followed come before the one that counts.
        if head.status / 100 == 1 || moved {
            continue;
        }
        let buffered = body.buffer().to_vec();
        let mut body = body.into_inner();
        body.unread(buffered);
        body.patience = request.stall_timeout;
        let Head { status, status_line, headers } = head;
        return Ok(Response { status, status_line, headers, body });
    }
}

struct Head {
    status: u16,
    status_line: String,
    headers: Vec<(String, String)>,
}

/// The most bytes that the head of a response may have.
const MOST_HEAD_BYTES: u64 = 1 << 16;

/// Reads up to the empty line; `None` if that is not the head of a response.
fn read_head(source: &mut impl BufRead) -> io::Result<Option<Head>> {
    let mut lines = source.take(MOST_HEAD_BYTES);
    let mut line = || -> io::Result<Option<String>> {
        let mut bytes = Vec::new();
        lines.read_until(b'\n', &mut bytes)?;
        Ok(bytes.ends_with(b"\n").then(|| String::from_utf8_lossy(&bytes).trim().to_owned()))
    };
    let Some(first) = line()? else { return Ok(None) };
    let Some((version, status_line)) = first.split_once(' ') else { return Ok(None) };
    let status = status_line.split(' ').next().and_then(|status| status.parse().ok());
    let Some(status) = status.filter(|_| version.starts_with("HTTP/")) else { return Ok(None) };
    let mut headers = Vec::new();
    loop {
        match line()? {
            None => return Ok(None),
            Some(line) if line.is_empty() => break,
            Some(line) => {
                headers.extend(line.split_once(':').map(|(key, value)| (key.to_lowercase(), value.trim().to_owned())));
            }
        }
    }
    Ok(Some(Head { status, status_line: status_line.to_owned(), headers }))
}

/// What the program has put out, read by a thread, as waiting for a pipe cannot be limited in time.
struct Chunks(Receiver<io::Result<Vec<u8>>>);

impl Chunks {
    fn of(mut output: ChildStdout) -> Chunks {
        let (send, receive) = mpsc::sync_channel(4);
        thread::spawn(move || {
            loop {
                let mut chunk = vec![0; 1 << 16];
                let read = match output.read(&mut chunk) {
                    Ok(0) => break,
                    Ok(count) => {
                        chunk.truncate(count);
                        Ok(chunk)
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                    Err(error) => Err(error),
                };
                let failed = read.is_err();
                // Nobody waits any more, or nothing more will come.
                if send.send(read).is_err() || failed {
                    break;
                }
            }
        });
        Chunks(receive)
    }
}

/// The bytes of a response. Dropping it ends the program.
pub(super) struct Body {
    tool: Tool,
    child: Child,
    output: Option<Chunks>,
    /// Bytes that have come, read up to `at`.
    rest: Vec<u8>,
    at: usize,
    /// The longest silence.
    patience: Duration,
}

impl Body {
    /// Puts `bytes`, which were read last, back.
    fn unread(&mut self, mut bytes: Vec<u8>) {
        bytes.extend_from_slice(&self.rest[self.at..]);
        (self.rest, self.at) = (bytes, 0);
    }

    /// How the program ended, after its output has.
    fn ending(&mut self) -> io::Result<()> {
        let mut words = String::new();
        if let Some(mut errors) = self.child.stderr.take() {
            errors.read_to_string(&mut words)?;
        }
        let status = self.child.wait()?;
        // wget counts an error page as a failure, but its head and body have come.
        if status.success() || self.tool == Tool::Wget && status.code() == Some(8) {
            return Ok(());
        }
        let words = words.lines().map(str::trim).rfind(|line| !line.is_empty());
        let name = self.tool.name();
        Err(io::Error::other(match words {
            Some(words) if words.starts_with(name) => words.to_owned(),
            Some(words) => format!("{name}: {words}"),
            None => format!("{name} ended with {status}"),
        }))
    }
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.rest.len() {
            let Some(Chunks(output)) = &self.output else { return Ok(0) };
            match output.recv_timeout(self.patience) {
                Ok(chunk) => (self.rest, self.at) = (chunk?, 0),
                Err(RecvTimeoutError::Timeout) => {
                    let silence = format!("the server was silent for {} s", self.patience.as_secs_f64());
                    return Err(io::Error::new(ErrorKind::TimedOut, silence));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    self.output = None;
                    return self.ending().map(|()| 0);
                }
            }
        }
        let count = buffer.len().min(self.rest.len() - self.at);
        buffer[..count].copy_from_slice(&self.rest[self.at..self.at + count]);
        self.at += count;
        Ok(count)
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        // It has ended by itself, or nobody wants to hear the rest; either way nothing of it stays behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn heads_are_read_with_care() {
        let read = |text: &str| read_head(&mut text.as_bytes()).unwrap();
        let head = read("HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 3-6/7\r\nodd\r\n\r\nbody").unwrap();
        assert_eq!((head.status, head.status_line.as_str()), (206, "206 Partial Content"));
        assert_eq!(head.headers, [("content-range".to_owned(), "bytes 3-6/7".to_owned())]);
        assert_eq!(read("HTTP/2 200 \r\n\r\n").unwrap().status, 200);
        for broken in ["", "\r\n", "HTTP/1.1 200 OK\r\nA: b\r\n", "HTTP/1.1 OK\r\n\r\n", "<html>\r\n\r\n"] {
            assert!(read(broken).is_none(), "{broken:?}");
        }
        let endless = format!("HTTP/1.1 200 OK\r\n{}", "A: b\r\n".repeat(1 << 14));
        assert!(read(&endless).is_none());
    }
}
