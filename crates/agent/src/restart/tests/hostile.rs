//! What strangers push, write or answer, and what a fault of our own comes to.

use deployer_core::availability::Report;
use deployer_core::replacement::Facts;
use serde_json::{Value, json};

use super::*;

/// What a pushed image says is added up: `HEALTHCHECK --interval=2562047h --timeout=2562047h --retries=2147483647
/// --start-period=1s` once ended every daemon that ran the track.
#[tokio::test(start_paused = true)]
async fn security_1_a_healthcheck_beyond_all_measure_does_not_end_the_daemon() {
    let most = 9_223_369_200_000_000_000_u64;
    let check = json!({"Test": ["CMD", "true"], "Interval": most, "Timeout": most, "Retries": 2_147_483_647,
                       "StartPeriod": 1_000_000_000});
    let (_fixture, facts) = prefetched(|body| body["Healthcheck"] = check).await;
    let facts = facts.expect("found");
    assert_eq!(facts.gate.timeout_ms, 3_600_000, "an hour at most");
}

/// What prefetch makes of the container with a change of what it was made with.
async fn prefetched(change: impl FnOnce(&mut Value)) -> (Fixture, Result<Facts, String>) {
    let fixture = stale_with(change).await;
    let world = &fixture.world;
    let survey = Survey::of(world).await.expect("seen");
    let view = TrackView::of(world, &survey, &track(), Answer::NotAsked).await.expect("read");
    let supervisors = Supervisors::default();
    let facts = prefetch::prefetch(&fixture.site(), &survey, &supervisors, &view, &view.decisions[0]).await;
    (fixture, facts.map_err(|error| error.to_string()))
}

#[tokio::test(start_paused = true)]
async fn security_7_a_container_that_may_take_longer_than_an_hour_to_stop_is_left_alone() {
    for (seconds, labelled, expected) in [
        (json!(null), None, Ok(10_000)),
        (json!(3600), None, Ok(3_600_000)),
        (json!(3601), None, Err("to stop (--stop-timeout 3601)")),
        (json!(i64::MAX), None, Err("to stop (--stop-timeout 9223372036854775807)")),
        (json!(-1), None, Err("to stop (--stop-timeout -1)")),
        (json!(-1), Some("1h"), Ok(3_600_000)),
        (json!(86400), Some("90s"), Ok(90_000)),
    ] {
        let (_fixture, facts) = prefetched(|body| {
            body["StopTimeout"] = seconds.clone();
            if let Some(label) = labelled {
                body["Labels"] = json!({"deployer.stop.timeout": label});
            }
        })
        .await;
        match (facts.map(|facts| facts.grace_ms), expected) {
            (Ok(grace), Ok(expected)) => assert_eq!(grace, expected, "{seconds}"),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{seconds}: {error}"),
            (outcome, _) => panic!("{seconds}: {outcome:?}"),
        }
    }
}

/// The limit is the gate's, and a person is told that it is not the image's.
#[tokio::test(start_paused = true)]
async fn security_7_a_healthcheck_beyond_an_hour_is_cut_with_a_note() {
    for (interval_seconds, expected) in [(1_u64, false), (899, false), (901, true)] {
        let check =
            json!({"Test": ["CMD", "true"], "Interval": interval_seconds * 1_000_000_000, "Timeout": 1, "Retries": 3});
        let fixture = stale_with(|body| body["Healthcheck"] = check).await;
        let mut told = fixture.world.account.follow();
        let shutdown = CancellationToken::new();
        shutdown.cancel();
        replace(&fixture.site(), "web", &shutdown).await.expect("decided");
        let notes: Vec<String> = std::iter::from_fn(|| told.try_recv().ok()).map(|line| line.text).collect();
        let note = notes.iter().find(|text| text.contains("HEALTHCHECK"));
        assert_eq!(note.is_some(), expected, "{notes:?}");
    }
}

/// Hands the container to the stage, and lets an hour go by.
async fn an_hour_of_the_stage(fixture: &Fixture, left: Vec<Replacement>) {
    let (sender, containers) = mpsc::channel(9);
    if left.is_empty() {
        sender.send("web".to_owned()).await.expect("a place");
    }
    let left = left.into_iter().map(Left::from).collect();
    let restart = Restart { world: Arc::clone(&fixture.world), hand: fixture.hand(), containers, left };
    let outcome = tokio::time::timeout(Duration::from_secs(3600), restart.run(CancellationToken::new())).await;
    assert!(outcome.is_err(), "the stage goes on");
}

