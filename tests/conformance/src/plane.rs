//! A plane in this process: the real router over a real store in a temporary folder, and a loader that only cases use.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::Context;
use async_trait::async_trait;
use atoll_api::{
    ADMIN_GROUP, Authenticate, AuthenticationError, Caller, Credential, DataplaneTokenRequest, Info, IssueError, IssueTokens,
    NoLinks, Plane as ApiPlane, PlaneParts, StatusSource, TokenName, UserTokenRequest, ZoneTokenRequest,
    plane::{AdmitAll, ProxyLayout},
    router, routes,
};
use atoll_mesh::{IndexConfig, MeshIndex};
use atoll_model::{
    Kind, Labels, Name, Owner, ResourceKey, Revision, Scope, Timestamp, ZoneUid, clock::ManualClock, document::Document, labels,
    labels::Viewpoint, resource::canonical_json,
};
use atoll_runtime::tasks::Tasks;
use atoll_store::{Actor, Expect, Keys, Store, StoreConfig, Write, WriteBatch};
use atoll_zone_cp::{identity, layout};
use http::{Request, header};
use http_body_util::BodyExt;
use serde_json::{Map, Value, json};
use tower::ServiceExt;

/// What `{{address}}` means in expected answers.
pub(crate) const ADDRESS: &str = "127.0.0.1:5681";

/// A plane in this process.
pub struct Plane {
    send: tower::util::BoxCloneSyncService<Request<String>, Answer, std::convert::Infallible>,
    viewpoint: Viewpoint,
    store: Store,
    states: Arc<States>,
    /// Paths by the names that Kuma stores, and by those that Atoll has instead.
    renamed: Mutex<Vec<(String, String)>>,
    _folder: tempfile::TempDir,
}

/// An answer, read.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The body: JSON, or its text.
    pub body: Value,
}

impl Answer {
    /// The fields that the answer finds faults with, each once.
    pub(crate) fn fields(&self) -> std::collections::BTreeSet<String> {
        let faults = self.body["invalid_parameters"].as_array().into_iter().flatten();
        faults.filter_map(|fault| Some(fault["field"].as_str()?.to_owned())).collect()
    }
}

impl Plane {
    /// The global plane.
    ///
    /// # Errors
    /// When its store cannot be opened.
    pub async fn global() -> anyhow::Result<Self> {
        Self::of(Viewpoint::Global).await
    }

    /// A zone's plane.
    ///
    /// # Errors
    /// When its store cannot be opened.
    pub async fn zone(name: &str, federated: bool) -> anyhow::Result<Self> {
        Self::of(Viewpoint::Zone { name: name.into(), uid: uid(name), federated }).await
    }

