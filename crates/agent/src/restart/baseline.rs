//! What the running container answers: the same questions are asked of the one that takes its place, and what nobody could
//! answer is found before anything stops.

use deployer_core::gate::{Ports, required_ports};
use deployer_core::policy::HttpCheck;
use deployer_engine::HttpProbe;
use serde_json::Value;

use super::prefetch::PrefetchError;
use super::providers;
use crate::probe;
use crate::world::World;

/// The TCP ports that the candidate must answer on.
pub async fn ports(world: &World, container: &Value, ports: &Ports, labelled: &[u16], runs: bool) -> Vec<u16> {
    let mut answered = Vec::new();
    let addresses = providers::addresses_of(world, container);
    for port in ports.known.iter().filter(|_| runs) {
        if probe::connects(world, &addresses, *port).await {
            answered.push(*port);
        }
    }
    required_ports(labelled, &answered, &ports.published, runs)
}

/// The path that the candidate must answer, with its port.
///
/// # Errors
/// [`PrefetchError`] if there is no port to ask it on, or the predecessor says that it leads elsewhere. That it fails otherwise
/// says nothing: the candidate may be the cure.
pub async fn http_check(
    world: &World,
    container: &Value,
    http: Option<HttpCheck>,
    required: &[u16],
    known: &[u16],
) -> Result<Option<HttpCheck>, PrefetchError> {
    let Some(http) = http else { return Ok(None) };
    let only = if let [only] = known { Some(*only) } else { None };
    let Some(port) = http.port.or(required.first().copied()).or(only) else {
        return Err(PrefetchError::NoHttpPort(http.path));
    };
    match probe::asks(world, &providers::addresses_of(world, container), port, &http.path).await {
        HttpProbe::Status(status @ 300..=399) => Err(PrefetchError::LeadsElsewhere { path: http.path, status }),
        _ => Ok(Some(HttpCheck { port: Some(port), ..http })),
    }
}

#[cfg(test)]
mod tests {
    use deployer_core::policy::Policy;
    use serde_json::json;

    use super::*;
    use crate::fixture::{Fixture, fixture, id};

    /// A container in two networks, of which this machine reaches the second alone.
    async fn reachable_in_one() -> (Fixture, Value) {
        let fixture = fixture().await;
        fixture.run("web");
        let mut web = fixture.world.engine.container(&id(1)).await.expect("it is there");
        let reached = web["NetworkSettings"]["Networks"]["bridge"].take();
        web["NetworkSettings"] = json!({"Networks": {"a": {"IPAddress": "10.255.0.2"}, "b": reached}});
        (fixture, web)
    }

    /// What comes of a label for a container that is known for these ports, of which none is required, where every path
    /// answers with this status.
    async fn check(label: &str, known: &[u16], status: u16, expected: Result<Option<u16>, &str>) {
        let (fixture, web) = reachable_in_one().await;
        fixture.engine.answer_http(status);
        let labels = [("deployer.health.http".to_owned(), label.to_owned())].into();
        let http = Policy::of_labels(&labels).expect("right").http;
        let found = http_check(&fixture.world, &web, http, &[], known).await;
        let found = found.map(|http| http.and_then(|http| http.port)).map_err(|error| error.to_string());
        match (found, expected) {
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{label}: {found}"),
            (found, expected) => assert_eq!(found, expected.map_err(ToOwned::to_owned), "{label}"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn case_pb08_a_check_that_cannot_be_made_is_refused_before_anything_stops() {
        check("/up", &[], 200, Err("write the port in front, as in 8080/up")).await;
        check("/up", &[80, 443], 200, Err("write the port in front")).await;
        check("/up", &[3000], 200, Ok(Some(3000))).await;
        check("3000/up", &[], 200, Ok(Some(3000))).await;
        check("3000/up", &[], 301, Err("answers /up with status 301, too")).await;
        check("3000/up", &[], 404, Ok(Some(3000))).await;
        check("3000/up", &[], 500, Ok(Some(3000))).await;
    }

    #[tokio::test(start_paused = true)]
    async fn case_pb09_a_port_counts_that_answers_in_any_network() {
        let (fixture, web) = reachable_in_one().await;
        let known = Ports { published: vec![], known: vec![80] };
        assert_eq!(ports(&fixture.world, &web, &known, &[], true).await, [80]);
        fixture.engine.set_cut_off(true);
        assert_eq!(ports(&fixture.world, &web, &known, &[], true).await, [0u16; 0]);
    }
}
