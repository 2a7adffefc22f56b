//! What the handlers work with.

use super::audited::Ledger;
use super::lasting::Lasting;
use super::starts::Starts;
use super::streams::WorkspaceStreams;
use super::terminals::Terminals;
use crate::access::{Authenticator, Directory, Shares, SignIn};
use crate::clock::Clock;
use crate::store::Store;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Whether this program is well, for `/healthz`, `/livez` and `/readyz`. The text says what is wrong.
pub trait Health: Send + Sync {
    /// Does it work at all?
    fn live(&self) -> Result<(), String> {
        Ok(())
    }
    /// Has it read everything it needs to serve?
    fn ready(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Is told of every request, for metrics.
pub trait RequestObserver: Send + Sync {
    /// A request was answered: its verb (`create`, `watch`, …), the plural of its kind, the HTTP code, and how
    /// long the answer took to begin.
    fn observe(&self, verb: &str, resource: &str, code: u16, took: Duration);
}

/// Observes nothing, and is always well.
pub struct NoObserver;

impl RequestObserver for NoObserver {
    fn observe(&self, _: &str, _: &str, _: u16, _: Duration) {}
}

impl Health for NoObserver {}

/// Parts the API is made of.
pub struct ApiConfig {
    /// Where records lie.
    pub store: Store,
    /// Runs commands and reads logs.
    pub streams: Arc<dyn WorkspaceStreams>,
    /// Health of the program.
    pub health: Arc<dyn Health>,
    /// Is told of requests.
    pub observer: Arc<dyn RequestObserver>,
    /// Time and chance.
    pub clock: Arc<dyn Clock>,
    /// Ends watches and sessions when the program stops.
    pub shutdown: CancellationToken,
}

/// What the handlers work with. Cheap to clone.
#[derive(Clone)]
pub struct ApiState(Arc<Parts>);

struct Parts {
    config: ApiConfig,
    authenticator: Authenticator,
    directory: Arc<Directory>,
    sign_in: Arc<SignIn>,
    shares: Shares,
    terminals: Arc<Terminals>,
    starts: Starts,
    lasting: Lasting,
    ledger: Ledger,
}

impl ApiState {
    /// Puts the parts together.
    pub fn new(config: ApiConfig) -> Self {
        let directory = Arc::new(Directory::new(config.store.clone()));
        let sign_in = Arc::new(SignIn::new(config.store.clone(), directory.clone()));
        Self::over(config, directory, sign_in)
    }

    /// Puts the parts together with what others decide by, too.
    pub fn over(config: ApiConfig, directory: Arc<Directory>, sign_in: Arc<SignIn>) -> Self {
        let authenticator = Authenticator::new(config.store.clone());
        let ledger = Ledger::new(config.store.clone(), directory.clone(), config.clock.clone());
        let shares = Shares::new(config.store.clone(), directory.clone());
        let (terminals, lasting, starts) = Default::default();
        Self(Arc::new(Parts { config, authenticator, directory, sign_in, shares, terminals, lasting, starts, ledger }))
    }

    /// Signs people in.
    pub fn sign_in(&self) -> &SignIn {
        &self.0.sign_in
    }

    /// Writes the audit log.
    pub fn ledger(&self) -> &Ledger {
        &self.0.ledger
    }

    /// Share links of workspaces.
    pub fn shares(&self) -> &Shares {
        &self.0.shares
    }

    /// Where records lie.
    pub fn store(&self) -> &Store {
        &self.0.config.store
    }

    /// Runs commands and reads logs.
    pub fn streams(&self) -> &dyn WorkspaceStreams {
        self.0.config.streams.as_ref()
    }

    /// Health of the program.
    pub fn health(&self) -> &dyn Health {
        self.0.config.health.as_ref()
    }

    /// Is told of requests.
    pub fn observer(&self) -> &dyn RequestObserver {
        self.0.config.observer.as_ref()
    }

    /// Ends watches and sessions when it is cancelled.
    pub fn shutdown(&self) -> &CancellationToken {
        &self.0.config.shutdown
    }

    /// Time and chance.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.config.clock
    }

    /// Terminals that are open.
    pub fn terminals(&self) -> &Arc<Terminals> {
        &self.0.terminals
    }

    /// Workspaces that are being started for who comes to them.
    pub fn starts(&self) -> &Starts {
        &self.0.starts
    }

    /// What lasts, counted by caller.
    pub fn lasting(&self) -> &Lasting {
        &self.0.lasting
    }

    /// What decisions are made from.
    pub fn directory(&self) -> &Arc<Directory> {
        &self.0.directory
    }

    /// Turns tokens into identities.
    pub fn authenticator(&self) -> &Authenticator {
        &self.0.authenticator
    }
}
