//! A plane with a temporary store and a clock that stands still.

use std::sync::Arc;

use async_trait::async_trait;
use atoll_api::{
    ADMIN_GROUP, Authenticate, AuthenticationError, Caller, Credential, DataplaneTokenRequest, Info, IssueError, IssueTokens,
    Limits, Plane, PlaneParts, StatusSource, TokenName, UserTokenRequest, ZoneTokenRequest, plane::AdmitAll, router,
};
use atoll_model::{
    Kind, Labels, Owner, ResourceKey, Timestamp, ZoneUid, clock::ManualClock, labels::Viewpoint, resource::canonical_json,
};
use atoll_runtime::tasks::Tasks;
use atoll_store::{Actor, AuthMethod, Expect, Store, StoreConfig, Write, WriteBatch, testing};
use axum::{Router, body::Body};
use http::{HeaderMap, Method, Request, StatusCode};
use serde_json::{Value, json};
use tower::ServiceExt;

/// The token that opens everything.
pub(crate) const ADMIN: &str = "admin-token";

pub(crate) struct Api {
    pub(crate) router: Router,
    pub(crate) store: Store,
    pub(crate) clock: Arc<ManualClock>,
    _folder: Option<tempfile::TempDir>,
}

/// An answer, read.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status.as_u16(), status, "{}", self.text);
        self
    }

    /// `field` and `reason` of every fault.
    pub(crate) fn faults(&self) -> Vec<(String, String)> {
        let document = self.json();
        let faults = document["invalid_parameters"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        faults.iter().map(|fault| (text(&fault["field"]), text(&fault["reason"]))).collect()
    }

    pub(crate) fn fields(&self) -> Vec<String> {
        self.faults().into_iter().map(|(field, _)| field).collect()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }
}

impl Api {
    /// A global plane with mesh `default`.
    pub(crate) async fn global() -> Self {
        let api = Self::of(Viewpoint::Global).await;
        api.put("/meshes/default", json!({"type": "Mesh", "name": "default"})).await.expect(201);
        api
    }

    /// A zone's plane, with the meshes and zones of its global.
    pub(crate) async fn zone(name: &str, federated: bool) -> Self {
        let api = Self::of(Viewpoint::Zone { name: name.into(), uid: zone_uid(name), federated }).await;
        let mesh = ResourceKey::new(Kind::Mesh, "", "default", Owner::Global);
        api.give(mesh, json!({})).await;
        api
    }

    async fn of(viewpoint: Viewpoint) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::new("2026-01-02T03:04:05Z".parse::<Timestamp>().unwrap()));
        let config = StoreConfig::Sqlite { dir: folder.path().to_owned() };
        let store = Store::open_sealed(config, testing::keys(), clock.clone(), &Tasks::new()).await.unwrap();
        Self { _folder: Some(folder), ..Self::over(store, viewpoint, clock) }
    }

    /// A plane with limits of its own, and nothing in it.
    pub(crate) async fn limited(viewpoint: Viewpoint, limits: Limits) -> Self {
        let api = Self::of(viewpoint.clone()).await;
        let limited = Self::within(api.store.clone(), viewpoint, api.clock.clone(), limits);
        Self { router: limited.router, ..api }
    }

    /// A plane over any store.
    pub(crate) fn over(store: Store, viewpoint: Viewpoint, clock: Arc<ManualClock>) -> Self {
        Self::within(store, viewpoint, clock, Limits::default())
    }

    fn within(store: Store, viewpoint: Viewpoint, clock: Arc<ManualClock>, limits: Limits) -> Self {
        let info = Info::new("host".into(), "instance".into(), "cluster".into(), &viewpoint);
        let parts = PlaneParts {
            viewpoint,
            store: store.clone(),
            clock: clock.clone(),
            authenticate: Arc::new(Names),
            tokens: Arc::new(Names),
            status: Arc::new(Names),
            admission: Arc::new(AdmitAll),
            links: Arc::new(Names),
            info,
            config: json!({"store": {"url": "postgres://atoll:*****@db/atoll"}}),
            ready: Arc::new(|| Ok(())),
        };
        let plane = Plane::within(parts, limits);
        Self { router: router(plane), store, clock, _folder: None }
    }

    /// Stores a resource of any owner, as the link does.
    pub(crate) async fn give(&self, key: ResourceKey, spec: Value) {
        let write = Write::put(key, Labels::new(), canonical_json(&spec));
        self.store.commit(WriteBatch::one(Actor::plane(), write)).await.unwrap();
    }

    /// Makes a zone known, with its identity.
    pub(crate) async fn give_zone(&self, name: &str) -> Owner {
        let uid = zone_uid(name);
        let key = ResourceKey::new(Kind::Zone, "", name, Owner::Global);
        let computed = canonical_json(&json!({"uid": uid}));
        let writes = vec![
            Write::put(key.clone(), Labels::new(), "{}"),
            Write::PutComputed { key, computed: Some(computed), expect: Expect::Any },
        ];
        self.store.commit(WriteBatch::new(Actor::plane(), writes)).await.unwrap();
        Owner::Zone(uid)
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer { status: parts.status, headers: parts.headers, text: String::from_utf8(bytes.to_vec()).unwrap() }
    }

    pub(crate) async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header("host", "cp.test:5681");
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            request = request.header("authorization", format!("Bearer {ADMIN}"));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(body.into()).unwrap()).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[], Body::empty()).await
    }

    /// A resource as it was at a revision.
    pub(crate) async fn get_at(&self, path: &str, revision: u64) -> Answer {
        self.get(&format!("{path}?revision={revision}")).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, &[], Body::empty()).await
    }

    pub(crate) async fn put(&self, path: &str, document: Value) -> Answer {
        self.call(Method::PUT, path, &[("content-type", "application/json")], document.to_string()).await
    }

    pub(crate) async fn put_yaml(&self, path: &str, text: &str) -> Answer {
        self.call(Method::PUT, path, &[("content-type", "application/yaml")], text.to_owned()).await
    }

    pub(crate) async fn post(&self, path: &str, content_type: &str, text: &str) -> Answer {
        self.call(Method::POST, path, &[("content-type", content_type)], text.to_owned()).await
    }
}

