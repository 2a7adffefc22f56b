//! The panel: where people sign in, see their workspaces, and are let in to them.

use super::accounts::Accounts;
use super::cookies::{self, Cookies};
use super::gate::{may_open, visitor};
use super::{
    ApiAddress, Waking, Web, device, elsewhere, forms, home, pages, picture, providers, servers, setup, signing, start,
    welcome as arrival,
};
use crate::access::{Refused, SignedIn, Visitor};
use crate::api::{Ledger, Noted, closed, finished};
use crate::store::{Session, StoreError};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Form, Router};
use k8s_openapi::jiff::SignedDuration;
use serde::Deserialize;
use std::sync::{Arc, Mutex};

/// How long the panel's cookie is kept, in seconds; its session may end before.
const COOKIE_LASTS: i64 = 14 * 24 * 3600;
/// What browsers forget of the panel when somebody signs out. Not `"cookies"`: that would take those of workspaces' hosts, which are
/// subdomains of ours more often than not, and the one by which a browser that was here before has guesses of its own.
const CLEARED: &str = "\"cache\", \"storage\"";
/// How long after it began a session is proof enough to change how somebody signs in, or to let a terminal in.
const FRESH: SignedDuration = SignedDuration::from_mins(15);
const BROWSER_LASTS: i64 = 365 * 24 * 3600;
/// Form bodies taken, in bytes.
const MAX_FORM: usize = 16 * 1024;

/// What the panel works with.
#[derive(Clone)]
pub struct Panel {
    /// Signs people in.
    pub web: Web,
    /// The API, to be spoken to as whoever is signed in.
    pub api: Router,
    /// Makes the accounts of people who come by themselves.
    pub accounts: Arc<Accounts>,
    /// SHA-256 of the token that the first administrator is made with; gone once that is done.
    pub setup: Arc<Mutex<Option<[u8; 32]>>>,
    /// Where what people do here is told.
    pub audit: Ledger,
    /// Where terminals that are let in reach the API.
    pub reached: ApiAddress,
    /// Workspaces that are being started for visitors.
    pub waking: Waking,
}

/// The panel's routes.
pub fn router(panel: Panel) -> Router {
    Router::new()
        .route("/", get(home::show))
        .route("/servers", get(servers::show))
        .route("/style.css", get(style))
        .route("/login", get(login_page).post(login))
        .route("/logout", post(logout))
        .route("/open", get(open))
        .route("/start", get(start::page).post(start::start))
        .route("/setup", get(setup::setup_page).post(setup::setup))
        .route("/sign-in/{provider}", get(providers::way).post(providers::begin))
        .route("/sign-in/{provider}/callback", get(providers::callback))
        .route("/sign-in/{provider}/connect", post(providers::connect))
        .route("/account/disconnect", post(providers::disconnect))
        .route("/invitation/{token}", get(arrival::invitation_page).post(arrival::accept))
        .route("/register", get(arrival::register_page).post(arrival::register))
        .route("/confirm/{token}", get(arrival::confirm_page).post(arrival::confirm))
        .route("/forgot", get(arrival::forgot_page).post(arrival::forgot))
        .route("/password/{token}", get(password_page).post(password))
        .route("/device", get(device::page).post(device::begin))
        .route("/device/approve", post(device::answer))
        .route(device::TOKEN, post(device::token))
        .route("/account", get(account))
        .route("/account/password", post(change_password))
        .route(picture::PATH, get(picture::show))
        .route("/account/sessions/{id}/end", post(end_session))
        .fallback(|| async { pages::trouble(StatusCode::NOT_FOUND, "There is no such page.") })
        .layer(axum::extract::DefaultBodyLimit::max(MAX_FORM))
        .layer(from_fn_with_state(panel.clone(), own_forms_only))
        .layer(from_fn_with_state(panel.clone(), elsewhere::by_host))
        .layer(map_response(closed))
        .with_state(panel)
}

/// What changes something comes from a page of the panel's own: SameSite cookies do not tell workspaces' hosts from it.
async fn own_forms_only(State(panel): State<Panel>, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    // A terminal that asks and asks has no row until it is given a key; see there.
    let tells = (!is_safe(request.method()) && path != device::TOKEN) || signing::is_return(path);
    if tells { form(panel, request, next).await } else { next.run(request).await }
}

