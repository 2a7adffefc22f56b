//! From what bollard and the connection say to [`EngineError`], keeping Docker's own words.

use super::{connect, tls};
use crate::engine::{Cause, Endpoint, EngineError, Told};
use bollard::errors::Error;
use std::error::Error as StdError;
use std::io::{self, ErrorKind};

/// Sorts an error; `to` is where the engine was looked for.
pub(super) fn classify(to: Option<&Endpoint>, error: Error) -> EngineError {
    match error {
        Error::DockerResponseServerError { status_code, message } => by_status(status_code, message),
        Error::DockerStreamError { error } => by_words(error),
        Error::RequestTimeoutError => EngineError::Unreachable(Told::of(Cause::NoAnswer, "no answer in time")),
        Error::JsonDataError { message, .. } => EngineError::Failed(format!("the engine's answer cannot be read: {message}")),
        Error::JsonSerdeError { err } => EngineError::Failed(format!("the engine's answer cannot be read: {err}")),
        Error::InvalidURIError { .. } | Error::URLParseError { .. } | Error::HttpClientError { .. } => {
            EngineError::Invalid(format!("the engine cannot be asked for this: {error}"))
        }
        // These two stand for the error they hold and hide it from `source`.
        Error::IOError { err } => by_cause(to, &err),
        Error::HyperResponseError { err } => by_cause(to, &err),
        other => by_cause(to, &other),
    }
}

fn by_status(status: u16, message: String) -> EngineError {
    match status {
        400 if message.contains("HTTP request to an HTTPS server") => {
            EngineError::Denied(Told::of(Cause::TlsRequired, "it wants TLS on this port; turn TLS on and give ca, cert and key"))
        }
        400 => EngineError::Invalid(message),
        401 => EngineError::Denied(message.into()),
        // Docker says 403 also for what a network's state does not allow.
        403 if message.contains("authorization denied") => EngineError::Denied(message.into()),
        404 if message.to_ascii_lowercase().contains("no such image") => EngineError::ImageMissing(message),
        404 => EngineError::NotFound(message),
        409 => EngineError::Conflict(message),
        // Not Docker's: a proxy before it. Whether the request arrived is unknown.
        502..=504 => EngineError::Unreachable(format!("HTTP {status}: {message}").into()),
        _ => EngineError::Failed(message),
    }
}

/// Errors inside a stream (a pull) have words but no status.
fn by_words(words: String) -> EngineError {
    let lower = words.to_ascii_lowercase();
    if ["manifest unknown", "not found", "repository does not exist"].iter().any(|w| lower.contains(w)) {
        return EngineError::NotFound(words);
    }
    EngineError::Failed(words)
}

fn by_cause(to: Option<&Endpoint>, error: &(dyn StdError + 'static)) -> EngineError {
    let identity = to.and_then(connect::identity);
    if let Some(Misfit(told)) = find::<Misfit>(error) {
        return EngineError::Denied(told.clone());
    }
    if let (Some(identity), Some(tls)) = (identity, find::<rustls::Error>(error)) {
        return EngineError::Denied(tls::explain(tls, identity));
    }
    let at = to.map_or_else(|| "the engine".to_owned(), |t| format!("{t:?}"));
    let text = match deepest(error) {
        // Of the time that a connection may take.
        text if text.starts_with("deadline") => format!("no answer within {} s", connect::CONNECT_TIMEOUT.as_secs()),
        text => text,
    };
    let unreachable = |cause, words: &str| EngineError::Unreachable(Told::of(cause, format!("{at}: {words}")));
    match find_io(error).map(io::Error::kind) {
        Some(ErrorKind::PermissionDenied) => {
            let words = "permission denied; run as root or as a member of the socket's group (usually 'docker')";
            EngineError::Denied(Told::of(Cause::PermissionDenied, format!("{at}: {words}")))
        }
        Some(ErrorKind::ConnectionRefused) => {
            unreachable(Cause::ConnectionRefused, "connection refused; is dockerd running? Is it the right port?")
        }
        Some(ErrorKind::NotFound) => unreachable(Cause::SocketMissing, "there is no such socket; is dockerd running?"),
        Some(ErrorKind::TimedOut | ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable) => unreachable(
            Cause::NoAnswer,
            &format!("{text}; is it the right address, is the host up, and does a firewall between let this port through?"),
        ),
        Some(ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::UnexpectedEof) if identity.is_some() => {
            // An engine that refuses a certificate may close before its word of why has been read.
            match identity.and_then(tls::cut) {
                Some(told) => EngineError::Denied(told),
                None => EngineError::Unreachable(format!("{at}: {text}; it may be refusing our client certificate").into()),
            }
        }
        _ if text.contains("failed to lookup address") => {
            unreachable(Cause::HostUnknown, &format!("the host's name leads nowhere ({text}); correct it, or the name servers"))
        }
        _ => EngineError::Unreachable(format!("{at}: {text}").into()),
    }
}

/// What answers cannot be worked with.
#[derive(Debug)]
pub(super) struct Misfit(pub(super) Told);

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl StdError for Misfit {}

/// What an error was made from. [`io::Error`] hides the error it wraps from `source`.
fn cause<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a (dyn StdError + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(inner) => Some(inner),
        None => error.source(),
    }
}

fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = cause(error);
    }
    None
}

/// The innermost I/O error that says more than "other".
fn find_io<'a>(error: &'a (dyn StdError + 'static)) -> Option<&'a io::Error> {
    let mut found = None;
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            found = Some(io);
        }
        next = cause(error);
    }
    found
}

fn deepest(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(inner) = cause(last) {
        last = inner;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status_code: u16, message: &str) -> EngineError {
        classify(None, Error::DockerResponseServerError { status_code, message: message.into() })
    }

    #[test]
    fn docker_s_words_are_kept_and_the_class_follows_the_status() {
        assert_eq!(answer(400, "bad"), EngineError::Invalid("bad".into()));
        assert_eq!(answer(404, "No such image: x:1"), EngineError::ImageMissing("No such image: x:1".into()));
        assert_eq!(answer(404, "No such container: x"), EngineError::NotFound("No such container: x".into()));
        assert_eq!(answer(409, "in use"), EngineError::Conflict("in use".into()));
        assert_eq!(answer(500, "port is already allocated"), EngineError::Failed("port is already allocated".into()));
        assert!(matches!(answer(503, "busy"), EngineError::Unreachable(_)));
    }

    #[test]
    fn plain_http_to_a_tls_port_is_told_as_such() {
        let error = answer(400, "Client sent an HTTP request to an HTTPS server.\n");
        assert!(matches!(&error, EngineError::Denied(t) if t.contains("wants TLS")), "{error}");
    }

    #[test]
    fn an_error_wrapped_in_io_errors_is_found() {
        let inner = io::Error::other(rustls::Error::DecryptError);
        let wrapped = io::Error::other(io::Error::other(inner));
        assert!(find::<rustls::Error>(&wrapped).is_some());
    }

    #[test]
    fn a_socket_without_permission_is_denied_with_advice() {
        let to = Endpoint::Unix("/var/run/docker.sock".into());
        let error = classify(Some(&to), io::Error::from(ErrorKind::PermissionDenied).into());
        assert!(matches!(&error, EngineError::Denied(t) if t.contains("/var/run/docker.sock") && t.contains("docker")));
    }
}
