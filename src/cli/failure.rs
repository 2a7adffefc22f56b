//! What goes wrong, worded for a person: what happened, and the mend.

use super::manifest::position::Complaint;
use kube::core::Status;
use std::error::Error as _;

/// Exit code of a command that failed.
pub const FAILED: u8 = 1;
/// Exit code of wrong usage.
pub const USAGE: u8 = 2;
/// Exit code of a wait that timed out.
pub const TIMED_OUT: u8 = 4;

/// Why a command did not do what was asked.
#[derive(Debug)]
pub struct Failure {
    /// What is wrong. Empty when everything has been said already.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Exit code.
    pub code: u8,
    /// The API was not reached: the address belongs into the message.
    pub unreachable: bool,
}

impl Failure {
    /// A command that failed.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, code: FAILED, unreachable: false }
    }

    /// A command that was typed wrongly.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, ..Self::new(message) }
    }

    /// Everything has been printed; only the exit code is left to say.
    pub fn silent(code: u8) -> Self {
        Self { code, ..Self::new("") }
    }

    /// Says what to do about it.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The text for standard error, with the address of the API where that was not reached.
    pub fn render(&self, server: Option<&str>) -> String {
        if self.message.is_empty() {
            return String::new();
        }
        let place = server.filter(|_| self.unreachable).map(|s| format!(" at {s}")).unwrap_or_default();
        let hint = self.hint.as_ref().map(|h| format!("\nhint: {h}")).unwrap_or_default();
        super::ui::clean_lines(&format!("error: {}{hint}", self.message.replacen("{at}", &place, 1)))
    }
}

impl From<std::io::Error> for Failure {
    fn from(e: std::io::Error) -> Self {
        // The reader of a pipe has seen enough: nothing is wrong.
        if e.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::silent(0);
        }
        Self::new(e.to_string())
    }
}

impl From<serde_json::Error> for Failure {
    fn from(e: serde_json::Error) -> Self {
        Self::new(format!("the API's answer could not be read: {e}"))
            .hint("compare `devsanctum version` with `devsanctum status`")
    }
}

impl From<Vec<Complaint>> for Failure {
    fn from(complaints: Vec<Complaint>) -> Self {
        let shown: Vec<String> = complaints.iter().take(50).map(Complaint::render).collect();
        let more = complaints.len().saturating_sub(50);
        let more = if more > 0 { format!("\nand {more} more") } else { String::new() };
        Self::new(format!("{}{more}", shown.join("\n")))
    }
}

impl From<kube::Error> for Failure {
    fn from(e: kube::Error) -> Self {
        match e {
            kube::Error::Api(status) => Self::from_status(&status),
            kube::Error::SerdeError(e) => e.into(),
            other => transport(&other),
        }
    }
}

impl Failure {
    /// What the API refused, worded as kubectl words it.
    pub fn from_status(status: &Status) -> Self {
        let label = if status.reason.is_empty() { String::new() } else { format!(" ({})", status.reason) };
        let failure = Self::new(format!("the API refused{label}: {}", status.message));
        match status.code {
            401 => failure
                .hint("the token is missing, expired or revoked; sign in again with `devsanctum login PANEL`, or run this on the control plane's own machine"),
            403 => failure.hint("ask an administrator, or an owner of the project, for the role"),
            409 if status.reason == "Conflict" => {
                failure.hint("take the fields over with --force-conflicts, or leave them out of the manifest")
            }
            429 | 503 => failure.hint("the control plane is busy or starting; try again, or look at `devsanctum status`"),
            _ => failure,
        }
    }
}

/// What the transport says, made out from the chain of causes.
fn transport(error: &kube::Error) -> Failure {
    let chain = chain(error);
    let failure = |message: &str| Failure { unreachable: true, ..Failure::new(message.to_owned()) };
    let has = |text: &str| chain.iter().any(|c| c.contains(text));
    if has("Connection refused") || has("No such file") {
        return failure("nothing listens{at}: the control plane does not run there")
            .hint("start it with `devsanctum up` (or `make up`), or name another address with --server");
    }
    if has("certificate") || has("UnknownIssuer") || has("CertNotValidFor") {
        let detail = chain.last().cloned().unwrap_or_default();
        return failure(&format!("the API{{at}} does not have the certificate expected: {detail}"))
            .hint("another control plane answers there, or its authority was made anew; give its authority with --ca-file");
    }
    if has("timed out") || has("deadline has elapsed") {
        return failure("the API{at} did not answer in time").hint("look at `devsanctum status` and the control plane's log");
    }
    if has("dns error") || has("lookup address") {
        return failure("the host of the API{at} is not known").hint("check the address given with --server");
    }
    failure(&format!("the API{{at}} could not be asked: {}", chain.last().cloned().unwrap_or_default()))
        .hint("`devsanctum doctor` checks the connection")
}

/// The texts of an error and all its causes.
fn chain(error: &kube::Error) -> Vec<String> {
    let mut texts = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        texts.push(cause.to_string());
        next = cause.source();
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_connection_names_the_address_and_the_mend() {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        let failure = Failure::from(kube::Error::Service(format!("tcp connect error: {refused}: Connection refused").into()));
        let text = failure.render(Some("https://127.0.0.1:6443"));
        assert!(text.starts_with("error: nothing listens at https://127.0.0.1:6443"), "{text}");
        assert!(text.contains("\nhint: start it with `devsanctum up`"), "{text}");
    }

    #[test]
    fn a_foreign_certificate_is_called_so() {
        let failure = Failure::from(kube::Error::Service("invalid peer certificate: UnknownIssuer".into()));
        assert!(failure.render(Some("https://x")).contains("does not have the certificate expected"));
    }

    #[test]
    fn a_reader_that_left_is_no_failure() {
        let failure = Failure::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert_eq!((failure.code, failure.render(None).as_str()), (0, ""));
    }
}
