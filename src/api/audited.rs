//! What is written to the audit log: exactly one row for each request that would change something, or open a way into a
//! workspace.
//!
//! # Guarantees
//! - A change of records and its row are in one transaction. Everything else is written before it is answered.
//! - A request whose row cannot be written is answered with an error, and runs to its end even if its caller leaves.
//! - Nobody outside of this program can have a request left out: the program's own parts are known by the identity that they
//!   bring inside the process (and have a row of what they do for a visitor), and a dry run by the same reading that keeps it from changing anything.
//!
//! # Caveats
//! - Requests of nobody (no token, a wrong one), and those of somebody who asks too often, are many where somebody wants them to
//!   be: of them so many are written in a minute, and how many were not is told in the next row.

use super::ApiState;
use super::fail::Refusal;
use super::record;
use super::request::{Params, Subresource, Target};
use super::status::ApiError;
use super::write::Written;
use crate::access::{Directory, Identity, IdentityKind};
use crate::audit::{Entry, changes};
use crate::clock::Clock;
use crate::store::{Store, StoreError, Stored, Tx};
use axum::extract::{ConnectInfo, Request};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::{Method, StatusCode};
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Rows in a minute about requests of nobody.
const ANONYMOUS: u32 = 120;
const MINUTE: i64 = 60_000;

/// How many requests of nobody were written in this minute.
#[derive(Default)]
struct Flood {
    began: i64,
    written: u32,
    left_out: u64,
}

/// Writes the audit log. Cheap to clone.
#[derive(Clone)]
pub struct Ledger {
    store: Store,
    directory: Arc<Directory>,
    clock: Arc<dyn Clock>,
    flood: Arc<Mutex<Flood>>,
}

impl Ledger {
    /// Over a store, and what decisions are made from.
    pub fn new(store: Store, directory: Arc<Directory>, clock: Arc<dyn Clock>) -> Self {
        Self { store, directory, clock, flood: Arc::default() }
    }

    /// A row that begins now, about something in a project.
    ///
    /// # Errors
    /// When it cannot be found out what somebody is.
    pub async fn begin(&self, actor: &str, namespace: &str) -> Result<Entry, StoreError> {
        let role = if actor.is_empty() { String::new() } else { self.standing(actor, namespace).await? };
        let at = self.clock.now().as_millisecond();
        Ok(Entry { at, actor: actor.into(), role, namespace: namespace.into(), ..Entry::default() })
    }

    /// What somebody is now.
    ///
    /// # Errors
    /// When it cannot be found out.
    pub async fn standing(&self, actor: &str, project: &str) -> Result<String, StoreError> {
        self.directory.ask(|records| records.standing(actor, project)).await
    }

    /// Whose login address this is. What somebody has typed is not written down where it is nobody's: it may be a password.
    ///
    /// # Errors
    /// When it cannot be found out.
    pub async fn holder_of(&self, address: &str) -> Result<Option<String>, StoreError> {
        let address: String = address.trim().chars().take(254).collect::<String>().to_lowercase();
        // PostgreSQL takes no NUL, not even in a question.
        if address.contains('\0') {
            return Ok(None);
        }
        Ok(self.store.credential_by_email(&address).await?.map(|credential| credential.user))
    }

    /// Writes a row.
    ///
    /// # Errors
    /// When it is not written: what it is about must not be answered as done.
    pub async fn write(&self, mut entry: Entry) -> Result<(), StoreError> {
        // The throttle bounds the guesses on accounts that were looked at: none of them is lost among others.
        let guess = entry.verb == "sign-in" && !entry.name.is_empty() && entry.code != 429;
        let of_many = entry.how == "anonymous" || entry.code == 429;
        if of_many && !guess && !self.has_room(&mut entry) {
            return Ok(());
        }
        self.store.write_audit(entry).await.inspect_err(|cause| tracing::error!(%cause, "the audit log cannot be written"))
    }

    fn has_room(&self, entry: &mut Entry) -> bool {
        let mut flood = self.flood.lock().unwrap_or_else(PoisonError::into_inner);
        if entry.at - flood.began >= MINUTE || entry.at < flood.began {
            *flood = Flood { began: entry.at, left_out: flood.left_out, ..Flood::default() };
        }
        if flood.written >= ANONYMOUS {
            flood.left_out += 1;
            return false;
        }
        flood.written += 1;
        let left_out = std::mem::take(&mut flood.left_out);
        if left_out > 0 {
            entry.reason.insert_str(0, &format!("({left_out} such requests before this one were not written) "));
        }
        true
    }

    /// Writes the row of a request that was answered, if it has none yet.
    ///
    /// # Errors
    /// As [`Ledger::write`].
    pub fn settle<'a>(
        &'a self,
        noted: &Noted,
        response: &Response,
    ) -> impl Future<Output = Result<(), StoreError>> + Send + use<'a> {
        let entry = noted.last(response);
        async move {
            match entry {
                Some(entry) => self.write(entry).await,
                None => Ok(()),
            }
        }
    }
}

