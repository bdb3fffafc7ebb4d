//! One at a time: two instances of one image on the host are never both down.

mod common;

use common::Stage;
use deployer_testkit::{Sampler, Samples};

/// Deploys to two instances and gives back what was seen of both.
fn deploy_to_two(without_slots: bool) -> (Samples, [String; 2]) {
    let stage = Stage::with(|builder| if without_slots { builder.env("DEPLOYER_WITHOUT_SLOTS", "1") } else { builder });
    stage.push("v1");
    let one = stage.run(&stage.container("one"));
    let two = stage.run(&stage.container("two"));
    let names = [one.name().to_owned(), two.name().to_owned()];
    let sampler = Sampler::start(&[one.name(), two.name()]);
    for version in ["v2", "v3"] {
        let digest = stage.push(version);
        stage.wait_for_digest(one.name(), &digest);
        stage.wait_for_digest(two.name(), &digest);
    }
    stage.assert_settled(&one, "v3");
    stage.assert_settled(&two, "v3");
    (sampler.stop(), names)
}

#[test]
fn two_instances_are_never_both_down() {
    let (samples, [one, two]) = deploy_to_two(false);
    samples.never_both_down(&[&one, &two]).expect("one at a time");
    assert!(samples.versions(&one).len() >= 3, "it was watched throughout: {:?}", samples.versions(&one));
}

/// The control of the test above: with the slot switched off the same sampler must see both down.
#[test]
fn the_sampler_sees_both_down_when_slots_are_off() {
    let (samples, [one, two]) = deploy_to_two(true);
    samples.never_both_down(&[&one, &two]).expect_err("without slots both go down together");
}
