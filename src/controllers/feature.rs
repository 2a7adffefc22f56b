//! The feature loop: says whether all a feature needs is there.

use super::context::Context;
use super::retry::PassError;
use super::skeleton::Loop;
use super::status::Pass;
use crate::plan::features::check_feature;
use crate::resource::{Feature, FeatureStatus};
use async_trait::async_trait;
use kube::ResourceExt;

/// The feature loop.
pub struct Features(pub Context);

#[async_trait]
impl Loop for Features {
    type Record = Feature;
    const NAME: &'static str = "feature";

    async fn reconcile(&self, record: &Feature, pass: &mut Pass<FeatureStatus>) -> Result<(), PassError> {
        check_feature(&record.name_any(), &self.0.caches).map_err(|e| PassError::stalled("Resolved", e.reason, e.message))?;
        pass.holds("Resolved", "Resolved");
        Ok(())
    }
}
