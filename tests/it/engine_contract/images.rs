//! Images, and how they come.

use super::lab::Lab;
use super::registry::Registry;
use crate::support::docker_registry::{DockerRegistry, PASSWORD, USER, free_port};
use crate::support::dockerd::{Dockerd, TINY};
use crate::support::watchdog::Watchdog;
use devsanctum::engine::*;
use devsanctum::image::{Recipe, read};
use devsanctum::resource::labels;

pub async fn a_container_is_made_of_an_image_by_its_id(lab: &Lab) {
    let image = lab.engine.image(TINY).await.unwrap().unwrap();
    let id = lab.run(&ContainerSpec { image, ..lab.spec("a") }).await;
    assert_eq!(lab.inspect(&id).await.state, ContainerState::Running);
}

pub async fn a_pull_brings_what_is_not_there(lab: &Lab) {
    let registry = Registry::start(lab).await;
    let reference = registry.publish(lab, "good", true);
    assert_eq!(lab.engine.image(&reference).await, Ok(None));
    lab.engine.pull(&reference, None).await.unwrap();
    let id = lab.engine.image(&reference).await.unwrap().unwrap();
    // Again, it is there already.
    lab.engine.pull(&reference, None).await.unwrap();
    assert_eq!(lab.engine.image(&reference).await, Ok(Some(id)));
    lab.engine.create(&ContainerSpec { image: reference, ..lab.spec("a") }).await.unwrap();
}

pub async fn a_pull_of_what_the_registry_has_not_is_not_found(lab: &Lab) {
    let registry = Registry::start(lab).await;
    let error = lab.engine.pull(&registry.reference(lab, "nothing"), None).await.unwrap_err();
    assert!(matches!(&error, EngineError::NotFound(words) if words.contains("manifest unknown")), "{error:?}");
}

pub async fn a_pull_that_fails_in_the_middle_fails_and_leaves_nothing(lab: &Lab) {
    let registry = Registry::start(lab).await;
    let reference = registry.publish(lab, "bad", false);
    let error = lab.engine.pull(&reference, None).await.unwrap_err();
    assert!(matches!(&error, EngineError::Failed(words) if words.contains("verification failed")), "{error:?}");
    assert_eq!(lab.engine.image(&reference).await, Ok(None));
}

/// Builds an image of the installation's own, and gives its name.
async fn built(lab: &Lab, what: &str) -> String {
    let tag = format!("ds-test/{}-{what}:1", lab.instance);
    let instructions = read("ENV A=b").unwrap().iter().map(|e| e.filled(&Default::default())).collect();
    let recipe = Recipe { base: TINY.into(), instructions, ..Recipe::default() };
    let labels = Labels::from([(labels::BUILT_BY.to_owned(), lab.instance.clone())]);
    let wanted = ImageBuild { tag: tag.clone(), files: recipe.files(), labels, network: None, login: None };
    lab.engine.build(&wanted, &|_| {}).await.unwrap();
    tag
}

pub async fn an_image_goes_with_its_last_name_and_not_from_under_a_container(lab: &Lab) {
    let (engine, first) = (&lab.engine, built(lab, "named").await);
    let second = first.replace(":1", ":2");
    engine.tag(&first, &second).await.unwrap();
    let found = engine.built_images().await.unwrap();
    let names: Vec<_> = found.iter().flat_map(|i| &i.names).collect();
    assert_eq!((found.len(), names), (1, vec![&first, &second]));
    let container = lab.engine.create(&ContainerSpec { image: first.clone(), ..lab.spec("a") }).await.unwrap();
    engine.remove_image(&first).await.unwrap();
    assert_eq!(engine.image(&first).await, Ok(None));
    let refused = engine.remove_image(&second).await;
    assert!(matches!(&refused, Err(EngineError::Conflict(words)) if words.contains("is using")), "{refused:?}");
    engine.remove(&container).await.unwrap();
    engine.remove_image(&second).await.unwrap();
    engine.remove_image(&second).await.unwrap();
    assert_eq!(engine.built_images().await, Ok(vec![]));
    assert!(matches!(engine.tag(&second, &first).await, Err(EngineError::ImageMissing(_))));
}

