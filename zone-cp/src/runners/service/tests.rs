//! The service with a real client; store, tokens and names are the test's.

use std::{collections::BTreeMap, sync::Mutex, time::Duration as StdDuration};

use atoll_model::{Labels, ZoneUid};
use atoll_runtime::clock::SystemClock;
use bytes::Bytes;
use proto::runner_client::RunnerClient;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Channel;

use super::{
    super::{liveness::Limits, registration::Authored, store::StoredDataplane},
    *,
};

const PATIENCE: StdDuration = StdDuration::from_secs(10);

/// A store in memory.
#[derive(Default)]
struct Memory {
    rows: Mutex<BTreeMap<ProxyId, (Labels, Bytes)>>,
    refuses: Mutex<Option<StoreRefusal>>,
}

#[tonic::async_trait]
impl DataplaneStore for Memory {
    fn journal(&self) -> Vec<StoredDataplane> {
        Vec::new()
    }

    fn get(&self, id: &ProxyId) -> Option<StoredDataplane> {
        let (labels, spec) = self.rows.lock().unwrap().get(id)?.clone();
        Some(StoredDataplane { id: id.clone(), authored: Authored { labels, spec: serde_json::from_slice(&spec).unwrap() } })
    }

    async fn put(&self, id: &ProxyId, labels: &Labels, spec: Bytes, _: &Principal) -> Result<(), StoreRefusal> {
        if let Some(refusal) = self.refuses.lock().unwrap().clone() {
            return Err(refusal);
        }
        self.rows.lock().unwrap().insert(id.clone(), (labels.clone(), spec));
        Ok(())
    }

    async fn delete(&self, id: &ProxyId, _: &Principal) -> Result<(), StoreRefusal> {
        self.rows.lock().unwrap().remove(id);
        Ok(())
    }
}

/// Takes the token `good` alone, until it is withdrawn.
struct OneToken(CancellationToken);

impl DataplaneAuth for OneToken {
    fn authenticate(&self, token: &str, proxy: &Presented<'_>) -> Result<Principal, AuthRefusal> {
        match token {
            "good" => Ok(Principal::of(proxy.id, None)),
            "early" => Err(AuthRefusal::NotYet("its key is not here yet".into())),
            _ => Err(AuthRefusal::Never("it is for another".into())),
        }
    }

    fn withdrawn(&self, _: &Principal) -> CancellationToken {
        self.0.clone()
    }
}

struct OneTable(watch::Sender<Arc<NameTable>>);

impl NameTables for OneTable {
    fn subscribe(&self, _: &ProxyId, _: Wishes) -> watch::Receiver<Arc<NameTable>> {
        self.0.subscribe()
    }
}

struct Zone {
    store: Arc<Memory>,
    names: Arc<OneTable>,
    runners: Runners,
    channel: Channel,
    withdrawn: CancellationToken,
    _stop: tokio_util::sync::DropGuard,
}

