//! A sound installation, and one thing changed at a time.

use super::*;

fn sound() -> Facts {
    let engine = Engine {
        product: "docker".to_owned(),
        version: "20.10.24".to_owned(),
        api: (1, 41),
        is_in_swarm: false,
        has_live_restore: true,
        denied: Vec::new(),
    };
    let state_dir = StateDir::There { owner: 0, mode: 0o750, looker: 0, is_writable: true, lock: Lock::Unknown };
    Facts {
        version: "1.2.3".to_owned(),
        settings: Settings {
            file: "/etc/deployer/deployer.toml".to_owned(),
            is_there: true,
            hooks: vec![route("/hooks/ci", false)],
            socket: "/var/lib/deployer/deployer.sock".to_owned(),
            socket_asked: "/var/lib/deployer/deployer.sock".to_owned(),
        },
        engine: EngineFacts { address: "unix:///var/run/docker.sock".to_owned(), answer: Ok(engine) },
        logins: Logins::Here { file: "/root/.docker/config.json".to_owned(), helpers: Vec::new() },
        state_dir: ("/var/lib/deployer".to_owned(), state_dir),
        daemon: Daemon::Answers { version: "1.2.3".to_owned() },
        store: Store::Unknown,
        listener: Listener { address: Some("192.0.2.1:7380".parse().expect("an address")), health: Health::Ready },
        clock: Clock { is_synchronised: Some(true), engine_ahead: Some(0) },
    }
}

fn route(path: &str, is_open: bool) -> Route {
    Route { path: path.to_owned(), is_open }
}

fn print(facts: &Facts) -> Vec<String> {
    judge(facts).iter().map(ToString::to_string).collect()
}

/// What is said otherwise than of a sound installation, after a change.
#[track_caller]
fn check(change: impl FnOnce(&mut Facts), expected: &[&str]) {
    let mut facts = sound();
    change(&mut facts);
    let usual = print(&sound());
    let unusual: Vec<String> = print(&facts).into_iter().filter(|line| !usual.contains(line)).collect();
    let unusual: Vec<String> =
        unusual.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(unusual, expected);
}

