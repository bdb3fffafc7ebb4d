//! The machine around deployer: the engine, Docker's logins, the clocks.

use super::{Away, Clock, Engine, EngineFacts, Finding, Logins};

/// Seconds that two clocks may differ. A call takes a part of one; signed hooks tolerate 300.
const CLOCK_SECONDS_MAX: u64 = 5;

pub fn engine(facts: &EngineFacts) -> Vec<Finding> {
    let address = &facts.address;
    let away = match &facts.answer {
        Ok(engine) => return vec![introduction(address, engine), mode(engine), registries(engine)],
        Err(away) => away,
    };
    let problem = |found: String| Finding::problem("engine", found);
    vec![match away {
        Away::Missing => {
            problem(format!("there is no {address}")).hint("start the engine, or say where it is with docker = \"…\"")
        }
        Away::Refused => problem(format!("nobody answers at {address}")).hint("start it: systemctl start docker"),
        Away::Denied => problem(format!("this user may not use the engine at {address}"))
            .hint("be root, or a member of the socket's group"),
        Away::TooOld(message) => problem(message.clone()).hint("upgrade the engine"),
        Away::Silent(message) => problem(message.clone()).hint("see the engine's log: journalctl -u docker"),
    }]
}

fn introduction(address: &str, engine: &Engine) -> Finding {
    let Engine { product, version, api: (major, minor), .. } = engine;
    Finding::ok("engine", format!("{product} {version} at {address}, spoken to with API {major}.{minor}"))
}

fn is_denied(engine: &Engine, call: &str) -> bool {
    engine.denied.iter().any(|denied| denied == call)
}

/// Who asks registries what a tag points to. Either will do: a login and a certificate that the one finds the other finds, too.
fn registries(engine: &Engine) -> Finding {
    let ok = |found: &str| Finding::ok("registries", found);
    if is_denied(engine, "/distribution") {
        return ok("asked by deployer itself: the engine, or what filters its socket, has no /distribution")
            .hint("this machine needs a way to them, and certificates of its own lie in /etc/docker/certs.d");
    }
    ok("asked by the engine")
}

fn mode(engine: &Engine) -> Finding {
    let ok = |found: &str| Finding::ok("engine mode", found);
    if is_denied(engine, "/info") {
        return ok("not told: what filters the engine's socket lets no /info through");
    }
    match (engine.product.as_str(), engine.is_in_swarm, engine.has_live_restore) {
        ("podman", _, _) => Finding::problem(
            "engine mode",
            "Podman is not served by this version: its containers are left as they are",
        )
        .hint("it shows by Docker's API less than a container was made with; run what is to be deployed on Docker"),
        (_, true, _) => ok("swarm; the containers of its services are left alone"),
        (_, false, true) => ok("live-restore; containers outlive a restart of the engine"),
        (_, false, false) => ok("no live-restore: a restart of the engine stops every container")
            .hint("\"live-restore\": true in its daemon.json changes that"),
    }
}

pub fn logins(logins: &Logins) -> Finding {
    match logins {
        Logins::Absent => Finding::ok("logins", "none: what is pulled must be open to everybody"),
        Logins::Broken(message) => Finding::problem("logins", message.clone()),
        Logins::Here { file, helpers } => match helpers.iter().find(|helper| !helper.is_there) {
            Some(missing) => Finding::problem("logins", format!("{file} names {}, which is not here", missing.program))
                .hint("install it, or take it out of that file and log in again"),
            None if helpers.is_empty() => Finding::ok("logins", format!("those in {file}")),
            None => {
                let programs: Vec<&str> = helpers.iter().map(|helper| helper.program.as_str()).collect();
                Finding::ok("logins", format!("those in {file}, with {}", programs.join(", ")))
            }
        },
    }
}

pub fn clock(clock: &Clock) -> Vec<Finding> {
    let kernel = match clock.is_synchronised {
        Some(true) => Finding::ok("clock", "the kernel says that it is synchronised"),
        Some(false) => Finding::warning("clock", "the kernel says that it is not synchronised")
            .hint("run a time service: systemctl enable --now systemd-timesyncd, or chrony"),
        None => Finding::warning("clock", "whether it is synchronised cannot be told: timedatectl does not say")
            .hint("compare it with another machine's: date"),
    };
    let engine = clock.engine_ahead.map(|seconds| match seconds.unsigned_abs() {
        0..=CLOCK_SECONDS_MAX => Finding::ok("engine's clock", "it agrees with this machine's"),
        off => {
            let which = if seconds > 0 { "ahead of" } else { "behind" };
            Finding::warning("engine's clock", format!("it is {off} s {which} this machine's"))
                .hint("set both by a time service; a virtual machine's clock stands still while it sleeps")
        }
    });
    std::iter::once(kernel).chain(engine).collect()
}
