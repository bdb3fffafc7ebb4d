//! References as people and webhooks write them.

use super::*;

const HEX: &str = "c9eb26a146e77e87aeb71064d9c85aeb4d556e72c828ca9c25c57fed8f80f87d";

#[track_caller]
fn check(text: &str, expected: &str) {
    let printed = match ImageRef::parse(&text.replace("HEX", HEX)) {
        Ok(image) => image.to_string(),
        Err(error) => error.to_string().split_whitespace().take(6).collect::<Vec<_>>().join(" "),
    };
    assert_eq!(printed.replace(HEX, "HEX"), expected, "{text}");
}

#[test]
fn references_are_read_as_docker_reads_them() {
    check("web", "docker.io/library/web");
    check("acme/web:1.4.2", "docker.io/acme/web:1.4.2");
    check("index.docker.io/web:1", "docker.io/library/web:1");
    check("localhost/web", "localhost/web");
    check("registry:5000/web", "registry:5000/web");
    check("registry.example.com:5000/acme/web:2", "registry.example.com:5000/acme/web:2");
    check("127.0.0.1:5000/a/b/c", "127.0.0.1:5000/a/b/c");
    check("[::1]:5000/web:1", "[::1]:5000/web:1");
    check("ghcr.io/acme/web:1@sha256:HEX", "ghcr.io/acme/web:1@sha256:HEX");
    check("ghcr.io/acme/web@sha256:HEX", "ghcr.io/acme/web@sha256:HEX");
}

#[test]
fn what_is_no_reference_is_refused_with_its_part() {
    check("", "an image name is missing");
    check("sha256:HEX", "'sha256:HEX' is an image ID, not");
    check("HEX", "'HEX' is an image ID, not");
    check("acme/Web", "'acme/Web' is not a repository (expected");
    check("acme//web", "'acme//web' is not a repository (expected");
    check("web:", "'' is not a tag (expected");
    check("web@sha256:12", "'sha256:12' is not a digest (expected");
    check("bad_-.host.:80/web", "'bad_-.host.:80' is not a registry host");
}

#[test]
fn a_container_without_a_tag_runs_latest() {
    let track = Track::of_container("registry:5000/web").expect("a name");
    assert_eq!(track.to_string(), "registry:5000/web:latest");
    assert!(Track::of_container(&format!("web@sha256:{HEX}")).is_err());
    assert!(Track::parse("registry:5000/web").is_err(), "a hook without a tag is no track");
}

#[test]
fn familiar_names_are_those_of_repo_tags() {
    for (text, familiar) in [("web:1", "web:1"), ("acme/web:1", "acme/web:1"), ("ghcr.io/web:1", "ghcr.io/web:1")] {
        assert_eq!(Track::parse(text).expect("a track").familiar(), familiar);
    }
}

#[track_caller]
fn check_written(config_image: &str, expected: bool) {
    let track = Track::of_container(config_image).expect("a track");
    assert_eq!(track.is_written(config_image), expected, "{config_image}");
}

#[test]
fn an_alias_that_the_engine_does_not_know_is_told_from_the_name() {
    for name in ["nginx", "nginx:1", "acme/web:1", "docker.io/library/nginx:1", "index.docker.io/library/nginx:1"] {
        check_written(name, true);
    }
    check_written("registry.example.com:5000/acme/web:1", true);
    check_written("registry.hub.docker.com/library/nginx:1", false);
    check_written("registry-1.docker.io/library/nginx:1", false);
    check_written("Registry.example.com/acme/web:1", false);
}
