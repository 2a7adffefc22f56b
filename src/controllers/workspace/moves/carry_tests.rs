//! One part, from one engine to another.

use super::*;
use crate::engine::fake::{FakeEngine, Fault};
use crate::resource::Identity;

const IMAGE: &str = "devsanctum/moved:m1";

/// Two engines, and on the first a container that has written a file of its own, and one in its volume `v`.
struct Two {
    from: FakeEngine,
    to: FakeEngine,
    writer: ContainerId,
}

fn end(server: &str, fake: &FakeEngine) -> End {
    End { server: server.into(), engine: Arc::new(fake.engine("i").unwrap()) }
}

fn helper() -> Helper {
    let identity = Identity { namespace: "team".into(), name: "w".into(), uid: "u".into() };
    let (instance, record) = ("i".into(), "u".into());
    let owner = Owner { instance, record, identity, project: "team".into(), project_uid: "p".into() };
    Helper { name: "w_carry".into(), image: "tiny:1".into(), owner }
}

fn volume() -> Volume {
    Volume { name: "v".into(), labels: helper().owner.of("folder.data").labels() }
}

impl Two {
    async fn new() -> Self {
        let (from, to) = (FakeEngine::new(1), FakeEngine::new(2));
        from.add_image("tiny:1");
        to.add_image("tiny:1");
        let engine = from.engine("i").unwrap();
        engine.create_volume(&VolumeSpec { name: "v".into(), labels: volume().labels }).await.unwrap();
        let labels = helper().owner.of("main").labels();
        let spec = ContainerSpec { name: "w".into(), command: None, labels, ..helper().spec("v") };
        let writer = engine.create(&spec).await.unwrap();
        engine.start(&writer).await.unwrap();
        let write = ["sh", "-c", "echo own > /file; echo volume > /carry/volume/file"].map(str::to_owned);
        assert_eq!(engine.exec_output(&writer, &write, 1000).await.unwrap().code, 0);
        Self { from, to, writer }
    }

    fn job(&self, part: Part) -> Job {
        let (id, image, instance) = ("m1".into(), IMAGE.into(), "i".into());
        let (from, to) = (end("first", &self.from), end("second", &self.to));
        Job { from, to, part, id, image, instance, helper: helper(), room: None, tally: Tally::default() }
    }

    fn file_system(&self) -> Job {
        self.job(Part::FileSystem(self.writer.clone()))
    }

    /// Nothing has come, and what was there is.
    fn is_as_before(&self) {
        assert_eq!((self.to.volumes(), self.from.volumes()), (vec![], vec!["v".to_owned()]));
        assert_eq!((self.to.containers().len(), self.from.containers().len()), (0, 1), "the helpers are gone");
    }
}

#[tokio::test]
async fn an_image_is_the_same_by_its_layers_whatever_id_it_has_there() {
    let two = Two::new().await;
    two.to.set_own_ids(true);
    let job = two.file_system();
    let carried = job.done().await.unwrap();
    assert!(carried.digest.starts_with("sha256:") && carried.bytes > 0, "{carried:?}");
    let ids = [job.from.engine.image(IMAGE).await.unwrap(), job.to.engine.image(IMAGE).await.unwrap()];
    assert!(ids[0].is_some() && ids[1].is_some() && ids[0] != ids[1], "{ids:?}");
    // What is there is not sent again.
    assert_eq!(two.file_system().done().await, Ok(CarriedPart { bytes: 0, ..carried }));
}

#[tokio::test]
async fn an_image_that_bears_another_name_on_its_way_is_not_taken() {
    let (two, other) = (Two::new().await, "devsanctum/env:0011");
    two.to.add_image(other);
    two.from.save_also_as(other);
    let job = two.file_system();
    let before = job.to.engine.image(other).await.unwrap();
    let why = job.done().await.unwrap_err();
    assert!(why.server == "first" && why.words.contains(other), "{why}");
    assert_eq!((job.to.engine.image(other).await, job.to.engine.image(IMAGE).await), (Ok(before), Ok(None)));
}

#[tokio::test]
async fn a_volume_that_fails_leaves_nothing_where_it_was_to_go() {
    let two = Two::new().await;
    for call in ["extract", "archive"] {
        two.to.plan_fault(call, 0, Fault::StatusAfter(500, "no space left on device".into()));
        let why = two.job(Part::Volume(volume())).done().await.unwrap_err();
        assert!(why.server == "second" && why.is_full(), "{call}: {why}");
        two.is_as_before();
    }
    // More than there was room for when it was measured.
    let small = Job { room: Some(1000), ..two.job(Part::Volume(volume())) };
    let why = small.done().await.unwrap_err();
    assert!(why.server == "second" && why.is_full() && why.words.contains("0 MiB"), "{why}");
    two.is_as_before();
    // Where it comes from, as well.
    two.from.plan_fault("commit", 0, Fault::Status(500, "no space left on device".into()));
    let why = two.file_system().done().await.unwrap_err();
    assert!(why.server == "first" && why.is_full(), "{why}");
    assert!(two.job(Part::Volume(volume())).done().await.is_ok());
    assert_eq!(two.to.volumes(), ["v"]);
    // What another has made is not in the way of a clean-up.
    let others = Job { id: "m2".into(), ..two.job(Part::Volume(volume())) };
    let why = others.done().await.unwrap_err();
    assert!(why.words.contains("has not made"), "{why}");
    assert_eq!(two.to.volumes(), ["v"]);
}

#[tokio::test]
async fn two_at_a_time_go_from_or_to_a_server() {
    let turns = Turns::default();
    let first = turns.on(["b", "a"]).await;
    let _second = turns.on(["a", "c"]).await;
    let mut third = std::pin::pin!(turns.on(["d", "a"]));
    assert!(futures::poll!(&mut third).is_pending(), "a has two under way");
    let _elsewhere = turns.on(["c", "b"]).await;
    drop(first);
    third.await;
}
