//! What goes from one engine to another: images, and the files of volumes.

use super::lab::Lab;
use bytes::Bytes;
use devsanctum::engine::*;
use devsanctum::resource::labels;
use futures::{StreamExt, TryStreamExt};
use std::collections::BTreeMap;

const MOUNTED: &str = "/carry/volume";

async fn whole(stream: Result<ByteStream, EngineError>) -> Vec<Bytes> {
    stream.unwrap().try_collect().await.unwrap()
}

fn sent(pieces: Vec<Bytes>) -> ByteStream {
    futures::stream::iter(pieces.into_iter().map(Ok)).boxed()
}

/// The beginning of it, and then what went wrong.
fn cut(pieces: &[Bytes]) -> ByteStream {
    let first = pieces[0].slice(..pieces[0].len() / 2);
    futures::stream::iter([Ok(first), Err(EngineError::Failed("cut off".into()))]).boxed()
}

/// A container that has written a file of its own and one in a volume, as an image.
async fn committed(lab: &Lab, what: &str) -> (String, String) {
    let (engine, volume) = (&lab.engine, lab.name(&format!("{what}-v")));
    engine.create_volume(&VolumeSpec { name: volume.clone(), labels: lab.labels(what) }).await.unwrap();
    let id = lab.run(&ContainerSpec { mounts: BTreeMap::from([(volume, "/data".to_owned())]), ..lab.spec(what) }).await;
    lab.sh(&id, "echo own > /file; echo volume > /data/file").await;
    engine.stop(&id, std::time::Duration::ZERO).await.unwrap();
    let name = format!("ds-test/{}-{what}:1", lab.instance);
    let over = [(labels::INSTANCE, ""), (labels::BUILT_BY, lab.instance.as_str())];
    let over = over.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let made = engine.commit(&id, &name, &over).await.unwrap();
    engine.remove(&id).await.unwrap();
    (name, made)
}

pub async fn a_container_s_own_files_go_on_as_an_image(lab: &Lab) {
    let (engine, (name, id)) = (&lab.engine, committed(lab, "c").await);
    assert_eq!(engine.image(&name).await, Ok(Some(id.clone())));
    let built = engine.built_images().await.unwrap();
    assert_eq!(built.iter().map(|i| (&i.id, &i.names[..])).collect::<Vec<_>>(), [(&id, &[name.clone()][..])]);
    let layers = engine.layers(&name).await.unwrap().unwrap();
    assert!(layers.last().is_some_and(|l| l.starts_with("sha256:")), "{layers:?}");
    let saved = whole(engine.save(&name).await).await;
    engine.remove_image(&name).await.unwrap();
    assert_eq!((engine.image(&name).await, engine.layers(&name).await), (Ok(None), Ok(None)));
    engine.load(sent(saved.clone())).await.unwrap();
    assert_eq!(engine.image(&name).await, Ok(Some(id)), "it is the same image");
    assert_eq!(engine.layers(&name).await, Ok(Some(layers)));
    engine.load(sent(saved)).await.unwrap();
    let copy = lab.run(&ContainerSpec { image: name.clone(), command: None, ..lab.spec("d") }).await;
    assert_eq!(lab.sh(&copy, "cat /file").await.stdout, b"own\n");
    assert_ne!(lab.sh(&copy, "cat /data/file").await.code, 0, "what is in a volume is not in it");
    // What is made of it by hand does not look like one of ours.
    let found = engine.containers(None).await.unwrap();
    assert_eq!(found.iter().map(|c| &c.id).collect::<Vec<_>>(), [&copy]);
    engine.remove(&copy).await.unwrap();
    engine.remove_image(&name).await.unwrap();
    assert!(matches!(engine.save(&name).await.map(drop), Err(EngineError::ImageMissing(_) | EngineError::NotFound(_))));
}

pub async fn an_image_that_is_cut_off_on_its_way_is_not_there(lab: &Lab) {
    let (engine, (name, _)) = (&lab.engine, committed(lab, "c").await);
    // How it is cut into pieces on its way is chance: a small one may end where a file in it does.
    let saved = Bytes::from(whole(engine.save(&name).await).await.concat());
    engine.remove_image(&name).await.unwrap();
    assert_eq!(engine.load(cut(std::slice::from_ref(&saved))).await, Err(EngineError::Failed("cut off".into())));
    // As an engine finds it where the sender's end was lost.
    let half = saved.slice(..saved.len() / 2);
    let refused = engine.load(sent(vec![half])).await;
    assert!(matches!(&refused, Err(EngineError::Failed(words)) if words.contains("EOF")), "{refused:?}");
    assert_eq!(engine.image(&name).await, Ok(None));
}

