//! Limits over real connections: what fits is served, one more is refused, and the refusal says what to do.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use atoll_api::{
    Limits,
    serve::{Gate, Hosts, Scheme, serve},
};
use atoll_model::labels::Viewpoint;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

use crate::support::{ADMIN, Api};

/// A plane that listens.
struct Served {
    address: SocketAddr,
    gate: Gate,
    stop: CancellationToken,
    _api: Api,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Served {
    async fn with(change: impl FnOnce(&mut Limits)) -> Self {
        let mut limits = Limits::default();
        change(&mut limits);
        let api = Api::limited(Viewpoint::Global, limits).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, stop) = (listener.local_addr().unwrap(), CancellationToken::new());
        let gate = Gate::new(limits, Hosts::of(["cp.test"]));
        tokio::spawn(serve(listener, api.router.clone(), Scheme::Http, gate.clone(), stop.clone()));
        let served = Self { address, gate, stop, _api: api };
        assert_eq!(served.put("/meshes/default", "{\"type\":\"Mesh\",\"name\":\"default\"}").await.0, 201);
        served
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Status and text of the answer to `request`, on a connection of its own.
    async fn raw(&self, request: &str) -> (u16, String) {
        let mut stream = self.connect().await;
        // Who is refused by what they announce may not be read to the end.
        let _ = stream.write_all(request.as_bytes()).await;
        answer(&mut stream).await
    }

    async fn get(&self, target: &str, more: &str) -> (u16, String) {
        self.raw(&head("GET", target, more)).await
    }

    async fn put(&self, path: &str, body: &str) -> (u16, String) {
        let length = format!("content-length: {}\r\ncontent-type: application/json\r\n", body.len());
        self.raw(&(head("PUT", path, &length) + body)).await
    }
}

fn head(method: &str, target: &str, more: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nhost: cp.test\r\nauthorization: Bearer {ADMIN}\r\nconnection: close\r\n{more}\r\n")
}

async fn answer(stream: &mut TcpStream) -> (u16, String) {
    let mut bytes = Vec::new();
    let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut bytes)).await;
    let text = String::from_utf8_lossy(&bytes).into_owned();
    (text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default(), text)
}

const TIMEOUT: &str = "/meshes/default/meshtimeouts/all";

/// A document of exactly `length` bytes.
fn document(length: usize) -> String {
    let start = "{\"type\":\"MeshTimeout\",\"mesh\":\"default\",\"name\":\"all\",\"spec\":{\"to\":[{\"targetRef\":{\"kind\":\"Mesh\"},\
                 \"default\":{\"idleTimeout\":\"1h\"}}]}}";
    format!("{start}{}", " ".repeat(length - start.len()))
}

#[tokio::test]
async fn bodies_are_refused_by_their_length_and_by_counting() {
    let served = Served::with(|_| {}).await;
    let limit = 1 << 20;
    assert_eq!(served.put(TIMEOUT, &document(limit - 1)).await.0, 201);
    assert_eq!(served.put(TIMEOUT, &document(limit)).await.0, 200);
    // By its length: nothing of it is sent.
    let announced = format!("content-type: application/json\r\ncontent-length: {}\r\n", limit + 1);
    let (status, text) = served.raw(&head("PUT", TIMEOUT, &announced)).await;
    assert_eq!(status, 413, "{text}");
    assert!(text.contains("larger than 1048576 bytes"), "{text}");
    for (length, expected) in [(limit - 1, 200), (limit, 200), (limit + 1, 413)] {
        let chunked = head("PUT", TIMEOUT, "content-type: application/json\r\ntransfer-encoding: chunked\r\n");
        let body = format!("{length:x}\r\n{}\r\n0\r\n\r\n", document(length));
        let (status, text) = served.raw(&(chunked + &body)).await;
        assert_eq!(status, expected, "{length}: {text:.300}");
    }
    // Many documents have more room.
    let bulk = 8 << 20;
    for (length, expected) in [(bulk - 1, 200), (bulk, 200), (bulk + 1, 413)] {
        let headers = format!("content-type: application/json\r\ncontent-length: {length}\r\n");
        let body = if expected == 413 { String::new() } else { document(length) };
        let (status, text) = served.raw(&(head("POST", "/_apply", &headers) + &body)).await;
        assert_eq!(status, expected, "{length}: {text:.300}");
    }
}

