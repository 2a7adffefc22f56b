//! The API against a model of it: sequences of requests, chosen by chance, each judged by what the model says must come
//! of it. How to run it for long, replay a seed and add a step: `docs/TESTING.md`.

mod deletion;
mod drive;
mod faults;
mod fields;
mod record;
mod request;
mod step;
mod watching;
mod world;

use crate::support::api::Api;
use axum::Router;
use drive::{Counts, Run};
use futures::StreamExt;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use step::{Step, step};

/// Steps of one sequence, each with an API and a store of its own.
const LENGTH: usize = 250;
/// Sequences that run at a time.
const AT_A_TIME: u64 = 4;
/// Sequences tried to make a failing one smaller.
const TRIES: usize = 400;

/// A wrong answer.
struct Failure {
    /// The step it was the answer to.
    at: usize,
    why: String,
}

/// Where a sequence runs.
#[derive(Clone, Copy)]
enum On {
    Sqlite,
    Postgres,
    /// SQLite, behind an API that errs.
    Faulty(faults::Fault),
}

impl On {
    async fn fresh(self) -> (Api, Router) {
        let api = if matches!(self, Self::Postgres) { Api::on_postgres().await } else { Api::quick().await };
        let router = match self {
            Self::Faulty(fault) => faults::planted(api.router.clone(), fault),
            _ => api.router.clone(),
        };
        (api, router)
    }
}

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}

/// The sequence of a seed.
fn steps(seed: u64) -> Vec<Step> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    prop::collection::vec(step(), LENGTH).new_tree(&mut runner).expect("nothing is filtered").current()
}

async fn run(on: On, steps: &[Step]) -> Result<Counts, Failure> {
    let (_api, router) = on.fresh().await;
    let mut run = Run::begin(router).await.map_err(|why| Failure { at: 0, why })?;
    for (at, step) in steps.iter().enumerate() {
        run.step(step).await.map_err(|why| Failure { at, why })?;
    }
    run.finish().await.map_err(|why| Failure { at: steps.len().saturating_sub(1), why })?;
    Ok(run.counts)
}

/// Runs the sequence of a seed on a thread of its own.
async fn aside(on: On, seed: u64) -> (u64, Result<Counts, Failure>) {
    let here = tokio::runtime::Handle::current();
    let done = tokio::task::spawn_blocking(move || here.block_on(async { run(on, &steps(seed)).await }));
    (seed, done.await.expect("a sequence answers, it does not panic"))
}

/// Leaves out what a failure does not need: larger parts first, then single steps.
async fn smaller(on: On, mut steps: Vec<Step>, mut failure: Failure) -> (Vec<Step>, Failure) {
    steps.truncate(failure.at + 1);
    let (mut part, mut tries) = (steps.len() / 2, 0);
    while part > 0 && tries < TRIES {
        let mut from = 0;
        while from < steps.len() && tries < TRIES {
            let mut fewer = steps.clone();
            fewer.drain(from..(from + part).min(steps.len()));
            tries += 1;
            match run(on, &fewer).await {
                Ok(_) => from += part,
                Err(found) => {
                    fewer.truncate(found.at + 1);
                    (steps, failure) = (fewer, found);
                }
            }
        }
        part /= 2;
    }
    (steps, failure)
}

/// Runs sequences from `seed` on, until that many steps have been taken; panics with the first failure, made small.
async fn sequences(on: On, seed: u64, count: u64) -> Counts {
    let mut all = futures::stream::iter(seed..seed + count.div_ceil(LENGTH as u64))
        .map(|seed| aside(on, seed))
        .buffer_unordered(AT_A_TIME as usize);
    let mut counts = Counts::new();
    while let Some(done) = all.next().await {
        let (seed, outcome) = done;
        match outcome {
            Ok(taken) => taken.into_iter().for_each(|(what, n)| *counts.entry(what).or_default() += n),
            Err(failure) => {
                drop(all);
                let (few, failure) = smaller(on, steps(seed), failure).await;
                let lines: Vec<String> = few.iter().map(|step| format!("    {step:?},")).collect();
                let lines = lines.join("\n");
                panic!("DEVSANCTUM_MODEL_SEED={seed} fails, most shortly with these steps:\n{lines}\n{}", failure.why);
            }
        }
    }
    counts
}

fn report(counts: &Counts) -> u64 {
    let mut names: Vec<&str> = counts.keys().map(|(name, _)| *name).collect();
    names.dedup();
    for name in names {
        let of = counts.iter().filter(|((n, _), _)| *n == name).map(|((_, how), n)| format!("{how} {n}"));
        println!("{name}: {}", of.collect::<Vec<_>>().join(", "));
    }
    let total = counts.values().sum();
    println!("proof: model steps {total} played, 0 failed");
    total
}

/// Every way a request can end that the model knows, and that must have been seen.
const SEEN: [(&str, &[&str]); 20] = [
    ("create", &["done", "409 AlreadyExists", "422 Invalid"]),
    ("get", &["done", "404 NotFound"]),
    ("list", &["done"]),
    ("update", &["done", "404 NotFound", "409 Conflict", "422 Invalid"]),
    ("merge patch", &["done", "404 NotFound", "409 Conflict", "422 Invalid"]),
    ("JSON patch", &["done", "404 NotFound", "422 Invalid"]),
    ("apply", &["done", "409 Conflict", "422 Invalid"]),
    ("apply, forced", &["done", "409 Conflict", "422 Invalid"]),
    ("status", &["done", "404 NotFound", "409 Conflict", "422 Invalid"]),
    ("finalizers", &["done", "404 NotFound", "422 Invalid"]),
    ("owners", &["done", "404 NotFound", "422 Invalid"]),
    ("delete", &["done", "404 NotFound", "409 Conflict"]),
    ("delete collection", &["done", "405 MethodNotAllowed"]),
    ("dry create", &["done", "409 AlreadyExists", "422 Invalid"]),
    ("dry change", &["done", "404 NotFound", "409 Conflict", "422 Invalid"]),
    ("dry apply", &["done", "409 Conflict"]),
    ("dry delete", &["done", "404 NotFound"]),
    ("watch", &["done"]),
    ("cut", &["done"]),
    ("reconnect", &["done"]),
];

fn all_was_seen(counts: &Counts) {
    for (name, ways) in SEEN {
        for how in ways {
            let n = counts.get(&(name, (*how).to_owned())).copied().unwrap_or_default();
            assert!(n > 0, "{name} was never answered {how}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_does_what_the_model_says() {
    let (seed, count) = (variable("DEVSANCTUM_MODEL_SEED"), variable("DEVSANCTUM_MODEL_STEPS"));
    let counts = sequences(On::Sqlite, seed.unwrap_or(1), count.unwrap_or(if seed.is_some() { 1 } else { 20_000 })).await;
    if report(&counts) >= 20_000 {
        all_was_seen(&counts);
        assert!(counts[&("read", "done".into())] > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_does_what_the_model_says_on_postgresql() {
    let (seed, count) = (variable("DEVSANCTUM_MODEL_SEED"), variable("DEVSANCTUM_MODEL_STEPS"));
    let count = count.map(|n| n / 10).unwrap_or(if seed.is_some() { 1 } else { 2_000 });
    report(&sequences(On::Postgres, seed.unwrap_or(1_000_000), count).await);
}
