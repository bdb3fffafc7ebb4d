//! The daemon: opens the edges, wires the channels, and owns every task. No other file spawns.
//!
//! Order of the start: lock the state directory, recover with the engine alone, listen, then the store's tasks.
//! A stage that returns before the shutdown ends the process with an error, so that its supervisor starts it
//! again: a deployer that is half there would be believed to be whole.

mod farewell;
mod own;
pub(crate) mod state_dir;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use deployer_agent::intake::Intake;
use deployer_agent::journal::Journals;
use deployer_agent::presence;
use deployer_agent::pull::Pull;
use deployer_agent::restart::{Left, Restart, recover_with_engine};
use deployer_agent::triggers::{self, EngineEvents, StoreWatch};
use deployer_agent::update::Update;
use deployer_agent::world::{Settings, World};
use deployer_core::ambient::Ambient;
use deployer_core::backoff::Backoff;
use deployer_engine::docker::Docker;
use deployer_engine::{Engine, EngineError, EngineInfo, ImageHand};
use deployer_hooks::callback::{Caller, Outside};
use deployer_hooks::http::{self, Sink};
use deployer_store::Store;
use deployer_store::embedded::Embedded;
use deployer_store::etcd::Etcd;
use deployer_store::unopened::Unopened;
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::ambient;
use crate::config::{Config, PREFIX, SOCKET, STORE};
use crate::control;

/// Wakes that wait for the update stage. A trigger that finds it full waits: a wake more says nothing new.
const WAKES_MAX: usize = 256;
/// Keys that wait for the pull or the restart stage.
const KEYS_MAX: usize = 256;
/// Senders of hooks that wait to be called back. Further ones are not, which the log says.
const CALLBACKS_MAX: usize = 64;

/// Runs until a signal, or until a stage dies.
///
/// # Errors
/// Whatever keeps the daemon from starting, and the death of a stage.
pub async fn run(config: Config) -> anyhow::Result<()> {
    state_dir::keep_to_ourselves();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), node = config.node, "deployer starts");
    for line in config.to_string().lines() {
        tracing::info!("setting {line}");
    }
    let _lock = state_dir::lock(&config.state_dir)?;
    let ambient = Arc::new(ambient::system());
    let engine = Docker::new(config.docker.clone()).with_plain_http(config.plain_http.clone());
    let info = wait_for_engine(&engine, &ambient).await?;
    tracing::info!(engine = info.version, "engine {} with API {}.{}", info.product, info.api.0, info.api.1);
    let settings = Settings {
        node: config.node.clone(),
        boot: ambient.hex(16),
        identity: state_dir::identity(&config.state_dir, &ambient)?,
        scope: config.scope,
        manage: config.manage.clone(),
        own_container: own::container(&config.manage)?,
        registry_check: config.registry_check,
        state_dir: config.state_dir.clone(),
        root: PathBuf::from("/"),
        prefix: config.etcd.as_ref().map_or(PREFIX, |etcd| &etcd.prefix).to_owned(),
    };
    let engine = Arc::new(engine);
    let open = |store: Arc<dyn Store>| -> anyhow::Result<World> {
        let journals = Journals::open(&config.state_dir)?;
        Ok(World::new(Arc::clone(&engine) as Arc<dyn Engine>, store, settings.clone(), Arc::clone(&ambient), journals))
    };
    // Before the store, which may be damaged: what should serve is brought up all the same.
    let left = recover_with_engine(&open(Arc::new(Unopened))?, engine.as_ref()).await?;
    let listener =
        TcpListener::bind(config.listen).await.with_context(|| format!("cannot listen on {}", config.listen))?;
    let socket = state_dir::bind_socket(&config.state_dir.join(SOCKET))?;
    let (store, embedded) = open_store(&config, &ambient)?;
    let world = Arc::new(open(store)?);
    // Last, since scripts take the file as the sign that the daemon can be spoken to.
    state_dir::write_address(&config.state_dir, listener.local_addr()?)?;
    let mut tasks = Tasks::default();
    if let Some(embedded) = embedded {
        tasks.spawn("leases", async move { embedded.run().await });
    }
    wire(&mut tasks, &world, engine, &config, left, listener, socket);
    // Not being run by systemd is no mistake.
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
    tasks.wait().await?;
    presence::leave(&world, farewell::farewell().await).await;
    Ok(())
}

/// A store, and the embedded one again if it is that, since its leases are ended by a task.
type Opened = (Arc<dyn Store>, Option<Arc<Embedded>>);

/// The store that machines share, if one is configured, and otherwise this machine's own.
fn open_store(config: &Config, ambient: &Ambient) -> anyhow::Result<Opened> {
    let Some(etcd) = &config.etcd else {
        let embedded = Arc::new(Embedded::open(&config.state_dir.join(STORE))?);
        return Ok((Arc::clone(&embedded) as Arc<dyn Store>, Some(embedded)));
    };
    for endpoint in etcd.in_the_clear() {
        tracing::warn!(endpoint, "etcd is spoken to in the clear: anybody on the way can read and write for us");
    }
    let mut settings = etcd.settings.clone();
    // So that not every machine begins with the same member.
    let first = ambient.random() % settings.endpoints.len() as u64;
    settings.endpoints.rotate_left(first as usize);
    Ok((Arc::new(Etcd::new(settings)), None))
}

