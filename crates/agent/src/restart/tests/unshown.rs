//! An engine that answers, and not for a certain container.

use super::*;

fn refuse_inspection(fixture: &Fixture) {
    let what = "inspect container".to_owned();
    fixture.engine.refuse("inspect container", EngineError::Refused { what, status: 500, message: "no".into() });
}

/// A daemon that begins while the engine shows none of what it left: whether it begins within a minute, and what is left then.
async fn begin(fixture: &Fixture) -> Option<Vec<Left>> {
    for txn in ["00000001", "00000002", "00000003"] {
        let left = Replacement { txn: txn.into(), ..returning() };
        fixture.world.journals.write(&left).expect("written");
    }
    refuse_inspection(fixture);
    let (world, hand) = (&fixture.world, fixture.hand());
    let beginning = recover_with_engine(world, hand.as_ref());
    let left = tokio::time::timeout(Duration::from_secs(60), beginning).await.ok()?;
    Some(left.expect("the journals are read"))
}

/// It waited for ever, with all that it left, and listened to nobody.
#[tokio::test(start_paused = true)]
async fn a_container_that_the_engine_does_not_show_keeps_no_daemon_from_beginning() {
    let fixture = fixture().await;
    let left = begin(&fixture).await.expect("it begins");
    assert_eq!(left.len(), 3, "nothing is lost");
    assert!(left.iter().all(|left| !left.is_taken_up && left.replacement.phase == Phase::Returning));
}

/// Nothing could be done beside it, and what should serve does so before anything else.
#[tokio::test(start_paused = true)]
async fn an_engine_that_is_away_is_waited_for() {
    let fixture = fixture().await;
    let gone = EngineError::Unreachable { what: "info".into(), address: "here".into(), message: "gone".into() };
    fixture.engine.refuse("info", gone);
    assert!(begin(&fixture).await.is_none());
}

/// The stage goes on asking, says so, ends when it is asked to, and starts the old one as soon as it is shown again.
#[tokio::test(start_paused = true)]
async fn what_the_engine_did_not_show_is_taken_up_when_it_does() {
    for shows_again in [true, false] {
        let fixture = fixture().await;
        fixture.run_and_stop("web.old-00c0ffee");
        refuse_inspection(&fixture);
        let left = vec![Left { replacement: returning(), is_taken_up: false }];
        fixture.world.journals.write(&left[0].replacement).expect("written");
        let (_sender, containers) = mpsc::channel(9);
        let restart = Restart { world: Arc::clone(&fixture.world), hand: fixture.hand(), containers, left };
        let shutdown = CancellationToken::new();
        let mut stage = Box::pin(restart.run(shutdown.clone()));
        let mut for_a_while = async || tokio::time::timeout(Duration::from_secs(300), &mut stage).await.is_ok();
        assert!(!for_a_while().await, "it goes on");
        let doing = fixture.world.memory().replacing.doing("web").unwrap_or_default();
        assert!(doing.starts_with("stuck: ") && doing.contains("inspect container"), "{doing}");
        if shows_again {
            fixture.engine.permit("inspect container");
            assert!(!for_a_while().await, "it goes on");
        }
        assert_eq!(fixture.engine.container_of("web").is_some_and(|it| it.2 == "running"), shows_again);
        shutdown.cancel();
        assert!(for_a_while().await, "it ends");
        assert_eq!(fixture.world.journals.all().expect("read").len(), usize::from(!shows_again));
    }
}

/// What is owed is looked at later, and a shutdown does not wait for it.
#[tokio::test(start_paused = true)]
async fn what_is_owed_and_not_shown_keeps_no_daemon_from_ending() {
    let fixture = fixture().await;
    fixture.run_and_stop("web");
    let owed = Replacement { phase: Phase::Returned, control: Some(false), ..returning() };
    fixture.world.memory().owed.note(owed, 0);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    refuse_inspection(&fixture);
    assert!(owing::due(&fixture.site(), "web").await.is_none());
    assert!(fixture.world.memory().owed.due("web").is_some_and(|due| due > tokio::time::Instant::now()));
    fixture.engine.permit("inspect container");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let due = owing::due(&fixture.site(), "web").await;
    assert_eq!(due.map(|replacement| replacement.phase), Some(Phase::Returning));
}