/// Lets a form pass, and has it told in the audit log before it is answered.
async fn form(panel: Panel, request: Request, next: Next) -> Response {
    let (headers, path) = (request.headers().clone(), request.uri().path().to_owned());
    // Terminals are nobody yet, and come from no page.
    let terminal = path == "/device";
    let session = if terminal { None } else { panel.session(&headers).await };
    let Ok(entry) = signing::entry(&panel.audit, &path, session.as_ref(), &by(&headers)).await else {
        return pages::trouble(StatusCode::SERVICE_UNAVAILABLE, "That cannot be done now. Try again.");
    };
    // What a provider sends back is known by the browser that was sent there.
    let own = terminal || is_own(&headers, &panel.web.panel.origin()) || (is_safe(request.method()) && signing::is_return(&path));
    let noted = Noted::new(entry);
    finished(panel.audit, noted.clone(), request, async move |request: Request| {
        if own {
            return next.run(request).await;
        }
        // A proxy whose request is not read to its end takes that for a broken connection.
        let _ = axum::body::to_bytes(request.into_body(), MAX_FORM).await;
        noted.about(|entry| entry.reason = "the form was not sent by the panel itself".into());
        pages::trouble(StatusCode::FORBIDDEN, "This form was not sent by the panel itself.")
    })
    .await
}

fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

fn is_own(headers: &HeaderMap, origin: &str) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    text("origin") == Some(origin) && text("sec-fetch-site").is_none_or(|site| site == "same-origin")
}

async fn style() -> Response {
    let headers = [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "max-age=300")];
    (headers, pages::STYLE).into_response()
}

impl Panel {
    /// Who is signed in.
    pub(super) async fn session(&self, headers: &HeaderMap) -> Option<Session> {
        let cookies = Cookies::read(headers);
        let shown = cookies.get(cookies::SESSION)?;
        let session = self.web.sign_in.session(shown, None, self.web.clock.now()).await;
        session.inspect_err(|error| tracing::warn!(%error, "a session could not be looked up")).ok()?
    }
}

impl Panel {
    /// Lets go on who has proved who they are a short while ago. A session alone may be a browser that somebody has left open.
    ///
    /// # Errors
    /// The page where they sign in again, which says why and leads to their account.
    pub(super) async fn proved(&self, noted: &Noted, session: &Session) -> Result<(), Response> {
        self.proved_for("/account", noted, session).await
    }

    /// As [`Panel::proved`], with another page that is led to.
    ///
    /// # Errors
    /// The page where they sign in again.
    pub(super) async fn proved_for(&self, next: &str, noted: &Noted, session: &Session) -> Result<(), Response> {
        let age = self.web.clock.now().as_millisecond() - session.created_at;
        if age <= FRESH.as_millis() as i64 {
            return Ok(());
        }
        let status = StatusCode::FORBIDDEN;
        signing::refused(noted, status, "the session began more than 15 minutes ago: a new proof is needed", None);
        let words = "You signed in here more than 15 minutes ago. Sign in again, and then go on with it.";
        Err(login_form(self, status, "", next, Some(words)).await)
    }
}

/// What went wrong, as people are told.
pub(super) fn refused(error: &Refused) -> (StatusCode, String) {
    let status = match error {
        Refused::TooMany(_) | Refused::Busy(_) => StatusCode::TOO_MANY_REQUESTS,
        Refused::Store(StoreError::Nul) => StatusCode::BAD_REQUEST,
        Refused::Store(cause) => {
            tracing::error!(%cause, "the panel could not do what it was asked for");
            return (StatusCode::SERVICE_UNAVAILABLE, "That cannot be done now. Try again.".into());
        }
        _ => StatusCode::FORBIDDEN,
    };
    let words = error.to_string();
    let mut letters = words.chars();
    let first = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    (status, format!("{first}{}.", letters.as_str()))
}

/// What the store could not do. Its words are for the log.
fn failed(error: StoreError) -> Response {
    let (status, words) = refused(&error.into());
    pages::trouble(status, &words)
}

impl Panel {
    /// Lets somebody in who has just signed in, and says in their row, and in their record, who that is and how they came.
    pub(super) async fn welcome(&self, noted: &Noted, how: &str, signed_in: &SignedIn, next: &str) -> Response {
        let session = self.web.sign_in.session(signed_in.session.reveal(), None, self.web.clock.now()).await.ok().flatten();
        match signing::signed_in(&self.audit, noted, how, &signed_in.user, session.as_ref()).await {
            Ok(()) => {
                let provider = how.strip_prefix(signing::PROVIDER).map_or_else(|| "LOCAL".to_owned(), str::to_uppercase);
                self.accounts.signed_in(&signed_in.user, &provider, self.web.clock.now()).await;
                welcome(signed_in, next)
            }
            Err(_) => pages::trouble(StatusCode::SERVICE_UNAVAILABLE, "You cannot be signed in now. Try again."),
        }
    }
}

