//! Backends, visitors and the proxy between them.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::Future;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use paas_router::model::{Route, Table};
use paas_router::proxy::{Https, Limits, Listeners, Proxy, Settings};
use paas_router::switchboard::Switchboard;
use paas_router::tls;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub(crate) type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Nothing here takes this long unless it hangs.
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

pub(crate) async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, what).await.expect("done before the deadline")
}

/// Waits until a condition holds.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let started = tokio::time::Instant::now();
    while !holds() {
        assert!(started.elapsed() < DEADLINE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).boxed_unsync()
}

/// A body that is sent frame by frame, by the test.
pub(crate) fn channel() -> (mpsc::Sender<Frame<Bytes>>, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let frames = stream::unfold(receiver, |mut receiver: mpsc::Receiver<Frame<Bytes>>| async {
        let frame = receiver.recv().await?;
        Some((Ok(frame), receiver))
    });
    (sender, BodyExt::boxed_unsync(StreamBody::new(frames)))
}

/// A task that ends with the test.
pub(crate) struct Task(JoinHandle<()>);

impl Task {
    pub(crate) fn spawn(work: impl Future<Output = ()> + Send + 'static) -> Self {
        Self(tokio::spawn(work))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A real HTTP server.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    open: Arc<AtomicUsize>,
    _task: Task,
}

struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Backend {
    pub(crate) async fn start<F, A>(answer: F) -> Self
    where
        F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
        A: Future<Output = Response<Body>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let connections = Arc::new(AtomicUsize::new(0));
        let open = Arc::new(AtomicUsize::new(0));
        let (seen, made, now) = (Arc::clone(&requests), Arc::clone(&connections), Arc::clone(&open));
        let task = Task::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                made.fetch_add(1, Ordering::SeqCst);
                now.fetch_add(1, Ordering::SeqCst);
                let counted = Counted(Arc::clone(&now));
                let answer = answer.clone();
                let seen = Arc::clone(&seen);
                let service = service_fn(move |request| {
                    seen.fetch_add(1, Ordering::SeqCst);
                    let answer = answer(request);
                    async move { Ok::<_, Infallible>(answer.await) }
                });
                serving.spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .with_upgrades()
                        .await;
                    drop(counted);
                });
            }
        });
        Self { address, requests, connections, open, _task: task }
    }

    /// Answers every request with this text.
    pub(crate) async fn saying(text: &'static str) -> Self {
        Self::start(move |_| async move { Response::new(full(text)) }).await
    }

    /// Answers with what it got: the head, an empty line, the body, the trailers.
    pub(crate) async fn echo() -> Self {
        Self::start(|request: Request<Incoming>| async move {
            let (head, body) = request.into_parts();
            let mut text = format!("{} {} {:?}\n", head.method, head.uri, head.version);
            for (name, value) in &head.headers {
                let _ = writeln!(text, "{name}: {}", value.to_str().unwrap());
            }
            match body.collect().await {
                Ok(body) => {
                    let trailers = body.trailers().cloned().unwrap_or_default();
                    text += "\n";
                    text += std::str::from_utf8(&body.to_bytes()).unwrap();
                    for (name, value) in &trailers {
                        let _ = write!(text, "\ntrailer {name}: {}", value.to_str().unwrap());
                    }
                }
                Err(error) => {
                    let _ = write!(text, "\nbroken: {error}");
                }
            }
            Response::new(full(text))
        })
        .await
    }

    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }
}

/// A server that does with each connection what the test says.
pub(crate) async fn raw_backend<F, A>(serve: F) -> (SocketAddr, Task)
where
    F: Fn(Visitor, usize) -> A + Send + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = Task::spawn(async move {
        let mut serving = tokio::task::JoinSet::new();
        for number in 0.. {
            let (stream, _) = listener.accept().await.unwrap();
            serving.spawn(serve(Visitor::new(stream), number));
        }
    });
    (address, task)
}

/// An address where nobody listens.
pub(crate) async fn nobody() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap()
}

pub(crate) fn route(host: &str, targets: &[SocketAddr]) -> Route {
    let hosts = vec![host.parse().unwrap()];
    Route { hosts, targets: targets.iter().copied().map(Into::into).collect(), ..Route::default() }
}

/// The proxy, on two threads and free ports.
pub(crate) struct Router {
    pub(crate) address: SocketAddr,
    /// Where visitors come by TLS.
    pub(crate) https: SocketAddr,
    pub(crate) switchboard: Arc<Switchboard>,
    proxy: Option<Proxy>,
    _draining: Task,
}

impl Router {
    pub(crate) fn start() -> Self {
        Self::with(Limits::default(), Duration::from_secs(30))
    }

    pub(crate) fn limited(limits: Limits) -> Self {
        Self::with(limits, Duration::from_secs(30))
    }

    pub(crate) fn with(limits: Limits, drain_limit: Duration) -> Self {
        Self::behind(&[], limits, drain_limit)
    }

