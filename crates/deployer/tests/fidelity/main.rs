//! Is a container, after two replacements, what its owner asked for, on the new image?
//!
//! Each case is a create request in one of the files beside this one, with the bug that it comes from. All cases of a file
//! share three versions of an image: the containers are made on the first, and replaced when the second and the third are
//! pushed. What one must be then is not written down but made: a container from the same request on the third version. What
//! a case says itself is added to that: what its inspection holds, what is seen from inside, or why it is refused.
//!
//! How each case ended stands in `target/fidelity`, from which `scripts/test-engines` makes `docs/fidelity.md`.

#[path = "../common/mod.rs"]
mod common;
#[path = "../../../core/tests/successor/comparable.rs"]
mod comparable;

mod case;
mod group;
mod report;

#[test]
fn t01_to_t17_what_is_the_images_follows_the_image() {
    group::replace_twice("images", include_str!("images.json"));
}

#[test]
fn t12_health_checks() {
    group::replace_twice("health", include_str!("health.json"));
}

#[test]
fn t20_to_t30_networks() {
    group::replace_twice("networks", include_str!("networks.json"));
}

#[test]
fn t14_t15_t31_ports() {
    group::replace_twice("ports", include_str!("ports.json"));
}

#[test]
fn t16_t30_t39_t45_what_people_do_meanwhile() {
    group::replace_twice("meanwhile", include_str!("meanwhile.json"));
}

#[test]
fn t35_to_t39_storage() {
    group::replace_twice("storage", include_str!("storage.json"));
}

#[test]
fn t40_to_t45_options_of_the_runtime() {
    group::replace_twice("options", include_str!("options.json"));
}
