//! Engines, through the `docker` command as a person would, and through its API where a test looks
//! many times a second and a process each would cost more than what is measured.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::http::{Address, Request, Response};
use crate::process::run;

/// The oldest API that deployer supports; every engine the tests meet still speaks it.
const API: &str = "/v1.41";

/// An engine, by its address.
#[derive(Clone, Debug)]
pub struct Engine {
    address: String,
}

/// Runs `docker` on the shared engine with these arguments and returns what it printed, trimmed.
///
/// # Panics
///
/// When it fails, with what it said.
#[track_caller]
pub fn docker<const N: usize>(arguments: [&str; N]) -> String {
    Engine::shared().docker(arguments)
}

/// Like [`docker`], for a test that expects or tolerates a failure.
///
/// # Errors
///
/// The command line, its exit status and what it wrote to its standard error.
pub fn try_docker<const N: usize>(arguments: [&str; N]) -> Result<String, String> {
    Engine::shared().try_docker(arguments)
}

impl Engine {
    /// The engine that all tests share: that of `DOCKER_HOST`, or the usual one.
    pub fn shared() -> Self {
        let host = std::env::var("DOCKER_HOST").ok().filter(|host| !host.is_empty());
        Self { address: host.unwrap_or("unix:///var/run/docker.sock".to_owned()) }
    }

    /// The engine with that socket.
    pub(crate) fn at_socket(path: &Path) -> Self {
        Self { address: format!("unix://{}", path.display()) }
    }

    /// What to pass to `deployer run --docker`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The `docker` command for this engine, without arguments.
    pub fn command(&self) -> Command {
        let mut command = Command::new("docker");
        command.env("DOCKER_HOST", &self.address);
        command
    }

    /// Runs `docker` with these arguments and returns what it printed, trimmed.
    ///
    /// # Panics
    ///
    /// When it fails, with what it said.
    #[track_caller]
    pub fn docker<const N: usize>(&self, arguments: [&str; N]) -> String {
        self.try_docker(arguments).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Like [`Engine::docker`], for a test that expects or tolerates a failure.
    ///
    /// # Errors
    ///
    /// The command line, its exit status and what it wrote to its standard error.
    pub fn try_docker<const N: usize>(&self, arguments: [&str; N]) -> Result<String, String> {
        run(self.command().args(arguments))
    }

    /// Asks the API; `path` begins after the version and may have a query.
    ///
    /// # Errors
    ///
    /// When the engine does not answer, or with 400 or more.
    pub fn call(&self, method: &str, path: &str) -> Result<Value, String> {
        self.send(&Request::new(method, &format!("{API}{path}")))
    }

    fn send(&self, request: &Request) -> Result<Value, String> {
        let (method, path) = (request.method, request.target);
        let response: Response = request
            .send(&self.socket())
            .map_err(|error| format!("{method} {path}: no answer from the engine at {}: {error}", self.address))?;
        if response.status >= 400 {
            return Err(format!("{method} {path}: {} {}", response.status, response.text().trim()));
        }
        Ok(serde_json::from_slice(&response.body).unwrap_or(Value::Null))
    }

    /// Asks the API in the newest version that the engine speaks, with a body, for a test of what older versions lack.
    ///
    /// # Errors
    ///
    /// As [`Engine::call`].
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let text = if body.is_null() { String::new() } else { body.to_string() };
        let headers = [("Content-Type", "application/json")];
        self.send(&Request { headers: &headers, body: text.as_bytes(), ..Request::new(method, path) })
    }

    /// A container's whole inspection, by name or id.
    ///
    /// # Errors
    ///
    /// When there is no such container, or no engine.
    pub fn inspect(&self, container: &str) -> Result<Value, String> {
        self.call("GET", &format!("/containers/{container}/json"))
    }

    /// The address and id of a running container, on whichever network it has one.
    ///
    /// # Errors
    ///
    /// What it is doing instead of running, or that it has no address of its own.
    pub fn container_address(&self, container: &str) -> Result<(String, String), String> {
        let inspection = self.inspect(container)?;
        let id = inspection["Id"].as_str().unwrap_or_default().to_owned();
        if inspection["State"]["Running"] != Value::Bool(true) {
            return Err(format!("the container is {}", inspection["State"]["Status"]));
        }
        let networks = inspection["NetworkSettings"]["Networks"].as_object().into_iter().flatten();
        let mut addresses =
            networks.filter_map(|(_, network)| network["IPAddress"].as_str()).filter(|ip| !ip.is_empty());
        addresses.next().map(|ip| (ip.to_owned(), id)).ok_or_else(|| "the container has no address".to_owned())
    }

    fn socket(&self) -> Address {
        match self.address.split_once("://") {
            Some(("unix", path)) => Address::Unix(PathBuf::from(path)),
            Some(("tcp" | "http", host_and_port)) => Address::Tcp(host_and_port.to_owned()),
            _ => panic!("the engine's address is {}: the test kit speaks unix:// and tcp:// only", self.address),
        }
    }
}

/// Percent-encodes a JSON filter for a query.
pub(crate) fn filters(json: &Value) -> String {
    json.to_string().bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
        encoded
    })
}
