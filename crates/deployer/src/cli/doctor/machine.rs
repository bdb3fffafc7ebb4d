//! The engine, Docker's logins, the clocks: what is seen of them.

use std::io::ErrorKind;
use std::process::Stdio;

use deployer_core::doctor::{Away, Engine, EngineFacts, Helper, Logins};
use deployer_engine::EngineError;
use deployer_engine::docker::{self, About, Docker};
use deployer_wire::Endpoint;
use rustix::fs::{Access, access};
use tokio::net::UnixStream;
use tokio::process::Command;

use super::LIMIT;
use crate::ambient;

/// The engine, and by how many seconds its clock is ahead of ours.
pub async fn engine(endpoint: &Endpoint) -> (EngineFacts, Option<i64>) {
    let answer = introduce(endpoint).await;
    let ahead = answer.as_ref().ok().and_then(|about| Some(about.time? - ambient::system().now()));
    let answer = answer.map(|about| Engine {
        product: about.info.product,
        version: about.info.version,
        api: about.info.api,
        is_in_swarm: about.is_in_swarm,
        has_live_restore: about.has_live_restore,
        denied: about.denied.into_iter().map(str::to_owned).collect(),
    });
    (EngineFacts { address: endpoint.to_string(), answer }, ahead)
}

async fn introduce(endpoint: &Endpoint) -> Result<About, Away> {
    // The edge's own error is a text; what to do about a socket depends on why it refused.
    if let Endpoint::Unix(path) = endpoint
        && let Err(error) = UnixStream::connect(path).await
    {
        return Err(match error.kind() {
            ErrorKind::NotFound => Away::Missing,
            ErrorKind::ConnectionRefused => Away::Refused,
            ErrorKind::PermissionDenied => Away::Denied,
            _ => Away::Silent(format!("no connection to {endpoint}: {error}")),
        });
    }
    match tokio::time::timeout(LIMIT, Docker::new(endpoint.clone()).about()).await {
        Ok(Ok(about)) => Ok(about),
        Ok(Err(error @ EngineError::Refused { status: 400, .. })) => Err(Away::TooOld(error.to_string())),
        Ok(Err(error)) => Err(Away::Silent(error.to_string())),
        Err(_) => Err(Away::Silent(format!("no answer from {endpoint} within {LIMIT:?}"))),
    }
}

/// Docker's file as this user finds it.
pub fn logins() -> Logins {
    match docker::logins() {
        Ok(None) => Logins::Absent,
        Ok(Some(docker::Logins { file, helpers })) => {
            let helper = |program: String| Helper { is_there: is_program(&program), program };
            Logins::Here { file: file.display().to_string(), helpers: helpers.into_iter().map(helper).collect() }
        }
        Err(error) => Logins::Broken(error.to_string()),
    }
}

fn is_program(name: &str) -> bool {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&folders).any(|folder| access(folder.join(name), Access::EXEC_OK).is_ok())
}

/// Only the kernel knows whether its clock is synchronised, and a program of systemd's asks it for us.
pub async fn is_clock_synchronised() -> Option<bool> {
    let mut command = Command::new("timedatectl");
    command.args(["show", "--property=NTPSynchronized", "--value"]).stdin(Stdio::null()).kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, command.output()).await;
    let said = output.ok().and_then(Result::ok).map(|output| output.stdout).unwrap_or_default();
    match said.trim_ascii() {
        b"yes" => Some(true),
        b"no" => Some(false),
        _ => None,
    }
}
