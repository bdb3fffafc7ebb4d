//! How much of its disk a machine must have left for a pull. A disk that runs full in the middle takes down whatever else
//! writes to it.

/// Bytes that stay free whatever is pulled, on a large disk.
const RESERVE: u64 = 1 << 30;
/// On a small one, so large a part of it.
const RESERVE_PART: u64 = 20;

/// Bytes that must be free, on a disk of so many, for layers of so many, as they travel: packed they take their own size, and
/// unpacked beside that about one and a half of it.
pub fn needed(layers: u64, disk: u64) -> u64 {
    let reserve = RESERVE.min(disk / RESERVE_PART);
    layers.saturating_add(layers / 2).saturating_add(layers).saturating_add(reserve)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_and_a_half_of_the_layers_and_a_gibibyte_or_a_twentieth() {
        const LARGE: u64 = 100 << 30;
        for (layers, disk, expected) in [
            (0, LARGE, 1 << 30),
            (100, LARGE, (1 << 30) + 250),
            (1 << 30, LARGE, 7 << 29),
            (u64::MAX, LARGE, u64::MAX),
            (100, 2000, 350),
            (0, 0, 0),
        ] {
            assert_eq!(needed(layers, disk), expected, "{layers} {disk}");
        }
    }
}
