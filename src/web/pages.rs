//! The pages, typed: what comes from outside can only ever be text.

use super::PanelUrl;
use super::forms::ways;
use super::picture;
use crate::resource::Provider;
use crate::store::Session;
use axum::http::{HeaderValue, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use k8s_openapi::jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};

/// The one style sheet.
pub const STYLE: &str = include_str!("style.css");

/// Scripts are nowhere needed, and so nowhere allowed. Where forms may lead is left open by none.
const POLICY: &str = "default-src 'none'; style-src 'self' 'unsafe-inline'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; \
                      base-uri 'none'";

/// Makes an answer of a page. `alone` puts the style into it, for pages at workspaces' hosts.
pub(super) fn page(status: StatusCode, title: &str, narrow: bool, alone: bool, content: &Markup) -> Response {
    let whole = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · DevSanctum" }
                @if alone { style { (STYLE) } } @else { link rel="stylesheet" href="/style.css"; }
            }
            body { main class=[narrow.then_some("narrow")] { (content) } }
        }
    };
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // With `no-referrer` browsers would not say from where a form is sent.
        (header::REFERRER_POLICY, "same-origin"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, whole.into_string()).into_response()
}

/// Something is wrong, in words.
pub fn trouble(status: StatusCode, words: &str) -> Response {
    page(status, "Not now", true, true, &html! { h1 { (status.canonical_reason().unwrap_or("Error")) } p { (words) } })
}

/// A workspace that is not there, or not theirs to see: nobody is told which.
pub fn missing(panel: &PanelUrl) -> Response {
    let content = html! {
        h1 { "There is no such workspace" }
        p { "Or it is not yours to open. If somebody shared it with you, ask them for a role in its project." }
        p { a href=(panel.origin()) { "Your workspaces" } }
    };
    page(StatusCode::NOT_FOUND, "Not found", true, true, &content)
}

/// How a workspace is that answers nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rest {
    /// It is to be stopped.
    Stopped,
    /// It is to run, and does not yet.
    Starting,
    /// It runs, and nothing leads to it yet.
    Silent,
}

impl Rest {
    /// In words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Stopped => "This workspace is stopped.",
            Self::Starting => "This workspace is starting.",
            Self::Silent => "This workspace runs, and does not answer at this address yet.",
        }
    }

    /// When to ask again, in seconds.
    pub fn again(self) -> u32 {
        if self == Self::Stopped { 60 } else { 3 }
    }
}

/// How whoever sees its page starts a workspace.
pub enum Ways {
    /// By a button, which leads here.
    Button(String),
    /// At the panel, here.
    Panel(String),
    /// Not at all.
    None,
}

/// The page of a workspace that answers nobody. `command` is how it is started by hand, and `told` what its record says, for who may
/// know its name.
pub fn resting(rest: Rest, ways: &Ways, command: Option<&str>, told: Option<&str>) -> Response {
    let title = rest.words().trim_end_matches('.');
    let content = html! {
        // Of one that is stopped nothing changes by itself. One that starts is asked at once: that is answered when there is news.
        @match rest {
            Rest::Stopped => {},
            Rest::Starting => meta http-equiv="refresh" content="1";,
            Rest::Silent => meta http-equiv="refresh" content=(rest.again());,
        }
        h1 { (title) }
        @if rest == Rest::Stopped {
            @match ways {
                Ways::Button(to) => form method="post" action=(to) { button { "Start it" } },
                Ways::Panel(to) => p { a href=(to) { "Sign in to start it" } },
                Ways::None => p { "Whoever it belongs to starts it." },
            }
            @if let Some(command) = command { p.soft { "Or by " code { (command) } } }
        } @else {
            p role="status" { (told.unwrap_or("This page leads there by itself.")) }
        }
    };
    page(StatusCode::SERVICE_UNAVAILABLE, title, true, true, &content)
}

