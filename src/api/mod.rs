//! The Kubernetes-shaped HTTP API.
//!
//! A request passes [`router`] (who is calling), [`handlers`] (what is asked for, may they), and then either
//! [`list`], [`watch`] and [`view`] for reading, or [`write`], [`admission`] and [`deletion`] for writing, which
//! run inside one transaction of the store. What is pure stands apart: [`schema`], [`selector`], [`patch`],
//! [`managed_fields`], [`table`], [`openapi`].

pub mod certificate;
pub mod jsonpath;
pub mod managed_fields;
pub mod openapi;
mod openapi_v2_protobuf;
pub mod patch;
pub mod schema;
mod secret_keys;
pub mod selector;
pub mod status;
pub mod table;

mod admission;
mod atomic;
mod audit_log;
mod audited;
mod bootstrap;
mod channels;
mod connections;
mod deletion;
mod discovery;
mod door;
mod events;
mod exec;
mod facts;
mod fail;
mod handlers;
mod headers;
mod keys;
mod lasting;
mod list;
mod logs;
mod mail;
mod places;
mod portforward;
mod protobuf;
mod prune_events;
mod record;
mod request;
mod review;
mod router;
mod select;
mod served;
mod sessions;
mod shares;
mod starts;
mod state;
pub mod streams;
mod strict_json;
mod terminal;
mod terminals;
pub mod tls;
mod view;
mod watch;
mod write;

pub use audited::{Ledger, Noted, SshKey, Visit, finished};
pub use bootstrap::{RESERVED, bootstrap};
pub use connections::Bounds;
pub use headers::closed;
pub use places::{Full, Place, Places, of_files};
pub use prune_events::keep_pruning;
pub use router::{client, client_at, client_by_ssh, client_of_visit, guarded, router};
pub use starts::{Starts, Stopped};
pub use state::{ApiConfig, ApiState, Health, NoObserver, RequestObserver};
