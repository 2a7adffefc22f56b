//! Signing in by a provider: there, and back.

use super::accounts::{NewAccount, NoAccount};
use super::cookies::{self, Cookies};
use super::pages;
use super::panel::{Panel, by, refused, to_login};
use super::signing;
use super::welcome::{Way, take_up};
use crate::access::oauth::{Answer, Asking, Discovered, OAuthError, Person};
use crate::access::{Back, Intent, Refused, SignedIn, Token, digest};
use crate::api::Noted;
use crate::mail;
use crate::resource::Provider;
use crate::store::Session;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use axum::{Extension, Form};
use serde::Deserialize;
use std::sync::LazyLock;

/// How long the cookie of an attempt lasts, in seconds.
const ATTEMPT_LASTS: i64 = 600;

/// What issuers say of themselves is the same for all who ask.
static DISCOVERED: LazyLock<Discovered> = LazyLock::new(Discovered::default);

/// What a page needs to know of providers.
pub async fn offered(panel: &Panel) -> Vec<Provider> {
    match mail::settings(&panel.web.store).await {
        Ok(settings) => settings.providers,
        Err(error) => {
            tracing::warn!(%error, "providers of sign-in could not be read");
            Vec::new()
        }
    }
}

#[derive(Deserialize)]
pub struct Onward {
    #[serde(default)]
    next: String,
    #[serde(default)]
    invitation: String,
}

/// Where a link to a provider leads: to the page whose form goes there. A link alone begins nothing, wherever it is followed.
pub async fn way(State(panel): State<Panel>, Path(name): Path<String>, Query(asked): Query<Onward>) -> Response {
    if let Err(answer) = found(&panel, &name).await {
        return answer;
    }
    match asked.invitation.as_str() {
        "" => to_login(pages::own_path(&asked.next)),
        token => pages::redirect(pages::own_path(&format!("/invitation/{token}"))),
    }
}

/// Somebody goes to a provider: to sign in, or to take up an invitation by it.
pub async fn begin(
    State(panel): State<Panel>,
    Path(name): Path<String>,
    Extension(noted): Extension<Noted>,
    headers: HeaderMap,
    Form(asked): Form<Onward>,
) -> Response {
    // What comes of it has a row, when they are back.
    noted.leave_out();
    let intent = if asked.invitation.is_empty() { Intent::SignIn } else { Intent::Accept(digest(&asked.invitation)) };
    led(leave(&panel, &name, &headers, asked.next, intent).await)
}

/// To the provider, with a page between: what a form leads to is held to this panel.
fn led(left: Result<(String, HeaderValue), Response>) -> Response {
    match left {
        Ok((url, cookie)) => {
            let mut answer = pages::go_on("On to the provider", &url);
            answer.headers_mut().append(header::SET_COOKIE, cookie);
            answer
        }
        Err(answer) => answer,
    }
}

/// Somebody who is signed in goes to a provider that is to know them.
pub async fn connect(
    State(panel): State<Panel>,
    Path(name): Path<String>,
    Extension(noted): Extension<Noted>,
    headers: HeaderMap,
) -> Response {
    let Some(session) = panel.session(&headers).await else { return to_login("/account") };
    if let Err(answer) = panel.proved(&noted, &session).await {
        return answer;
    }
    led(leave(&panel, &name, &headers, "/account".into(), Intent::Connect(session.user)).await)
}

#[derive(Deserialize)]
pub struct Forget {
    issuer: String,
}

/// Somebody is not to be known by a provider any more.
pub async fn disconnect(
    State(panel): State<Panel>,
    Extension(noted): Extension<Noted>,
    headers: HeaderMap,
    Form(form): Form<Forget>,
) -> Response {
    let Some(session) = panel.session(&headers).await else { return to_login("/account") };
    if let Err(answer) = panel.proved(&noted, &session).await {
        return answer;
    }
    match panel.web.sign_in.disconnect(&session.user, &form.issuer).await {
        Ok(()) => pages::redirect("/account"),
        Err(error) => {
            let (status, words) = refused(&error);
            pages::trouble(status, &words)
        }
    }
}

async fn found(panel: &Panel, name: &str) -> Result<Provider, Response> {
    let all = offered(panel).await;
    let missing = || pages::trouble(StatusCode::NOT_FOUND, "There is no such way to sign in.");
    all.into_iter().find(|provider| provider.name == name).ok_or_else(missing)
}