struct Note {
    entry: Entry,
    /// It is written, or is not to be.
    settled: bool,
}

/// The row of a request that is being answered. Goes with the request; its handlers say what they know.
#[derive(Clone)]
pub struct Noted(Arc<Mutex<Note>>);

impl Noted {
    /// A row that is to be written.
    pub fn new(entry: Entry) -> Self {
        Self(Arc::new(Mutex::new(Note { entry, settled: false })))
    }

    fn lock(&self) -> MutexGuard<'_, Note> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says more.
    pub fn about(&self, say: impl FnOnce(&mut Entry)) {
        say(&mut self.lock().entry);
    }

    /// The row as it is so far.
    pub fn entry(&self) -> Entry {
        self.lock().entry.clone()
    }

    /// The row of an answer, if it is not written yet.
    fn last(&self, response: &Response) -> Option<Entry> {
        let mut note = self.lock();
        if std::mem::replace(&mut note.settled, true) {
            return None;
        }
        let mut entry = note.entry.clone();
        if entry.code == 0 {
            entry.code = response.status().as_u16().into();
        }
        if let Some(refusal) = response.extensions().get::<Refusal>() {
            entry.reason = if entry.kind == "Secret" { refusal.reason.into() } else { refusal.words.clone() };
        }
        Some(entry)
    }

    /// The request has no row: it has changed nothing, and was not to.
    pub fn leave_out(&self) {
        self.lock().settled = true;
    }

    /// Its rows were written in the transaction of what they tell; `false` when others are begun.
    pub fn set_written(&self, written: bool) {
        self.lock().settled = written;
    }

    /// Has a row written with a change of a record, in the same transaction: `before` is how the record was, `after` how it
    /// is, `None` where it is not.
    pub fn change(&self, tx: &mut Tx, before: Option<&Stored>, after: Option<&Stored>, kind: &str) -> Result<(), ApiError> {
        let Some(stored) = after.or(before) else { return Ok(()) };
        let parse = |stored: &Stored| record::parse(&stored.body).map_err(super::fail::damaged);
        let (old, new) = (before.map(parse).transpose()?, after.map(parse).transpose()?);
        let mut entry = self.entry();
        entry.kind = kind.into();
        entry.namespace.clone_from(&stored.key.namespace);
        entry.name.clone_from(&stored.key.name);
        entry.uid.clone_from(&stored.uid);
        entry.code = if before.is_none() { 201 } else { 200 };
        entry.changes = changes(old.as_ref(), new.as_ref());
        tx.audit(entry);
        Ok(())
    }
}

/// Has the row of a write made with it, where its request has one.
pub fn keep(noted: Option<&Noted>, tx: &mut Tx, before: Option<&Stored>, written: &Written, kind: &str) -> Result<(), ApiError> {
    let Some(noted) = noted else { return Ok(()) };
    let last = Some(&written.record).filter(|_| !written.gone);
    noted.change(tx, before, last, kind)
}

/// Writes the row of a way into a workspace before it is opened: no program runs unseen.
///
/// # Errors
/// When the row cannot be written.
pub async fn opens(state: &ApiState, extensions: &http::Extensions) -> Result<(), ApiError> {
    let Some(noted) = extensions.get::<Noted>() else { return Ok(()) };
    let entry = Entry { code: 101, reason: "let through to the workspace".into(), ..noted.entry() };
    state.ledger().write(entry).await.map_err(unwritten)?;
    noted.set_written(true);
    Ok(())
}

fn unwritten(_: StoreError) -> ApiError {
    // Not 503, after which clients try again and again by themselves.
    ApiError::internal(
        "the audit log cannot be written, so nothing is done that it would have to tell; the server's log says why",
    )
}

/// Questions that are posted, as Kubernetes has them.
fn asks_only(path: &str) -> bool {
    path.starts_with("/apis/authorization.k8s.io/") || path.starts_with("/apis/authentication.k8s.io/")
}

/// The row of a request, or none where it only reads.
fn entry_of(request: &Request) -> Option<Entry> {
    let (path, method) = (request.uri().path(), request.method());
    let target = Target::parse(path).ok();
    let way_in = target
        .as_ref()
        .is_some_and(|target| matches!(target.subresource, Subresource::Exec | Subresource::Portforward | Subresource::Terminal));
    let reads = matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS) && !(way_in && *method == Method::GET);
    if reads || asks_only(path) {
        return None;
    }
    let collection = target.as_ref().is_some_and(|target| target.name.is_none());
    let verb = match method.as_str() {
        _ if path == "/devsanctum/apply" => "apply",
        _ if way_in => "create",
        "DELETE" if collection => "deletecollection",
        "DELETE" => "delete",
        "POST" => "create",
        "PUT" => "update",
        "PATCH" => "patch",
        other => other,
    };
    let mut entry = Entry { verb: verb.to_ascii_lowercase(), ..Entry::default() };
    match target {
        Some(target) => {
            let dry = Params::parse(request.uri()).and_then(|params| params.dry_run()).unwrap_or(false);
            if dry && matches!(target.subresource, Subresource::None | Subresource::Status) {
                return None;
            }
            entry.kind.clone_from(&target.served.def.kind);
            entry.subresource = target.subresource.name().into();
            entry.namespace = target.namespace.unwrap_or_default();
            entry.name = target.name.unwrap_or_default();
        }
        None if path.starts_with("/devsanctum/") => {}
        None => entry.name = path.into(),
    }
    Some(entry)
}