fn welcome(signed_in: &SignedIn, next: &str) -> Response {
    let mut answer = pages::go_on("Signed in", pages::own_path(next));
    let cookies = [
        cookies::set(cookies::SESSION, signed_in.session.reveal(), COOKIE_LASTS),
        cookies::set(cookies::BROWSER, signed_in.browser.reveal(), BROWSER_LASTS),
    ];
    for cookie in cookies {
        answer.headers_mut().append(header::SET_COOKIE, cookie);
    }
    answer
}

/// Who asks.
pub(super) fn by(headers: &HeaderMap) -> Visitor {
    visitor(headers, &Cookies::read(headers))
}

/// Leads to where one signs in, and on from there.
pub(super) fn to_login(next: &str) -> Response {
    pages::redirect(&format!("/login?{}", pages::query(&[("next", next)])))
}

#[derive(Deserialize)]
struct Onward {
    #[serde(default)]
    next: String,
}

async fn login_page(State(panel): State<Panel>, Query(asked): Query<Onward>, headers: HeaderMap) -> Response {
    match panel.session(&headers).await {
        Some(_) => pages::redirect(pages::own_path(&asked.next)),
        None => login_form(&panel, StatusCode::OK, "", &asked.next, None).await,
    }
}

async fn login_form(panel: &Panel, status: StatusCode, email: &str, next: &str, wrong: Option<&str>) -> Response {
    pages::login(status, email, next, &providers::offered(panel).await, panel.accounts.are_open().await, wrong)
}

#[derive(Deserialize)]
struct Login {
    email: String,
    password: String,
    #[serde(default)]
    next: String,
}

async fn login(
    State(panel): State<Panel>,
    Extension(noted): Extension<Noted>,
    headers: HeaderMap,
    Form(form): Form<Login>,
) -> Response {
    let Web { sign_in, clock, .. } = &panel.web;
    match sign_in.sign_in(&form.email, form.password.into(), &by(&headers), clock.now()).await {
        Ok(signed_in) => panel.welcome(&noted, "password", &signed_in, &form.next).await,
        // A flood is answered without a look at anything.
        Err(error @ Refused::Busy(_)) => {
            let (status, words) = refused(&error);
            signing::refused(&noted, status, &error.to_string(), None);
            pages::trouble(status, &words)
        }
        Err(error) => {
            let (status, words) = refused(&error);
            let whose = panel.audit.holder_of(&form.email).await.ok().flatten();
            signing::refused(&noted, status, &error.to_string(), whose.as_deref());
            login_form(&panel, status, &form.email, &form.next, Some(&words)).await
        }
    }
}

async fn logout(State(panel): State<Panel>, headers: HeaderMap) -> Response {
    if let Some(session) = panel.session(&headers).await
        && let Err(error) = panel.web.sign_in.sign_out(&session).await
    {
        return failed(error);
    }
    let mut answer = pages::redirect("/login");
    answer.headers_mut().append(header::SET_COOKIE, cookies::set(cookies::SESSION, "", 0));
    answer.headers_mut().insert("clear-site-data", header::HeaderValue::from_static(CLEARED));
    answer
}

#[derive(Deserialize)]
struct Open {
    /// Its uid; empty where whoever asks has not been told it: then it is the one that the host leads to.
    #[serde(default)]
    workspace: String,
    host: String,
    to: String,
    nonce: String,
}

