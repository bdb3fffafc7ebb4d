//! `deployer doctor`: gathers what can be seen of an installation, and prints what core makes of it.

mod machine;
mod service;

use std::path::Path;
use std::time::Duration;

use deployer_core::doctor::{Clock, Facts, Finding, Level, Route, Settings, judge};
use serde::Serialize;

use super::{Ended, Format, say, status};
use crate::config::{Config, Flags, SOCKET};

/// How long each thing that is asked may take. What is healthy answers in milliseconds.
const LIMIT: Duration = Duration::from_secs(5);

/// What programs read.
#[derive(Serialize)]
struct Report {
    version: &'static str,
    findings: Vec<Finding>,
}

/// Looks at everything and says what is wrong.
pub async fn examine(flags: &Flags, socket_asked: &Path, format: Format) -> Result<(), Ended> {
    let findings = match Config::load(flags) {
        Ok(config) => judge(&gather(flags, &config, socket_asked).await),
        Err(error) => vec![
            Finding::problem("configuration", error.to_string())
                .hint("mend it first: the rest is looked at where it says"),
        ],
    };
    let problems = findings.iter().filter(|finding| finding.level == Level::Problem).count();
    match format {
        Format::Json => say::line(&status::json(&Report { version: env!("CARGO_PKG_VERSION"), findings })?)?,
        Format::Table => findings.iter().try_for_each(|finding| say::line(&finding.to_string()))?,
    }
    match problems {
        0 => Ok(()),
        1 => Err(Ended::Failed("one problem was found".to_owned())),
        _ => Err(Ended::Failed(format!("{problems} problems were found"))),
    }
}

async fn gather(flags: &Flags, config: &Config, socket_asked: &Path) -> Facts {
    let socket = config.state_dir.join(SOCKET);
    let (daemon, (engine, engine_ahead), listener, is_synchronised) = tokio::join!(
        service::daemon(&socket),
        machine::engine(&config.docker),
        service::listener(config),
        machine::is_clock_synchronised(),
    );
    let state_dir = service::state_dir(&config.state_dir, &daemon);
    let store = service::store(config, &state_dir, &daemon).await;
    Facts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        settings: Settings {
            file: flags.file().display().to_string(),
            is_there: flags.file().exists(),
            hooks: config.hooks.iter().map(route).collect(),
            socket: socket.display().to_string(),
            socket_asked: socket_asked.display().to_string(),
        },
        engine,
        logins: machine::logins(),
        state_dir: (config.state_dir.display().to_string(), state_dir),
        daemon,
        store,
        listener,
        clock: Clock { is_synchronised, engine_ahead },
    }
}

fn route(hook: &deployer_hooks::http::Hook) -> Route {
    Route { path: hook.shown_path(), is_open: matches!(hook.auth, deployer_core::webhook::Auth::Insecure) }
}