impl Zone {
    async fn start() -> Self {
        let (store, names) = (Arc::new(Memory::default()), Arc::new(OneTable(watch::channel(Arc::default()).0)));
        let (tasks, stop) = (Tasks::new(), CancellationToken::new());
        let runners = Runners::start(store.clone(), Arc::new(SystemClock), Limits::default(), &tasks, stop.clone());
        let uid = ZoneUid(uuid::Uuid::from_u128(1));
        let settings = Settings::new(Viewpoint::Zone { name: "gcp".into(), uid, federated: true }, "gcp".into());
        let withdrawn = CancellationToken::new();
        let auth = Arc::new(OneToken(withdrawn.clone()));
        let service = RunnerService::new(runners.clone(), store.clone(), auth, names.clone(), settings, tasks, stop.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tonic::transport::Server::builder().add_service(service.into_server());
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap();
        Self { store, names, runners, channel, withdrawn, _stop: stop.drop_guard() }
    }

    async fn attach(&self, token: &str, register: proto::Register) -> Stream {
        let (up, receiver) = mpsc::channel(16);
        let stream = Stream { up, down: None };
        stream.say(from_runner::Message::Register(register)).await;
        let mut request = Request::new(ReceiverStream::new(receiver));
        request.metadata_mut().insert("authorization", token.parse().unwrap());
        let down = RunnerClient::new(self.channel.clone()).attach(request).await.unwrap().into_inner();
        Stream { down: Some(down), ..stream }
    }

    /// Registers, and takes the two messages that follow.
    async fn registered(&self, name: &str) -> Stream {
        let mut stream = self.attach("good", register(name)).await;
        assert!(matches!(stream.next().await, to_runner::Message::Registered(_)));
        assert!(matches!(stream.next().await, to_runner::Message::DnsTable(_)));
        stream
    }

    async fn refused(&self, token: &str, register: proto::Register) -> proto::Refused {
        match self.attach(token, register).await.next().await {
            to_runner::Message::Refused(refused) => refused,
            other => panic!("{other:?}"),
        }
    }

    /// The states of a proxy's inbounds; none when it is not stored.
    fn states(&self, name: &str) -> Option<Vec<String>> {
        let rows = self.store.rows.lock().unwrap();
        let (_, spec) = rows.get(&ProxyId::new("default", name))?;
        let spec: Value = serde_json::from_slice(spec).unwrap();
        let inbounds = spec["networking"]["inbound"].as_array().unwrap();
        Some(inbounds.iter().map(|inbound| inbound["state"].as_str().unwrap_or("Ready").to_owned()).collect())
    }

    async fn until(&self, name: &str, states: Option<&[&str]>) {
        let wanted = states.map(|states| states.iter().map(|state| (*state).to_owned()).collect::<Vec<_>>());
        let wait = async {
            while self.states(name) != wanted {
                tokio::time::sleep(StdDuration::from_millis(5)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "wanted {wanted:?}, is {:?}", self.states(name));
    }
}

struct Stream {
    up: mpsc::Sender<proto::FromRunner>,
    down: Option<Streaming<proto::ToRunner>>,
}

impl Stream {
    async fn say(&self, message: from_runner::Message) {
        self.up.send(proto::FromRunner { message: Some(message) }).await.unwrap();
    }

    async fn envoy(&self, ready: bool) {
        self.say(from_runner::Message::Envoy(proto::EnvoyState { ready, reason: String::new() })).await;
    }

    async fn next(&mut self) -> to_runner::Message {
        let next = self.down.as_mut().unwrap().message();
        tokio::time::timeout(PATIENCE, next).await.unwrap().unwrap().expect("a message").message.unwrap()
    }
}

fn register(name: &str) -> proto::Register {
    let document = json!({"type": "Dataplane", "mesh": "default", "name": name, "labels": {"kuma.io/workload": "gw"},
        "networking": {"address": "127.0.0.1", "inbound": [{"port": 80, "name": "http"}, {"port": 81}]}});
    proto::Register {
        mesh: "default".into(),
        name: name.into(),
        dataplane: document.to_string().into_bytes(),
        instance: name.into(),
        ..proto::Register::default()
    }
}

#[tokio::test]
async fn a_runner_is_told_its_bootstrap_and_its_names() {
    let zone = Zone::start().await;
    let record = |name: &str| (name.to_owned(), vec!["127.0.0.1".parse().unwrap()]);
    let table = NameTable { records: [record("a.mesh")].into(), ..NameTable::default() };
    zone.names.0.send_replace(Arc::new(table.clone()));
    let mut stream = zone.attach("Bearer good", register("gw-1")).await;
    let bootstrap = proto::Bootstrap {
        node_id: "default.gw-1".into(),
        cluster: "gw".into(),
        zone: "gcp".into(),
        drain_seconds: 10,
        ..proto::Bootstrap::default()
    };
    let registered = proto::Registered { bootstrap: Some(bootstrap), heartbeat_seconds: 5 };
    assert_eq!(stream.next().await, to_runner::Message::Registered(registered));
    assert_eq!(stream.next().await, to_runner::Message::DnsTable(table.full()));
    let next = NameTable { records: [record("b.mesh")].into(), ..NameTable::default() };
    zone.names.0.send_replace(Arc::new(next.clone()));
    assert_eq!(stream.next().await, to_runner::Message::DnsTable(next.delta(&table).unwrap()));
}

#[tokio::test]
async fn endpoints_follow_envoy_and_the_application() {
    let zone = Zone::start().await;
    let stream = zone.registered("gw-1").await;
    assert_eq!(zone.states("gw-1").unwrap(), ["NotReady", "NotReady"], "stored before the answer");
    stream.envoy(true).await;
    zone.until("gw-1", Some(&["Ready", "Ready"])).await;
    let health = proto::InboundHealth { healthy: [("http".to_owned(), false)].into() };
    stream.say(from_runner::Message::InboundHealth(health)).await;
    zone.until("gw-1", Some(&["NotReady", "Ready"])).await;
    stream.envoy(false).await;
    zone.until("gw-1", Some(&["NotReady", "NotReady"])).await;
}

#[tokio::test]
async fn endpoints_stay_while_one_stream_is_open() {
    let zone = Zone::start().await;
    let stream = zone.registered("gw-1").await;
    stream.envoy(true).await;
    zone.until("gw-1", Some(&["Ready", "Ready"])).await;
    let id = ProxyId::new("default", "gw-1");
    let envoy = zone.runners.envoy_attached(id.clone());
    drop(stream);
    let mut view = zone.runners.view();
    let gone = view.wait_for(|view| view.proxies.get(&id).is_some_and(|proxy| !proxy.status.runner && proxy.status.envoys == 1));
    drop(tokio::time::timeout(PATIENCE, gone).await.unwrap().unwrap());
    assert_eq!(zone.states("gw-1").unwrap(), ["Ready", "Ready"]);
    drop(envoy);
    zone.until("gw-1", Some(&["NotReady", "NotReady"])).await;
}

#[tokio::test]
async fn draining_is_confirmed_when_the_endpoints_are_withdrawn() {
    let zone = Zone::start().await;
    let mut stream = zone.registered("gw-1").await;
    stream.envoy(true).await;
    zone.until("gw-1", Some(&["Ready", "Ready"])).await;
    stream.say(from_runner::Message::Draining(proto::Draining::default())).await;
    assert_eq!(stream.next().await, to_runner::Message::Withdrawn(proto::Withdrawn {}));
    assert_eq!(zone.states("gw-1").unwrap(), ["NotReady", "NotReady"]);
    drop(stream);
    zone.until("gw-1", None).await;
}

#[tokio::test]
async fn orders_reach_the_runner() {
    let zone = Zone::start().await;
    let mut stream = zone.registered("gw-1").await;
    let order = proto::Order { action: proto::Action::Drain.into(), ..proto::Order::default() };
    assert!(zone.runners.order(&ProxyId::new("default", "gw-1"), order.clone()).await);
    assert_eq!(stream.next().await, to_runner::Message::Order(order.clone()));
    assert!(!zone.runners.order(&ProxyId::new("default", "absent"), order).await);
}

#[tokio::test]
async fn refusals_say_why_and_whether_to_try_again() {
    let zone = Zone::start().await;
    let check = async |token: &str, register: proto::Register, word: &str, retry: proto::Retry| {
        let refused = zone.refused(token, register).await;
        assert!(refused.reason.contains(word), "{}", refused.reason);
        assert_eq!(refused.retry(), retry, "{}", refused.reason);
    };
    check("bad", register("a"), "it is for another", proto::Retry::Never).await;
    check("early", register("a"), "not here yet", proto::Retry::Later).await;
    check("Bearer", register("a"), "--dataplane-token-file", proto::Retry::Never).await;
    check("good", proto::Register { mesh: "other".into(), ..register("a") }, "mesh", proto::Retry::Never).await;
    check("good", proto::Register { dataplane: Vec::new(), ..register("a") }, "no Dataplane", proto::Retry::Later).await;
    let _holder = zone.registered("a").await;
    let other = proto::Register { instance: "other".into(), ..register("a") };
    check("good", other, "another runner", proto::Retry::Later).await;
    *zone.store.refuses.lock().unwrap() = Some(StoreRefusal::Later("mesh default is not here yet".into()));
    check("good", register("b"), "not here yet", proto::Retry::Later).await;
    *zone.store.refuses.lock().unwrap() = Some(StoreRefusal::Never("too many".into()));
    check("good", register("b"), "too many", proto::Retry::Never).await;
    assert_eq!(zone.states("b"), None);
}

#[tokio::test]
async fn a_write_that_the_store_missed_is_tried_again() {
    let zone = Zone::start().await;
    let stream = zone.registered("gw-1").await;
    *zone.store.refuses.lock().unwrap() = Some(StoreRefusal::Later("away".into()));
    stream.envoy(true).await;
    let id = ProxyId::new("default", "gw-1");
    let mut view = zone.runners.view();
    let heard = view.wait_for(|view| view.proxies[&id].status.word.as_ref().is_some_and(|word| word.envoy_ready));
    drop(tokio::time::timeout(PATIENCE, heard).await.unwrap().unwrap());
    assert_eq!(zone.states("gw-1").unwrap(), ["NotReady", "NotReady"]);
    *zone.store.refuses.lock().unwrap() = None;
    zone.until("gw-1", Some(&["Ready", "Ready"])).await;
}

#[tokio::test]
async fn a_stream_ends_with_its_token() {
    let zone = Zone::start().await;
    let mut stream = zone.registered("gw-1").await;
    zone.withdrawn.cancel();
    let ended = tokio::time::timeout(PATIENCE, stream.down.as_mut().unwrap().message()).await.unwrap();
    assert_eq!(ended.expect_err("it ends").code(), tonic::Code::Unauthenticated);
}
