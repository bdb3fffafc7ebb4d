//! Whether the storms would notice: each mistake that is made on purpose in the real code must be caught by the checker
//! within so many storms.
#![cfg(feature = "mutations")]

use deployer_core::mutation;

use crate::storms::run;
use crate::weather::MILD;

/// Mistakes, by the name that they have in the code, and the storms within which each must be caught.
const MUTATIONS: &[(&str, u64)] = &[("fence_skipped", 5), ("trouble_is_a_verdict", 50)];

#[test]
fn every_mistake_is_caught() {
    let mut missed = Vec::new();
    for (name, storms) in MUTATIONS {
        mutation::make(Some(name));
        let wreck = (1..=*storms).find_map(|seed| run(&MILD, seed));
        mutation::make(None);
        match wreck {
            Some(wreck) => eprintln!("{name}: caught by the storm of seed {}: {:?}", wreck.seed, wreck.kinds),
            None => missed.push(name),
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
