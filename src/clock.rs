//! Time and chance, given in so that a simulation can rule them.

use k8s_openapi::jiff::Timestamp;
use std::sync::Arc;

/// Time and chance.
pub trait Clock: Send + Sync + 'static {
    /// Now, as records write it.
    fn now(&self) -> Timestamp;

    /// Random bytes.
    ///
    /// # Errors
    /// When there are none.
    fn draw(&self) -> Result<[u8; 16], getrandom::Error>;

    /// A number in 0..1 that keeps equal waits apart.
    fn jitter(&self) -> f64 {
        // Without random bytes equal waits merely stay together.
        self.draw().map_or(0.5, |[a, b, c, d, ..]| f64::from(u32::from_le_bytes([a, b, c, d])) / f64::from(u32::MAX))
    }

    /// A name nobody else has: a UUID of version 4.
    ///
    /// # Errors
    /// When there are no random bytes.
    fn uuid(&self) -> Result<String, getrandom::Error> {
        Ok(uuid::Builder::from_random_bytes(self.draw()?).into_uuid().to_string())
    }
}

/// The machine's own.
pub struct SystemClock;

impl SystemClock {
    /// The machine's own, to be shared.
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(Self)
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }

    fn draw(&self) -> Result<[u8; 16], getrandom::Error> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map(|()| bytes)
    }
}