pub async fn what_a_failed_build_leaves_has_no_name_and_goes_by_its_id(lab: &Lab) {
    let build = async |dockerfile: &str| {
        let instructions = read(dockerfile).unwrap().iter().map(|e| e.filled(&Default::default())).collect();
        let recipe = Recipe { base: TINY.into(), instructions, ..Recipe::default() };
        let labels = Labels::from([(labels::BUILT_BY.to_owned(), lab.instance.clone())]);
        let tag = format!("ds-test/{}-fails:1", lab.instance);
        let wanted = ImageBuild { tag: tag.clone(), files: recipe.files(), labels, network: None, login: None };
        (lab.engine.build(&wanted, &|_| {}).await.is_ok(), tag)
    };
    let (engine, line) = (&lab.engine, "ENV A=b\nRUN exit 3");
    assert!(!build(line).await.0);
    let left = engine.built_images().await.unwrap();
    assert!(left.len() == 1 && left[0].names.is_empty(), "{left:?}");
    // The same again leaves the same; one that goes on from it has it for its own.
    assert!(!build(line).await.0);
    assert_eq!(engine.built_images().await.unwrap(), left);
    let (done, tag) = build("ENV A=b\nRUN exit 0").await;
    let all = engine.built_images().await.unwrap();
    assert!(done && all.len() == 1 && all[0].names == [tag.clone()], "{all:?}");
    engine.remove_image(&tag).await.unwrap();

    assert!(!build(line).await.0);
    let id = engine.built_images().await.unwrap().remove(0).id;
    let container = engine.create(&ContainerSpec { image: id.clone(), ..lab.spec("a") }).await.unwrap();
    let refused = engine.remove_image(&id).await;
    assert!(matches!(&refused, Err(EngineError::Conflict(_))), "{refused:?}");
    engine.remove(&container).await.unwrap();
    engine.remove_image(&id).await.unwrap();
    engine.remove_image(&id).await.unwrap();
    assert_eq!(engine.built_images().await, Ok(vec![]));
}

pub async fn what_was_pushed_is_pulled_by_who_may(lab: &Lab) {
    let dir = Watchdog::new("ds-registry-");
    let real =
        lab.fake_engine().is_none().then(|| DockerRegistry::asking(Dockerd::shared(), dir.path(), free_port(Dockerd::shared())));
    let host = real.as_ref().map_or_else(|| "127.0.0.1:5000".to_owned(), |r| r.host.clone());
    lab.fake_engine().inspect(|fake| fake.want_login(&host, USER, PASSWORD));
    let login = Login { host: host.clone(), username: USER.into(), password: PASSWORD.into() };
    let wrong = Login { password: "guess".into(), ..login.clone() };
    let (engine, local, shared) = (&lab.engine, built(lab, "pushed").await, format!("{host}/{}/env:1", lab.instance));
    engine.tag(&local, &shared).await.unwrap();
    let words = |done: Result<(), EngineError>| match done {
        Err(EngineError::Failed(words)) => words,
        other => panic!("{other:?}"),
    };
    assert!(words(engine.push(&shared, None).await).contains("no basic auth credentials"));
    assert!(words(engine.push(&shared, Some(&wrong)).await).contains("unauthorized"));
    engine.push(&shared, Some(&login)).await.unwrap();
    for name in [&shared, &local] {
        engine.remove_image(name).await.unwrap();
    }
    assert!(words(engine.pull(&shared, None).await).contains("no basic auth credentials"));
    engine.pull(&shared, Some(&login)).await.unwrap();
    // It is known for what it is, wherever it was built.
    assert_eq!(engine.built_images().await.unwrap().iter().flat_map(|i| &i.names).collect::<Vec<_>>(), [&shared]);
    engine.remove_image(&shared).await.unwrap();
    assert!(words(engine.push(&shared, Some(&login)).await).contains("does not exist locally"));
}
