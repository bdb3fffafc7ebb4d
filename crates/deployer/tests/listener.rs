//! The public listener's answers, over the real intake and the embedded store; no engine is asked anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response, header};
use deployer_agent::concern::Concern;
use deployer_agent::intake::Intake;
use deployer_agent::journal::Journals;
use deployer_agent::world::{Presence, Settings, World};
use deployer_core::ambient::Ambient;
use deployer_core::availability::Run;
use deployer_core::image::{Registry, Track};
use deployer_core::node::Identity;
use deployer_core::policy::Manage;
use deployer_core::slot::Scope;
use deployer_core::store::{Change, Entry, LeaseId, Listed, Outcome, Range, Revision, Txn};
use deployer_core::webhook::{Auth, Callback, Source};
use deployer_engine::docker::Docker;
use deployer_hooks::http::{Hook, Sink, router};
use deployer_store::embedded::Embedded;
use deployer_store::{Store, StoreError};
use deployer_wire::Endpoint;
use futures_util::stream::BoxStream;
use http_body_util::BodyExt;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const WEB: &str = "registry.example:5000/acme/web:1";
const SECRET: &str = "Bearer 7c41";
const PATH_SECRET: &str = "0123456789abcdef012345";

/// The embedded store behind a door: each write waits for a pass, and is refused while the store is away.
struct Doored {
    store: Embedded,
    passes: Semaphore,
    begun: AtomicUsize,
    is_away: AtomicBool,
}

#[async_trait]
impl Store for Doored {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.store.get(key).await
    }
    async fn list(&self, prefix: &str) -> Result<(Vec<Entry>, Revision), StoreError> {
        self.store.list(prefix).await
    }
    async fn ranges(&self, ranges: &[Range]) -> Result<(Vec<Listed>, Revision), StoreError> {
        self.store.ranges(ranges).await
    }
    async fn txn(&self, txn: Txn) -> Result<Outcome, StoreError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.passes.acquire().await.expect("it stays open").forget();
        if self.is_away.load(Ordering::SeqCst) {
            return Err(StoreError::Away("a test said so".to_owned()));
        }
        self.store.txn(txn).await
    }
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.store.grant(ttl).await
    }
    async fn keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.keep_alive(lease).await
    }
    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.revoke(lease).await
    }
    async fn watch(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<BoxStream<'static, Result<Change, StoreError>>, StoreError> {
        self.store.watch(prefix, after).await
    }
}

/// The listener's router over a store, with the intake at work.
struct Listener {
    router: Router,
    store: Arc<Doored>,
    world: Arc<World>,
    callbacks: mpsc::Receiver<Callback>,
    _intake: JoinSet<()>,
    _folder: tempfile::TempDir,
}

impl Listener {
    /// `/registry` takes a Distribution registry's events, `/ci` the native call, `/hub` Docker Hub's, which waits to be
    /// called back, as `/quiet` does in vain. One callback can wait.
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Arc::new(Doored {
            store: Embedded::open(&folder.path().join("store.redb")).expect("a store"),
            passes: Semaphore::new(0),
            begun: AtomicUsize::new(0),
            is_away: AtomicBool::new(false),
        });
        let settings = Settings {
            node: "here".to_owned(),
            boot: "1".to_owned(),
            identity: Identity { boot: "machine".into(), state: "folder".into() },
            scope: Scope::Cluster,
            manage: Manage::All,
            own_container: None,
            registry_check: None,
            state_dir: folder.path().to_owned(),
            root: folder.path().to_owned(),
            prefix: "/deployer".to_owned(),
        };
        let docker = Docker::new(Endpoint::parse("unix:///nobody/is/here").expect("an address"));
        let journals = Journals::open(folder.path()).expect("journals");
        let ambient = Arc::new(Ambient::chosen(|| 1_000_000, 1));
        let shared = Arc::clone(&store) as Arc<dyn Store>;
        let world = Arc::new(World::new(Arc::new(docker), shared, settings, Arc::clone(&ambient), journals));
        let (waiting, intake) = Intake::new(Arc::clone(&world));
        let (presence, registered) = (world.presence.subscribe(), world.registered.subscribe());
        let sink = Sink::new(waiting, move || {
            let unheard = registered.borrow().is_none().then_some("the engine or the store was not heard yet");
            presence.borrow().public_trouble().or(unheard)
        });
        let hook = |path: &str, source, registry_host| Hook {
            path: path.to_owned(),
            source,
            auth: Auth::Header(vec![SECRET.to_owned()]),
            registry_host,
            callback: false,
        };
        let host = Registry::parse("registry.example:5000").expect("a host");
        let hub = |path: &str, callback| Hook {
            auth: Auth::Path(vec![PATH_SECRET.to_owned()]),
            callback,
            ..hook(path, Source::DockerHub, Some(host.clone()))
        };
        let registry = hook("/registry", Source::Distribution, Some(host.clone()));
        let hooks = vec![registry, hook("/ci", Source::Native, None), hub("/hub", true), hub("/quiet", false)];
        let (call_back, callbacks) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        tasks.spawn(intake.run(CancellationToken::new()));
        let router = router(hooks, sink, call_back, ambient);
        Self { router, store, world, callbacks, _intake: tasks, _folder: folder }
    }

    /// The same, with [`WEB`] run by some node.
    fn ready() -> Self {
        let listener = Self::new();
        listener.store.passes.add_permits(1000);
        listener.world.follow([(web(), WEB.to_owned())].into_iter().collect());
        listener
    }

    async fn send(&self, method: &str, path: &str, secret: &str, body: impl Into<Body>) -> Response<Body> {
        let request = Request::builder().method(method).uri(path).header(header::AUTHORIZATION, secret);
        let request = request.body(body.into()).expect("a request");
        self.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {})
    }

    async fn pending_revision(&self) -> Option<Revision> {
        let key = self.world.keys.pending(&web());
        self.store.get(&key).await.expect("the store answers").map(|entry| entry.mod_revision)
    }
}

