//! An HTTP server on the loopback address, for tests: it answers as told, faults included.

use std::io::{BufRead, BufReader, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// What a client asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The path of the URL.
    pub path: String,
    /// The first byte asked for, of `Range: bytes=FIRST-`.
    pub range_start: Option<u64>,
}

/// What to answer.
#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<String>,
    body: Vec<u8>,
    /// How much of the body is sent.
    sent: usize,
    silent: bool,
}

impl Reply {
    /// The whole file.
    pub fn ok(body: &[u8]) -> Self {
        Self {
            status: 200,
            headers: vec![format!("Content-Length: {}", body.len())],
            body: body.to_vec(),
            sent: body.len(),
            silent: false,
        }
    }

    /// The rest of the file `whole` from byte `start` on.
    pub fn range(whole: &[u8], start: u64) -> Self {
        let mut reply = Self::ok(&whole[start as usize..]);
        reply.status = 206;
        let (last, total) = (whole.len() - 1, whole.len());
        reply.headers.push(format!("Content-Range: bytes {start}-{last}/{total}"));
        reply
    }

    /// An error page.
    pub fn status(status: u16) -> Self {
        let mut reply = Self::ok(b"an error page");
        reply.status = status;
        reply
    }

    /// Sends the client to another path.
    pub fn moved(path: &str) -> Self {
        let mut reply = Self::status(302);
        reply.headers.push(format!("Location: {path}"));
        reply
    }

    /// Closes the connection after `count` bytes of the body.
    pub fn cut_after(mut self, count: usize) -> Self {
        self.sent = count;
        self
    }

    /// Leaves the client to find the end of the body by the end of the connection.
    pub fn without_length(mut self) -> Self {
        self.headers.clear();
        self
    }

    /// Keeps the connection open when there is nothing more to say.
    pub fn then_silence(mut self) -> Self {
        self.silent = true;
        self
    }
}

/// A running server; it stops when dropped.
pub struct TestServer {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
    stopping: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl TestServer {
    /// Starts a server on a free port.
    pub fn start(answer: impl Fn(&Request) -> Reply + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let stopping = Arc::new(AtomicBool::new(false));
        let (log, stop) = (Arc::clone(&requests), Arc::clone(&stopping));
        let thread = thread::spawn(move || {
            // Silent connections are held here until the server stops.
            let mut silent = Vec::new();
            for stream in listener.incoming() {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let Ok(mut stream) = stream else { continue };
                let Some(request) = read_request(&stream) else {
                    continue;
                };
                let reply = answer(&request);
                log.lock().unwrap().push(request);
                // A client that has heard enough may hang up.
                let _ = write_reply(&mut stream, &reply);
                if reply.silent {
                    silent.push(stream);
                } else {
                    let _ = stream.shutdown(Shutdown::Write);
                }
            }
        });
        Self { address, requests, stopping, thread: Some(thread) }
    }

    /// The URL of `path` on this server.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read_request(stream: &TcpStream) -> Option<Request> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next()?.ok()?;
    let path = first.split(' ').nth(1)?.to_owned();
    let mut range_start = None;
    for line in lines {
        let line = line.ok()?.to_lowercase();
        if line.is_empty() {
            return Some(Request { path, range_start });
        }
        if let Some(range) = line.strip_prefix("range: bytes=") {
            range_start = range.trim_end_matches('-').parse().ok();
        }
    }
    None
}

fn write_reply(stream: &mut TcpStream, reply: &Reply) -> std::io::Result<()> {
    let mut head = format!("HTTP/1.1 {} Status\r\nConnection: close\r\n", reply.status);
    for header in &reply.headers {
        head += &format!("{header}\r\n");
    }
    head += "\r\n";
    stream.write_all(head.as_bytes())?;
    stream.write_all(&reply.body[..reply.sent])?;
    stream.flush()
}
