//! Asks containers from outside, at their own addresses. A published port is never asked: Docker's userland proxy accepts
//! there with nothing behind it.

use std::future::ready;
use std::net::{IpAddr, SocketAddr};

use deployer_core::gate::PROBE_LIMIT;
use deployer_engine::HttpProbe;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::world::World;

/// Whether a TCP port accepts at one of these addresses at least: from this machine not every network can be reached, and
/// whatever listens may do so in one of them alone.
pub async fn connects(world: &World, addresses: &[IpAddr], port: u16) -> bool {
    let asked = addresses.iter().map(|address| world.engine.connects(SocketAddr::new(*address, port), PROBE_LIMIT));
    asked.collect::<FuturesUnordered<_>>().any(ready).await
}

/// What a path answers: with success at one of these addresses, or else whatever the first of them says.
pub async fn asks(world: &World, addresses: &[IpAddr], port: u16, path: &str) -> HttpProbe {
    let mut first = None;
    for address in addresses {
        let answer = world.engine.http_get(SocketAddr::new(*address, port), path, PROBE_LIMIT).await;
        match (&answer, &first) {
            (HttpProbe::Status(200..=299), _) => return answer,
            (HttpProbe::Status(_), None | Some(HttpProbe::NoAnswer(_))) => first = Some(answer),
            (HttpProbe::NoAnswer(_), None) => first = Some(answer),
            _ => {}
        }
    }
    first.unwrap_or_else(|| HttpProbe::NoAnswer("the container has no address".to_owned()))
}
