//! Images that are built.

use super::lab::Lab;
use super::registry::Registry;
use crate::support::dockerd::TINY;
use devsanctum::engine::*;
use devsanctum::image::{File, Recipe, read};
use std::collections::BTreeMap;
use std::sync::Mutex;

/// A build that begins with an image and does this.
fn build(lab: &Lab, what: &str, base: &str, dockerfile: &str) -> ImageBuild {
    let instructions = read(dockerfile).unwrap().iter().map(|e| e.filled(&BTreeMap::new())).collect();
    let recipe = Recipe { base: base.into(), instructions, ..Recipe::default() };
    ImageBuild { tag: format!("ds-test/{}-{what}:1", lab.instance), files: recipe.files(), labels: Labels::new(), network: None }
}

/// What came of it, and what was said.
async fn built(lab: &Lab, build: &ImageBuild) -> (Result<(), EngineError>, Vec<String>) {
    let said = Mutex::new(Vec::new());
    let done = lab.engine.build(build, &|line: &str| said.lock().unwrap().push(line.to_owned())).await;
    (done, said.into_inner().unwrap())
}

pub async fn an_image_is_built_and_says_how(lab: &Lab) {
    let wanted = build(lab, "good", TINY, "ENV A=b\nRUN echo \\\n  hello\nWORKDIR /tmp");
    assert_eq!(lab.engine.image(&wanted.tag).await, Ok(None));
    let (done, said) = built(lab, &wanted).await;
    assert_eq!(done, Ok(()));
    assert_eq!(said[0], format!("Step 1/4 : FROM {TINY}"));
    assert!(said.iter().any(|line| line == "hello"), "{said:?}");
    let id = lab.engine.image(&wanted.tag).await.unwrap().unwrap();
    // The same again is the same image.
    assert_eq!(built(lab, &wanted).await.0, Ok(()));
    assert_eq!(lab.engine.image(&wanted.tag).await, Ok(Some(id)));
    let container = lab.run(&ContainerSpec { image: wanted.tag, ..lab.spec("a") }).await;
    assert_eq!(lab.inspect(&container).await.state, ContainerState::Running);
}

pub async fn a_build_that_fails_says_where_and_leaves_nothing(lab: &Lab) {
    let wanted = build(lab, "bad", TINY, "RUN echo nearly; exit 3\nRUN echo never");
    let (done, said) = built(lab, &wanted).await;
    assert!(matches!(&done, Err(EngineError::Failed(words)) if words.ends_with("returned a non-zero code: 3")), "{done:?}");
    assert!(said.iter().any(|l| l == "nearly") && !said.iter().any(|l| l == "never"), "{said:?}");
    assert_eq!(lab.engine.image(&wanted.tag).await, Ok(None));
    assert!(lab.engine.containers(None).await.unwrap().is_empty());
}

pub async fn what_a_build_begins_with_is_pulled(lab: &Lab) {
    let registry = Registry::start(lab).await;
    let base = registry.publish(lab, "base", true);
    let (done, said) = built(lab, &build(lab, "child", &base, "ENV A=b")).await;
    assert_eq!(done, Ok(()), "{said:?}");
    let (done, _) = built(lab, &build(lab, "orphan", &registry.reference(lab, "nothing"), "ENV A=b")).await;
    assert!(matches!(&done, Err(EngineError::NotFound(words)) if words.contains("manifest unknown")), "{done:?}");
}

pub async fn files_beside_the_dockerfile_are_copied(lab: &Lab) {
    let mut wanted = build(lab, "copy", TINY, "ENV A=b");
    wanted.files[0].content.push_str("COPY services.d /etc/services.d\n");
    wanted.files.push(File { path: "services.d/web/run".into(), content: "#!/bin/sh\n".into(), executable: true });
    let (done, said) = built(lab, &wanted).await;
    assert_eq!(done, Ok(()), "{said:?}");
}

pub async fn two_builds_of_one_image_at_once_are_both_fine(lab: &Lab) {
    let wanted = build(lab, "twice", TINY, "RUN echo once");
    let (one, two) = tokio::join!(built(lab, &wanted), built(lab, &wanted));
    assert_eq!((one.0, two.0), (Ok(()), Ok(())));
}