    /// A router behind proxies with these addresses.
    pub(crate) fn behind(proxies: &[&str], limits: Limits, drain_limit: Duration) -> Self {
        let trusted_proxies = proxies.iter().map(|network| network.parse().unwrap()).collect();
        let switchboard = Switchboard::new(drain_limit);
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listeners = Listeners::bind(any, NonZeroUsize::new(2).unwrap()).unwrap();
        let address = listeners.address();
        let settings = Settings { limits, port: address.port(), https_port: 443, trusted_proxies, access_log: true };
        let folder = tempfile::tempdir().unwrap();
        let default = tls::self_made(folder.path()).unwrap();
        let https = Https {
            listeners: Listeners::bind(any, NonZeroUsize::new(2).unwrap()).unwrap(),
            config: tls::server(&switchboard, default).unwrap(),
        };
        let secure = https.listeners.address();
        let proxy = listeners.serve(Some(https), &switchboard, &settings).unwrap();
        let watched = Arc::clone(&switchboard);
        Self {
            address,
            https: secure,
            switchboard,
            proxy: Some(proxy),
            _draining: Task::spawn(async move { watched.watch_draining().await }),
        }
    }

    /// A router with the host `app.test` at these targets.
    pub(crate) fn to(targets: &[SocketAddr]) -> Self {
        let router = Self::start();
        router.serve(1, &[route("app.test", targets)]);
        router
    }

    pub(crate) fn serve(&self, version: u64, routes: &[Route]) {
        self.switchboard.apply(&Table {
            version,
            routes: routes.iter().cloned().map(Into::into).collect(),
            ..Table::default()
        });
    }

    pub(crate) fn draining(&self) -> Vec<SocketAddr> {
        self.switchboard.status().borrow().draining.clone()
    }

    pub(crate) async fn visitor(&self) -> Visitor {
        Visitor::connect(self.address).await
    }

    /// Sends these bytes on a connection of their own and reads one answer.
    pub(crate) async fn ask(&self, request: &str) -> Reply {
        let mut visitor = self.visitor().await;
        visitor.send(request).await;
        visitor.reply().await
    }

    pub(crate) async fn get(&self, host: &str, path: &str) -> Reply {
        self.ask(&get(host, path)).await
    }

    pub(crate) async fn stop(mut self, limit: Duration) {
        let proxy = self.proxy.take().unwrap();
        proxy.stop(limit).await.unwrap();
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        if let Some(proxy) = self.proxy.take() {
            // The threads end by themselves; nobody waits for them here.
            drop(tokio::spawn(proxy.stop(Duration::ZERO)));
        }
    }
}

pub(crate) fn get(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

/// An answer, as it came over the wire.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
    pub(crate) trailers: String,
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// One end of a TCP connection that speaks HTTP by hand.
pub(crate) struct Visitor {
    stream: BufReader<TcpStream>,
}

impl Visitor {
    pub(crate) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::new(in_time(TcpStream::connect(address)).await.unwrap())
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        in_time(self.stream.write_all(bytes.as_ref())).await
    }

    /// The next line, without its end; `None` at the end of the stream.
    pub(crate) async fn line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = in_time(self.stream.read_line(&mut line)).await.ok()?;
        (read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Everything up to an empty line; `None` at the end of the stream.
    pub(crate) async fn head(&mut self) -> Option<String> {
        let mut head = String::new();
        loop {
            let line = self.line().await?;
            if line.is_empty() {
                return Some(head);
            }
            head += &line;
            head += "\n";
        }
    }

    pub(crate) async fn exactly(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        in_time(self.stream.read_exact(&mut bytes)).await.unwrap();
        bytes
    }

    /// Everything until the end of the stream, or until it breaks.
    pub(crate) async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let _ = in_time(self.stream.read_to_end(&mut bytes)).await;
        String::from_utf8(bytes).unwrap()
    }

    pub(crate) async fn reply(&mut self) -> Reply {
        self.reply_to("GET").await
    }

    pub(crate) async fn reply_to(&mut self, method: &str) -> Reply {
        let head = self.head().await.expect("an answer");
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Reply { status, head, body: String::new(), trailers: String::new() };
        if method == "HEAD" || status < 200 || status == 204 || status == 304 {
            return reply;
        }
        if reply.header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk().await {
                reply.body += &chunk;
            }
            while let Some(line) = self.line().await.filter(|line| !line.is_empty()) {
                reply.trailers += &line;
                reply.trailers += "\n";
            }
        } else if let Some(length) = reply.header("content-length") {
            let body = self.exactly(length.parse().unwrap()).await;
            reply.body = String::from_utf8(body).unwrap();
        } else {
            reply.body = self.rest().await;
        }
        reply
    }

    /// The next chunk of a chunked body; `None` for the last.
    pub(crate) async fn chunk(&mut self) -> Option<String> {
        let length = usize::from_str_radix(&self.line().await.unwrap(), 16).unwrap();
        if length == 0 {
            return None;
        }
        let chunk = self.exactly(length).await;
        assert_eq!(self.line().await.unwrap(), "");
        Some(String::from_utf8(chunk).unwrap())
    }

    /// Whether the other side ends the connection, before the deadline, without another byte.
    pub(crate) async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        !matches!(in_time(self.stream.read(&mut byte)).await, Ok(1..))
    }

    pub(crate) async fn end_writing(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    pub(crate) fn into_stream(self) -> TcpStream {
        self.stream.into_inner()
    }
}
