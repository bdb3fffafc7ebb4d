//! How long a container's HEALTHCHECK may take to say healthy or unhealthy.
//!
//! The numbers are the image's, and whoever may push can write any: they are added up without overflow, and what is
//! made of the sum has a limit of its own (`crate::policy::LONGEST`).

use std::time::Duration;

use serde_json::Value;

/// The engine's defaults, where a field is absent or zero: every 30 s, 30 s each, three times, no start period.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: u64 = 3;

/// How long the HEALTHCHECK of a container made from an image may need; `None` without one, or with one that is
/// switched off. What the container itself sets stands above the image.
pub fn time_needed(container: &Value, image: &Value) -> Option<Duration> {
    let field = |name: &str| {
        let of = |value: &Value| value.pointer(&format!("/Config/Healthcheck/{name}")).cloned();
        of(container).or_else(|| of(image))
    };
    let number = |name: &str| field(name)?.as_u64().filter(|number| *number > 0);
    let time = |name: &str, default| number(name).map_or(default, Duration::from_nanos);
    let test = field("Test")?;
    let is_off = test.get(0).and_then(Value::as_str).is_none_or(|first| first == "NONE");
    let rounds = number("Retries").unwrap_or(RETRIES).saturating_add(1);
    let round = time("Interval", INTERVAL).saturating_add(time("Timeout", TIMEOUT));
    let needed = round
        .saturating_mul(u32::try_from(rounds).unwrap_or(u32::MAX))
        .saturating_add(time("StartPeriod", Duration::ZERO));
    (!is_off).then_some(needed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(container: Value, image: Value, expected: Option<Duration>) {
        let config = |check: &Value| json!({ "Config": { "Healthcheck": check } });
        assert_eq!(time_needed(&config(&container), &config(&image)), expected, "{container} {image}");
    }

    const fn seconds(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn the_images_check_counts_unless_the_container_has_its_own() {
        let second = 1_000_000_000_u64;
        check(Value::Null, Value::Null, None);
        check(Value::Null, json!({"Test": ["NONE"]}), None);
        check(Value::Null, json!({"Test": []}), None);
        check(Value::Null, json!({"Test": ["CMD", "true"]}), seconds(240));
        check(json!({"Test": ["NONE"]}), json!({"Test": ["CMD", "true"]}), None);
        let image = json!({"Test": ["CMD", "true"], "Interval": second, "Timeout": second, "Retries": 1});
        check(Value::Null, image.clone(), seconds(4));
        check(json!({"Retries": 4, "StartPeriod": 5 * second}), image, seconds(15));
        check(
            Value::Null,
            json!({"Test": ["CMD", "true"], "Interval": -1, "Retries": "x", "Timeout": 0}),
            seconds(240),
        );
    }

    #[test]
    fn security_1_no_number_of_an_image_overflows() {
        let check = |interval: u64, timeout: u64, retries: u64, start: u64| {
            let check = json!({"Test": ["CMD", "true"], "Interval": interval, "Timeout": timeout, "Retries": retries,
                               "StartPeriod": start});
            time_needed(&json!({}), &json!({ "Config": { "Healthcheck": check } })).expect("there is a check")
        };
        let most = i64::MAX as u64;
        // As `HEALTHCHECK --interval=2562047h --timeout=2562047h --retries=2147483647 --start-period=1s` comes out.
        check(9_223_369_200_000_000_000, 9_223_369_200_000_000_000, 2_147_483_647, 1_000_000_000);
        for interval in [1, most, u64::MAX] {
            for retries in [1, u64::from(u32::MAX) - 1, u64::from(u32::MAX), most, u64::MAX] {
                for start in [1, most, u64::MAX] {
                    assert!(check(interval, interval, retries, start) >= Duration::from_nanos(start));
                }
            }
        }
        assert_eq!(check(u64::MAX, u64::MAX, u64::MAX, u64::MAX), Duration::MAX);
    }
}