async fn asking<'a>(panel: &Panel, provider: &'a Provider) -> Result<Asking<'a>, Response> {
    let secret = mail::secret(&panel.web.store, &provider.client_secret, "clientSecret").await;
    let secret = secret.map_err(|words| not_set_up(&provider.name, &words))?;
    let redirect = format!("{}/sign-in/{}/callback", panel.web.panel.origin(), provider.name);
    Ok(Asking { provider, secret, redirect, discovered: &DISCOVERED })
}

/// What is wrong is for administrators to read: strangers see that something is.
fn not_set_up(provider: &str, words: &str) -> Response {
    tracing::warn!(provider, words, "signing in by a provider failed");
    pages::trouble(
        StatusCode::BAD_GATEWAY,
        "That way to sign in does not work now. An administrator finds the reason in the log.",
    )
}

fn failed(provider: &str, error: &OAuthError) -> Response {
    match error {
        OAuthError::Refused(_) => {
            tracing::info!(provider, %error, "a provider refused a code");
            pages::trouble(StatusCode::FORBIDDEN, "The provider did not let you in. Try again.")
        }
        _ => not_set_up(provider, &error.to_string()),
    }
}

async fn leave(
    panel: &Panel,
    name: &str,
    headers: &HeaderMap,
    next: String,
    intent: Intent,
) -> Result<(String, HeaderValue), Response> {
    let web = &panel.web;
    let said = |error| {
        let (status, words) = refused(&error);
        pages::trouble(status, &words)
    };
    web.sign_in.knock(&by(headers)).map_err(said)?;
    let provider = found(panel, name).await?;
    let asking = asking(panel, &provider).await?;
    let (state, browser) = match (Token::new(), Token::new()) {
        (Ok(state), Ok(browser)) => (state, browser),
        (Err(error), _) | (_, Err(error)) => return Err(said(error.into())),
    };
    let (url, attempt) = asking.begin(state.reveal()).await.map_err(|error| failed(name, &error))?;
    let back = Back { attempt, next: pages::own_path(&next).to_owned(), intent };
    web.sign_in.keep_attempt(&state, browser.reveal(), name, back, web.clock.now()).await.map_err(said)?;
    Ok((url, cookies::set(cookies::ATTEMPT, browser.reveal(), ATTEMPT_LASTS)))
}

#[derive(Deserialize)]
pub struct Returned {
    #[serde(default)]
    code: String,
    #[serde(default)]
    state: String,
    #[serde(default)]
    iss: Option<String>,
    #[serde(default)]
    error: String,
}

/// Somebody is back from a provider.
pub async fn callback(
    State(panel): State<Panel>,
    Path(name): Path<String>,
    Query(said): Query<Returned>,
    Extension(noted): Extension<Noted>,
    headers: HeaderMap,
) -> Response {
    let mut answer = back(&panel, &name, &said, &noted, &headers).await.unwrap_or_else(|answer| answer);
    answer.headers_mut().append(header::SET_COOKIE, cookies::set(cookies::ATTEMPT, "", 0));
    answer
}

async fn back(panel: &Panel, name: &str, said: &Returned, noted: &Noted, headers: &HeaderMap) -> Result<Response, Response> {
    let web = &panel.web;
    let cookies = Cookies::read(headers);
    let browser = cookies.get(cookies::ATTEMPT).unwrap_or_default();
    let taken = web.sign_in.take_attempt(&said.state, browser, name, &by(headers), web.clock.now()).await;
    let Back { attempt, next, intent } = taken.map_err(|error| match error {
        Refused::Link => {
            pages::trouble(StatusCode::FORBIDDEN, "This attempt to sign in is over, or is another browser's. Begin anew.")
        }
        other => {
            let (status, words) = refused(&other);
            pages::trouble(status, &words)
        }
    })?;
    // Not before: whoever was sent nowhere is nobody, and says no word in the audit log.
    noted.about(|entry| entry.how = format!("{}{name}", signing::PROVIDER));
    if !said.error.is_empty() || said.code.is_empty() {
        return Err(pages::trouble(StatusCode::FORBIDDEN, "The provider did not let you in. Try again."));
    }
    let provider = found(panel, name).await?;
    let asking = asking(panel, &provider).await?;
    let answer = Answer { code: &said.code, issuer: said.iss.as_deref() };
    let person = asking.finish(&answer, attempt).await.map_err(|error| failed(name, &error))?;
    match intent {
        Intent::SignIn => sign_in(panel, name, &person, &next, noted, headers).await,
        Intent::Connect(user) => {
            noted.about(|entry| (entry.verb, entry.kind, entry.name) = ("connect".into(), "User".into(), user.clone()));
            connected(panel, name, &person, &user, headers).await
        }
        Intent::Accept(sha256) => {
            noted.about(|entry| (entry.verb, entry.kind) = ("accept".into(), "User".into()));
            take_up(panel, sha256, Way::By(name, &person), noted, headers).await
        }
    }
}