#[tokio::test(start_paused = true)]
async fn security_1_a_panic_before_a_replacement_is_trouble_of_this_node() {
    let fixture = stale().await;
    fixture.engine.panic_at("changes");
    an_hour_of_the_stage(&fixture, Vec::new()).await;
    let failed = fixture.world.memory().troubles.all();
    assert!(matches!(&failed[..], [Trouble::Failed(reason)] if reason.contains("a fault of our own")), "{failed:?}");
}

/// The old one serves again, the slot is free, and nothing is tried again by itself.
#[tokio::test(start_paused = true)]
async fn security_1_a_panic_in_an_act_leads_back() {
    for panics in ["tag", "create"] {
        let fixture = stale().await;
        fixture.engine.panic_at(panics);
        an_hour_of_the_stage(&fixture, Vec::new()).await;
        let world = &fixture.world;
        let calls = fixture.engine.calls_of(panics);
        assert!((1..10).contains(&calls), "{panics}: {calls}");
        assert_eq!(world.journals.all().expect("read"), [], "{panics}");
        assert_eq!(world.store.list(&world.keys.locks()).await.expect("listed").0, [], "{panics}");
        assert_eq!(world.memory().troubles.all().len(), 1, "{panics}");
    }
}

/// What cannot be brought to its end keeps its journal for the next start, is shown, and takes no processor time.
#[tokio::test(start_paused = true)]
async fn security_1_a_panic_on_the_way_back_keeps_the_journal() {
    let fixture = fixture().await;
    fixture.run_and_stop("web.old-00c0ffee");
    fixture.engine.panic_at("start");
    an_hour_of_the_stage(&fixture, vec![returning()]).await;
    let world = &fixture.world;
    let phases: Vec<Phase> = world.journals.all().expect("read").iter().map(|journal| journal.phase).collect();
    assert_eq!(phases, [Phase::PolicyBack]);
    let calls = fixture.engine.calls_of("start");
    assert!((2..30).contains(&calls), "{calls} tries in an hour");
    let doing = world.memory().replacing.doing("web").unwrap_or_default();
    assert!(doing.starts_with("stuck: ") && doing.contains("a fault of our own"), "{doing}");
}

/// Claims what `web` waits for while there is a value that makes no sense under a key; `Err`: why it still waits.
async fn claim_beside(key: &str) -> Result<Event, String> {
    let fixture = fixture().await;
    let world = &fixture.world;
    fixture.run("web");
    let report =
        Report { up: true, id: id(1), image_id: image(1), digest: None, state: String::new(), reason: String::new() };
    let txn = Txn::new().put(key.to_owned(), &"nonsense").put(world.keys.report("web", "a", "web"), &report);
    world.store.txn(txn).await.expect("stored");
    let mut replacement = replacement();
    let verdict = world.store.get(&world.keys.verdict("web", &digest(2))).await.expect("read");
    let halt = world.store.get(&world.keys.halt(&track())).await.expect("read");
    replacement.facts.grounds.verdict = verdict.map_or(0, |entry| entry.mod_revision);
    replacement.facts.grounds.halt = halt.map_or(0, |entry| entry.mod_revision);
    let shutdown = CancellationToken::new();
    let site = fixture.site();
    let claim = acts::carry_out(&site, &mut replacement, Act::Claim, &shutdown);
    match tokio::time::timeout(Duration::from_secs(60), claim).await {
        Ok(outcome) => outcome.map_err(|error| error.to_string()),
        Err(_) => Err(world.memory().replacing.doing("web").unwrap_or_default()),
    }
}