#[tokio::test]
async fn headers_urls_and_queries_have_limits() {
    let served = Served::with(|_| {}).await;
    let own = "host".len()
        + "cp.test".len()
        + "authorization".len()
        + "Bearer ".len()
        + ADMIN.len()
        + "connection".len()
        + "close".len();
    for (bytes, expected) in [((16 << 10) - 1, 200), (16 << 10, 200), ((16 << 10) + 1, 431)] {
        let field = format!("x-a: {}\r\n", "v".repeat(bytes - own - 3));
        assert_eq!(served.get("/meshes", &field).await.0, expected, "{bytes} bytes of header");
    }
    for (fields, expected) in [(63, 200), (64, 200), (65, 431)] {
        let more: String = (0..fields - 3).map(|i| format!("x-{i}: v\r\n")).collect();
        assert_eq!(served.get("/meshes", &more).await.0, expected, "{fields} fields");
    }
    for (bytes, expected) in [((8 << 10) - 1, 200), (8 << 10, 200), ((8 << 10) + 1, 414)] {
        let target = format!("/meshes?x={}", "v".repeat(bytes - "/meshes?x=".len()));
        let (status, text) = served.get(&target, "").await;
        // A name that is not known is refused, or not, by who reads the query; never by its length.
        assert_eq!(status, expected, "{bytes} bytes of URL: {text:.300}");
    }
    for (keys, expected) in [(99, 200), (100, 200), (101, 400)] {
        let query: Vec<String> = (0..keys).map(|i| format!("x{i}=v")).collect();
        let (status, text) = served.get(&format!("/meshes?{}", query.join("&")), "").await;
        assert_eq!(status, expected, "{keys} keys: {text:.300}");
    }
}

/// How long until the other side closes, from now.
async fn closed_after(stream: &mut TcpStream) -> Duration {
    let begun = Instant::now();
    let _ = timeout(Duration::from_secs(20), stream.read_to_end(&mut Vec::new())).await;
    begun.elapsed()
}

