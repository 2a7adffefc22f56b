//! Time and chance, given in so that a simulation can rule them.

use k8s_openapi::jiff::Timestamp;

/// Time and chance.
pub trait Clock: Send + Sync + 'static {
    /// Now, as records write it.
    fn now(&self) -> Timestamp;
    /// A number in 0..1 that keeps equal waits apart.
    fn jitter(&self) -> f64;
}

/// The machine's own.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
    fn jitter(&self) -> f64 {
        // Without random bytes equal waits merely stay together.
        getrandom::u32().map_or(0.5, |r| f64::from(r) / f64::from(u32::MAX))
    }
}
