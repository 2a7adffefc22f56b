//! The pages of `welcome`.

use super::pages::{complaint, field, page};
use crate::access::Asking;
use crate::resource::Provider;
use crate::store::ProviderIdentity;
use axum::http::StatusCode;
use axum::response::Response;
use maud::{Markup, html};

/// A way to each provider: a form, since no link from elsewhere is to begin a session.
pub fn ways(providers: &[Provider], parameters: &[(&str, &str)]) -> Markup {
    html! {
        @if !providers.is_empty() {
            ul.ways {
                @for provider in providers {
                    li { form method="post" action=(format!("/sign-in/{}", provider.name)) {
                        @for (name, value) in parameters { input type="hidden" name=(name) value=(value); }
                        button { "Go on with " (provider.label.as_deref().unwrap_or(&provider.name)) }
                    } }
                }
            }
        }
    }
}

/// Whom providers know somebody as, and which others could.
pub fn identities(known: &[ProviderIdentity], providers: &[Provider]) -> Markup {
    let called =
        |name: &str| providers.iter().find(|p| p.name == name).and_then(|p| p.label.clone()).unwrap_or_else(|| name.into());
    let others = providers.iter().filter(|p| !known.iter().any(|k| k.provider == p.name));
    html! {
        @if !providers.is_empty() || !known.is_empty() {
            h2 { "Other ways to sign in" }
            ul.rows.card {
                @for it in known {
                    li {
                        span { (called(&it.provider)) " " span.soft { (it.login) } }
                        form method="post" action="/account/disconnect" {
                            input type="hidden" name="issuer" value=(it.issuer);
                            button.plain { "Disconnect" }
                        }
                    }
                }
                @for provider in others {
                    li {
                        span { (called(&provider.name)) }
                        form method="post" action=(format!("/sign-in/{}/connect", provider.name)) { button.plain { "Connect" } }
                    }
                }
            }
        }
    }
}

/// Where an invitation is taken up.
pub fn invitation(
    status: StatusCode,
    email: &str,
    name: &str,
    token: &str,
    providers: &[Provider],
    wrong: Option<&str>,
) -> Response {
    let content = html! {
        header { h1 { "You are invited" } }
        p { "Your account will be of " strong { (email) } "." }
        (ways(providers, &[("invitation", token)]))
        form.card method="post" {
            (complaint(wrong))
            (field("name", "User name, such as ada", "text", "username", name))
            (field("password", "Password", "password", "new-password", ""))
            button { "Make my account" }
        }
    };
    page(status, "You are invited", true, false, &content)
}

/// Where an account is asked for.
pub fn register(status: StatusCode, name: &str, email: &str, providers: &[Provider], wrong: Option<&str>) -> Response {
    let content = html! {
        header { h1 { "Make an account" } }
        (ways(providers, &[]))
        form.card method="post" action="/register" {
            (complaint(wrong))
            (field("name", "User name, such as ada", "text", "username", name))
            (field("email", "E-mail address", "email", "email", email))
            button { "Ask for an account" }
        }
        p.soft { a href="/login" { "Sign in" } }
    };
    page(status, "Make an account", true, false, &content)
}

/// What is said whoever the address is of.
pub fn mail_is_on_its_way(email: &str) -> Response {
    let content = html! {
        header { h1 { "Look into your mail" } }
        p { "If " strong { (email) } " is yours, a mail there says how to go on." }
        p.soft { a href="/login" { "Sign in" } }
    };
    page(StatusCode::OK, "Look into your mail", true, false, &content)
}

/// Where an address is confirmed, and whoever it is of chooses a password.
pub fn confirm(status: StatusCode, email: &str, name: &str, wrong: Option<&str>) -> Response {
    let content = html! {
        header { h1 { "Confirm your address" } }
        p { "Your account will be of " strong { (email) } "." }
        form.card method="post" {
            (complaint(wrong))
            (field("name", "User name", "text", "username", name))
            (field("password", "Password", "password", "new-password", ""))
            button { "Confirm and sign in" }
        }
    };
    page(status, "Confirm your address", true, false, &content)
}

/// Where a new password is asked for.
pub fn forgot(status: StatusCode, email: &str, wrong: Option<&str>) -> Response {
    let content = html! {
        header { h1 { "Forgotten your password?" } }
        form.card method="post" action="/forgot" {
            (complaint(wrong))
            (field("email", "E-mail address", "email", "username", email))
            button { "Send me a link" }
        }
        p.soft { a href="/login" { "Sign in" } }
    };
    page(status, "Forgotten your password?", true, false, &content)
}

/// Where the code of a terminal is typed.
pub fn device_code(status: StatusCode, wrong: Option<&str>) -> Response {
    let content = html! {
        header { h1 { "Sign in a terminal" } }
        form.card method="get" action="/device" {
            (complaint(wrong))
            (field("code", "Code that the terminal shows", "text", "off", ""))
            button { "Go on" }
        }
    };
    page(status, "Sign in a terminal", true, false, &content)
}

/// Where somebody sees which terminal asks to be them, and answers it.
pub fn device(user: &str, asking: &Asking, code: &str) -> Response {
    let content = html! {
        header { h1 { "Sign in a terminal" } }
        form.card method="post" action="/device/approve" {
            p { strong { (asking.client) } " at " strong { (asking.address) } " asks to do all that you, " strong { (user) } ", may do, for 30 days." }
            p { "Its code is " strong { (code) } "." }
            p.bad { "Allow it only if you have just begun this yourself, and your terminal shows this very code." }
            input type="hidden" name="code" value=(code);
            button name="answer" value="allow" { "Allow" }
            " "
            button.plain name="answer" value="refuse" { "Refuse" }
        }
    };
    page(StatusCode::OK, "Sign in a terminal", true, false, &content)
}

/// A terminal was answered.
pub fn device_answered(allowed: bool, asking: &Asking) -> Response {
    let content = html! {
        header { h1 { @if allowed { "Signed in" } @else { "Refused" } } }
        @if allowed {
            p { strong { (asking.client) } " goes on by itself. `devsanctum key list` shows its key; `devsanctum logout` there ends it." }
        } @else {
            p { strong { (asking.client) } " was refused." }
        }
        p { a href="/" { "Your workspaces" } }
    };
    page(StatusCode::OK, "Sign in a terminal", true, false, &content)
}
