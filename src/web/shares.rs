//! Share links at the gate: a link's text is changed for a cookie of this host alone, and is not in the address any more.

use super::Web;
use super::cookies;
use super::gate::{Asked, failed};
use super::pages;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;

/// Where share links lead, at a workspace's host. The workspace never sees it.
pub(super) const FOLLOW: &str = "/.devsanctum/share";

/// Somebody has followed a share link. That takes nothing from it: what looks at links before people do harms nobody.
pub(super) async fn follow(web: &Web, uid: &str, asked: &Asked<'_>) -> Response {
    let mut answer = exchange(web, uid, asked).await;
    answer.headers_mut().insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    answer
}

async fn exchange(web: &Web, uid: &str, asked: &Asked<'_>) -> Response {
    if !matches!(asked.method, "GET" | "HEAD") {
        return pages::trouble(StatusCode::METHOD_NOT_ALLOWED, "A share link is opened, nothing is sent to it.");
    }
    let parameters = pages::parameters(&asked.uri);
    let get = |name: &str| parameters.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str());
    let now = web.clock.now();
    match web.shares.follow(get("token"), uid, asked.host, now).await {
        Ok(Some((shown, share))) => {
            let left = (share.expires_at - now.as_millisecond()) / 1000;
            // The proxy would take a way without a host for one to us. This host is the workspace's: the link opens it.
            let mut answer = pages::redirect(&format!("{}{}", web.panel.of_host(asked.host), pages::own_path(get("to"))));
            answer.headers_mut().append(header::SET_COOKIE, cookies::set(cookies::SHARE, &shown, left.max(1)));
            answer
        }
        Ok(None) => pages::link_ended(),
        Err(error) => failed(&error),
    }
}
