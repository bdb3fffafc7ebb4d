//! Whether an image is for this machine.
//!
//! Engine 20.10 takes a foreign image of a single platform without a word, so it is compared with what runs. Variants are
//! another matter: a machine runs those of older ones, too, and an index that gains a newer one has the engine choose it.

/// What an image is for, in the words of its inspection. Empty where it does not say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Platform {
    /// Such as `linux`.
    pub os: String,
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `v7`.
    pub variant: String,
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [&self.os, &self.architecture, &self.variant].into_iter().filter(|part| !part.is_empty());
        f.write_str(&parts.map(String::as_str).collect::<Vec<_>>().join("/"))
    }
}

/// Whether an image is foreign to a machine on which another one runs, and whose kernel calls it so, such as `armv7l`.
pub fn is_foreign(image: &Platform, running: &Platform, machine: &str) -> bool {
    let differs = |new: &str, old: &str| !new.is_empty() && !old.is_empty() && new != old;
    if differs(&image.os, &running.os) || differs(&image.architecture, &running.architecture) {
        return true;
    }
    let (new, old) = (number(&image.variant), number(&running.variant));
    match (new, machine_variant(&image.architecture, machine), old) {
        (Some(new), Some(machine), _) => new > machine,
        (Some(new), None, Some(old)) => new > old,
        _ => differs(&image.variant, &running.variant),
    }
}

/// `v7` is 7.
fn number(variant: &str) -> Option<u32> {
    variant.strip_prefix('v')?.parse().ok()
}

/// The newest variant of 32-bit ARM that a machine runs, by its kernel's word for it. Of others the word says nothing.
fn machine_variant(architecture: &str, machine: &str) -> Option<u32> {
    match machine {
        _ if architecture != "arm" => None,
        "aarch64" | "arm64" => Some(8),
        _ => machine.strip_prefix("armv")?.get(..1)?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn platform(text: &str) -> Platform {
        let mut parts = text.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Platform { os: next(), architecture: next(), variant: next() }
    }

    #[track_caller]
    fn check(image: &str, running: &str, machine: &str, expected: bool) {
        assert_eq!(is_foreign(&platform(image), &platform(running), machine), expected, "{image} {running} {machine}");
    }

    #[test]
    fn a_platform_is_written_as_docker_writes_it() {
        for written in ["linux/arm/v7", "linux/amd64", ""] {
            assert_eq!(platform(written).to_string(), written);
        }
    }

    #[test]
    fn another_system_or_architecture_is_foreign_and_what_is_not_said_is_not() {
        check("linux/amd64", "linux/amd64", "x86_64", false);
        check("linux/arm64", "linux/amd64", "x86_64", true);
        check("windows/amd64", "linux/amd64", "x86_64", true);
        check("", "linux/amd64", "x86_64", false);
        check("linux/arm64/v8", "linux/arm64", "aarch64", false);
    }

    #[test]
    fn a_machine_runs_the_variants_of_older_ones() {
        check("linux/arm/v6", "linux/arm/v7", "armv7l", false);
        check("linux/arm/v7", "linux/arm/v6", "armv7l", false);
        check("linux/arm/v7", "linux/arm/v6", "armv6l", true);
        check("linux/arm/v7", "linux/arm/v7", "aarch64", false);
        check("linux/arm/v8", "linux/arm/v7", "aarch64", false);
        check("linux/arm64/v9", "linux/arm64/v9", "aarch64", false);
    }

    #[test]
    fn where_the_machine_says_nothing_what_runs_is_what_it_can() {
        check("linux/arm/v7", "linux/arm/v6", "", true);
        check("linux/arm/v6", "linux/arm/v7", "", false);
        check("linux/arm/v6", "linux/arm/v6", "", false);
        check("linux/amd64/v3", "linux/amd64/v2", "x86_64", true);
        check("linux/amd64/v2", "linux/amd64/v3", "x86_64", false);
        check("linux/arm/soft", "linux/arm/hard", "", true);
    }
}