/// An address at which there is nothing for whoever asks: nobody is told whether there is something for others.
pub fn nothing_here(sign_in: &str) -> Response {
    let content = html! {
        h1 { "There is nothing here" }
        p { "No workspace is at this address, or it is not yours to open." }
        p { a href=(sign_in) { "Sign in to see whether it is yours" } }
    };
    page(StatusCode::NOT_FOUND, "Not found", true, true, &content)
}

/// A share link that opens nothing here, whatever it may have been.
pub fn link_ended() -> Response {
    let content = html! {
        h1 { "This link does not work" }
        p { "It has ended, or was never for this address. Ask who gave it to you for a new one." }
        p { a href="/" { "Sign in, if you have an account" } }
    };
    page(StatusCode::FORBIDDEN, "No such link", true, true, &content)
}

/// Leads elsewhere.
pub fn redirect(to: &str) -> Response {
    match HeaderValue::from_str(to) {
        Ok(to) => (StatusCode::FOUND, [(header::LOCATION, to)]).into_response(),
        Err(_) => trouble(StatusCode::BAD_REQUEST, "The address of this request cannot be read."),
    }
}

/// Leads elsewhere from a form.
pub fn redirect_from_form(to: &str) -> Response {
    let mut answer = redirect(to);
    if answer.status() == StatusCode::FOUND {
        *answer.status_mut() = StatusCode::SEE_OTHER;
    }
    answer
}

/// Where a workspace that is open to anybody is started: by who is signed in here.
pub fn start(name: &str, host: &str, to: &str, wrong: Option<&str>) -> Response {
    let content = html! {
        header { h1 { (name) " is stopped" } }
        form.card method="post" action="/start" {
            (complaint(wrong))
            input type="hidden" name="host" value=(host);
            input type="hidden" name="to" value=(to);
            button { "Start it" }
        }
        p.soft { a href="/" { "Your workspaces" } }
    };
    page(if wrong.is_some() { StatusCode::FORBIDDEN } else { StatusCode::OK }, "Start a workspace", true, false, &content)
}

/// A path of the same host, whatever was asked for.
pub fn own_path(to: &str) -> &str {
    let plain = to.starts_with('/') && !to.starts_with("//") && to.bytes().all(|b| b.is_ascii_graphic() && b != b'\\');
    if plain { to } else { "/" }
}

/// Writes parameters into an address.
pub fn query(pairs: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
}

/// Reads them from one; none where they cannot be read.
pub fn parameters(uri: &Uri) -> Vec<(String, String)> {
    axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri).map(|query| query.0).unwrap_or_default()
}

/// A field of a form, with what it is called.
pub(super) fn field(name: &str, label: &str, kind: &str, autocomplete: &str, value: &str) -> Markup {
    html! {
        label for=(name) { (label) }
        input id=(name) name=(name) type=(kind) autocomplete=(autocomplete) value=(value) required;
    }
}

/// What is wrong with what was sent.
pub(super) fn complaint(wrong: Option<&str>) -> Markup {
    html! { @if let Some(wrong) = wrong { p.bad role="alert" { (wrong) } } }
}

/// The sign-in page. `next` is where it leads.
pub fn login(status: StatusCode, email: &str, next: &str, providers: &[Provider], open: bool, wrong: Option<&str>) -> Response {
    let content = html! {
        header { h1 { "Sign in to DevSanctum" } }
        (ways(providers, &[("next", next)]))
        form.card method="post" action="/login" {
            (complaint(wrong))
            (field("email", "E-mail address", "email", "username", email))
            (field("password", "Password", "password", "current-password", ""))
            input type="hidden" name="next" value=(next);
            button { "Sign in" }
        }
        p.soft { a href="/forgot" { "Forgotten your password?" } @if open { " · " a href="/register" { "Make an account" } } }
    };
    page(status, "Sign in", true, false, &content)
}

/// After a form, a step that is no part of it: what a form leads to is held to this panel.
pub fn go_on(title: &str, next: &str) -> Response {
    let content = html! {
        meta http-equiv="refresh" content=(format!("0; url={next}"));
        h1 { (title) }
        p { a href=(next) { "Go on" } }
    };
    page(StatusCode::OK, title, true, false, &content)
}

