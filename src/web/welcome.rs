//! The ways to an account of one's own: an invitation, or asking for one; and back to one whose password is forgotten.

use super::accounts::{NewAccount, NoAccount};
use super::panel::{Panel, by, refused};
use super::providers::{known_as, offered};
use super::{forms, pages, signing};
use crate::access::oauth::Person;
use crate::access::{Password, Place, Refused, digest};
use crate::api::Noted;
use crate::resource::{Invitation, names};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::{Extension, Form};
use kube::ResourceExt;
use serde::Deserialize;

/// How somebody will come in who takes up an invitation.
pub enum Way<'a> {
    /// By a user name and a password of their choice.
    Password(&'a str, Password, Place),
    /// By a provider that knows them.
    By(&'a str, &'a Person),
}

fn link_is_over() -> Response {
    pages::trouble(StatusCode::NOT_FOUND, "This link does not work any more: ask for a new one.")
}

/// The invitation of a link, by the SHA-256 of its token, if it can be taken up.
async fn invitation(panel: &Panel, sha256: [u8; 32]) -> Result<Invitation, Response> {
    let web = &panel.web;
    let invited = web.sign_in.invitation(sha256, web.clock.now()).await.map_err(|error| match error {
        Refused::Link => link_is_over(),
        other => {
            let (status, words) = refused(&other);
            pages::trouble(status, &words)
        }
    })?;
    match panel.accounts.invitation(&invited).await {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(link_is_over()),
        Err(why) => Err(said(&why)),
    }
}

fn said(why: &NoAccount) -> Response {
    let (status, words) = words(why);
    pages::trouble(status, words)
}

fn words(why: &NoAccount) -> (StatusCode, &str) {
    match why {
        NoAccount::NameTaken(words) | NoAccount::AddressTaken(words) => (StatusCode::CONFLICT, words),
        NoAccount::Wrong(words) => (StatusCode::UNPROCESSABLE_ENTITY, words),
        NoAccount::NotNow(words) => (StatusCode::SERVICE_UNAVAILABLE, words),
    }
}

/// Where an invitation leads.
pub async fn invitation_page(State(panel): State<Panel>, Path(token): Path<String>) -> Response {
    match invitation(&panel, digest(&token)).await {
        Ok(found) => forms::invitation(StatusCode::OK, &found.spec.email, "", &token, &offered(&panel).await, None),
        Err(answer) => answer,
    }
}

#[derive(Deserialize)]
pub struct Chosen {
    name: String,
    password: String,
}

/// Somebody takes up an invitation with a password.
pub async fn accept(
    State(panel): State<Panel>,
    Path(token): Path<String>,
    Extension(noted): Extension<Noted>,
    headers: HeaderMap,
    Form(form): Form<Chosen>,
) -> Response {
    let found = match invitation(&panel, digest(&token)).await {
        Ok(found) => found,
        Err(answer) => return answer,
    };
    let wrong = async |status, words: &str| {
        forms::invitation(status, &found.spec.email, &form.name, &token, &offered(&panel).await, Some(words))
    };
    let (name, password) = (form.name.trim(), Password::from(form.password.clone()));
    if let Err(error) = panel.web.sign_in.fits(&password, name, &found.spec.email, None) {
        return wrong(StatusCode::UNPROCESSABLE_ENTITY, &refused(&error).1).await;
    }
    if let Err(why) = names::dns_label(name) {
        return wrong(StatusCode::UNPROCESSABLE_ENTITY, &format!("The user name {why}.")).await;
    }
    // The invitation is not to be ended by who has no turn then.
    let place = match Place::take() {
        Ok(place) => place,
        Err(busy) => {
            let (status, words) = refused(&busy.into());
            return wrong(status, &words).await;
        }
    };
    take_up(&panel, digest(&token), Way::Password(name, password, place), &noted, &headers).await.unwrap_or_else(|answer| answer)
}

/// Makes the account of an invitation and signs in to it. What was begun before and not ended is gone on with.
pub async fn take_up(
    panel: &Panel,
    sha256: [u8; 32],
    way: Way<'_>,
    noted: &Noted,
    headers: &HeaderMap,
) -> Result<Response, Response> {
    let (web, accounts) = (&panel.web, &panel.accounts);
    let now = web.clock.now();
    let found = invitation(panel, sha256).await?;
    let email = found.spec.email.as_str();
    // Nothing is used up by somebody who has an account.
    if let Way::By(_, person) = &way
        && web.sign_in.knows(person).await.map_err(|error| said(&NoAccount::NotNow(error.to_string())))?
    {
        return Err(pages::trouble(
            StatusCode::CONFLICT,
            "The provider knows you as somebody else here: you have an account already. Sign in to it, or take the invitation up with a \
             password.",
        ));
    }
    let made = match &way {
        Way::Password(name, ..) => accounts.make(&NewAccount { name, email, display_name: None, invitation: Some(&found) }).await,
        Way::By(_, person) => {
            let new = NewAccount { name: "", email, display_name: person.name.as_deref(), invitation: Some(&found) };
            accounts.make_called(&person.login, &new).await
        }
    };
    let user = made.map_err(|why| said(&why))?;
    accounts.join(&user, &found.spec.groups).await.map_err(|why| said(&why))?;
    // Nobody comes in by it a second time: the first to end it is the one.
    if !web.sign_in.end_invitation(sha256, now).await.unwrap_or(false) {
        return Err(link_is_over());
    }
    let (signed_in, by_what) = match way {
        Way::Password(_, password, place) => {
            let first = web.sign_in.first(&user, password, place, &by(headers), now).await;
            let first = first.map_err(|error| {
                let (status, words) = refused(&error);
                pages::trouble(status, &words)
            })?;
            (first, "invitation".to_owned())
        }
        Way::By(provider, person) => {
            let signed_in = known_as(panel, provider, person, &user, headers).await?;
            (signed_in, format!("{}{provider}", signing::PROVIDER))
        }
    };
    accounts.accepted(&found, &user, now).await;
    tracing::info!(user, invitation = found.name_any(), "an invitation was taken up");
    Ok(panel.welcome(noted, &by_what, &signed_in, "/").await)
}

