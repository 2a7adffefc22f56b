//! Why something is not fetched, in words.

use std::net::IpAddr;

/// Why something is not fetched.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// What was given is no address of the web.
    #[error("{0}: must be an http:// or https:// address with a host ({1})")]
    NotAnAddress(String, String),
    /// A name or a password stands in it.
    #[error("the address must hold no name and no password; what is fetched must be open to all who may reach it")]
    Credentials,
    /// From TLS to none.
    #[error("{0} leads from https:// to http://, where anybody on the way could change what is fetched")]
    Downgrade(String),
    /// A host that is not to be asked.
    #[error("{host} is not asked: {address} is {what}")]
    NotAsked {
        /// The host as it was given.
        host: String,
        /// Its address.
        address: IpAddr,
        /// What that is.
        what: &'static str,
        /// A caller may allow it.
        private: bool,
    },
    /// The host has no address.
    #[error("the host {0} is not known ({1})")]
    UnknownHost(String, String),
    /// It leads on and on.
    #[error("{0} leads on more than {1} times")]
    TooManyRedirects(String, usize),
    /// It leads on, and does not say where.
    #[error("{0} leads on to no address ({1})")]
    Nowhere(String, String),
    /// The server's answer is none that holds anything.
    #[error("{0}: the server answers {1}")]
    Status(String, u16),
    /// More than is taken.
    #[error("{0} is larger than {1} bytes")]
    TooLarge(String, usize),
    /// It took too long.
    #[error("{0} was not there within {1} seconds")]
    TooSlow(String, u64),
    /// It is no text.
    #[error("{0} is not UTF-8 text")]
    NotText(String),
    /// Nothing came, or only a part.
    #[error("{0} could not be fetched: {1}")]
    Failed(String, String),
}
