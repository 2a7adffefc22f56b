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

#[cfg(test)]
mod tests {
    use super::super::{Asking, GOOGLE};
    use super::*;
    use serde_json::{Value, json};

    /// As https://accounts.google.com/.well-known/openid-configuration has it, as far as it is read here.
    fn googles() -> Metadata {
        let says = json!({
            "issuer": GOOGLE,
            "authorization_endpoint": "https://accounts.google.com/o/oauth2/v2/auth",
            "token_endpoint": "https://oauth2.googleapis.com/token",
            "userinfo_endpoint": "https://openidconnect.googleapis.com/v1/userinfo",
            "jwks_uri": "https://www.googleapis.com/oauth2/v3/certs",
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
        });
        serde_json::from_value(says).unwrap()
    }

    #[tokio::test]
    async fn google_is_asked_at_its_own_issuer_as_any_provider_of_openid_connect() {
        let discovered = Discovered::default();
        let known = Known { metadata: googles(), keys: None, at: Instant::now() };
        discovered.known(|all| all.insert(GOOGLE.to_owned(), known));
        let google = json!({"name": "google", "type": "GOOGLE", "clientId": "ds.apps.googleusercontent.com", "clientSecret": {"name": "google"}});
        let provider = serde_json::from_value(google).unwrap();
        let redirect = "https://panel.example.com/sign-in/google/callback".to_owned();
        let asking = Asking { provider: &provider, secret: "hush".into(), redirect: redirect.clone(), discovered: &discovered };
        let (url, attempt) = asking.begin("the-state").await.unwrap();
        let (at, query) = url.split_once('?').unwrap();
        assert_eq!(at, "https://accounts.google.com/o/oauth2/v2/auth");
        let asked: HashMap<String, String> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let said = |name: &str| asked.get(name).map_or("", String::as_str);
        assert_eq!((said("client_id"), said("redirect_uri")), ("ds.apps.googleusercontent.com", redirect.as_str()));
        assert_eq!((said("response_type"), said("state")), ("code", "the-state"));
        assert_eq!((said("scope"), said("code_challenge_method")), ("openid email profile", "S256"));
        assert_eq!(said("nonce"), attempt.nonce);
        assert!(said("code_challenge").len() == 43 && asked.len() == 8, "nothing else is asked, no hosted domain either: {url}");
        assert!(!url.contains("hush") && !url.contains(&attempt.verifier));
    }

    #[tokio::test]
    async fn who_google_says_it_is_is_known_by_its_subject_and_has_an_address_only_if_that_is_verified() {
        let claims = |verified: Value| {
            let claims = json!({"sub": "110169484474386276334", "aud": "ds.apps.googleusercontent.com", "hd": "example.com",
                "email": "ada@example.com", "email_verified": verified, "name": "Ada"});
            serde_json::from_value::<Claims>(claims).unwrap()
        };
        // Google's ID tokens have the address: nobody is asked about it.
        let fetcher = Fetcher::new(false);
        for (verified, email) in [(json!(true), Some("ada@example.com")), (json!(false), None), (Value::Null, None)] {
            let person = googles().person(&fetcher, claims(verified), "token").await.unwrap();
            assert_eq!((person.issuer.as_str(), person.subject.as_str()), (GOOGLE, "110169484474386276334"));
            assert_eq!((person.email.as_deref(), person.name.as_deref()), (email, Some("Ada")));
        }
        // An answer that is another's is not taken; Google does not say whose its are.
        assert!(googles().check_issuer(None).is_ok() && googles().check_issuer(Some(GOOGLE)).is_ok());
        assert!(googles().check_issuer(Some("https://accounts.example.com")).is_err());
    }
}
