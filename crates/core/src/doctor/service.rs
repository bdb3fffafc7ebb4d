//! deployer itself: its settings, its folder, the daemon, and what senders of hooks meet.

use super::{Daemon, Finding, Health, Listener, Lock, Route, Settings, StateDir, Store};

pub fn configuration(settings: &Settings) -> Finding {
    let Settings { file, is_there, .. } = settings;
    match is_there {
        true => Finding::ok("configuration", format!("{file} can be read")),
        false => Finding::ok("configuration", format!("there is no {file}: flags, environment and defaults hold")),
    }
}

pub fn state_dir((path, found): &(String, StateDir), daemon: &Daemon) -> Finding {
    let ok = |found: String| Finding::ok("state", found);
    let warning = |found: String| Finding::warning("state", found);
    let problem = |found: String| Finding::problem("state", found);
    let as_daemon = "run doctor as the user that deployer runs as";
    let (owner, mode, looker, is_writable, lock) = match found {
        StateDir::Missing => return warning(format!("there is no {path}")).hint("deployer run makes it"),
        StateDir::NoFolder => {
            return problem(format!("{path} is no folder")).hint("give deployer one of its own: state_dir = \"…\"");
        }
        StateDir::Hidden(message) => return warning(format!("{path} cannot be looked at: {message}")).hint(as_daemon),
        StateDir::There { owner, mode, looker, is_writable, lock } => (*owner, *mode, *looker, *is_writable, *lock),
    };
    let is_gone = matches!(daemon, Daemon::Absent | Daemon::Silent(_));
    if mode & 0o002 != 0 {
        return problem(format!("everybody may write to {path}, mode {mode:04o}")).hint(format!("chmod o-w {path}"));
    }
    if lock == Lock::Held && is_gone {
        return problem(format!("{path} is in use by a deployer that does not answer at its socket"))
            .hint(format!("look for it with fuser {path}/lock; stop it, or give one of the two another state_dir"));
    }
    if !is_writable && is_gone {
        return match looker {
            0 => problem(format!("{path} cannot be written, not even by root")).hint("is its file system read-only?"),
            _ => warning(format!("{path} cannot be written by this user, {looker}")).hint(as_daemon),
        };
    }
    let used = match (lock, is_gone) {
        (_, false) => "used by the running daemon",
        (Lock::Free, true) => "used by nobody",
        (_, true) => "whether it is used cannot be told",
    };
    ok(format!("{path} belongs to user {owner}, mode {mode:04o}, {used}"))
}

pub fn daemon(settings: &Settings, daemon: &Daemon, version: &str) -> Vec<Finding> {
    let Settings { socket, socket_asked, .. } = settings;
    let answer = match daemon {
        Daemon::Answers { version: its } if its == version => {
            Finding::ok("daemon", format!("deployer {version} answers at {socket}"))
        }
        Daemon::Answers { version: its } => {
            let its = if its.is_empty() { "of another version" } else { its };
            Finding::warning("daemon", format!("deployer {its} answers at {socket}, and this is {version}"))
                .hint("start the daemon again after an upgrade: systemctl restart deployer")
        }
        Daemon::Troubled(message) => Finding::problem("daemon", format!("it answers at {socket}: {message}"))
            .hint("it goes on by itself once that is mended"),
        Daemon::Absent => Finding::problem("daemon", format!("nobody answers at {socket}"))
            .hint("start it: systemctl start deployer; its log says what keeps it"),
        Daemon::Denied => Finding::warning("daemon", format!("this user may not ask at {socket}"))
            .hint("be root, or a member of the socket's group"),
        Daemon::Silent(message) => Finding::problem("daemon", format!("no answer from {socket}: {message}"))
            .hint("see its log: journalctl -u deployer"),
    };
    let elsewhere = (socket != socket_asked).then(|| {
        Finding::warning("daemon", format!("other subcommands ask at {socket_asked}"))
            .hint(format!("set DEPLOYER_SOCKET={socket}"))
    });
    std::iter::once(answer).chain(elsewhere).collect()
}

pub fn store(file: &Store, daemon: &Daemon) -> Finding {
    match (daemon, file) {
        (Daemon::Answers { .. }, _) => Finding::ok("store", "it answers the daemon"),
        (_, Store::Unknown) => {
            Finding::warning("store", "only the daemon can tell").hint("see what is said of the daemon")
        }
        (_, Store::Absent) => Finding::ok("store", "there is none yet; deployer run makes it"),
        (_, Store::Sound) => Finding::ok("store", "its file opens"),
        (_, Store::Unfinished) => Finding::ok("store", "its file was not closed; deployer run repairs it"),
        (_, Store::Broken(message)) => Finding::problem("store", message.clone()),
        (_, Store::Shared) => Finding::ok("store", "etcd answers"),
        (_, Store::Away(message)) => Finding::problem("store", message.clone()).hint("see docs/usage/etcd.md"),
    }
}

pub fn hooks(settings: &Settings) -> Vec<Finding> {
    let open: Vec<&Route> = settings.hooks.iter().filter(|hook| hook.is_open).collect();
    match (settings.hooks.len(), open.len()) {
        (0, _) => vec![
            Finding::warning("hooks", "none is configured: a push is noticed by registry_check alone")
                .hint("add a [[hook]], see docs/usage/hooks.md"),
        ],
        (1, 0) => vec![Finding::ok("hooks", "one, with a secret")],
        (count, 0) => vec![Finding::ok("hooks", format!("{count}, each with a secret"))],
        _ => open
            .iter()
            .map(|hook| {
                Finding::warning("hooks", format!("anybody may call {}", hook.path))
                    .hint("set secret_file instead of insecure = true")
            })
            .collect(),
    }
}

pub fn listener(settings: &Settings, listener: &Listener, daemon: &Daemon) -> Finding {
    let problem = |found: String| Finding::problem("listener", found);
    let Some(address) = listener.address else {
        return Finding::ok("listener", "a free port is taken when the daemon starts");
    };
    let is_running = matches!(daemon, Daemon::Answers { .. } | Daemon::Troubled(_));
    match &listener.health {
        Health::Ready if address.ip().is_loopback() && !settings.hooks.is_empty() => {
            Finding::ok("listener", format!("deployer takes hooks at {address}"))
                .hint("from other machines only through a proxy here; without one, set listen = \"0.0.0.0:7380\"")
        }
        Health::Ready => Finding::ok("listener", format!("deployer takes hooks at {address}")),
        Health::NotReady(message) => Finding::warning("listener", format!("no hook is taken at {address}: {message}"))
            .hint("see what is said of the engine and the store"),
        Health::Nobody if is_running => problem(format!("nobody answers at {address}, though the daemon runs"))
            .hint("start it again, if listen was changed meanwhile: systemctl restart deployer"),
        Health::Nobody => Finding::ok("listener", format!("{address} is free")),
        Health::Stranger => problem(format!("another program answers at {address}"))
            .hint("stop it, or give deployer another address: listen = \"…\""),
        Health::Silent(message) => {
            problem(format!("no answer from {address}: {message}")).hint("see who listens there: ss -ltnp")
        }
    }
}
