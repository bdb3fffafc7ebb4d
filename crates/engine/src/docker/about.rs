//! What the engine says of itself beyond its version, for `doctor`.

use serde::Deserialize;
use serde_json::Value;

use super::client::{Client, Request};
use super::endpoints;
use crate::engine::{EngineError, EngineInfo};

/// An engine as it describes itself.
#[derive(Clone, Debug)]
pub struct About {
    /// Product and versions.
    pub info: EngineInfo,
    /// Whether it is part of a swarm.
    pub is_in_swarm: bool,
    /// Whether containers outlive its restart.
    pub has_live_restore: bool,
    /// Its clock in Unix seconds, if it tells.
    pub time: Option<i64>,
    /// Calls that it does not have, or that what filters its socket lets not through, of those that can be done without.
    pub denied: Vec<&'static str>,
}

/// An image that no registry has, of a host where nobody listens: whether the engine would ask is all that is wanted.
const NOBODYS: &str = "127.0.0.1:1/deployer:none";

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Description {
    swarm: Option<Swarm>,
    live_restore_enabled: bool,
    system_time: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase", default)]
struct Swarm {
    local_node_state: String,
}

pub async fn about(client: &Client) -> Result<About, EngineError> {
    let info = client.info().await?;
    let what = "ask the engine about itself";
    let told = offered(client.read::<Description>(Request::new(&endpoints::INFO, &[], what)).await)?;
    let asked = client.read::<Value>(Request::new(&endpoints::DISTRIBUTION, &[NOBODYS], "ask a registry")).await;
    let asks = !matches!(asked, Err(EngineError::NotOffered { .. }));
    let denied = [("/info", told.is_some()), ("/distribution", asks)].into_iter().filter(|(_, is_there)| !is_there);
    let denied = denied.map(|(call, _)| call).collect();
    let told = told.unwrap_or_default();
    let time = told.system_time.parse::<jiff::Timestamp>().ok().map(|time| time.as_second());
    let state = told.swarm.unwrap_or_default().local_node_state;
    let is_in_swarm = !matches!(state.as_str(), "" | "inactive");
    Ok(About { info, is_in_swarm, has_live_restore: told.live_restore_enabled, time, denied })
}

/// The answer to a call that can be done without.
fn offered<T>(outcome: Result<T, EngineError>) -> Result<Option<T>, EngineError> {
    match outcome {
        Err(EngineError::NotOffered { .. }) => Ok(None),
        outcome => outcome.map(Some),
    }
}
