//! The tests of the API and of access once more, on PostgreSQL.

#[path = "../access/mod.rs"]
mod access;
#[path = "../api_apply.rs"]
mod api_apply;
#[path = "../api_crud.rs"]
mod api_crud;
#[path = "../api_deletion.rs"]
mod api_deletion;
#[path = "../api_hostile.rs"]
mod api_hostile;
#[path = "../api_reading.rs"]
mod api_reading;
#[path = "../api_secrets.rs"]
mod api_secrets;
#[path = "../quotas.rs"]
mod quotas;

async fn fresh_api() -> crate::support::api::Api {
    crate::support::api::Api::on_postgres().await
}
