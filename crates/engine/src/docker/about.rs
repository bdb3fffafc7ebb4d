//! What the engine says of itself beyond its version, for `doctor`.

use hyper::Method;
use serde::Deserialize;

use super::client::{Client, Request};
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
}

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
    let told: Description = client.read(Request::new(Method::GET, "/info".to_owned(), what)).await?;
    let time = told.system_time.parse::<jiff::Timestamp>().ok().map(|time| time.as_second());
    let state = told.swarm.unwrap_or_default().local_node_state;
    let is_in_swarm = !matches!(state.as_str(), "" | "inactive");
    Ok(About { info, is_in_swarm, has_live_restore: told.live_restore_enabled, time })
}
