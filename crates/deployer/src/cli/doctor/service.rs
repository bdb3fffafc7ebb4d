//! The state directory, the daemon on its socket, the store's file, and the listener: what is seen of them.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use bytes::Bytes;
use deployer_core::doctor::{Daemon, Health, Listener, Lock, StateDir, Store};
use deployer_core::keys::Keys;
use deployer_hooks::http::SERVER;
use deployer_store::Store as _;
use deployer_store::embedded::{Found, inspect};
use deployer_store::etcd::Etcd;
use deployer_wire::{self as wire, Call, Endpoint, WireError};
use hyper::{HeaderMap, Method, StatusCode, header};
use rustix::fs::{Access, access};
use serde_json::Value;

use super::LIMIT;
use crate::config::{Config, EtcdConfig, STORE};
use crate::control::Said;
use crate::daemon::state_dir::{is_locked, read_address};
use crate::status::Status;

/// The daemon on its socket.
pub async fn daemon(socket: &Path) -> Daemon {
    let (status, _, body) = match get(&Endpoint::Unix(socket.to_owned()), "/v1/status").await {
        Ok(answer) => answer,
        Err(WireError::Connect(error)) => {
            return match error.kind() {
                ErrorKind::NotFound | ErrorKind::ConnectionRefused => Daemon::Absent,
                ErrorKind::PermissionDenied => Daemon::Denied,
                _ => Daemon::Silent(error.to_string()),
            };
        }
        Err(error) => return Daemon::Silent(error.to_string()),
    };
    if !status.is_success() {
        let text = serde_json::from_slice::<Said>(&body).map(|said| said.text);
        return Daemon::Troubled(text.unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned()));
    }
    match serde_json::from_slice::<Status>(&body) {
        Ok(status) => Daemon::Answers { version: status.version },
        Err(error) => Daemon::Silent(format!("its status makes no sense: {error}")),
    }
}

/// The state directory. Its lock is only tried where nobody answers: a daemon that starts in that moment would find it
/// taken, and end.
pub fn state_dir(path: &Path, daemon: &Daemon) -> StateDir {
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == ErrorKind::NotFound => return StateDir::Missing,
        Err(error) => return StateDir::Hidden(error.to_string()),
    };
    if !metadata.is_dir() {
        return StateDir::NoFolder;
    }
    let lock = match daemon {
        Daemon::Absent | Daemon::Silent(_) => match is_locked(path) {
            Ok(true) => Lock::Held,
            Ok(false) => Lock::Free,
            Err(_) => Lock::Unknown,
        },
        _ => Lock::Unknown,
    };
    StateDir::There {
        owner: metadata.uid(),
        mode: metadata.mode() & 0o7777,
        looker: rustix::process::geteuid().as_raw(),
        is_writable: access(path, Access::WRITE_OK | Access::EXEC_OK).is_ok(),
        lock,
    }
}

/// The store, where neither a daemon nor another user's permissions stand before it.
pub async fn store(config: &Config, found: &StateDir, daemon: &Daemon) -> Store {
    let folder = &config.state_dir;
    if let (Some(etcd), false) = (&config.etcd, matches!(daemon, Daemon::Answers { .. })) {
        return shared(etcd).await;
    }
    match (daemon, found) {
        (Daemon::Absent, StateDir::Missing) => Store::Absent,
        (Daemon::Absent, StateDir::There { is_writable: true, lock: Lock::Free, .. }) => {
            match inspect(&folder.join(STORE)) {
                Ok(Found::Nothing) => Store::Absent,
                Ok(Found::Unfinished) => Store::Unfinished,
                Ok(Found::Sound) => Store::Sound,
                Err(error) => Store::Broken(error.to_string()),
            }
        }
        _ => Store::Unknown,
    }
}

/// etcd, asked as the daemon asks it.
async fn shared(etcd: &EtcdConfig) -> Store {
    let keys = Keys::new(&etcd.prefix);
    match tokio::time::timeout(LIMIT, Etcd::new(etcd.settings.clone()).get(&keys.pause())).await {
        Ok(Ok(_)) => Store::Shared,
        Ok(Err(error)) => Store::Away(error.to_string()),
        Err(_) => {
            let endpoints = etcd.settings.endpoints.join(", ");
            Store::Away(format!("{endpoints}: no answer within {} s", LIMIT.as_secs()))
        }
    }
}

/// Who answers where hooks are taken.
pub async fn listener(config: &Config) -> Listener {
    let address = match config.listen.port() {
        0 => read_address(&config.state_dir),
        _ => Some(config.listen),
    };
    let Some(address) = address else { return Listener { address, health: Health::Nobody } };
    let health = match get(&Endpoint::Tcp(from_here(address).to_string()), "/healthz").await {
        Ok((status, headers, body)) => health(status, &headers, &body),
        Err(WireError::Connect(error)) if error.kind() == ErrorKind::ConnectionRefused => Health::Nobody,
        // Something that does not speak HTTP, or says nothing, is not deployer.
        Err(WireError::Broken(_) | WireError::Closed | WireError::TooLong(_)) => Health::Stranger,
        Err(error) => Health::Silent(error.to_string()),
    };
    Listener { address: Some(address), health }
}

fn health(status: StatusCode, headers: &HeaderMap, body: &Bytes) -> Health {
    if headers.get(header::SERVER).is_none_or(|server| server != SERVER) {
        return Health::Stranger;
    }
    if status.is_success() {
        return Health::Ready;
    }
    let said = serde_json::from_slice::<Value>(body).ok();
    let text = said.as_ref().and_then(|said| said.get("error")?.as_str()).unwrap_or("it does not say why");
    Health::NotReady(text.to_owned())
}

/// Every address is reached over the loopback.
fn from_here(address: SocketAddr) -> SocketAddr {
    match address {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => (Ipv4Addr::LOCALHOST, v4.port()).into(),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => (Ipv6Addr::LOCALHOST, v6.port()).into(),
        _ => address,
    }
}

async fn get(endpoint: &Endpoint, path: &str) -> Result<(StatusCode, HeaderMap, Bytes), WireError> {
    let call = Call { method: Method::GET, path, headers: Vec::new(), body: None };
    let answer = wire::send(endpoint, call, LIMIT).await?;
    let (status, headers) = (answer.status, answer.headers.clone());
    Ok((status, headers, answer.bytes(LIMIT).await?))
}