/// Passed over, but where safety rests on it: nobody goes down beside a claim that cannot be read, or an instance of which
/// only the key is known.
#[tokio::test(start_paused = true)]
async fn security_11_nothing_but_a_claim_or_an_instance_keeps_a_slot_from_being_taken() {
    let keys = fixture().await.world.keys.clone();
    for key in [
        format!("{}x", keys.all_instances()),
        format!("{}x/y", keys.instances("web")),
        format!("{}x", keys.reports("web")),
        keys.report("web", "gone", "web"),
        keys.node("gone"),
        keys.ticket("cluster", "0000000000000000-0-0-0000000000000000-0000000000000000", "gone", "web"),
        keys.deferral("cluster", &track()),
        keys.verdict("web", &digest(2)),
        keys.verdict("web", &digest(3)),
        keys.fetched_by(&track(), "gone"),
        keys.halt(&track()),
        keys.pending(&track()),
        keys.resolver(&track()),
    ] {
        assert_eq!(claim_beside(&key).await, Ok(Event::Done), "{key}");
    }
    let claim = claim_beside(&keys.claim("cluster", 0)).await.expect_err("it may be down");
    assert!(claim.contains(&keys.claim("cluster", 0)), "{claim}");
    let instance = claim_beside(&keys.instance("web", "gone", "web")).await.expect_err("it may be down");
    assert_eq!(instance, "waiting for web on gone to be up");
}

/// A verdict that nobody can read kept the way back, and with it the slot, waiting for ever.
#[tokio::test(start_paused = true)]
async fn security_11_a_verdict_is_written_over_one_that_makes_no_sense() {
    let fixture = fixture().await;
    let world = &fixture.world;
    let key = world.keys.verdict("web", &digest(2));
    world.store.txn(Txn::new().put(key, &"nonsense")).await.expect("stored");
    for opinion in [Opinion::Bad, Opinion::Good] {
        let standing = ledger::write_verdict(world, "web", &digest(2), opinion, "seen here").await;
        assert_eq!(standing, Ok(Opinion::Bad), "the first that makes sense stands");
    }
}

/// The ports that the candidate must answer on, with every one of the predecessor's answering.
async fn ports_required(change: impl FnOnce(&mut Value), old_image: &[u16], new_image: &[u16]) -> Vec<u16> {
    let fixture = stale_with(change).await;
    fixture.registry.expose(&digest(1), old_image);
    fixture.registry.expose(&digest(2), new_image);
    let world = &fixture.world;
    let survey = Survey::of(world).await.expect("seen");
    let view = TrackView::of(world, &survey, &track(), Answer::NotAsked).await.expect("read");
    let supervisors = Supervisors::default();
    let facts = prefetch::prefetch(&fixture.site(), &survey, &supervisors, &view, &view.decisions[0]).await;
    facts.expect("found").ports
}

/// What runs has no say in what its successor serves: a version that drops a port was found bad everywhere and for good.
#[tokio::test(start_paused = true)]
async fn security_8_a_port_that_the_new_image_dropped_is_not_required() {
    // The container shows its user's ports and its image's together.
    let of_image = |_: &mut Value| {};
    assert_eq!(ports_required(of_image, &[80, 3012], &[80]).await, [80], "dropped");
    assert_eq!(ports_required(of_image, &[80, 3012], &[]).await, [0; 0], "all dropped");
    assert_eq!(ports_required(of_image, &[80, 3012], &[80, 3012]).await, [80, 3012], "kept");
    let by_user = |body: &mut Value| body["ExposedPorts"] = json!({"9000/tcp": {}});
    assert_eq!(ports_required(by_user, &[80, 3012], &[80]).await, [80, 9000], "the user's own");
    let published = |body: &mut Value| {
        body["HostConfig"]["PortBindings"] = json!({"3012/tcp": [{"HostPort": "3012"}], "53/udp": []});
    };
    assert_eq!(ports_required(published, &[80, 3012], &[80]).await, [80, 3012], "published");
    let labelled = |body: &mut Value| body["Labels"] = json!({"deployer.health.tcp": "8080"});
    assert_eq!(ports_required(labelled, &[80, 3012], &[80]).await, [8080], "labelled");
    assert_eq!(ports_required(of_image, &[], &[90]).await, [90], "new, and answered by chance");
}

/// Hands the container to the stage while calls of a method fail, for so long; then lets the rest of an hour go by.
async fn an_hour_with_failing(method: &'static str, error: EngineError, seconds: u64) -> Fixture {
    let fixture = stale().await;
    fixture.engine.writes("web", "/etc/changed");
    fixture.engine.refuse(method, error);
    let mends = async {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        fixture.engine.permit(method);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = an_hour_of_the_stage(&fixture, Vec::new()) => {}
        () = mends => {}
    }
    fixture
}

/// Whether anything was done to the container: the first act that others see moves the tag.
fn was_begun(fixture: &Fixture) -> bool {
    fixture.engine.calls_of("tag") > 0
}