/// Two volumes, and a container for each that has it mounted and never runs.
async fn two(lab: &Lab) -> ([String; 2], [ContainerId; 2]) {
    let names = ["from", "to"].map(|n| lab.name(n));
    let mut helpers = Vec::new();
    for (name, what) in names.iter().zip(["from", "to"]) {
        lab.engine.create_volume(&VolumeSpec { name: name.clone(), labels: lab.labels(what) }).await.unwrap();
        let mounts = BTreeMap::from([(name.clone(), MOUNTED.to_owned())]);
        helpers.push(lab.engine.create(&ContainerSpec { mounts, ..lab.spec(what) }).await.unwrap());
    }
    (names, helpers.try_into().unwrap())
}

async fn with(lab: &Lab, what: &str, volume: &str) -> ContainerId {
    lab.run(&ContainerSpec { mounts: BTreeMap::from([(volume.to_owned(), "/data".to_owned())]), ..lab.spec(what) }).await
}

pub async fn a_volume_is_read_and_filled_through_a_container_that_never_ran(lab: &Lab) {
    let (engine, ([first, second], [from, to])) = (&lab.engine, two(lab).await);
    let writer = with(lab, "writer", &first).await;
    lab.sh(&writer, "echo one > /data/a; echo two > /data/b").await;
    if lab.fake_engine().is_none() {
        let more = "cd /data && mkdir -p d/e && echo deep > d/e/f && ln -s a link && ln a hard && chown 1234:99 a && chmod 2640 a && \
            touch -d '2001-02-03 04:05:06' b && mkfifo pipe && chmod 1777 . && dd if=/dev/urandom of=big bs=1k count=900 2>&1";
        assert_eq!(lab.sh(&writer, more).await.code, 0);
    }
    let archive = engine.archive(&from, MOUNTED).await.unwrap();
    engine.extract(&to, "/carry", archive).await.unwrap();
    let states = [lab.inspect(&from).await.state, lab.inspect(&to).await.state];
    assert_eq!(states, [ContainerState::Created; 2]);
    let both =
        [whole(engine.archive(&from, MOUNTED).await).await.concat(), whole(engine.archive(&to, MOUNTED).await).await.concat()];
    assert!(both[0].len() > 1024 && both[0] == both[1], "what is read back is what was sent");
    let reader = with(lab, "reader", &second).await;
    assert_eq!(lab.sh(&reader, "cat /data/a; cat /data/b").await.stdout, b"one\ntwo\n");
    if lab.fake_engine().is_none() {
        let look = "cd /data && stat -c '%n %u %g %a %h %s %Y' a b d/e/f link hard pipe . && cat link d/e/f && sha256sum big";
        let [one, other] = [lab.sh(&writer, look).await, lab.sh(&reader, look).await];
        assert_eq!((one.code, String::from_utf8(one.stdout)), (0, String::from_utf8(other.stdout)));
    }
    let missing = engine.archive(&from, "/nothing/there").await.map(drop);
    assert!(matches!(&missing, Err(EngineError::NotFound(words)) if words.contains("/nothing/there")), "{missing:?}");
    for id in [&from, &to, &writer, &reader] {
        engine.remove(id).await.unwrap();
    }
    assert!(matches!(engine.archive(&from, MOUNTED).await.map(drop), Err(EngineError::NotFound(_))));
    assert!(matches!(engine.extract(&to, "/carry", sent(vec![])).await, Err(EngineError::NotFound(_))));
}

pub async fn an_archive_that_is_cut_off_on_its_way_is_an_error(lab: &Lab) {
    let (engine, ([first, _], [from, to])) = (&lab.engine, two(lab).await);
    let writer = with(lab, "writer", &first).await;
    lab.sh(&writer, "echo one > /data/a").await;
    let archive = whole(engine.archive(&from, MOUNTED).await).await;
    assert_eq!(engine.extract(&to, "/carry", cut(&archive)).await, Err(EngineError::Failed("cut off".into())));
    engine.extract(&to, "/carry", sent(archive)).await.unwrap();
}