/// Who asks and how they proved it, in the row's words.
async fn signed(ledger: &Ledger, entry: Entry, who: Option<&Identity>, peer: Option<SocketAddr>) -> Result<Entry, StoreError> {
    let project = match entry.kind.as_str() {
        "Project" | "Namespace" => entry.name.as_str(),
        _ => entry.namespace.as_str(),
    };
    let (actor, how, proof, role) = match who {
        None => (String::new(), "anonymous", String::new(), String::new()),
        Some(who) if who.kind != IdentityKind::User => (who.name.clone(), "admin-token", String::new(), "ADMIN".into()),
        Some(who) => {
            let how = if who.key.is_some() { "key" } else { "session" };
            let role = ledger.standing(&who.name, project).await?;
            (who.name.clone(), how, who.key.clone().unwrap_or_default(), role)
        }
    };
    let address = peer.map(|peer| peer.ip().to_canonical().to_string()).unwrap_or_default();
    let at = ledger.clock.now().as_millisecond();
    Ok(Entry { at, actor, how: how.into(), proof, role, address, ..entry })
}

/// What is known of a request before anybody has looked at it.
pub struct Asked {
    entry: Option<Entry>,
    peer: Option<SocketAddr>,
}

impl Asked {
    /// Reads it.
    pub fn of(request: &Request) -> Self {
        let peer = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0);
        Self { entry: entry_of(request), peer }
    }
}

/// Who has visited something, so that this program does what it asks for by itself: a user, where it is known who that is.
#[derive(Clone, Debug)]
pub struct Visit(pub Option<String>);

/// The SSH key that a caller came in by, whom this program asks for: its fingerprint.
#[derive(Clone, Debug)]
pub struct SshKey(pub String);

/// Lets a request go on, and has its row written before it is answered.
pub async fn run(state: &ApiState, request: Request, next: Next) -> Response {
    let mut who = request.extensions().get::<Identity>().cloned();
    let Asked { mut entry, peer } = Asked::of(&request);
    match (request.extensions().get::<Visit>(), &mut entry) {
        (Some(Visit(user)), Some(entry)) => {
            who = user.clone().map(Identity::person);
            entry.reason = "for a visit, by the platform".into();
        }
        _ => entry = entry.filter(|_| who.as_ref().is_none_or(|who| who.kind != IdentityKind::System)),
    }
    let Some(entry) = entry else { return next.run(request).await };
    let ledger = state.ledger().clone();
    let by_ssh = request.extensions().get::<SshKey>().cloned();
    let noted = match signed(&ledger, entry, who.as_ref(), peer).await {
        Ok(entry) => Noted::new(match by_ssh {
            Some(SshKey(proof)) => Entry { how: "ssh-key".into(), proof, ..entry },
            None => entry,
        }),
        Err(error) => return unwritten(error).into_response(),
    };
    finished(ledger, noted, request, move |request| next.run(request)).await
}

/// Answers a request and writes its row, whether or not somebody waits for the answer.
pub async fn finished<F>(
    ledger: Ledger,
    noted: Noted,
    mut request: Request,
    answer: impl FnOnce(Request) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = Response> + Send,
{
    request.extensions_mut().insert(noted.clone());
    // A caller who leaves takes their own future along, not this one.
    let done = tokio::spawn(async move {
        let response = AssertUnwindSafe(async { answer(request).await }).catch_unwind().await.unwrap_or_else(|_| {
            tracing::error!("a request panicked");
            ApiError::internal("this request failed inside the server; its log says how").into_response()
        });
        match ledger.settle(&noted, &response).await {
            Ok(()) => response,
            Err(error) => unwritten(error).into_response(),
        }
    });
    done.await.unwrap_or_else(|_| StatusCode::INTERNAL_SERVER_ERROR.into_response())
}

/// Answers a request whose caller may not come in, and writes its row; of some it is known who they are.
pub async fn refused(state: &ApiState, asked: Asked, who: Option<&Identity>, error: ApiError) -> Response {
    let Some(entry) = asked.entry else { return error.into_response() };
    let ledger = state.ledger();
    let noted = match signed(ledger, entry, who, asked.peer).await {
        Ok(entry) => Noted::new(entry),
        Err(error) => return unwritten(error).into_response(),
    };
    let response = error.into_response();
    match ledger.settle(&noted, &response).await {
        Ok(()) => response,
        Err(error) => unwritten(error).into_response(),
    }
}
