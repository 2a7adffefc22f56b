//! How people sign in besides by password, and how mail is sent: parts of `Settings`.

use super::common::SecretRef;
use super::errors::FieldErrors;
use super::names;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What a provider of sign-in speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum ProviderType {
    /// GitHub, or a GitHub Enterprise Server of one's own.
    Github,
    /// Google.
    Google,
    /// Any provider of OpenID Connect.
    Oidc,
}

/// A provider that people sign in by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Provider {
    /// Name in addresses, a DNS label. The provider is told `<panel>/sign-in/<name>/callback` as where people come back to.
    pub name: String,
    /// What it speaks.
    #[serde(rename = "type")]
    pub provider_type: ProviderType,
    /// What its button says; its name where left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// What this installation is called there.
    pub client_id: String,
    /// Secret with the key `clientSecret`.
    pub client_secret: SecretRef,
    /// OIDC: its issuer, such as `https://login.example.com/realms/people`. GITHUB: a server of one's own, such as
    /// `https://github.example.com`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// It may be at an address of this machine or of a private network, and may be asked without TLS there.
    #[serde(default)]
    pub allow_private: bool,
}

/// How a connection to a mail server is kept from being read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum MailSecurity {
    /// TLS from the `STARTTLS` command on; without it nothing is sent.
    #[default]
    Starttls,
    /// TLS from the start.
    Tls,
    /// Not at all: for a server on this machine.
    None,
}

fn submission() -> u16 {
    587
}

/// The server that takes mail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Mail {
    /// Its host name or address.
    pub host: String,
    /// Its port.
    #[serde(default = "submission")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// How the connection is protected.
    #[serde(default)]
    pub security: MailSecurity,
    /// Whom mail is from: `devsanctum@example.com`, or `DevSanctum <devsanctum@example.com>`.
    pub from: String,
    /// Secret with the keys `username` and `password`; where left out, the server is not signed in to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<SecretRef>,
}

fn check_secret(path: &str, secret: &SecretRef, errors: &mut FieldErrors) {
    if secret.namespace.is_none() {
        errors.required(format!("{path}.namespace"), "the project that the secret is in");
    }
}

/// An address of the web without anything but a path.
fn check_issuer(path: &str, issuer: &str, private: bool, errors: &mut FieldErrors) {
    let plain = issuer.parse::<http::Uri>().is_ok_and(|uri| {
        let scheme = uri.scheme_str() == Some("https") || (private && uri.scheme_str() == Some("http"));
        scheme && uri.host().is_some_and(|host| !host.is_empty()) && uri.query().is_none() && !issuer.contains(['@', '#'])
    });
    if !plain {
        let allowed = "must be an https:// address without a query; http:// where allowPrivate is set";
        errors.invalid(path, issuer, allowed);
    }
}

/// Says what is wrong with providers.
pub(super) fn check_providers(providers: &[Provider], errors: &mut FieldErrors) {
    let mut seen = BTreeSet::new();
    for (i, provider) in providers.iter().enumerate() {
        let path = format!("spec.providers[{i}]");
        errors.check(format!("{path}.name"), &provider.name, names::dns_label(&provider.name));
        if !seen.insert(&provider.name) {
            errors.duplicate(format!("{path}.name"), provider.name.as_str(), "a provider's name is its own");
        }
        if provider.client_id.is_empty() {
            errors.required(format!("{path}.clientId"), "what the provider calls this installation");
        }
        check_secret(&format!("{path}.clientSecret"), &provider.client_secret, errors);
        let at = format!("{path}.issuer");
        match (&provider.issuer, provider.provider_type) {
            (None, ProviderType::Oidc) => errors.required(at, "the provider's issuer, as its discovery document has it"),
            (Some(issuer), ProviderType::Google) => errors.invalid(at, issuer.as_str(), "Google's is known: leave it out"),
            (Some(issuer), _) => check_issuer(&at, issuer, provider.allow_private, errors),
            (None, _) => {}
        }
    }
}

/// Says what is wrong with a mail server.
pub(super) fn check_mail(mail: &Mail, errors: &mut FieldErrors) {
    if mail.host.parse::<std::net::IpAddr>().is_err() {
        errors.check("spec.mail.host", &mail.host, names::host_name(&mail.host));
    }
    let address = mail.from.rsplit_once('<').map_or(mail.from.as_str(), |(_, address)| address.trim_end_matches('>'));
    if mail.from.contains(char::is_control) || !names::is_email(address.trim()) {
        errors.invalid("spec.mail.from", mail.from.as_str(), "must be such as 'DevSanctum <devsanctum@example.com>'");
    }
    if let Some(secret) = &mail.credentials {
        check_secret("spec.mail.credentials", secret, errors);
    }
}
