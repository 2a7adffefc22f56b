//! What a provider of OpenID Connect says of itself, and remembers to have said for an hour.

use super::id_token::{Claims, Expected, Keys};
use super::{OAuthError, Person, get_json, unexpected};
use crate::fetch::Fetcher;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long what a provider says of itself is believed.
const FRESH: Duration = Duration::from_secs(3600);
/// Keys are asked for again when a token names one that is not known, but not more often than this.
const KEYS_AGAIN: Duration = Duration::from_secs(60);

/// A provider's endpoints.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Metadata {
    pub issuer: String,
    pub authorization_endpoint: String,
    pub token_endpoint: String,
    #[serde(default)]
    pub jwks_uri: Option<String>,
    #[serde(default)]
    pub userinfo_endpoint: Option<String>,
    #[serde(default)]
    pub token_endpoint_auth_methods_supported: Vec<String>,
    #[serde(default)]
    pub authorization_response_iss_parameter_supported: bool,
}

#[derive(Deserialize)]
struct UserInfo {
    sub: String,
    #[serde(default)]
    email: Option<String>,
    #[serde(default)]
    email_verified: Option<serde_json::Value>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    preferred_username: Option<String>,
}

/// Some write it as a text.
pub(super) fn is_true(value: Option<&serde_json::Value>) -> bool {
    value.is_some_and(|value| value == &serde_json::Value::Bool(true) || value == "true")
}

impl Metadata {
    /// How this installation proves itself: by a header unless only the body will do.
    pub fn takes_basic(&self) -> bool {
        let ways = &self.token_endpoint_auth_methods_supported;
        ways.is_empty() || ways.iter().any(|way| way == "client_secret_basic")
    }

    /// Whoever answers must be whom was asked (RFC 9207): an answer of another provider's is not taken.
    pub fn check_issuer(&self, said: Option<&str>) -> Result<(), OAuthError> {
        match said {
            Some(issuer) if issuer != self.issuer => Err(unexpected("the answer is another provider's")),
            None if self.authorization_response_iss_parameter_supported => Err(unexpected("the answer does not say whose it is")),
            _ => Ok(()),
        }
    }

    /// Who the claims are of, with what the provider tells besides where they do not say enough.
    pub async fn person(&self, fetcher: &Fetcher, claims: Claims, token: &str) -> Result<Person, OAuthError> {
        let mut claims = claims;
        if let (None, Some(url)) = (&claims.email, &self.userinfo_endpoint) {
            let told: UserInfo = get_json(fetcher, url, Some(token)).await?;
            // OpenID Connect Core 5.3.2: otherwise it is about somebody else.
            if told.sub != claims.sub {
                return Err(unexpected("its user information is about somebody else"));
            }
            (claims.email, claims.email_verified) = (told.email, told.email_verified);
            claims.name = claims.name.or(told.name);
            claims.preferred_username = claims.preferred_username.or(told.preferred_username);
        }
        let verified = is_true(claims.email_verified.as_ref());
        let email = claims.email.filter(|_| verified);
        let login = claims.preferred_username.or_else(|| email.clone()).unwrap_or_else(|| claims.sub.clone());
        Ok(Person { issuer: self.issuer.clone(), subject: claims.sub, email, login, name: claims.name })
    }
}

struct Known {
    metadata: Metadata,
    keys: Option<(Keys, Instant)>,
    at: Instant,
}

/// What is known of issuers.
#[derive(Default)]
pub struct Discovered(Mutex<HashMap<String, Known>>);

impl Discovered {
    fn known<T>(&self, ask: impl FnOnce(&mut HashMap<String, Known>) -> T) -> T {
        ask(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What an issuer says of itself (OpenID Connect Discovery 1.0).
    pub(super) async fn metadata(&self, fetcher: &Fetcher, issuer: &str) -> Result<Metadata, OAuthError> {
        let fresh =
            |known: &mut HashMap<String, Known>| known.get(issuer).filter(|k| k.at.elapsed() < FRESH).map(|k| k.metadata.clone());
        if let Some(metadata) = self.known(fresh) {
            return Ok(metadata);
        }
        let url = format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'));
        let metadata: Metadata = get_json(fetcher, &url, None).await?;
        if metadata.issuer != issuer {
            let words = format!("{url} says that its issuer is {:?}, and not {issuer:?}: correct the settings", metadata.issuer);
            return Err(unexpected(words));
        }
        let found = Known { metadata: metadata.clone(), keys: None, at: Instant::now() };
        self.known(|known| known.insert(issuer.to_owned(), found));
        Ok(metadata)
    }

    /// What an ID token says, if it is this provider's, for us, and for this attempt.
    pub(super) async fn verify(
        &self,
        fetcher: &Fetcher,
        metadata: &Metadata,
        token: &str,
        expected: &Expected<'_>,
    ) -> Result<Claims, OAuthError> {
        let known = self.known(|all| all.get(&metadata.issuer).and_then(|known| known.keys.clone()));
        if let Some((keys, at)) = known
            && (keys.has(token) || at.elapsed() < KEYS_AGAIN)
        {
            return keys.verify(token, expected);
        }
        let url = metadata.jwks_uri.as_deref().ok_or_else(|| unexpected("it does not say where its keys are"))?;
        let keys: Keys = get_json(fetcher, url, None).await?;
        self.known(|all| {
            if let Some(known) = all.get_mut(&metadata.issuer) {
                known.keys = Some((keys.clone(), Instant::now()));
            }
        });
        keys.verify(token, expected)
    }
}
