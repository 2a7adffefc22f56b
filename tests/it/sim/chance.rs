//! Virtual time and seeded chance.

use devsanctum::clock::Clock;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use std::sync::Mutex;
use std::time::Duration;
use tokio::time::Instant;

/// 1 January 2026.
pub const EPOCH: i64 = 1_767_225_600;

/// The clock of a simulated installation: it goes on when its process is killed and started again, although each
/// process has a runtime, and so a paused clock, of its own.
pub struct SimClock {
    chance: Mutex<SplitMix>,
    spent: Mutex<Duration>,
    begun: Mutex<Option<Instant>>,
}

impl SimClock {
    pub fn new(seed: u64) -> Self {
        Self { chance: Mutex::new(SplitMix(seed)), spent: Mutex::default(), begun: Mutex::default() }
    }

    /// A new process begins, on a runtime of its own.
    pub fn begin(&self) {
        *self.begun.lock().unwrap() = Some(Instant::now());
    }

    /// The process has ended; to be called on its runtime.
    pub fn end(&self) {
        let spent = self.begun.lock().unwrap().take().map_or(Duration::ZERO, |begun| begun.elapsed());
        *self.spent.lock().unwrap() += spent;
    }

    /// Time since the installation was made.
    pub fn elapsed(&self) -> Duration {
        let running = self.begun.lock().unwrap().map_or(Duration::ZERO, |begun| begun.elapsed());
        *self.spent.lock().unwrap() + running
    }
}

impl Clock for SimClock {
    fn now(&self) -> Timestamp {
        let elapsed = SignedDuration::try_from(self.elapsed()).unwrap();
        Timestamp::from_second(EPOCH).unwrap().checked_add(elapsed).unwrap()
    }

    fn draw(&self) -> Result<[u8; 16], getrandom::Error> {
        let mut chance = self.chance.lock().unwrap();
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&chance.next().to_le_bytes());
        bytes[8..].copy_from_slice(&chance.next().to_le_bytes());
        Ok(bytes)
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to choose with.
#[derive(Default)]
pub struct SplitMix(pub u64);

impl SplitMix {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n as u64).unwrap()
    }
}