pub(crate) fn zone_uid(name: &str) -> ZoneUid {
    ZoneUid(uuid::Uuid::from_u128(name.bytes().fold(1, |sum, byte| sum * 257 + u128::from(byte))))
}

/// A MeshTimeout that is valid.
pub(crate) fn timeout(name: &str, mesh: &str) -> Value {
    json!({
        "type": "MeshTimeout", "mesh": mesh, "name": name,
        "spec": {"targetRef": {"kind": "Mesh"}, "to": [{"targetRef": {"kind": "Mesh"}, "default": {"idleTimeout": "1h"}}]},
    })
}

/// Knows one administrator and one reader by name, and a status for services.
pub(crate) struct Names;

#[async_trait]
impl Authenticate for Names {
    async fn authenticate(&self, token: &str) -> Result<Caller, AuthenticationError> {
        let caller = |name: &str, group: &str| Ok(Caller::new(name, [group]));
        match token {
            ADMIN => caller("alice", ADMIN_GROUP),
            "carol-token" => caller("carol", ADMIN_GROUP),
            // Ends an hour after the clock's start.
            "short-token" => {
                let expires = "2026-01-02T04:04:05Z".parse::<Timestamp>().ok();
                let credential = Credential { method: AuthMethod::Token, id: String::new(), expires };
                Ok(Caller::new("dave", [ADMIN_GROUP]).with(credential))
            }
            "reader-token" => caller("bob", "team-a"),
            // Whom only roles give anything.
            token => match token.strip_prefix("user:") {
                Some(name) => Ok(Caller::new(name, [""; 0])),
                None => Err(AuthenticationError::Refused("the token is not ours".to_owned())),
            },
        }
    }
    fn is_withdrawn(&self, _: &Credential) -> bool {
        false
    }
}

#[async_trait]
impl IssueTokens for Names {
    async fn user(&self, request: UserTokenRequest) -> Result<String, IssueError> {
        Ok(format!("user {} {:?} {:?}", request.name, request.groups, request.valid_for))
    }
    async fn dataplane(&self, request: DataplaneTokenRequest) -> Result<String, IssueError> {
        Ok(format!("dataplane {} {} {:?}", request.mesh, request.workload, request.valid_for))
    }
    async fn zone(&self, request: ZoneTokenRequest) -> Result<String, IssueError> {
        Ok(format!("zone {}", request.zone))
    }
    fn identify(&self, token: &str) -> Result<TokenName, IssueError> {
        Ok(TokenName { id: format!("jti-of-{token}"), until: "2026-01-03T00:00:00Z".parse().unwrap() })
    }
}

impl StatusSource for Names {
    fn status(&self, key: &ResourceKey) -> Option<Value> {
        (key.kind == Kind::MeshService).then(|| json!({"vips": [{"ip": "241.0.0.1"}]}))
    }
    fn insight(&self, key: &ResourceKey) -> Option<Value> {
        (key.kind == Kind::Zone).then(|| json!({"online": true}))
    }
}