/// Channels and stages. Forward edges are bounded channels; the backward edge is the world's bell.
fn wire(
    tasks: &mut Tasks,
    world: &Arc<World>,
    hand: Arc<Docker>,
    config: &Config,
    left: Vec<Left>,
    listener: TcpListener,
    socket: UnixListener,
) {
    let (wake, wakes) = mpsc::channel(WAKES_MAX);
    let (pull, tracks) = mpsc::channel(KEYS_MAX);
    let (replace, containers) = mpsc::channel(KEYS_MAX);
    let (waiting, intake) = Intake::new(Arc::clone(world));
    let presence = world.presence.subscribe();
    let registered = world.registered.subscribe();
    let sink = Sink::new(waiting, move || {
        let unheard = registered.borrow().is_none().then_some("the engine or the store was not heard yet");
        presence.borrow().public_trouble().or(unheard)
    });
    let shutdown = tasks.shutdown.clone();
    let update = Update { world: Arc::clone(world), wakes, pulls: pull, replacements: replace };
    tasks.spawn("engine mirror", Arc::clone(&world.engine_mirror).run(Arc::clone(&world.ambient)));
    tasks.spawn("update", update.run(shutdown.clone()));
    tasks.spawn(
        "pull",
        Pull { world: Arc::clone(world), hand: Arc::clone(&hand) as Arc<dyn ImageHand>, tracks }.run(shutdown.clone()),
    );
    tasks.spawn_last("restart", Restart { world: Arc::clone(world), hand, containers, left }.run(shutdown.clone()));
    let here = Arc::clone(world);
    tasks.spawn("presence", async move { presence::run(&here).await });
    tasks.spawn("engine events", EngineEvents { world: Arc::clone(world), wakes: wake.clone() }.run());
    tasks.spawn("settling", triggers::settling::run(Arc::clone(world)));
    let mirror = Arc::clone(&world.mirror);
    tasks.spawn("store mirror", async move { mirror.keep().await });
    tasks.spawn("store watch", StoreWatch { world: Arc::clone(world), wakes: wake.clone() }.run());
    tasks.spawn("timer", triggers::timer(config.interval, wake));
    tasks.spawn("intake", intake.run(shutdown.clone()));
    let (call_back, callbacks) = mpsc::channel(CALLBACKS_MAX);
    if config.hooks.iter().any(|hook| hook.callback) {
        tasks.spawn("callbacks", Caller::new(callbacks, Outside::system()).run());
    }
    let hooks = http::router(config.hooks.clone(), sink, call_back, Arc::clone(&world.ambient));
    tasks.spawn("hooks", http::serve(listener, hooks, TaskTracker::new(), shutdown.clone()));
    let api = control::router(Arc::clone(world), shutdown.clone());
    tasks.spawn("control", async move {
        let api = api.into_make_service_with_connect_info::<control::Peer>();
        let serving = axum::serve(socket, api).with_graceful_shutdown(shutdown.cancelled_owned());
        if let Err(error) = serving.await {
            tracing::error!(error = %error, "the local API ended");
        }
    });
}

/// Every task, by name.
#[derive(Default)]
struct Tasks {
    running: JoinSet<&'static str>,
    /// What must come to its own end: a replacement past its fence.
    last: JoinSet<&'static str>,
    shutdown: CancellationToken,
}

impl Tasks {
    fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.running.spawn(named(name, task));
    }

    fn spawn_last(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        self.last.spawn(named(name, task));
    }

    /// Waits for a signal, then for what must come to its own end.
    async fn wait(mut self) -> anyhow::Result<()> {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            Some(ended) = self.running.join_next() => return died(ended),
            Some(ended) = self.last.join_next() => return died(ended),
        }
        tracing::info!("shutting down; a replacement under way is finished first");
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
        self.shutdown.cancel();
        while let Some(ended) = self.last.join_next().await {
            ended.context("the restart stage failed while shutting down")?;
        }
        self.running.shutdown().await;
        Ok(())
    }
}

async fn named(name: &'static str, task: impl Future<Output = ()>) -> &'static str {
    task.await;
    name
}

fn died(ended: Result<&'static str, tokio::task::JoinError>) -> anyhow::Result<()> {
    match ended {
        Ok(name) => bail!("the {name} task ended before the shutdown"),
        Err(error) => Err(error).context("a task died"),
    }
}

/// An engine that does not answer is waited for; one that is too old is not.
async fn wait_for_engine(engine: &Docker, ambient: &Ambient) -> anyhow::Result<EngineInfo> {
    let mut failures = 0;
    loop {
        match engine.info().await {
            Ok(info) => return Ok(info),
            Err(error @ EngineError::Refused { status: 400, .. }) => return Err(error.into()),
            Err(error) => {
                failures += 1;
                tracing::warn!(error = %error, "waiting for the engine");
                tokio::time::sleep(Backoff::CONNECTION.wait(failures, ambient.random())).await;
            }
        }
    }
}