async fn are_open(panel: &Panel) -> Result<(), Response> {
    if panel.accounts.are_open().await {
        return Ok(());
    }
    Err(pages::trouble(StatusCode::NOT_FOUND, "Accounts are made by invitation here: ask an administrator for one."))
}

/// Where an account is asked for, if anybody may.
pub async fn register_page(State(panel): State<Panel>) -> Response {
    match are_open(&panel).await {
        Ok(()) => forms::register(StatusCode::OK, "", "", &offered(&panel).await, None),
        Err(answer) => answer,
    }
}

#[derive(Deserialize)]
pub struct Application {
    name: String,
    email: String,
}

/// Somebody asks for an account. The answer is the same whether or not there is one of this address.
pub async fn register(State(panel): State<Panel>, headers: HeaderMap, Form(form): Form<Application>) -> Response {
    if let Err(answer) = are_open(&panel).await {
        return answer;
    }
    let (name, email) = (form.name.trim(), form.email.trim());
    let wrong = async |status, words: &str| forms::register(status, name, email, &offered(&panel).await, Some(words));
    if let Err(why) = names::dns_label(name) {
        return wrong(StatusCode::UNPROCESSABLE_ENTITY, &format!("The user name {why}.")).await;
    }
    if !names::is_email(email) {
        return wrong(StatusCode::UNPROCESSABLE_ENTITY, "That is no e-mail address.").await;
    }
    let web = &panel.web;
    match web.sign_in.apply(name, email, &by(&headers), web.clock.now()).await {
        Ok(()) => forms::mail_is_on_its_way(email),
        Err(error) => {
            let (status, words) = refused(&error);
            wrong(status, &words).await
        }
    }
}

/// Where a confirmation leads. Opening it changes nothing: programs open links, too.
pub async fn confirm_page(State(panel): State<Panel>, Path(token): Path<String>) -> Response {
    match panel.web.sign_in.applicant(&token, panel.web.clock.now()).await {
        Ok(applicant) => forms::confirm(StatusCode::OK, &applicant.email, &applicant.name, None),
        Err(_) => link_is_over(),
    }
}

/// Somebody confirms their address, chooses a password, and has an account. The password is asked for here: whoever asked for the
/// account may be another than whose address it is.
pub async fn confirm(
    State(panel): State<Panel>,
    Path(token): Path<String>,
    Extension(noted): Extension<Noted>,
    headers: HeaderMap,
    Form(form): Form<Chosen>,
) -> Response {
    let web = &panel.web;
    let now = web.clock.now();
    let Ok(applicant) = web.sign_in.applicant(&token, now).await else { return link_is_over() };
    if let Err(answer) = are_open(&panel).await {
        return answer;
    }
    let (name, email, password) = (form.name.trim(), applicant.email.as_str(), Password::from(form.password));
    let wrong = |status, words: &str| forms::confirm(status, email, name, Some(words));
    if let Err(error) = web.sign_in.fits(&password, name, email, None) {
        return wrong(StatusCode::UNPROCESSABLE_ENTITY, &refused(&error).1);
    }
    // No user is to be made who then has no turn to set a password.
    let place = match Place::take() {
        Ok(place) => place,
        Err(busy) => {
            let (status, words) = refused(&busy.into());
            return wrong(status, &words);
        }
    };
    let new = NewAccount { name, email, display_name: None, invitation: None };
    if let Err(why) = panel.accounts.make(&new).await {
        let (status, words) = words(&why);
        return wrong(status, words);
    }
    match web.sign_in.admit(&token, name, password, place, &by(&headers), now).await {
        Ok(signed_in) => panel.welcome(&noted, "confirmation", &signed_in, "/").await,
        Err(error) => {
            let (status, words) = refused(&error);
            pages::trouble(status, &words)
        }
    }
}

/// Where a new password is asked for.
pub async fn forgot_page() -> Response {
    forms::forgot(StatusCode::OK, "", None)
}

#[derive(Deserialize)]
pub struct Forgot {
    email: String,
}

/// Somebody has forgotten their password. The answer is the same for addresses that nobody has.
pub async fn forgot(State(panel): State<Panel>, headers: HeaderMap, Form(form): Form<Forgot>) -> Response {
    let (web, email) = (&panel.web, form.email.trim());
    if !names::is_email(email) {
        return forms::forgot(StatusCode::UNPROCESSABLE_ENTITY, email, Some("That is no e-mail address."));
    }
    match web.sign_in.forgot(email, &by(&headers), web.clock.now()).await {
        Ok(()) => forms::mail_is_on_its_way(email),
        Err(error) => {
            let (status, words) = refused(&error);
            forms::forgot(status, email, Some(&words))
        }
    }
}
