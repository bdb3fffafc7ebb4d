//! How much of its disk a machine must have left for a pull. A disk that runs full in the middle takes down whatever else
//! writes to it.

/// Bytes that stay free whatever is pulled.
const RESERVE: u64 = 1 << 30;

/// Bytes that must be free for layers of so many bytes, as they travel: packed they take their own size, and unpacked beside that
/// about one and a half of it.
pub fn needed(layers: u64) -> u64 {
    layers.saturating_add(layers / 2).saturating_add(layers).saturating_add(RESERVE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_and_a_half_of_the_layers_and_a_gibibyte() {
        for (layers, expected) in [(0, 1 << 30), (100, (1 << 30) + 250), (1 << 30, 7 << 29), (u64::MAX, u64::MAX)] {
            assert_eq!(needed(layers), expected, "{layers}");
        }
    }
}
