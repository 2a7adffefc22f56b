//! The first administrator, who is made with the set-up token.

use super::panel::{Panel, by, refused};
use super::{pages, signing};
use crate::access::{Identity, Password, Place, Records, digest};
use crate::api::{Noted, client};
use crate::resource::User;
use crate::store::StoreError;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use axum::{Extension, Form};
use kube::Api;
use kube::api::PostParams;
use serde::Deserialize;
use serde_json::json;
use std::sync::PoisonError;
use subtle::ConstantTimeEq;
use tokio::sync::Mutex;

#[derive(Deserialize)]
pub struct SetupPage {
    #[serde(default)]
    token: String,
}

/// One at a time in this process: what is found out of administrators is so until one is made.
static TURN: Mutex<()> = Mutex::const_new(());

impl Panel {
    /// Whether there is an administrator with a password, however they came by it: in another process, too. From then on for good.
    async fn is_set_up(&self) -> Result<bool, StoreError> {
        if self.setup.lock().unwrap_or_else(PoisonError::into_inner).is_none() {
            return Ok(true);
        }
        for name in self.web.directory.ask(Records::administrators).await? {
            if self.web.sign_in.has_password(&name).await? {
                *self.setup.lock().unwrap_or_else(PoisonError::into_inner) = None;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn fits(&self, token: &str) -> bool {
        let expected = *self.setup.lock().unwrap_or_else(PoisonError::into_inner);
        expected.is_some_and(|expected| bool::from(digest(token.trim()).ct_eq(&expected)))
    }
}

impl Panel {
    /// Makes an administrator, unless there is one of this name who has no password yet.
    async fn administrator(&self, name: &str, email: &str) -> Result<(), (StatusCode, String)> {
        let said = |error: StoreError| refused(&error.into());
        let waits = self.web.directory.ask(|records| records.administrators().iter().any(|admin| admin == name));
        if waits.await.map_err(said)? && !self.web.sign_in.has_password(name).await.map_err(said)? {
            return Ok(());
        }
        let users: Api<User> = Api::all(client(self.api.clone(), Identity::system("devsanctum-setup")));
        let spec = json!({"email": email, "role": "ADMIN"});
        let body = json!({"apiVersion": "devsanctum.io/v1", "kind": "User", "metadata": {"name": name}, "spec": spec});
        let user: User = serde_json::from_value(body).map_err(|e| (StatusCode::UNPROCESSABLE_ENTITY, e.to_string()))?;
        match users.create(&PostParams::default(), &user).await {
            Ok(_) => Ok(()),
            // What is wrong with what they have chosen.
            Err(kube::Error::Api(status)) if matches!(status.code, 409 | 422) => {
                Err((StatusCode::UNPROCESSABLE_ENTITY, status.message))
            }
            Err(error) => {
                tracing::error!(%error, "the first administrator could not be made");
                Err((StatusCode::SERVICE_UNAVAILABLE, "That cannot be done now. Try again.".into()))
            }
        }
    }
}

/// Lets go on where there is no administrator yet; `over` is what it is answered with where there is one.
async fn waits(panel: &Panel, over: StatusCode) -> Result<(), (StatusCode, String)> {
    match panel.is_set_up().await {
        Ok(false) => Ok(()),
        Ok(true) => Err((over, "This installation has been set up: sign in.".into())),
        Err(error) => Err(refused(&error.into())),
    }
}

/// Where the first administrator is made.
pub async fn setup_page(State(panel): State<Panel>, Query(asked): Query<SetupPage>) -> Response {
    if let Err((status, words)) = waits(&panel, StatusCode::NOT_FOUND).await {
        return pages::trouble(status, &words);
    }
    pages::setup(StatusCode::OK, &asked.token, None)
}

#[derive(Deserialize)]
pub struct Setup {
    token: String,
    name: String,
    email: String,
    password: String,
}

/// Makes the first administrator.
pub async fn setup(
    State(panel): State<Panel>,
    Extension(noted): Extension<Noted>,
    headers: HeaderMap,
    Form(form): Form<Setup>,
) -> Response {
    let wrong = |status: StatusCode, words: &str| {
        signing::refused(&noted, status, words, None);
        pages::setup(status, &form.token, Some(words))
    };
    let over = |(status, words): (StatusCode, String)| {
        signing::refused(&noted, status, &words, None);
        pages::trouble(status, &words)
    };
    if !panel.fits(&form.token) {
        return match waits(&panel, StatusCode::FORBIDDEN).await {
            Ok(()) => wrong(StatusCode::FORBIDDEN, "That is not the set-up token. `devsanctum up` says where it is."),
            Err(why) => over(why),
        };
    }
    let _turn = TURN.lock().await;
    if let Err(why) = waits(&panel, StatusCode::FORBIDDEN).await {
        return over(why);
    }
    let (name, password) = (form.name.trim(), Password::from(form.password.clone()));
    let email = form.email.trim();
    if let Err(error) = panel.web.sign_in.fits(&password, name, email, None) {
        return wrong(StatusCode::UNPROCESSABLE_ENTITY, &refused(&error).1);
    }
    let place = match Place::take() {
        Ok(place) => place,
        Err(busy) => {
            let (status, words) = refused(&busy.into());
            return wrong(status, &words);
        }
    };
    if let Err((status, words)) = panel.administrator(name, email).await {
        return wrong(status, &words);
    }
    let web = &panel.web;
    match web.sign_in.first(name, password, place, &by(&headers), web.clock.now()).await {
        Ok(signed_in) => {
            *panel.setup.lock().unwrap_or_else(PoisonError::into_inner) = None;
            tracing::info!(user = %name, "the first administrator was made");
            panel.welcome(&noted, "setup-token", &signed_in, "/").await
        }
        Err(error) => {
            let (status, words) = refused(&error);
            wrong(status, &words)
        }
    }
}
