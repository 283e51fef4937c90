//! A small HTTP server that answers what it is told to and remembers what it was asked.

#![expect(clippy::needless_pass_by_value, reason = "a body is made where it is given")]

use std::{
    collections::HashMap,
    io::{BufRead as _, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use rustls::{ServerConnection, StreamOwned};
use serde_json::Value;

/// A request that came.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// An answer to give.
#[derive(Debug, Clone)]
struct Answer {
    status: u16,
    body: String,
    version: Option<&'static str>,
    /// A second piece of the body, sent once [`Server::release`] was called.
    later: Option<String>,
}

#[derive(Default)]
struct State {
    answers: HashMap<String, Answer>,
    requests: Vec<Request>,
    released: bool,
}

type Shared = (Mutex<State>, Condvar);

/// The server; it listens for as long as the test's process lives.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    state: Arc<Shared>,
}

impl Server {
    /// Listens on a free port.
    pub(crate) fn start() -> Self {
        Self::listen(serve)
    }

    /// Listens on a free port for TLS.
    pub(crate) fn start_with_tls(tls: Arc<rustls::ServerConfig>) -> Self {
        Self::listen(move |stream, shared| {
            serve(StreamOwned::new(ServerConnection::new(Arc::clone(&tls)).ok()?, stream), shared)
        })
    }

    fn listen(answer: impl Fn(TcpStream, &Shared) -> Option<()> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<Shared>::default();
        let (shared, answer) = (Arc::clone(&state), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (shared, answer) = (Arc::clone(&shared), Arc::clone(&answer));
                let stream = stream.unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                // A client that goes away is its own affair.
                std::thread::spawn(move || answer(stream, &shared));
            }
        });
        Self { address, state }
    }

    /// Answers `request`, such as `GET /v2/apps/?limit=100`, with a body.
    pub(crate) fn answer(&self, request: &str, status: u16, body: impl ToString) {
        self.set(request, Answer { status, body: body.to_string(), version: Some("2.3"), later: None });
    }

    /// The same from a server of another API version.
    pub(crate) fn answer_as_version(
        &self,
        version: Option<&'static str>,
        request: &str,
        status: u16,
        body: impl ToString,
    ) {
        self.set(request, Answer { status, body: body.to_string(), version, later: None });
    }

    /// Answers with the first piece at once, and with the second after [`Self::release`].
    pub(crate) fn answer_in_pieces(&self, request: &str, first: &str, second: &str) {
        let later = Some(second.to_owned());
        self.set(request, Answer { status: 200, body: first.to_owned(), version: Some("2.3"), later });
    }

    /// Lets second pieces go.
    pub(crate) fn release(&self) {
        self.state.0.lock().unwrap().released = true;
        self.state.1.notify_all();
    }

    fn set(&self, request: &str, answer: Answer) {
        self.state.0.lock().unwrap().answers.insert(request.to_owned(), answer);
    }

    /// What was asked so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.state.0.lock().unwrap().requests.clone()
    }

    /// The first lines of what was asked so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.line).collect()
    }

    /// The one request with this first line.
    pub(crate) fn request(&self, line: &str) -> Request {
        let mut found: Vec<Request> = self.requests().into_iter().filter(|request| request.line == line).collect();
        assert_eq!(found.len(), 1, "{line} among {:?}", self.lines());
        found.remove(0)
    }
}

fn serve(mut stream: impl Read + Write, shared: &Shared) -> Option<()> {
    let Some(request) = read(&mut stream) else {
        // What does not speak HTTP is told so in HTTP, as most servers do.
        return write!(stream, "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n").ok();
    };
    let answer = {
        let mut state = shared.0.lock().unwrap();
        state.requests.push(request.clone());
        state.answers.get(&request.line).cloned()
    };
    let missing =
        || Answer { status: 404, body: "<html>nothing here</html>".into(), version: Some("2.3"), later: None };
    let answer = answer.unwrap_or_else(missing);
    write!(stream, "HTTP/1.1 {} X\r\nconnection: close\r\n", answer.status).ok()?;
    if let Some(version) = answer.version {
        write!(stream, "DEIS_API_VERSION: {version}\r\n").ok()?;
    }
    if answer.status == 204 {
        return write!(stream, "\r\n").ok();
    }
    write!(stream, "transfer-encoding: chunked\r\n\r\n").ok()?;
    piece(&mut stream, &answer.body)?;
    if let Some(later) = answer.later {
        let state = shared.0.lock().unwrap();
        drop(shared.1.wait_timeout_while(state, Duration::from_secs(30), |state| !state.released).unwrap());
        piece(&mut stream, &later)?;
    }
    write!(stream, "0\r\n\r\n").ok()
}

fn piece(stream: &mut impl Write, text: &str) -> Option<()> {
    if text.is_empty() { Some(()) } else { write!(stream, "{:x}\r\n{text}\r\n", text.len()).ok() }
}

fn read(stream: &mut impl Read) -> Option<Request> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let line = line.strip_suffix(" HTTP/1.1\r\n")?.to_owned();
    let mut headers = HashMap::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header).ok()?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(Request { line, headers, body: String::from_utf8(body).ok()? })
}