#[tokio::test]
async fn slow_headers_idle_connections_and_slow_bodies_end() {
    let served = Served::with(|limits| {
        (limits.limit_header_seconds, limits.limit_idle_seconds, limits.limit_body_seconds) = (1, 3, 1);
    })
    .await;
    let near = |time: Duration, seconds: u64| {
        time >= Duration::from_millis(seconds * 1000 - 300) && time < Duration::from_millis(seconds * 1000 + 1500)
    };

    // A header that trickles in.
    let mut slow = served.connect().await;
    slow.write_all(b"GET / HTTP/1.1\r\nhost: cp.test\r\n").await.unwrap();
    let (mut reading, mut writing) = slow.into_split();
    let trickle = tokio::spawn(async move {
        while writing.write_all(b"a: b\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    });
    let begun = Instant::now();
    let _ = timeout(Duration::from_secs(20), reading.read_to_end(&mut Vec::new())).await;
    assert!(near(begun.elapsed(), 1), "{:?}", begun.elapsed());
    trickle.abort();

    // An idle connection lives longer than a header may take, and serves again.
    let mut idle = served.connect().await;
    let request = b"GET / HTTP/1.1\r\nhost: cp.test\r\n\r\n";
    let mut buffer = [0; 4096];
    idle.write_all(request).await.unwrap();
    assert!(idle.read(&mut buffer).await.unwrap() > 0);
    tokio::time::sleep(Duration::from_millis(2000)).await;
    idle.write_all(request).await.unwrap();
    assert!(idle.read(&mut buffer).await.unwrap() > 0, "it was not idle for too long");
    let time = closed_after(&mut idle).await;
    assert!(near(time, 3), "idle for {time:?}");

    // A body that does not come.
    let mut stuck = served.connect().await;
    let announced = head("PUT", TIMEOUT, "content-type: application/json\r\ncontent-length: 100\r\n");
    stuck.write_all(announced.as_bytes()).await.unwrap();
    let begun = Instant::now();
    let (status, text) = answer(&mut stuck).await;
    assert_eq!(status, 408, "{text}");
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_watch_outlives_every_limit_of_time() {
    let served = Served::with(|limits| {
        (limits.limit_header_seconds, limits.limit_idle_seconds, limits.limit_handler_seconds, limits.limit_watches) =
            (1, 1, 1, 1);
    })
    .await;
    let mut watch = served.connect().await;
    watch.write_all(head("GET", "/meshes?watch=true", "").as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(2500)).await;
    let (status, text) = served.get("/meshes?watch=true", "").await;
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("--limit-watches") && text.contains("retry-after: 1"), "{text}");
    assert_eq!(served.put("/meshes/late", "{\"type\":\"Mesh\",\"name\":\"late\"}").await.0, 201);
    let mut seen = String::new();
    let mut buffer = [0; 4096];
    while !seen.contains("\"late\"") {
        let read = timeout(Duration::from_secs(10), watch.read(&mut buffer)).await.unwrap().unwrap();
        assert!(read > 0, "the watch ended: {seen}");
        seen.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
    drop(watch);
}

#[tokio::test]
async fn a_flood_is_shed_and_health_goes_on() {
    let served = Arc::new(Served::with(|limits| (limits.limit_requests, limits.limit_connections_per_ip) = (4, 12)).await);
    let announced = head("PUT", TIMEOUT, "content-type: application/json\r\ncontent-length: 100\r\n");
    let mut stuck = Vec::new();
    for _ in 0..4 {
        let mut stream = served.connect().await;
        stream.write_all(announced.as_bytes()).await.unwrap();
        stuck.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (status, text) = served.get("/meshes", "").await;
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("retry-after: 1") && text.contains("--limit-requests"), "{text}");
    for open in ["/", "/healthy", "/ready"] {
        assert_eq!(served.get(open, "").await.0, 200, "{open}");
    }
    stuck.pop();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(served.get("/meshes", "").await.0, 200, "there is room again");
    // Connections of one address are bounded, too.
    for _ in stuck.len()..12 {
        stuck.push(served.connect().await);
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    let (status, text) = served.get("/", "").await;
    assert_eq!((status, text.as_str()), (0, ""), "the 13th is closed");
    let shed = served.gate.shed();
    assert!(shed.requests.load(std::sync::atomic::Ordering::Relaxed) == 1);
    assert!(shed.connections.load(std::sync::atomic::Ordering::Relaxed) >= 1);
    stuck.truncate(3);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(served.get("/", "").await.0, 200);
}

#[tokio::test]
async fn pages_of_other_sites_are_refused() {
    let served = Served::with(|_| {}).await;
    for (host, expected) in
        [("cp.test:5682", 200), ("127.0.0.1", 200), ("localhost:1", 200), ("evil.example", 421), ("evil.example:5682", 421)]
    {
        let (status, text) = served.raw(&format!("GET /healthy HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")).await;
        assert_eq!(status, expected, "{host}: {text}");
        for header in [
            "x-content-type-options: nosniff",
            "cross-origin-resource-policy: same-origin",
            "cache-control: no-store",
            "content-security-policy: default-src 'self'",
        ] {
            assert!(text.contains(header), "{header}: {text}");
        }
        assert!(!text.contains("access-control"), "{text}");
    }
    let body = document(200);
    let length = format!("content-type: application/json\r\ncontent-length: {}\r\n", body.len());
    for (more, expected) in [
        ("origin: http://evil.example\r\n", 403),
        ("origin: null\r\n", 403),
        ("sec-fetch-site: cross-site\r\n", 403),
        ("sec-fetch-site: same-site\r\n", 403),
        ("origin: http://cp.test\r\nsec-fetch-site: same-origin\r\n", 201),
        ("", 200),
    ] {
        let (status, text) = served.raw(&(head("PUT", TIMEOUT, &format!("{length}{more}")) + &body)).await;
        assert_eq!(status, expected, "{more}: {text}");
    }
    let (status, text) = served.get("/meshes?watch=true", "origin: https://evil.example\r\n").await;
    assert_eq!(status, 403, "{text}");
    let (status, text) =
        served.raw(&head("OPTIONS", TIMEOUT, "origin: http://evil.example\r\naccess-control-request-method: PUT\r\n")).await;
    assert_eq!(status, 403, "{text}");
    assert!(!text.contains("access-control-allow"), "{text}");
    let (status, text) = served.raw(&(head("PUT", TIMEOUT, &length.replace("json", "x-www-form-urlencoded")) + &body)).await;
    assert_eq!(status, 415, "{text}");
}

#[tokio::test]
async fn documents_have_limits() {
    let served = Served::with(|_| {}).await;
    let apply = async |kind: &str, body: String| {
        let headers = format!("content-type: application/{kind}\r\ncontent-length: {}\r\n", body.len());
        served.raw(&(head("POST", "/_apply?dry_run=true", &headers) + &body)).await
    };
    let mesh = |i: usize| format!("{{\"type\":\"Mesh\",\"name\":\"m{i}\"}}");
    for (count, part) in [(499, None), (500, None), (501, Some("more than 500 documents"))] {
        let json: Vec<String> = (0..count).map(mesh).collect();
        check(apply("json", format!("[{}]", json.join(","))).await, part);
        let yaml: Vec<String> = (0..count).map(mesh).collect();
        check(apply("yaml", yaml.join("\n---\n")).await, part.map(|_| "500"));
    }
    for (aliases, part) in [(99, None), (100, None), (101, Some("alias"))] {
        let uses = vec!["*a"; aliases].join(", ");
        check(apply("yaml", format!("type: Mesh\nname: m\nlabels: {{x: &a y}}\nother: [{uses}]\n")).await, part);
    }
    for (levels, part) in [(31, None), (32, None), (33, Some("deep"))] {
        let inner = levels - 1;
        let json = format!("{{\"type\":\"Mesh\",\"name\":\"m\",\"other\":{}1{}}}", "[".repeat(inner), "]".repeat(inner));
        check(apply("json", json.clone()).await, part);
        check(apply("yaml", json).await, part.map(|_| ""));
    }
    for (nodes, part) in [(19_999, None), (20_000, None), (20_001, Some("more than 20000 values"))] {
        let list = vec!["1"; nodes - 4].join(",");
        let json = format!("{{\"type\":\"Mesh\",\"name\":\"m\",\"other\":[{list}]}}");
        check(apply("json", json.clone()).await, part);
        check(apply("yaml", json).await, part);
    }
    for (bytes, part) in [((64 << 10) - 1, None), (64 << 10, None), ((64 << 10) + 1, Some("longer than 65536"))] {
        let json = format!("{{\"type\":\"Mesh\",\"name\":\"m\",\"other\":\"{}\"}}", "x".repeat(bytes));
        check(apply("json", json.clone()).await, part);
        check(apply("yaml", json).await, part);
    }
    for (labels, part) in [(63, None), (64, None), (65, Some("at most 64 labels"))] {
        let labels: Vec<String> = (0..labels).map(|i| format!("\"l{i}\":\"v\"")).collect();
        check(apply("json", format!("{{\"type\":\"Mesh\",\"name\":\"m\",\"labels\":{{{}}}}}", labels.join(","))).await, part);
    }
    for (bytes, part) in [((256 << 10) - 1, None), (256 << 10, None), ((256 << 10) + 1, Some("at most 262144 bytes"))] {
        // Labels `{}` and the spec as it is stored; no text is longer than it may be.
        let frame = "{\"other\":[\"\",\"\",\"\",\"\",\"\"]}{}".len();
        let texts: Vec<String> = (0..5).map(|i| "x".repeat((bytes - frame) / 5 + usize::from(i < (bytes - frame) % 5))).collect();
        let other: Vec<String> = texts.iter().map(|text| format!("\"{text}\"")).collect();
        check(apply("json", format!("{{\"type\":\"Mesh\",\"name\":\"m\",\"other\":[{}]}}", other.join(","))).await, part);
    }
    check(apply("yaml", "type: Mesh\nname: !!str m\n".to_owned()).await, Some("tags"));
    check(apply("yaml", "type: Mesh\nname: m\nname: n\n".to_owned()).await, Some("duplicate"));
    check(apply("json", "{\"type\":\"Mesh\",\"name\":\"m\",\"name\":\"n\"}".to_owned()).await, Some("duplicate"));
}

#[track_caller]
fn check((status, text): (u16, String), part: Option<&str>) {
    match part {
        None => assert_eq!(status, 200, "{text:.1500}"),
        Some(part) => assert!(status == 400 && text.contains(part), "{part}: {status} {text:.1500}"),
    }
}

#[tokio::test]
async fn there_may_be_only_so_many_resources() {
    let served = Served::with(|limits| {
        (limits.limit_meshes, limits.limit_resources_per_mesh, limits.limit_zones, limits.limit_resources) = (3, 2, 1, 7);
    })
    .await;
    let mesh = |name: &str| (format!("/meshes/{name}"), format!("{{\"type\":\"Mesh\",\"name\":\"{name}\"}}"));
    let zone = |name: &str| (format!("/zones/{name}"), format!("{{\"type\":\"Zone\",\"name\":\"{name}\"}}"));
    let policy = |mesh: &str, name: &str| {
        let spec = "{\"to\":[{\"targetRef\":{\"kind\":\"Mesh\"},\"default\":{\"idleTimeout\":\"1h\"}}]}";
        let body = format!("{{\"type\":\"MeshTimeout\",\"mesh\":\"{mesh}\",\"name\":\"{name}\",\"spec\":{spec}}}");
        (format!("/meshes/{mesh}/meshtimeouts/{name}"), body)
    };
    for ((path, body), expected, part) in [
        (mesh("b"), 201, ""),
        (mesh("c"), 201, ""),
        (mesh("d"), 400, "--limit-meshes of this plane is 3"),
        (mesh("c"), 200, ""),
        (policy("b", "x"), 201, ""),
        (policy("b", "y"), 201, ""),
        (policy("b", "z"), 400, "--limit-resources-per-mesh of this plane is 2"),
        (policy("b", "y"), 200, ""),
        (zone("one"), 201, ""),
        (zone("two"), 400, "--limit-zones of this plane is 1"),
        (policy("c", "x"), 201, ""),
        (policy("c", "y"), 400, "--limit-resources of this plane is 7"),
    ] {
        let (status, text) = served.put(&path, &body).await;
        assert!(status == expected && text.contains(part), "{path}: {status} {text}");
        if expected == 400 {
            let (status, text) = served.put(&format!("{path}?dry_run=true"), &body).await;
            assert!(status == expected && text.contains(part), "dry run of {path}: {status} {text}");
        }
    }
}
