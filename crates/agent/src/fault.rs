//! A fault of our own inside one job: its panic ends that job, and never the daemon with all its other jobs.
//!
//! What pushed images, registries and other nodes say reaches every job, so one that cannot bear it must not take the
//! others along. Panics are caught here and nowhere else; what a job then leaves behind is its stage's business.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use deployer_core::plain;
use futures_util::FutureExt as _;

/// A panic, for people: it is always a mistake in this program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a mistake in deployer itself, please report it with the log: {0}")]
pub struct Fault(String);

/// Carries out a job.
///
/// What the job shares with others (`crate::world::Memory`, the store) is changed in single steps under locks that bear a
/// panic, so that nothing is left half done there; what it did outside lies in its journal.
///
/// # Errors
/// [`Fault`] if it panicked. The panic itself, with its place, is in the log by then.
pub async fn caught<T>(job: impl Future<Output = T>) -> Result<T, Fault> {
    AssertUnwindSafe(job).catch_unwind().await.map_err(|panic| Fault(plain::words(&words(&*panic))))
}

/// What a panic says of itself.
pub fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_job_that_panics_ends_with_its_words() {
        assert_eq!(caught(async { 7 }).await, Ok(7));
        let fault = caught(async { panic!("no {}", "way") }).await;
        assert_eq!(fault, Err::<(), _>(Fault("no way".into())));
        assert_eq!(caught(async { std::panic::panic_any(7) }).await, Err::<(), _>(Fault(String::new())));
    }
}
