//! Clock and chance of the simulated world: everything that it draws follows from a seed.

use std::time::Duration;

use deployer_core::ambient::Ambient;

/// Chances that follow from a seed: neighbours have nothing in common (splitmix64, Steele and others 2014).
pub fn chances(seed: u64) -> Ambient {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(0x9E37_79B9_7F4A_7C15);
    state = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    Ambient::chosen(|| 0, state ^ (state >> 31))
}

/// Lets time pass; without any, not even other tasks get their turn.
pub async fn pause(time: Duration) {
    if !time.is_zero() {
        tokio::time::sleep(time).await;
    }
}
