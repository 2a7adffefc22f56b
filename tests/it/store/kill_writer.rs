//! The process that is killed: many clients that write through the public API, and say what they ask for and what they
//! are answered.
//!
//! It is this very program, started anew: the API's router over a store of its own, as `serve` has it, but without
//! Traefik, certificates and loops, which take a second to start and write nothing that is not written here.

use super::harness::*;
use crate::support::api::{Api, GROUP};
use devsanctum::store::{Store, StoreConfig};
use serde_json::{Value, json};
use std::sync::Arc;

/// Environment variables: where the store is, and what the names of this round begin with.
pub const URL: &str = "DEVSANCTUM_TEST_WRITE_AND_TELL";
pub const ROUND: &str = "DEVSANCTUM_TEST_ROUND";
/// The test that is such a process.
pub const TEST: &str = "store::kill_writer::write_and_tell";
/// Clients at once.
pub const WRITERS: u32 = 8;
/// Changes kept: few enough that the log is compacted now and then while somebody is killed.
pub const KEEP: u32 = 600;

/// Not a test by itself: what `kills` starts and kills.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn write_and_tell() {
    let (Ok(url), Ok(round)) = (std::env::var(URL), std::env::var(ROUND)) else { return };
    let store = Store::open(&StoreConfig { url, keep_changes: KEEP, secret_keys: KEY.into() }).await.unwrap();
    let api = Arc::new(Api::on(store).await);
    println!();
    let writers = (0..WRITERS).map(|w| {
        let (api, round) = (api.clone(), round.clone());
        tokio::spawn(async move {
            for i in 0.. {
                let client = Client { api: &api, name: format!("{round}-{w}-{i}"), goes: i % 3 != 0 };
                match (w + i) % 3 {
                    0 => client.user().await,
                    1 => client.secret().await,
                    _ => client.workspace().await,
                };
                client.shared(w, i + 1).await;
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
}

/// One client and the record it works on. Each step gives the record another mark, by which its state is known.
struct Client<'a> {
    api: &'a Api,
    name: String,
    /// Whether it is deleted in the end.
    goes: bool,
}

impl Client<'_> {
    /// Says what is asked for and what is answered; `Some` when that was done.
    async fn step(&self, key: &str, mark: Option<u32>, request: impl Future<Output = (u16, Value)>) -> Option<Value> {
        let mark = mark.map_or("-".into(), |m| m.to_string());
        println!("sent {key} {mark}");
        let (code, answer) = request.await;
        let done = (200..300).contains(&code) || (mark == "-" && code == 404);
        println!("{} {key} {mark}", if done { "done" } else { "failed" });
        done.then_some(answer)
    }

    async fn user(&self) -> Option<Value> {
        let (all, key) = (format!("{GROUP}/users"), format!("users/{}", self.name));
        let one = format!("{all}/{}", self.name);
        let spec = |mark: u32| json!({"email": format!("m{mark}-{}@example.com", self.name)});
        self.step(&key, Some(1), self.api.post(&all, &self.record("User", 1, spec(1)))).await?;
        self.step(&key, Some(2), self.api.merge(&one, &json!({"metadata": marked(2), "spec": spec(2)}))).await?;
        let apply = format!("{one}?fieldManager=one&force=true");
        let body = self.record("User", 3, spec(3)).to_string();
        self.step(&key, Some(3), self.api.call("PATCH", &apply, "application/apply-patch+yaml", body)).await?;
        self.delete(&key, &one).await
    }

    async fn secret(&self) -> Option<Value> {
        let (all, key) = (format!("{GROUP}/namespaces/team/secrets"), format!("secrets/{}", self.name));
        let one = format!("{all}/{}", self.name);
        self.step(&key, Some(1), self.api.post(&all, &self.record("Secret", 1, json!({"data": {"token": "1"}})))).await?;
        for mark in 2..4 {
            let data = json!({"token": mark.to_string(), "other": (mark == 2).then_some("x")});
            let body = json!({"metadata": marked(mark), "spec": {"data": data}});
            self.step(&key, Some(mark), self.api.merge(&one, &body)).await?;
        }
        self.delete(&key, &one).await
    }

    async fn workspace(&self) -> Option<Value> {
        let (all, key) = (format!("{GROUP}/namespaces/team/workspaces"), format!("workspaces/{}", self.name));
        let (one, status) = (format!("{all}/{}", self.name), format!("{key}#status"));
        let spec = json!({"owner": "ada"});
        let mut made = self.step(&key, Some(1), self.api.post(&all, &self.record("Workspace", 1, spec))).await?;
        made["metadata"]["annotations"] = marked(2)["annotations"].clone();
        self.step(&key, Some(2), self.api.put(&one, &made)).await?;
        for mark in 1..3 {
            let body = json!({"status": {"message": mark.to_string()}});
            self.step(&status, Some(mark), self.api.merge(&format!("{one}/status"), &body)).await?;
        }
        if self.goes {
            println!("sent {status} -");
        }
        self.delete(&key, &one).await.inspect(|_| println!("done {status} -"))
    }

    /// What all clients write to.
    async fn shared(&self, writer: u32, mark: u32) -> Option<Value> {
        let body = json!({"metadata": {"annotations": {format!("w{writer}"): format!("{}.{mark}", self.name)}}});
        let key = format!("users/shared#w{writer}");
        println!("sent {key} {}.{mark}", self.name);
        let (code, answer) = self.api.merge(&format!("{GROUP}/users/shared"), &body).await;
        println!("{} {key} {}.{mark}", if code == 200 { "done" } else { "failed" }, self.name);
        Some(answer)
    }

    async fn delete(&self, key: &str, one: &str) -> Option<Value> {
        if self.goes { self.step(key, None, self.api.delete(one)).await } else { None }
    }

    fn record(&self, kind: &str, mark: u32, spec: Value) -> Value {
        let mut metadata = marked(mark);
        metadata["name"] = json!(self.name);
        json!({"apiVersion": "devsanctum.io/v1", "kind": kind, "metadata": metadata, "spec": spec})
    }
}

fn marked(mark: u32) -> Value {
    json!({"annotations": {"mark": mark.to_string()}})
}