    async fn of(viewpoint: Viewpoint) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let clock = Arc::new(ManualClock::new("2026-01-02T03:04:05Z".parse::<Timestamp>()?));
        let keys = Keys::File { path: folder.path().join("seal.key"), older: Vec::new() };
        let config = StoreConfig::Sqlite { dir: folder.path().join("store") };
        let store = Store::open_sealed(config, keys, clock.clone(), &Tasks::new()).await?;
        let states = Arc::new(States { given: Mutex::default(), viewpoint: viewpoint.clone(), store: store.clone() });
        let info = Info::new("host".into(), "instance".into(), "cluster".into(), &viewpoint);
        let plane = ApiPlane::new(PlaneParts {
            viewpoint: viewpoint.clone(),
            store: store.clone(),
            clock,
            authenticate: Arc::new(Operator),
            tokens: Arc::new(Operator),
            status: states.clone(),
            admission: Arc::new(AdmitAll),
            links: Arc::new(NoLinks),
            info,
            config: json!({}),
            ready: Arc::new(|| Ok(())),
        });
        let send = tower::util::BoxCloneSyncService::new(router(plane).into_service::<String>().and_then(read));
        Ok(Self { send, viewpoint, store, states, renamed: Mutex::default(), _folder: folder })
    }

    /// The name of the zone whose plane this is.
    pub(crate) fn zone_name(&self) -> Option<&str> {
        match &self.viewpoint {
            Viewpoint::Global => None,
            Viewpoint::Zone { name, .. } => Some(name),
        }
    }

    /// Stores documents without asking the API. Those that name no zone and no origin are the plane's own.
    ///
    /// # Errors
    /// When they cannot be stored; the reason inside, when a document's kind is not there.
    pub async fn load(&self, documents: Vec<Value>) -> anyhow::Result<Result<(), String>> {
        for mut value in documents {
            let name = value["type"].as_str().unwrap_or_default().to_owned();
            let Ok(kind) = name.parse::<Kind>() else { return Ok(Err(format!("there is no kind {name}"))) };
            let status = value.as_object_mut().and_then(|fields| fields.remove("status"));
            let document = Document::from_value(value, Some(kind)).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
            let owner = self.owner(&document.labels);
            // Names that came over Kuma's link end in a hash; its label has the name itself.
            let shown = document.labels.get(labels::DISPLAY_NAME);
            let name = shown.map_or_else(|| document.name.clone(), |name| Name::from(name.as_str()));
            if name != document.name {
                let path = |name: &Name| item_path(kind, &document.mesh, name);
                self.renamed.lock().unwrap_or_else(PoisonError::into_inner).push((path(&document.name), path(&name)));
            }
            let key = ResourceKey::new(kind, document.mesh, name, owner);
            self.know_zone(&document.labels).await?;
            self.put(key.clone(), labels::stored(document.labels), document.spec).await?;
            if let Some(status) = status {
                self.states.given.lock().unwrap_or_else(PoisonError::into_inner).insert(key, status);
            }
        }
        Ok(Ok(()))
    }

    async fn put(&self, key: ResourceKey, labels: Labels, mut spec: Value) -> anyhow::Result<()> {
        let mut computed = Map::new();
        if let Value::Object(fields) = &mut spec {
            let names = key.kind.descriptor().computed;
            computed.extend(names.iter().filter_map(|name| fields.remove(*name).map(|value| ((*name).to_owned(), value))));
        }
        let mut writes = vec![Write::put(key.clone(), labels, canonical_json(&spec))];
        if !computed.is_empty() {
            writes.push(Write::PutComputed { key: key.clone(), computed: Some(canonical_json(&computed)), expect: Expect::Any });
        }
        let batch = WriteBatch::new(Actor::plane(), writes);
        self.store.commit(batch).await.map(drop).with_context(|| format!("cannot load {key}"))
    }

    /// A path with the name that Atoll has for what Kuma stores under another: its aliases are hashed otherwise.
    fn renamed(&self, path: &str) -> String {
        let renamed = self.renamed.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = |stored: &str| path.strip_prefix(stored).filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let found = renamed.iter().find_map(|(stored, own)| Some(format!("{own}{}", rest(stored)?)));
        found.unwrap_or_else(|| path.to_owned())
    }

    /// Whose document it is, by its labels.
    fn owner(&self, given: &Labels) -> Owner {
        let zone = given.get(labels::ZONE).filter(|zone| Some(zone.as_str()) != self.zone_name());
        match (zone, given.get(labels::ORIGIN).map(String::as_str)) {
            (Some(zone), _) => Owner::Zone(uid(zone)),
            (None, Some("global")) => Owner::Global,
            (None, _) => self.viewpoint.owner(),
        }
    }

    /// A zone that a label names is known to its plane.
    async fn know_zone(&self, given: &Labels) -> anyhow::Result<()> {
        let Some(zone) = given.get(labels::ZONE).filter(|zone| Some(zone.as_str()) != self.zone_name()) else { return Ok(()) };
        let key = ResourceKey::new(Kind::Zone, "", zone.as_str(), Owner::Global);
        self.put(key, Labels::new(), json!({"uid": uid(zone)})).await
    }

    /// Sends a request as an operator.
    ///
    /// # Errors
    /// When it is no request.
    pub async fn send(&self, method: &str, path: &str, body: Option<(&str, String)>) -> anyhow::Result<Answer> {
        let request = Request::builder().method(method).uri(uri(&self.renamed(path))).header(header::HOST, ADDRESS);
        let request = request.header(header::AUTHORIZATION, "Bearer operator");
        let request = match body {
            Some((format, text)) => request.header(header::CONTENT_TYPE, format).body(text),
            None => request.body(String::new()),
        };
        let request = request.with_context(|| format!("cannot ask {method} {path}"))?;
        let Ok(answer) = self.send.clone().oneshot(request).await;
        Ok(answer)
    }
}