/// Somebody comes from the gate of a private workspace, and goes back with a code if they may.
async fn open(State(panel): State<Panel>, uri: Uri, Query(asked): Query<Open>, headers: HeaderMap) -> Response {
    let Some(session) = panel.session(&headers).await else {
        return to_login(uri.path_and_query().map_or("/", |path| path.as_str()));
    };
    let web = &panel.web;
    let mut asked = asked;
    if asked.workspace.is_empty() {
        let of_host = |records: &crate::access::Records| {
            records.host(&asked.host).and_then(|at| records.workspace_uid(&at.project, &at.workspace)).map(str::to_owned)
        };
        asked.workspace = web.directory.ask(of_host).await.ok().flatten().unwrap_or_default();
    }
    // Only a host that leads to this very workspace is gone back to, whatever the address says. What is brought to one that is open
    // to anybody is read by its container.
    let leads = web.directory.ask(|records| records.is_private_host(&asked.host, &asked.workspace)).await;
    let may = may_open(web, &session.user, &asked.workspace).await;
    if !matches!((leads, may), (Ok(true), Ok(true))) {
        return pages::missing(&web.panel);
    }
    match web.sign_in.code(&session, (&asked.workspace, &asked.host), &asked.nonce, web.clock.now()).await {
        Ok(code) => {
            let query = pages::query(&[("code", code.reveal()), ("to", pages::own_path(&asked.to))]);
            pages::redirect(&format!("{}/.devsanctum/enter?{query}", web.panel.of_host(&asked.host)))
        }
        Err(error) => {
            let (status, words) = refused(&error);
            pages::trouble(status, &words)
        }
    }
}

async fn password_page(Path(_): Path<String>) -> Response {
    pages::set_password(StatusCode::OK, None)
}

#[derive(Deserialize)]
struct NewPassword {
    password: String,
}

async fn password(
    State(panel): State<Panel>,
    Path(token): Path<String>,
    Extension(noted): Extension<Noted>,
    headers: HeaderMap,
    Form(form): Form<NewPassword>,
) -> Response {
    let web = &panel.web;
    match web.sign_in.take_link(&token, form.password.into(), &by(&headers), web.clock.now()).await {
        Ok(signed_in) => panel.welcome(&noted, "link", &signed_in, "/").await,
        Err(error) => {
            let (status, words) = refused(&error);
            signing::refused(&noted, status, &error.to_string(), None);
            pages::set_password(status, Some(&words))
        }
    }
}

async fn account(State(panel): State<Panel>, headers: HeaderMap) -> Response {
    let Some(session) = panel.session(&headers).await else { return to_login("/account") };
    shown(&panel, &session, None, None).await
}

async fn shown(panel: &Panel, session: &Session, told: Option<&str>, wrong: Option<&str>) -> Response {
    let sign_in = &panel.web.sign_in;
    let known = async { Ok((sign_in.sessions_of(&session.user).await?, sign_in.identities_of(&session.user).await?)) };
    let known: Result<_, StoreError> = known.await;
    match known {
        Ok((all, identities)) => {
            let ways = forms::identities(&identities, &providers::offered(panel).await);
            let picture = picture::address_of(panel, &session.user).await.is_some();
            pages::account(&session.user, picture, &all, &session.id, &ways, told, wrong)
        }
        Err(error) => failed(error),
    }
}

#[derive(Deserialize)]
struct Change {
    old: String,
    password: String,
}

async fn change_password(
    State(panel): State<Panel>,
    Extension(noted): Extension<Noted>,
    headers: HeaderMap,
    Form(form): Form<Change>,
) -> Response {
    let Some(session) = panel.session(&headers).await else { return to_login("/account") };
    let Web { sign_in, clock, .. } = &panel.web;
    let (old, new, by) = (form.old.into(), form.password.into(), by(&headers));
    match sign_in.change_password(&session, old, new, &by, clock.now()).await {
        Ok(token) => {
            let mut answer = shown(&panel, &session, Some("Your password was changed."), None).await;
            let cookie = cookies::set(cookies::SESSION, token.reveal(), COOKIE_LASTS);
            answer.headers_mut().append(header::SET_COOKIE, cookie);
            answer
        }
        Err(error) => {
            let (status, words) = refused(&error);
            signing::refused(&noted, status, &error.to_string(), Some(&session.user));
            shown(&panel, &session, None, Some(&words)).await
        }
    }
}

async fn end_session(
    State(panel): State<Panel>,
    Path(id): Path<String>,
    Extension(noted): Extension<Noted>,
    headers: HeaderMap,
) -> Response {
    let Some(session) = panel.session(&headers).await else { return to_login("/account") };
    if let Err(answer) = panel.proved(&noted, &session).await {
        return answer;
    }
    let sign_in = &panel.web.sign_in;
    let ended = async {
        match sign_in.sessions_of(&session.user).await?.into_iter().find(|other| other.id == id) {
            Some(other) => sign_in.sign_out(&other).await,
            None => Ok(()),
        }
    };
    match ended.await {
        Ok(()) => pages::redirect("/account"),
        Err(error) => failed(error),
    }
}