/// One moment of weakness of the engine is no reason to let nobody in the cluster deploy.
#[tokio::test(start_paused = true)]
async fn versions_b6_a_call_that_fails_once_halts_nothing() {
    for method in ["changes", "inspect image", "file"] {
        let fixture = an_hour_with_failing(method, refused(), 1).await;
        assert!(was_begun(&fixture), "{method}: {:?}", fixture.world.memory().replacing);
    }
}

/// What the engine refuses again and again is trouble; of its files alone, the one container's.
#[tokio::test(start_paused = true)]
async fn versions_b6_a_call_that_goes_on_failing_is_trouble() {
    for (method, is_refused) in [("changes", true), ("file", true), ("inspect image", false)] {
        let fixture = an_hour_with_failing(method, refused(), 3600).await;
        let failed = fixture.world.memory().troubles.all();
        let [trouble] = &failed[..] else { panic!("{method}: {failed:?}") };
        assert_eq!(matches!(trouble, Trouble::Refused(_)), is_refused, "{method}: {trouble:?}");
        assert!(!was_begun(&fixture), "{method}");
    }
}

/// Podman shows by Docker's API less than a container was made with: addresses, kernel settings and rules of devices were lost
/// without a word.
#[tokio::test(start_paused = true)]
async fn engines_a3_what_an_engine_does_not_show_whole_is_left_alone_and_halts_nothing() {
    let fixture = stale().await;
    fixture.engine.hide_settings();
    an_hour_of_the_stage(&fixture, Vec::new()).await;
    let failed = fixture.world.memory().troubles.all();
    let [Trouble::Refused(reason)] = &failed[..] else { panic!("{failed:?}") };
    assert!(reason.starts_with("Podman is not served"), "{reason}");
    assert!(!was_begun(&fixture));
}

/// A list that is longer than is read will be as long the next time.
#[tokio::test(start_paused = true)]
async fn security_8_a_container_with_too_many_changes_is_left_alone_and_halts_nothing() {
    let long = EngineError::TooLong { what: "list changes".into(), message: "longer than 50000".into() };
    let fixture = an_hour_with_failing("changes", long, 3600).await;
    let failed = fixture.world.memory().troubles.all();
    assert!(matches!(&failed[..], [Trouble::Refused(reason)] if reason.contains("50000")), "{failed:?}");
    let calls = fixture.engine.calls_of("changes");
    assert_eq!(calls, 1, "it is not tried again");
}

/// The engine walks a whole file system for each such call.
#[tokio::test(start_paused = true)]
async fn versions_b7_what_the_engine_takes_too_long_for_is_asked_for_ever_more_rarely_and_shown() {
    let timeout = EngineError::Timeout { what: "list changes".into(), limit: Duration::from_secs(60) };
    let fixture = an_hour_with_failing("changes", timeout, 3600).await;
    let calls = fixture.engine.calls_of("changes");
    assert!((5..30).contains(&calls), "{calls} in an hour");
    let doing = fixture.world.memory().replacing.doing("web").unwrap_or_default();
    assert!(doing.starts_with("waiting for the engine") && doing.contains("list changes"), "{doing}");
    assert_eq!(fixture.world.memory().troubles.all().len(), 0, "nothing is known to be wrong");
}

/// A further replacement that cannot begin says nothing of what the one before owes.
#[tokio::test(start_paused = true)]
async fn versions_b7_what_has_to_run_is_started_while_the_next_replacement_rests() {
    let fixture = fixture().await;
    fixture.run_and_stop("web.old-00c0ffee");
    fixture.engine.refuse("start", refused());
    let starts = || fixture.engine.calls_of("start");
    let (_sender, containers) = mpsc::channel(9);
    let restart =
        Restart { world: Arc::clone(&fixture.world), hand: fixture.hand(), containers, left: vec![returning().into()] };
    let mut stage = Box::pin(restart.run(CancellationToken::new()));
    let an_hour = Duration::from_secs(3600);
    assert!(tokio::time::timeout(an_hour, &mut stage).await.is_err(), "the stage goes on");
    let reason = prefetch::PrefetchError::Engine(refused());
    fixture.world.memory().replacing.put_off("web", reason.to_string(), 3, 24 * an_hour);
    let tried = starts();
    assert!(tokio::time::timeout(an_hour, &mut stage).await.is_err(), "the stage goes on");
    assert!(starts() > tried, "it goes on trying");
}