/// Reads an answer. A body that cannot be read has nothing of what is expected.
async fn read<B: BodyExt>(response: http::Response<B>) -> Result<Answer, std::convert::Infallible> {
    let status = response.status().as_u16();
    let bytes = response.into_body().collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    let text = || Value::from(String::from_utf8_lossy(&bytes).into_owned());
    Ok(Answer { status, body: serde_json::from_slice(&bytes).unwrap_or_else(|_| text()) })
}

/// The path of one resource.
pub(crate) fn item_path(kind: Kind, mesh: &str, name: &str) -> String {
    let row = kind.descriptor();
    match row.scope {
        Scope::Global => format!("/{}/{}", row.path, segment(name)),
        Scope::Mesh => format!("/meshes/{}/{}/{}", segment(mesh), row.path, segment(name)),
    }
}

/// A name as one part of a path.
fn segment(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// What a URI cannot hold as it is.
fn uri(path: &str) -> String {
    path.replace('[', "%5B").replace(']', "%5D").replace(' ', "%20")
}

/// The identity of the zone with this name.
pub(crate) fn uid(name: &str) -> ZoneUid {
    ZoneUid(uuid::Uuid::from_u128(name.bytes().fold(1, |sum, byte| sum * 257 + u128::from(byte))))
}

/// Whether the API has this endpoint.
pub(crate) fn is_offered(method: &str, path: &str) -> bool {
    let path = path.split('?').next().unwrap_or_default();
    let fits = |template: &str| {
        let (mut wanted, mut given) = (template.split('/'), path.split('/'));
        loop {
            match (wanted.next(), given.next()) {
                (None, None) => return true,
                (Some(wanted), Some(given)) if wanted == given || wanted.starts_with('{') => {}
                _ => return false,
            }
        }
    };
    routes::table().iter().any(|route| route.method == method && fits(&route.path))
}

/// What the cases say of how resources fare, and what the zone's engine makes of them.
struct States {
    given: Mutex<BTreeMap<ResourceKey, Value>>,
    viewpoint: Viewpoint,
    store: Store,
}

impl StatusSource for States {
    fn status(&self, key: &ResourceKey) -> Option<Value> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }
    fn insight(&self, _: &ResourceKey) -> Option<Value> {
        None
    }
    fn layout(&self, key: &ResourceKey) -> Option<ProxyLayout> {
        let mut index = MeshIndex::new(self.viewpoint.clone(), IndexConfig::default(), Arc::new(identity::acceptance()));
        let changes: Vec<_> = self.store.snapshot().changes_since(Revision::default()).collect();
        index.apply(&changes);
        layout::answer(index.snapshots().get(&key.mesh)?, key)
    }
}

/// Everybody is the operator, and nobody issues tokens.
struct Operator;

#[async_trait]
impl Authenticate for Operator {
    async fn authenticate(&self, _: &str) -> Result<Caller, AuthenticationError> {
        Ok(Caller::new("operator", [ADMIN_GROUP]))
    }
    fn is_withdrawn(&self, _: &Credential) -> bool {
        false
    }
}

#[async_trait]
impl IssueTokens for Operator {
    async fn user(&self, _: UserTokenRequest) -> Result<String, IssueError> {
        Err(no_tokens())
    }
    async fn dataplane(&self, _: DataplaneTokenRequest) -> Result<String, IssueError> {
        Err(no_tokens())
    }
    async fn zone(&self, _: ZoneTokenRequest) -> Result<String, IssueError> {
        Err(no_tokens())
    }
    fn identify(&self, _: &str) -> Result<TokenName, IssueError> {
        Err(no_tokens())
    }
}

fn no_tokens() -> IssueError {
    IssueError::NotHere("cases need no tokens".to_owned())
}
