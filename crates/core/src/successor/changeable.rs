//! What a person can change of a container without making it anew.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// One hash over everything that `docker update` and `docker network connect` can change of a container: as long as it
/// stays the same, a create request that was written earlier is still what the user asked for.
pub fn changeable(container: &Value) -> String {
    let networks = container.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
    // Addresses come and go with each start, so the names alone count.
    let names: Vec<&String> = networks.into_iter().flat_map(|networks| networks.keys()).collect();
    let host = container.get("HostConfig").unwrap_or(&Value::Null);
    hex::encode(Sha256::digest(format!("{host} {names:?}")))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_further_network_or_limit_changes_it_and_a_new_address_does_not() {
        let container = |memory: u64, networks: &Value| {
            changeable(&json!({"HostConfig": {"Memory": memory}, "NetworkSettings": {"Networks": networks}}))
        };
        let before = container(0, &json!({"bridge": {"IPAddress": "10.0.0.2"}}));
        assert_eq!(before, container(0, &json!({"bridge": {"IPAddress": "10.0.0.3"}})));
        assert_ne!(before, container(1, &json!({"bridge": {}})));
        assert_ne!(before, container(0, &json!({"bridge": {}, "back": {}})));
    }
}
