//! Sign-in by a provider: OpenID Connect (RFC 6749, OpenID Connect Core 1.0) and GitHub's own OAuth 2.0.
//!
//! # Guarantees
//! - Each attempt has a state, a PKCE verifier (S256, RFC 7636) and a nonce of its own; where it comes back to is one address.
//! - Who somebody is, is the issuer and the subject, as the provider has signed or answered them; never an e-mail address.
//! - Answers of a provider are read up to a size and within a time, from addresses that may be asked (`fetch`).

mod github;
mod id_token;
mod metadata;

pub use metadata::Discovered;

use crate::fetch::{FetchError, Fetcher};
use crate::resource::{Provider, ProviderType};
use futures::future::BoxFuture;
use id_token::Expected;
use metadata::Metadata;
use oauth2::basic::{BasicErrorResponse, BasicRevocationErrorResponse, BasicTokenIntrospectionResponse, BasicTokenType};
use oauth2::{
    AsyncHttpClient, AuthType, AuthUrl, AuthorizationCode, ClientId, ClientSecret, CsrfToken, EndpointNotSet, EndpointSet,
    ExtraTokenFields, HttpRequest, HttpResponse, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError, Scope,
    StandardRevocableToken, StandardTokenResponse, TokenResponse, TokenUrl,
};
use serde::{Deserialize, Serialize};

/// Google's issuer (<https://accounts.google.com/.well-known/openid-configuration>).
const GOOGLE: &str = "https://accounts.google.com";

/// Why a provider could not tell who somebody is.
#[derive(Debug, thiserror::Error)]
pub enum OAuthError {
    /// It could not be asked.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It said no.
    #[error("it refused: {0}")]
    Refused(String),
    /// What it answers is not what the protocol says.
    #[error("{0}")]
    Unexpected(String),
}

fn unexpected(words: impl Into<String>) -> OAuthError {
    OAuthError::Unexpected(words.into())
}

/// Somebody, as a provider knows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Person {
    /// The provider, by the issuer it proves itself with.
    pub issuer: String,
    /// What it knows them by.
    pub subject: String,
    /// Their e-mail address, if the provider says that it is theirs.
    pub email: Option<String>,
    /// What they are called there, for people to read, and to make a user name of.
    pub login: String,
    /// Their name.
    pub name: Option<String>,
}

/// An attempt to sign in that has begun: what is to be kept until somebody comes back.
#[derive(Clone, Serialize, Deserialize)]
pub struct Attempt {
    /// PKCE's verifier.
    verifier: String,
    /// What the ID token must say again.
    nonce: String,
}

/// What somebody comes back with.
pub struct Answer<'a> {
    /// The code that is changed for a token.
    pub code: &'a str,
    /// Who says so (RFC 9207), if it is said.
    pub issuer: Option<&'a str>,
}

/// What a token comes with, in OpenID Connect.
#[derive(Debug, Serialize, Deserialize)]
struct WithIdToken {
    #[serde(default)]
    id_token: Option<String>,
}
impl ExtraTokenFields for WithIdToken {}

type Tokens = StandardTokenResponse<WithIdToken, BasicTokenType>;
type Client = oauth2::Client<
    BasicErrorResponse,
    Tokens,
    BasicTokenIntrospectionResponse,
    StandardRevocableToken,
    BasicRevocationErrorResponse,
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointSet,
>;

/// A provider that can be asked.
pub struct Asking<'a> {
    /// As the settings have it.
    pub provider: &'a Provider,
    /// The secret that it knows this installation by.
    pub secret: String,
    /// Where people come back to.
    pub redirect: String,
    /// What is known of issuers.
    pub discovered: &'a Discovered,
}