/// What Docker Hub sends of [`WEB`], which waits to be called back at `url`.
fn push(url: &str) -> String {
    format!(r#"{{"push_data": {{"tag": "1"}}, "repository": {{"repo_name": "acme/web"}}, "callback_url": "{url}"}}"#)
}

fn web() -> Track {
    Track::parse(WEB).expect("a track")
}

async fn text(answer: Response<Body>) -> String {
    let bytes = answer.into_body().collect().await.expect("a body").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("text")
}

/// Lets everything run that can run without the clock.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn each_request_gets_its_answer() {
    let listener = Listener::ready();
    let check = async |line: &str, secret: &str, body: &str, expected: &str| {
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let answer = listener.send(method, path, secret, body.to_owned()).await;
        let found = format!("{} {}", answer.status().as_u16(), text(answer).await);
        assert_eq!(found.trim_end(), expected, "{line} {body}");
    };
    check("GET /healthz", "", "", r#"200 {"status":"ok"}"#).await;
    check("POST /elsewhere", SECRET, "{}", "404").await;
    check("GET /ci", SECRET, "{}", "405").await;
    check("POST /ci", "", "{}", "401").await;
    check("POST /ci", "Bearer 7c4", "not even JSON", "401").await;
    check("POST /ci", SECRET, &"x".repeat(9 << 20), "413").await;
    check("POST /ci", "wrong", &"x".repeat(9 << 20), "413").await;
    let shape = r#"400 {"error":"the body is not what native sends: write {\"image\": \"host/path:tag\"}"}"#;
    check("POST /ci", SECRET, "{}", shape).await;
    let web = format!(r#"{{"images": ["{WEB}", "{WEB}", "nobody/runs:this", "{}"]}}"#, WEB.trim_end_matches(":1"));
    let answer = r#"202 {"accepted":["registry.example:5000/acme/web:1"],"ignored":[{"count":1,"reason":"untagged"},{"count":1,"reason":"duplicate"}],"not_ours":1}"#;
    check("POST /ci", SECRET, &web, answer).await;
    let pulls = r#"{"events": [{"action": "pull"}, {"action": "pull", "id": "1"}]}"#;
    check(
        "POST /registry",
        SECRET,
        pulls,
        r#"202 {"accepted":[],"ignored":[{"count":2,"reason":"pull"}],"not_ours":0}"#,
    )
    .await;
}

#[tokio::test]
async fn a_wrong_secret_in_the_path_is_answered_like_any_other() {
    let listener = Listener::ready();
    let check = async |line: &str, expected: &str| {
        let (method, path) = line.split_once(' ').expect("a method and a path");
        let path = path.replace("SECRET", PATH_SECRET);
        let answer = listener.send(method, &path, SECRET, push("")).await;
        let found = format!("{} {}", answer.status().as_u16(), text(answer).await);
        assert_eq!(found.trim_end(), expected, "{line}");
    };
    let taken = r#"202 {"accepted":["registry.example:5000/acme/web:1"],"ignored":[],"not_ours":0}"#;
    check("POST /hub/SECRET", taken).await;
    check("POST /hub/SECRET?a=b", taken).await;
    for wrong in
        ["", "/a", "/SECRET6", "/SECRET/", "/SECRET/a", "//SECRET", "/a/SECRET", "?SECRET", "/%30123456789abcdef012345"]
    {
        check(&format!("POST /hub{wrong}"), "401").await;
    }
    check("GET /hub/SECRET", "405").await;
    check("GET /hub/a", "405").await;
    check("POST /hubSECRET", "404").await;
}

const WAITS: &str = "https://registry.hub.docker.com/u/acme/web/hook/2b0f/";

#[tokio::test]
async fn a_sender_that_waits_is_called_back_once_its_notification_is_durable() {
    let mut listener = Listener::ready();
    let hub = format!("/hub/{PATH_SECRET}");
    listener.store.is_away.store(true, Ordering::SeqCst);
    assert_eq!(listener.send("POST", &hub, "", push(WAITS)).await.status(), 503);
    listener.store.is_away.store(false, Ordering::SeqCst);
    for (path, body, status) in [
        ("/hub/a", push(WAITS), 401),
        (hub.as_str(), "{}".to_owned(), 400),
        (&format!("/quiet/{PATH_SECRET}"), push(WAITS), 202),
        (&hub, push(""), 202),
        (&hub, push("http://169.254.169.254/latest/meta-data/"), 202),
        (&hub, push("https://registry.hub.docker.com.evil.example/u/a/"), 202),
        (&hub, push("http://registry.hub.docker.com/u/a/"), 202),
        (&hub, push("https://registry.hub.docker.com:8443/u/a/"), 202),
        (&hub, push("https://a@registry.hub.docker.com/u/a/"), 202),
        (&hub, push("https://127.0.0.1/u/a/"), 202),
    ] {
        assert_eq!(listener.send("POST", path, "", body.clone()).await.status(), status, "{path} {body}");
        assert!(listener.callbacks.try_recv().is_err(), "nobody is called for {path} {body}");
    }
    assert_eq!(listener.send("POST", &hub, "", push(WAITS)).await.status(), 202);
    let callback = listener.callbacks.try_recv().expect("it waits");
    assert_eq!(callback.path(), "/u/acme/web/hook/2b0f/");
}

#[tokio::test]
async fn a_chain_of_hooks_is_not_held_up_by_what_is_not_ours() {
    let mut listener = Listener::ready();
    let chart = push(WAITS).replace(r#""tag""#, r#""media_type": "application/vnd.cncf.helm.config.v1+json", "tag""#);
    for body in [push(WAITS).replace("acme", "nobody"), chart] {
        assert_eq!(listener.send("POST", &format!("/hub/{PATH_SECRET}"), "", body.clone()).await.status(), 202);
        assert!(listener.callbacks.try_recv().is_ok(), "{body}");
    }
}

#[tokio::test]
async fn nobody_waits_for_those_that_are_to_be_called_back() {
    let mut listener = Listener::ready();
    for _ in 0..3 {
        assert_eq!(listener.send("POST", &format!("/hub/{PATH_SECRET}"), "", push(WAITS)).await.status(), 202);
    }
    assert!(listener.callbacks.try_recv().is_ok() && listener.callbacks.try_recv().is_err(), "one place, one waits");
    listener.callbacks.close();
    assert_eq!(listener.send("POST", &format!("/hub/{PATH_SECRET}"), "", push(WAITS)).await.status(), 202);
}

/// An empty secret is a wrong one, answered and counted like any other.
#[tokio::test]
async fn security_head_an_empty_secret_in_the_path_is_a_wrong_one() {
    let listener = Listener::ready();
    assert_eq!(listener.send("POST", "/hub/", SECRET, push("")).await.status(), 401);
}

/// Addresses inside, names of keys and of nodes are in the store's own words; `status` and the log have them.
#[tokio::test]
async fn security_14_health_tells_strangers_fixed_words() {
    let listener = Listener::ready();
    let trouble = Some("the store does not answer: http://10.0.0.7:2379: tcp connect error on node-7".to_owned());
    for (lease, expected) in [
        (None, r#"{"error":"this node is not registered in the store","status":"degraded"}"#),
        (Some((LeaseId(1), 1)), r#"{"error":"the store does not answer","status":"degraded"}"#),
    ] {
        listener.world.presence.send_replace(Presence { lease, trouble: trouble.clone() });
        let answer = listener.send("GET", "/healthz", "", "").await;
        assert_eq!((answer.status().as_u16(), text(answer).await.as_str()), (503, expected));
    }
    let unheard = Listener::new();
    let answer = unheard.send("GET", "/healthz", "", "").await;
    assert_eq!(text(answer).await, r#"{"error":"the engine or the store was not heard yet","status":"degraded"}"#);
}

#[tokio::test]
async fn until_engine_and_store_were_heard_a_sender_is_told_to_come_back() {
    let listener = Listener::new();
    let body = format!(r#"{{"image": "{WEB}"}}"#);
    for (method, path) in [("POST", "/ci"), ("GET", "/healthz")] {
        let answer = listener.send(method, path, SECRET, body.clone()).await;
        assert_eq!((answer.status().as_u16(), answer.headers().get("retry-after").is_some()), (503, true), "{path}");
    }
    assert_eq!(listener.store.begun.load(Ordering::SeqCst), 0);
}

/// A node that runs nothing of it takes a hook for another one's track, and cannot tell while the store is away.
#[tokio::test]
async fn what_another_node_runs_is_taken_here() {
    let listener = Listener::ready();
    listener.world.follow(Concern::default());
    let send = async || {
        let answer = listener.send("POST", "/ci", SECRET, format!(r#"{{"image": "{WEB}"}}"#)).await;
        (answer.status().as_u16(), text(answer).await.contains("acme/web"))
    };
    listener.store.is_away.store(true, Ordering::SeqCst);
    assert_eq!(send().await, (503, false));
    listener.store.is_away.store(false, Ordering::SeqCst);
    assert_eq!(send().await, (202, false), "nobody runs it");
    let run = Run { services: [WEB.to_owned()].into() };
    listener.store.txn(Txn::new().put(listener.world.keys.run(&web(), "elsewhere"), &run)).await.expect("stored");
    assert_eq!(send().await, (202, true));
    assert!(listener.pending_revision().await.is_some());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_or_hangs_makes_senders_come_back() {
    let listener = Listener::ready();
    let body = format!(r#"{{"image": "{WEB}"}}"#);
    listener.store.is_away.store(true, Ordering::SeqCst);
    assert_eq!(listener.send("POST", "/ci", SECRET, body.clone()).await.status(), 503);
    listener.store.is_away.store(false, Ordering::SeqCst);
    assert_eq!(listener.send("POST", "/ci", SECRET, body.clone()).await.status(), 202);
    let passes = listener.store.passes.available_permits();
    listener.store.passes.forget_permits(passes);
    let began = tokio::time::Instant::now();
    assert_eq!(listener.send("POST", "/ci", SECRET, body).await.status(), 503);
    assert_eq!(began.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn a_hook_is_answered_by_a_write_that_began_after_it_and_many_share_one() {
    let listener = Arc::new(Listener::new());
    listener.world.follow([(web(), WEB.to_owned())].into_iter().collect());
    let mut senders = JoinSet::new();
    let mut send = |count: usize| {
        for _ in 0..count {
            let listener = Arc::clone(&listener);
            let body = format!(r#"{{"image": "{WEB}"}}"#);
            senders.spawn(async move { listener.send("POST", "/ci", SECRET, body).await.status().as_u16() });
        }
    };
    send(1);
    settle().await;
    assert_eq!(listener.store.begun.load(Ordering::SeqCst), 1, "the first is being written");
    send(50);
    settle().await;
    assert_eq!(listener.store.begun.load(Ordering::SeqCst), 1, "the others wait for the next write");
    listener.store.passes.add_permits(1);
    assert_eq!(senders.join_next().await.expect("a sender").expect("no panic"), 202);
    let first = listener.pending_revision().await;
    settle().await;
    assert!(senders.try_join_next().is_none(), "none of the others is answered by the first write");
    listener.store.passes.add_permits(1);
    assert_eq!(senders.join_all().await, [202; 50]);
    assert_eq!(listener.store.begun.load(Ordering::SeqCst), 2);
    assert!(listener.pending_revision().await > first, "written anew, though its value is the same");
}
