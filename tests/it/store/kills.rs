//! Killed while many write: what was answered is there, and nothing is there by half.

use super::harness::*;
use super::kill_model::{Promises, Tally, Watched, marks};
use super::kill_writer;
use crate::support::api::{Api, GROUP, user};
use crate::support::postgres::{Crash, Postgres};
use devsanctum::store::{Store, StoreConfig};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Every how many rounds the writer is killed while it starts, and PostgreSQL is made to fail.
const AT_START: u32 = 5;
const SERVER: u32 = 5;
/// The longest that a writer writes.
const LONGEST: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_kill_minus_nine_on_sqlite() {
    survives(&Db::sqlite(), None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_answered_survives_kill_minus_nine_on_postgres() {
    let server = Postgres::private().await;
    survives(&Db::Postgres(server.database().await), Some(server)).await;
}

async fn survives(db: &Db, server: Option<Arc<Postgres>>) {
    let (mut promises, mut tally, mut spent) = (Promises::default(), Tally::default(), Spent::default());
    let (mut watched, mut opened) = (ground(db).await, BTreeSet::new());
    let rounds = kills(50);
    for round in 0..rounds {
        let begun = Instant::now();
        let crash = server.as_ref().filter(|_| round % SERVER == SERVER - 1).map(|server| (server, how(round)));
        let url = db.config().url;
        let (writer, lines) = tokio::task::spawn_blocking(move || Writer::run(&url, round)).await.unwrap();
        if let Some((server, how)) = crash {
            let failing = server.clone();
            tokio::task::spawn_blocking(move || failing.crash(how)).await.unwrap();
            // The writer is told so, and goes on for a while.
            tokio::time::sleep(Duration::from_millis(u64::from(random(150)))).await;
        }
        tokio::task::spawn_blocking(move || writer.kill()).await.unwrap();
        spent.writing += begun.elapsed();
        let begun = Instant::now();
        if let Some((server, how)) = crash {
            server.recover(how).await;
        }
        lines.iter().for_each(|line| promises.hear(&line, &mut tally));
        let store = open(db).await;
        spent.opening += begun.elapsed();
        let begun = Instant::now();
        sound(&store).await;
        assert_eq!(db.texts(UNCLAIMED).await, Vec::<String>::new(), "half of a write to a user");
        promises.settle(marks(&store, &mut opened).await, &mut tally);
        watched.go_on(&store).await;
        store.close().await;
        spent.checking += begun.elapsed();
    }
    println!("{rounds} kills: {tally:?}, {spent:?}");
    let on = if server.is_some() { "postgres" } else { "sqlite" };
    println!("proof: kills on {on} {rounds} played, 0 failed");
    assert!(tally.answered > rounds as usize * 5, "{tally:?}");
}

/// Where the time went.
#[derive(Debug, Default)]
struct Spent {
    writing: Duration,
    opening: Duration,
    checking: Duration,
}

/// Users whose e-mail address is not the one they claim.
const UNCLAIMED: &str = "SELECT r.uid FROM resources r LEFT JOIN claims c ON c.uid = r.uid \
    WHERE r.kind = 'users.devsanctum.io' AND (c.value IS NULL OR r.body NOT LIKE '%\"email\":\"' || c.value || '\"%')";

fn how(round: u32) -> Crash {
    [Crash::Immediate, Crash::Backend, Crash::Everything][(round / SERVER) as usize % 3]
}

/// What the writers need: a project, and a record that all of them write to.
async fn ground(db: &Db) -> Watched {
    let store = open(db).await;
    let api = Api::on(store.clone()).await;
    api.project().await;
    api.create(&format!("{GROUP}/users"), &user("shared")).await;
    let watched = Watched::begin(&store).await;
    store.close().await;
    watched
}

async fn open(db: &Db) -> Store {
    // A server that has just recovered may still turn somebody away.
    for _ in 0..100 {
        match Store::open(&StoreConfig { keep_changes: kill_writer::KEEP, ..db.config() }).await {
            Ok(store) => return store,
            Err(e) => eprintln!("not yet: {e}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the store does not open");
}

/// A process that writes, and a thread that hears what it says.
struct Writer {
    child: Child,
    hears: JoinHandle<()>,
}

impl Writer {
    /// Starts it and lets it write for a moment.
    fn run(url: &str, round: u32) -> (Self, Receiver<String>) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", kill_writer::TEST, "--nocapture"])
            .env(kill_writer::URL, url)
            .env(kill_writer::ROUND, format!("r{round}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let (hear, lines) = channel();
        let done = Arc::new(AtomicU32::new(0));
        let heard = done.clone();
        let hears = std::thread::spawn(move || {
            for line in said.map_while(Result::ok) {
                heard.fetch_add(u32::from(line.starts_with("done ")), Ordering::Relaxed);
                let _ = hear.send(line);
            }
        });
        let begun = Instant::now();
        if round % AT_START == AT_START - 2 {
            std::thread::sleep(Duration::from_millis(u64::from(random(100))));
        } else {
            // So many answers, and then any moment: how much is written does not depend on how fast the machine is.
            let enough = random(60);
            while done.load(Ordering::Relaxed) < enough && begun.elapsed() < LONGEST {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_micros(u64::from(random(30_000))));
        }
        (Self { child, hears }, lines)
    }

    /// Kills it, and hears what it could still say.
    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.hears.join().unwrap();
    }
}
