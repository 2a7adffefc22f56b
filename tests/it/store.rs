//! The store's contract, on SQLite and on a real PostgreSQL.

mod audit;
mod backups;
mod cut;
mod harness;
mod keys;
mod kill_model;
mod kill_writer;
mod kills;
mod links;
mod migrating;
mod opening;
mod records;
mod replicas;
mod rotating;
mod views;
mod watching;
mod writing;

/// Runs each test on both databases.
macro_rules! on_both {
    ($($name:ident)*) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&crate::store::harness::Db::sqlite()).await;
            })*
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&crate::store::harness::Db::postgres().await).await;
            })*
        }
    };
}
use on_both;
