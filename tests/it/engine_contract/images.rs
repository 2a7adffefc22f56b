//! Images, and how they come.

use super::lab::Lab;
use super::registry::Registry;
use crate::support::dockerd::TINY;
use devsanctum::engine::*;

pub async fn a_container_is_made_of_an_image_by_its_id(lab: &Lab) {
    let image = lab.engine.image(TINY).await.unwrap().unwrap();
    let id = lab.run(&ContainerSpec { image, ..lab.spec("a") }).await;
    assert_eq!(lab.inspect(&id).await.state, ContainerState::Running);
}

pub async fn a_pull_brings_what_is_not_there(lab: &Lab) {
    let registry = Registry::start(lab).await;
    let reference = registry.publish(lab, "good", true);
    assert_eq!(lab.engine.image(&reference).await, Ok(None));
    lab.engine.pull(&reference).await.unwrap();
    let id = lab.engine.image(&reference).await.unwrap().unwrap();
    // Again, it is there already.
    lab.engine.pull(&reference).await.unwrap();
    assert_eq!(lab.engine.image(&reference).await, Ok(Some(id)));
    lab.engine.create(&ContainerSpec { image: reference, ..lab.spec("a") }).await.unwrap();
}

pub async fn a_pull_of_what_the_registry_has_not_is_not_found(lab: &Lab) {
    let registry = Registry::start(lab).await;
    let error = lab.engine.pull(&registry.reference(lab, "nothing")).await.unwrap_err();
    assert!(matches!(&error, EngineError::NotFound(words) if words.contains("manifest unknown")), "{error:?}");
}

pub async fn a_pull_that_fails_in_the_middle_fails_and_leaves_nothing(lab: &Lab) {
    let registry = Registry::start(lab).await;
    let reference = registry.publish(lab, "bad", false);
    let error = lab.engine.pull(&reference).await.unwrap_err();
    assert!(matches!(&error, EngineError::Failed(words) if words.contains("verification failed")), "{error:?}");
    assert_eq!(lab.engine.image(&reference).await, Ok(None));
}