impl Asking<'_> {
    fn fetcher(&self) -> Fetcher {
        Fetcher::new(self.provider.allow_private)
    }

    async fn metadata(&self) -> Result<Metadata, OAuthError> {
        match self.provider.provider_type {
            ProviderType::Github => Ok(github::metadata(self.provider)),
            ProviderType::Google => self.discovered.metadata(&self.fetcher(), GOOGLE).await,
            ProviderType::Oidc => {
                self.discovered.metadata(&self.fetcher(), self.provider.issuer.as_deref().unwrap_or_default()).await
            }
        }
    }

    fn client(&self, metadata: &Metadata) -> Result<Client, OAuthError> {
        let wrong = |e: oauth2::url::ParseError| unexpected(format!("an address of the provider cannot be read: {e}"));
        let client = oauth2::Client::new(ClientId::new(self.provider.client_id.clone()))
            .set_client_secret(ClientSecret::new(self.secret.clone()))
            .set_auth_uri(AuthUrl::new(metadata.authorization_endpoint.clone()).map_err(wrong)?)
            .set_token_uri(TokenUrl::new(metadata.token_endpoint.clone()).map_err(wrong)?)
            .set_redirect_uri(RedirectUrl::new(self.redirect.clone()).map_err(wrong)?);
        Ok(if metadata.takes_basic() { client } else { client.set_auth_type(AuthType::RequestBody) })
    }

    /// Where a browser is sent to, with this state; and what is to be kept until it is back.
    ///
    /// # Errors
    /// When the provider cannot be asked what it is.
    pub async fn begin(&self, state: &str) -> Result<(String, Attempt), OAuthError> {
        let metadata = self.metadata().await?;
        let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
        let nonce = CsrfToken::new_random().into_secret();
        let client = self.client(&metadata)?;
        let asked = client.authorize_url(|| CsrfToken::new(state.to_owned())).set_pkce_challenge(challenge);
        let scopes: &[&str] = match self.provider.provider_type {
            ProviderType::Github => &github::SCOPES,
            _ => &["openid", "email", "profile"],
        };
        let asked = asked.add_scopes(scopes.iter().map(|scope| Scope::new((*scope).to_owned())));
        let asked = match self.provider.provider_type {
            ProviderType::Github => asked,
            _ => asked.add_extra_param("nonce", nonce.clone()),
        };
        let (url, _) = asked.url();
        Ok((url.into(), Attempt { verifier: verifier.into_secret(), nonce }))
    }

    /// Who it is that has come back.
    ///
    /// # Errors
    /// When the provider says no, cannot be asked, or does not prove what it says.
    pub async fn finish(&self, answer: &Answer<'_>, attempt: Attempt) -> Result<Person, OAuthError> {
        let metadata = self.metadata().await?;
        metadata.check_issuer(answer.issuer)?;
        let tokens = self.tokens(&metadata, answer.code, attempt.verifier).await?;
        let access = tokens.access_token().secret();
        if self.provider.provider_type == ProviderType::Github {
            return github::person(&self.fetcher(), self.provider, &metadata, access).await;
        }
        let id_token = tokens.extra_fields().id_token.as_deref();
        let id_token = id_token.ok_or_else(|| unexpected("it gave no ID token: is the scope `openid` allowed there?"))?;
        let expected = Expected { issuer: &metadata.issuer, client_id: &self.provider.client_id, nonce: &attempt.nonce };
        let claims = self.discovered.verify(&self.fetcher(), &metadata, id_token, &expected).await?;
        metadata.person(&self.fetcher(), claims, access).await
    }

    async fn tokens(&self, metadata: &Metadata, code: &str, verifier: String) -> Result<Tokens, OAuthError> {
        let client = self.client(metadata)?;
        let exchange = Exchange(self.fetcher());
        let asked = client.exchange_code(AuthorizationCode::new(code.to_owned()));
        let tokens = asked.set_pkce_verifier(PkceCodeVerifier::new(verifier)).request_async(&exchange).await;
        tokens.map_err(|error| match error {
            RequestTokenError::ServerResponse(said) => OAuthError::Refused(said.error().to_string()),
            RequestTokenError::Request(error) => error.into(),
            // What else it says may hold the token.
            RequestTokenError::Parse(..) | RequestTokenError::Other(_) => unexpected("its answer to the code cannot be read"),
        })
    }
}

/// The client library's way out: through the fetcher.
struct Exchange(Fetcher);

impl<'c> AsyncHttpClient<'c> for Exchange {
    type Error = FetchError;
    type Future = BoxFuture<'c, Result<HttpResponse, FetchError>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.0.exchange(request))
    }
}

/// Asks with a token, for JSON.
async fn get_json<T: serde::de::DeserializeOwned>(fetcher: &Fetcher, url: &str, token: Option<&str>) -> Result<T, OAuthError> {
    let request = http::Request::get(url).header(http::header::ACCEPT, "application/json");
    let request = match token {
        Some(token) => request.header(http::header::AUTHORIZATION, format!("Bearer {token}")),
        None => request,
    };
    let request = request.body(Vec::new()).map_err(|e| unexpected(format!("an address of the provider cannot be read: {e}")))?;
    let answer = fetcher.exchange(request).await?;
    if answer.status() != http::StatusCode::OK {
        return Err(unexpected(format!("{url} answers {}", answer.status())));
    }
    serde_json::from_slice(answer.body()).map_err(|e| unexpected(format!("{url} does not answer what it should: {e}")))
}