async fn sign_in(
    panel: &Panel,
    provider: &str,
    person: &Person,
    next: &str,
    noted: &Noted,
    headers: &HeaderMap,
) -> Result<Response, Response> {
    let web = &panel.web;
    let known = web.sign_in.by_provider(person, provider, &by(headers), web.clock.now()).await;
    let signed_in = match known {
        Ok(Some(signed_in)) => signed_in,
        Ok(None) => newcomer(panel, provider, person, headers).await?,
        Err(error) => {
            let (status, words) = refused(&error);
            return Err(pages::trouble(status, &words));
        }
    };
    Ok(panel.welcome(noted, &format!("{}{provider}", signing::PROVIDER), &signed_in, next).await)
}

/// Somebody whom nobody knows here. An account of the same e-mail address is not theirs for that.
async fn newcomer(panel: &Panel, provider: &str, person: &Person, headers: &HeaderMap) -> Result<SignedIn, Response> {
    let no = |words: &str| pages::trouble(StatusCode::FORBIDDEN, words);
    if !panel.accounts.are_open().await {
        return Err(no(
            "Nobody here is known by that account. If you have an account here, sign in to it and connect the provider \
                       under “Your account”; if not, ask an administrator for an invitation.",
        ));
    }
    let Some(email) = person.email.as_deref() else {
        return Err(no("The provider does not say that an e-mail address is yours. Confirm one there first."));
    };
    let new = NewAccount { name: "", email, display_name: person.name.as_deref(), invitation: None };
    let user = panel.accounts.make_called(&person.login, &new).await.map_err(|why| match why {
        NoAccount::AddressTaken(_) => {
            no("There is an account of your e-mail address here already. Sign in to it, and connect the provider \
                                   under “Your account”.")
        }
        NoAccount::NameTaken(words) | NoAccount::Wrong(words) | NoAccount::NotNow(words) => no(&words),
    })?;
    known_as(panel, provider, person, &user, headers).await
}

/// Signs in a user who was just made, as whom the provider knows from now on.
pub async fn known_as(
    panel: &Panel,
    provider: &str,
    person: &Person,
    user: &str,
    headers: &HeaderMap,
) -> Result<SignedIn, Response> {
    let (sign_in, now) = (&panel.web.sign_in, panel.web.clock.now());
    let not_now = || pages::trouble(StatusCode::SERVICE_UNAVAILABLE, "That cannot be done now. Try again.");
    match sign_in.connect(user, person, provider, now).await {
        Ok(true) => sign_in.welcome(user, &by(headers), now).await.map_err(|_| not_now()),
        Ok(false) => Err(pages::trouble(StatusCode::CONFLICT, "The provider knows you as somebody else here.")),
        Err(error) => {
            tracing::error!(%error, "an identity could not be noted");
            Err(not_now())
        }
    }
}

async fn connected(panel: &Panel, name: &str, person: &Person, user: &str, headers: &HeaderMap) -> Result<Response, Response> {
    // Whoever has begun this must still be who is signed in.
    let session: Option<Session> = panel.session(headers).await.filter(|session| session.user == user);
    if session.is_none() {
        return Err(to_login("/account"));
    }
    match panel.web.sign_in.connect(user, person, name, panel.web.clock.now()).await {
        Ok(true) => Ok(pages::redirect("/account")),
        Ok(false) => Err(pages::trouble(StatusCode::CONFLICT, "The provider knows you as somebody else here.")),
        Err(error) => {
            tracing::error!(%error, "an identity could not be noted");
            Err(pages::trouble(StatusCode::SERVICE_UNAVAILABLE, "That cannot be done now. Try again."))
        }
    }
}
