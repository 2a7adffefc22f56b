//! GitHub, which speaks OAuth 2.0 and has an API of its own in place of ID tokens
//! (<https://docs.github.com/en/apps/oauth-apps/building-oauth-apps/authorizing-oauth-apps>).

use super::metadata::Metadata;
use super::{OAuthError, Person, get_json};
use crate::fetch::Fetcher;
use crate::resource::Provider;
use serde::Deserialize;

pub(super) const SCOPES: [&str; 2] = ["read:user", "user:email"];
const GITHUB: &str = "https://github.com";

fn base(provider: &Provider) -> &str {
    provider.issuer.as_deref().unwrap_or(GITHUB).trim_end_matches('/')
}

/// A server of one's own has its API beside its pages.
fn api(provider: &Provider) -> String {
    match base(provider) {
        GITHUB => "https://api.github.com".into(),
        own => format!("{own}/api/v3"),
    }
}

pub(super) fn metadata(provider: &Provider) -> Metadata {
    let base = base(provider);
    Metadata {
        issuer: base.to_owned(),
        authorization_endpoint: format!("{base}/login/oauth/authorize"),
        token_endpoint: format!("{base}/login/oauth/access_token"),
        jwks_uri: None,
        userinfo_endpoint: None,
        token_endpoint_auth_methods_supported: vec!["client_secret_post".into()],
        authorization_response_iss_parameter_supported: false,
    }
}

#[derive(Deserialize)]
struct User {
    id: u64,
    login: String,
    #[serde(default)]
    name: Option<String>,
}

#[derive(Deserialize)]
struct Email {
    email: String,
    #[serde(default)]
    primary: bool,
    #[serde(default)]
    verified: bool,
}

/// Who a token is of. Names are given away there and taken by others: only the number stays.
pub(super) async fn person(
    fetcher: &Fetcher,
    provider: &Provider,
    metadata: &Metadata,
    token: &str,
) -> Result<Person, OAuthError> {
    let api = api(provider);
    let user: User = get_json(fetcher, &format!("{api}/user"), Some(token)).await?;
    let emails: Vec<Email> = get_json(fetcher, &format!("{api}/user/emails"), Some(token)).await?;
    let email = emails.into_iter().find(|e| e.primary && e.verified).map(|e| e.email);
    Ok(Person { issuer: metadata.issuer.clone(), subject: user.id.to_string(), email, login: user.login, name: user.name })
}
