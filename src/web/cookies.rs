//! Cookies: all of ours are `__Host-`, so that no other host can set them, or see them.

use http::{HeaderMap, HeaderValue, header};

/// Who is signed in at the panel.
pub const SESSION: &str = "__Host-ds_session";
/// That this browser has signed in before.
pub const BROWSER: &str = "__Host-ds_browser";
/// Who is let in at a workspace's host.
pub const WORKSPACE: &str = "__Host-ds_ws";
/// Which browser was sent to the panel from a workspace's host.
pub const NONCE: &str = "__Host-ds_nonce";

/// Which browser was sent to a provider of sign-in.
pub const ATTEMPT: &str = "__Host-ds_attempt";

/// That this browser has followed a share link at a workspace's host.
pub const SHARE: &str = "__Host-ds_share";

const OURS: [&str; 6] = [SESSION, BROWSER, WORKSPACE, NONCE, ATTEMPT, SHARE];

/// The cookies of a request.
#[derive(Debug, Default)]
pub struct Cookies(Vec<(String, String)>);

impl Cookies {
    /// Reads all `Cookie` headers. What is no text is nobody's.
    pub fn read(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
        let pairs = lines.flat_map(|line| line.split(';')).filter_map(|pair| {
            let pair = pair.trim();
            (!pair.is_empty()).then(|| pair.split_once('=').unwrap_or((pair, "")))
        });
        Self(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }

    /// The value of one of ours. One that is there twice is not to be trusted.
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(n, _)| n == name).map(|(_, value)| value.as_str());
        match (found.next(), found.next()) {
            (Some(value), None) if !value.is_empty() => Some(value),
            _ => None,
        }
    }

    /// All but ours, as a workspace is to see them; `None` where there are none.
    pub fn others(&self) -> Option<HeaderValue> {
        let ours = |name: &str| OURS.iter().any(|own| own.eq_ignore_ascii_case(name));
        let rest: Vec<String> = self.0.iter().filter(|(name, _)| !ours(name)).map(|(n, v)| format!("{n}={v}")).collect();
        if rest.is_empty() { None } else { HeaderValue::from_str(&rest.join("; ")).ok() }
    }
}

/// Sets a cookie for this host alone; `seconds` of zero take it back.
pub fn set(name: &str, value: &str, seconds: i64) -> HeaderValue {
    let text = format!("{name}={value}; Path=/; Secure; HttpOnly; SameSite=Lax; Max-Age={seconds}");
    HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Cookies {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(header::COOKIE, line.parse().unwrap());
        }
        Cookies::read(&headers)
    }

    #[test]
    fn a_workspace_sees_none_of_ours() {
        let cookies =
            read(&["a=1; __Host-ds_ws=secret; b=2", "__Host-ds_session=other; c", "__host-DS_ws=odd;d=x=y; __Host-ds_share=z"]);
        assert_eq!(cookies.others().unwrap(), "a=1; b=2; c=; d=x=y");
        assert_eq!(cookies.get(WORKSPACE), Some("secret"));
        assert!(read(&["__Host-ds_ws=secret"]).others().is_none());
        assert!(read(&[]).others().is_none());
    }

    #[test]
    fn one_that_is_there_twice_is_none() {
        assert_eq!(read(&["__Host-ds_ws=a; __Host-ds_ws=b"]).get(WORKSPACE), None);
        assert_eq!(read(&["__Host-ds_ws="]).get(WORKSPACE), None);
    }
}