/// Where the first administrator is made.
pub fn setup(status: StatusCode, token: &str, wrong: Option<&str>) -> Response {
    let content = html! {
        header { h1 { "The first administrator" } }
        form.card method="post" action="/setup" {
            (complaint(wrong))
            (field("token", "Set-up token, which devsanctum up has printed", "password", "off", token))
            (field("name", "User name, such as ada", "text", "username", ""))
            (field("email", "E-mail address", "email", "email", ""))
            (field("password", "Password", "password", "new-password", ""))
            button { "Set up" }
        }
    };
    page(status, "Set up", true, false, &content)
}

/// Where somebody who has a link sets their password.
pub fn set_password(status: StatusCode, wrong: Option<&str>) -> Response {
    let content = html! {
        header { h1 { "Set your password" } }
        form.card method="post" {
            (complaint(wrong))
            (field("password", "New password", "password", "new-password", ""))
            button { "Set password and sign in" }
        }
    };
    page(status, "Set your password", true, false, &content)
}

pub(super) fn top(user: &str) -> Markup {
    html! {
        header {
            h1 { a href="/" { "DevSanctum" } }
            form method="post" action="/logout" { span.soft { a href="/account" { (user) } " " } button.plain { "Sign out" } }
        }
    }
}

/// Somebody's sessions and password.
pub fn account(
    user: &str,
    picture: bool,
    sessions: &[Session],
    own: &str,
    ways: &Markup,
    told: Option<&str>,
    wrong: Option<&str>,
) -> Response {
    let content = html! {
        (top(user))
        @if picture { img.picture src=(picture::PATH) alt="Your picture" width="64" height="64"; }
        @if let Some(told) = told { p role="status" { (told) } }
        h2 { "Where you are signed in" }
        ul.rows.card {
            @for session in sessions {
                li {
                    span { @if session.agent.is_empty() { "A program without a name" } @else { (session.agent) } br; span.soft { (session.address) ", " (moment(session.seen_at)) @if session.workspace_uid.is_some() { ", at a workspace" } } }
                    @if session.id == own { span.soft { "this browser" } } @else {
                        form method="post" action=(format!("/account/sessions/{}/end", session.id)) { button.plain { "Sign out" } }
                    }
                }
            }
        }
        (ways)
        h2 { "Change your password" }
        form.card method="post" action="/account/password" {
            (complaint(wrong))
            (field("old", "Password now", "password", "current-password", ""))
            (field("password", "New password", "password", "new-password", ""))
            button { "Change it and sign out everywhere else" }
        }
    };
    page(StatusCode::OK, "Your account", false, false, &content)
}

fn moment(ms: i64) -> String {
    Timestamp::from_millisecond(ms).map(|at| at.strftime("%Y-%m-%d %H:%M UTC").to_string()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_on_stays_on_its_host() {
        for good in ["/", "/a?b=c&d=%2F", "/x/y#z"] {
            assert_eq!(own_path(good), good);
        }
        let bad = [
            "",
            "//evil.example.com",
            "https://evil.example.com",
            "/\\evil.example.com",
            "\\/evil",
            "javascript:alert(1)",
            "/a b",
            "/a\r\nSet-Cookie: x",
            "evil",
            "/\u{0}",
            "/é",
            "///x",
            "?x",
            "http:/x",
            " /x",
            "/\t/x",
        ];
        for bad in bad {
            assert_eq!(own_path(bad), "/", "{bad:?}");
        }
    }

    #[tokio::test]
    async fn what_comes_from_outside_is_text() {
        let answer = login(StatusCode::OK, "\"><script>alert(1)</script>", "/x\" onload=\"y", &[], true, Some("<b>no</b>"));
        let bytes = axum::body::to_bytes(answer.into_body(), usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        assert!(!text.contains("<script") && !text.contains("<b>") && !text.contains("onload=\"y\""), "{text}");
    }
}
