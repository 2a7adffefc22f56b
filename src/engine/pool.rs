//! One engine per server, kept while its connection settings stay the same; limited and measured.

mod guarded;

pub use guarded::{CallMetrics, Guarded, NoMetrics};

use super::docker::DockerEngine;
use super::{Connector, Endpoint, Engine, EngineError, Fence};
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Makes an engine from its connection settings.
type Make = Box<dyn Fn(&str, &Endpoint) -> Result<Arc<dyn Engine>, EngineError> + Send + Sync>;

/// An engine and the settings it was made from.
type Known = (Endpoint, Arc<dyn Engine>);

/// Engines by the name of their server.
pub struct EnginePool {
    make: Make,
    metrics: Arc<dyn CallMetrics>,
    fence: Fence,
    engines: Mutex<BTreeMap<String, Known>>,
}

impl EnginePool {
    /// Docker Engines, seen by the installation `instance`; every call is told to `metrics`, and those that change
    /// something are made only while `fence` allows.
    pub fn new(instance: &str, metrics: Arc<dyn CallMetrics>, fence: Fence) -> Self {
        let instance = instance.to_owned();
        Self::making(metrics, fence, move |_, endpoint| Ok(Arc::new(DockerEngine::at(endpoint.clone(), &instance)?)))
    }

    /// Engines of another make, such as the in-memory ones.
    pub fn making(
        metrics: Arc<dyn CallMetrics>,
        fence: Fence,
        make: impl Fn(&str, &Endpoint) -> Result<Arc<dyn Engine>, EngineError> + Send + Sync + 'static,
    ) -> Self {
        Self { make: Box::new(make), metrics, fence, engines: Mutex::default() }
    }

    fn known(&self, server: &str, endpoint: &Endpoint) -> Option<Arc<dyn Engine>> {
        let engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        engines.get(server).filter(|(of, _)| of == endpoint).map(|(_, engine)| Arc::clone(engine))
    }
}

#[async_trait]
impl Connector for EnginePool {
    /// Asks who it is only when the engine is not known yet: an engine that has never answered is not kept.
    async fn connect(&self, server: &str, endpoint: &Endpoint) -> Result<Arc<dyn Engine>, EngineError> {
        if let Some(engine) = self.known(server, endpoint) {
            return Ok(engine);
        }
        let made = (self.make)(server, endpoint)?;
        let engine: Arc<dyn Engine> = Arc::new(Guarded::new(server, made, Arc::clone(&self.metrics), Arc::clone(&self.fence)));
        engine.info().await?;
        // Another task may have been quicker: there is one limit per engine only if all use the same one.
        let mut engines = self.engines.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = engines.entry(server.to_owned()).or_insert_with(|| (endpoint.clone(), Arc::clone(&engine)));
        if entry.0 != *endpoint {
            *entry = (endpoint.clone(), engine);
        }
        Ok(Arc::clone(&entry.1))
    }
    fn forget(&self, server: &str) {
        self.engines.lock().unwrap_or_else(PoisonError::into_inner).remove(server);
    }
}

#[cfg(test)]
mod tests;