#[test]
fn a_sound_installation_reads_well() {
    insta::assert_snapshot!(print(&sound()).join("\n"), @r"
    ok       configuration   /etc/deployer/deployer.toml can be read
    ok       engine          docker 20.10.24 at unix:///var/run/docker.sock, spoken to with API 1.41
    ok       engine mode     live-restore; containers outlive a restart of the engine
    ok       registries      asked by the engine
    ok       logins          those in /root/.docker/config.json
    ok       state           /var/lib/deployer belongs to user 0, mode 0750, used by the running daemon
    ok       daemon          deployer 1.2.3 answers at /var/lib/deployer/deployer.sock
    ok       store           it answers the daemon
    ok       hooks           one, with a secret
    ok       listener        deployer takes hooks at 192.0.2.1:7380
    ok       clock           the kernel says that it is synchronised
    ok       engine's clock  it agrees with this machine's
    ");
}

#[test]
fn a_first_look_before_anything_was_started_says_what_to_do_in_order() {
    let mut facts = sound();
    facts.settings = Settings { is_there: false, hooks: Vec::new(), ..facts.settings };
    facts.engine.answer = Err(Away::Denied);
    facts.logins = Logins::Absent;
    facts.state_dir.1 = StateDir::Missing;
    facts.daemon = Daemon::Absent;
    facts.store = Store::Absent;
    facts.listener = Listener { address: Some("127.0.0.1:7380".parse().expect("an address")), health: Health::Nobody };
    facts.clock = Clock { is_synchronised: None, engine_ahead: None };
    insta::assert_snapshot!(print(&facts).join("\n"), @r#"
    ok       configuration   there is no /etc/deployer/deployer.toml: flags, environment and defaults hold
    problem  engine          this user may not use the engine at unix:///var/run/docker.sock; be root, or a member of the socket's group
    ok       logins          none: what is pulled must be open to everybody
    warning  state           there is no /var/lib/deployer; deployer run makes it
    problem  daemon          nobody answers at /var/lib/deployer/deployer.sock; start it: systemctl start deployer; its log says what keeps it
    ok       store           there is none yet; deployer run makes it
    warning  hooks           none is configured: a push is noticed by registry_check alone; add a [[hook]], see docs/usage/hooks.md
    ok       listener        127.0.0.1:7380 is free
    warning  clock           whether it is synchronised cannot be told: timedatectl does not say; compare it with another machine's: date
    "#);
}

#[test]
fn programs_get_the_same_findings() {
    let findings = [Finding::ok("clock", "it runs"), Finding::problem("store", "it is gone").hint("look for it")];
    insta::assert_snapshot!(serde_json::to_string_pretty(&findings).expect("JSON"), @r#"
    [
      {
        "check": "clock",
        "level": "ok",
        "found": "it runs"
      },
      {
        "check": "store",
        "level": "problem",
        "found": "it is gone",
        "hint": "look for it"
      }
    ]
    "#);
}

#[test]
fn the_engine_is_told_apart_from_what_is_in_its_place() {
    let check = |away: Away, expected: &str| check(|facts| facts.engine.answer = Err(away), &[expected]);
    check(
        Away::Missing,
        "problem engine there is no unix:///var/run/docker.sock; \
         start the engine, or say where it is with docker = \"…\"",
    );
    check(
        Away::Refused,
        "problem engine nobody answers at unix:///var/run/docker.sock; start it: systemctl start docker",
    );
    check(
        Away::Denied,
        "problem engine this user may not use the engine at unix:///var/run/docker.sock; \
         be root, or a member of the socket's group",
    );
    check(Away::TooOld("it is version 19".to_owned()), "problem engine it is version 19; upgrade the engine");
    check(
        Away::Silent("no answer within 5s".to_owned()),
        "problem engine no answer within 5s; see the engine's log: journalctl -u docker",
    );
}

#[test]
fn what_is_special_about_an_engine_is_noted() {
    let check = |change: fn(&mut Engine), expected: &[&str]| {
        check(|facts| facts.engine.answer.iter_mut().for_each(change), expected);
    };
    check(|engine| engine.is_in_swarm = true, &["ok engine mode swarm; the containers of its services are left alone"]);
    check(
        |engine| engine.has_live_restore = false,
        &["ok engine mode no live-restore: a restart of the engine stops every container; \
           \"live-restore\": true in its daemon.json changes that"],
    );
    check(
        |engine| engine.product = "podman".to_owned(),
        &[
            "ok engine podman 20.10.24 at unix:///var/run/docker.sock, spoken to with API 1.41",
            "problem engine mode Podman is not served by this version: its containers are left as they are; \
             it shows by Docker's API less than a container was made with; run what is to be deployed on Docker",
        ],
    );
    check(
        |engine| engine.denied = vec!["/info".to_owned(), "/distribution".to_owned()],
        &[
            "ok engine mode not told: what filters the engine's socket lets no /info through",
            "ok registries asked by deployer itself: the engine, or what filters its socket, has no /distribution; \
             this machine needs a way to them, and certificates of its own lie in /etc/docker/certs.d",
        ],
    );
}

#[test]
fn a_helper_that_is_named_must_be_there() {
    let helper = |program: &str, is_there| Helper { program: program.to_owned(), is_there };
    let check = |logins, expected: &str| check(|facts| facts.logins = logins, &[expected]);
    let here = |helpers| Logins::Here { file: "/c.json".to_owned(), helpers };
    check(
        here(vec![helper("docker-credential-pass", true)]),
        "ok logins those in /c.json, with docker-credential-pass",
    );
    check(
        here(vec![helper("docker-credential-pass", true), helper("docker-credential-ecr", false)]),
        "problem logins /c.json names docker-credential-ecr, which is not here; \
         install it, or take it out of that file and log in again",
    );
    check(Logins::Broken("cannot read /c.json".to_owned()), "problem logins cannot read /c.json");
    check(Logins::Absent, "ok logins none: what is pulled must be open to everybody");
}

/// The folder, with the daemon as it is.
#[track_caller]
fn check_state(found: StateDir, daemon: Daemon, expected: &str) {
    let mut facts = sound();
    facts.state_dir.1 = found;
    facts.daemon = daemon;
    let line = print(&facts).into_iter().find(|line| line.contains("  state  ")).expect("a line");
    assert_eq!(line.split_whitespace().collect::<Vec<_>>().join(" "), expected);
}

#[test]
fn the_state_directory_belongs_to_one_daemon_that_answers() {
    let there = |looker, is_writable, lock| StateDir::There { owner: 0, mode: 0o750, looker, is_writable, lock };
    let silent = || Daemon::Silent("no answer within 5s".to_owned());
    check_state(
        there(0, true, Lock::Free),
        Daemon::Absent,
        "ok state /var/lib/deployer belongs to user 0, mode 0750, used by nobody",
    );
    check_state(
        there(1000, false, Lock::Unknown),
        Daemon::Denied,
        "ok state /var/lib/deployer belongs to user 0, mode 0750, used by the running daemon",
    );
    for daemon in [Daemon::Absent, silent()] {
        check_state(
            there(0, true, Lock::Held),
            daemon,
            "problem state /var/lib/deployer is in use by a deployer that does not answer at its socket; \
             look for it with fuser /var/lib/deployer/lock; stop it, or give one of the two another state_dir",
        );
    }
    check_state(
        there(1000, false, Lock::Unknown),
        Daemon::Absent,
        "warning state /var/lib/deployer cannot be written by this user, 1000; \
         run doctor as the user that deployer runs as",
    );
    check_state(
        there(0, false, Lock::Free),
        Daemon::Absent,
        "problem state /var/lib/deployer cannot be written, not even by root; is its file system read-only?",
    );
    check_state(
        StateDir::There { owner: 7, mode: 0o777, looker: 0, is_writable: true, lock: Lock::Unknown },
        Daemon::Troubled("x".to_owned()),
        "problem state everybody may write to /var/lib/deployer, mode 0777; chmod o-w /var/lib/deployer",
    );
    check_state(
        StateDir::NoFolder,
        Daemon::Absent,
        "problem state /var/lib/deployer is no folder; give deployer one of its own: state_dir = \"…\"",
    );
    check_state(
        StateDir::Hidden("denied".to_owned()),
        Daemon::Absent,
        "warning state /var/lib/deployer cannot be looked at: denied; run doctor as the user that deployer runs as",
    );
}

#[test]
fn a_daemon_answers_is_of_this_version_and_is_the_one_that_is_asked() {
    let check_daemon = |daemon, expected: &[&str]| check(|facts| facts.daemon = daemon, expected);
    let answers = |version: &str| Daemon::Answers { version: version.to_owned() };
    let hint = "start the daemon again after an upgrade: systemctl restart deployer";
    let other = |its: &str| {
        format!("warning daemon deployer {its} answers at /var/lib/deployer/deployer.sock, and this is 1.2.3; {hint}")
    };
    check_daemon(answers("1.2.2"), &[&other("1.2.2")]);
    check_daemon(answers(""), &[&other("of another version")]);
    let unknown = "warning store only the daemon can tell; see what is said of the daemon";
    check_daemon(
        Daemon::Denied,
        &[
            "warning daemon this user may not ask at /var/lib/deployer/deployer.sock; \
           be root, or a member of the socket's group",
            unknown,
        ],
    );
    check_daemon(
        Daemon::Troubled("the engine is away".to_owned()),
        &[
            "problem daemon it answers at /var/lib/deployer/deployer.sock: the engine is away; \
           it goes on by itself once that is mended",
            unknown,
        ],
    );
    check(
        |facts| facts.settings.socket_asked = "/other.sock".to_owned(),
        &["warning daemon other subcommands ask at /other.sock; \
           set DEPLOYER_SOCKET=/var/lib/deployer/deployer.sock"],
    );
}

#[track_caller]
fn check_line(word: &str, change: impl FnOnce(&mut Facts), expected: &str) {
    let mut facts = sound();
    change(&mut facts);
    let lines: Vec<String> = judge(&facts)
        .iter()
        .filter(|finding| finding.check == word)
        .map(|finding| finding.to_string().split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(lines, [expected]);
}

#[test]
fn without_a_daemon_the_store_speaks_for_itself() {
    let check = |store, expected: &str| {
        check_line(
            "store",
            |facts| {
                facts.daemon = Daemon::Absent;
                facts.store = store;
            },
            expected,
        );
    };
    check(Store::Absent, "ok store there is none yet; deployer run makes it");
    check(Store::Sound, "ok store its file opens");
    check(Store::Unfinished, "ok store its file was not closed; deployer run repairs it");
    check(Store::Broken("it is damaged".to_owned()), "problem store it is damaged");
    check(Store::Shared, "ok store etcd answers");
    check(Store::Away("no answer".to_owned()), "problem store no answer; see docs/usage/etcd.md");
    check(Store::Unknown, "warning store only the daemon can tell; see what is said of the daemon");
}

#[test]
fn hooks_without_a_secret_are_told_one_by_one() {
    check(
        |facts| facts.settings.hooks = vec![route("/a", false), route("/b", true), route("/c", true)],
        &[
            "warning hooks anybody may call /b; set secret_file instead of insecure = true",
            "warning hooks anybody may call /c; set secret_file instead of insecure = true",
        ],
    );
    check(
        |facts| facts.settings.hooks = vec![route("/a", false), route("/b", false)],
        &["ok hooks 2, each with a secret"],
    );
}

#[test]
fn what_answers_where_hooks_are_taken_must_be_deployer() {
    let check = |address: &str, health, daemon, expected: &str| {
        check_line(
            "listener",
            |facts| {
                facts.listener = Listener { address: address.parse().ok(), health };
                facts.daemon = daemon;
            },
            expected,
        );
    };
    let runs = || Daemon::Answers { version: "1.2.3".to_owned() };
    let outside = "192.0.2.1:7380";
    for address in ["127.0.0.1:7380", "[::1]:7380"] {
        let hint = "from other machines only through a proxy here; without one, set listen = \"0.0.0.0:7380\"";
        check(address, Health::Ready, runs(), &format!("ok listener deployer takes hooks at {address}; {hint}"));
    }
    check(
        outside,
        Health::NotReady("the store is away".to_owned()),
        runs(),
        "warning listener no hook is taken at 192.0.2.1:7380: the store is away; \
         see what is said of the engine and the store",
    );
    check(
        outside,
        Health::Nobody,
        runs(),
        "problem listener nobody answers at 192.0.2.1:7380, though the daemon runs; \
         start it again, if listen was changed meanwhile: systemctl restart deployer",
    );
    check(outside, Health::Nobody, Daemon::Absent, "ok listener 192.0.2.1:7380 is free");
    for daemon in [runs(), Daemon::Absent] {
        check(
            outside,
            Health::Stranger,
            daemon,
            "problem listener another program answers at 192.0.2.1:7380; \
             stop it, or give deployer another address: listen = \"…\"",
        );
    }
    check(
        outside,
        Health::Silent("no answer within 5s".to_owned()),
        Daemon::Absent,
        "problem listener no answer from 192.0.2.1:7380: no answer within 5s; see who listens there: ss -ltnp",
    );
    check("none", Health::Nobody, Daemon::Absent, "ok listener a free port is taken when the daemon starts");
}

#[test]
fn clocks_may_differ_by_a_few_seconds() {
    let check_seconds =
        |seconds: i64, expected: &[&str]| check(|facts| facts.clock.engine_ahead = Some(seconds), expected);
    let hint = "set both by a time service; a virtual machine's clock stands still while it sleeps";
    for seconds in [-5, -1, 0, 5] {
        check_seconds(seconds, &[]);
    }
    check_seconds(6, &[&format!("warning engine's clock it is 6 s ahead of this machine's; {hint}")]);
    check_seconds(-3600, &[&format!("warning engine's clock it is 3600 s behind this machine's; {hint}")]);
    check(
        |facts| facts.clock.is_synchronised = Some(false),
        &["warning clock the kernel says that it is not synchronised; \
           run a time service: systemctl enable --now systemd-timesyncd, or chrony"],
    );
}
