//! What stands between us and an engine, by name.

use std::ops::Deref;

macro_rules! causes {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// What stands between us and an engine. Each is the reason of a server's condition `Reachable`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Cause { $($(#[$doc])* $name,)* }

        impl Cause {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// Its name, PascalCase.
            pub fn reason(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)* }
            }
        }
    };
}
causes! {
    /// The host's name leads to no address.
    HostUnknown,
    /// The host answers, and nobody listens at the port.
    ConnectionRefused,
    /// Nothing answers in time.
    NoAnswer,
    /// There is no such socket.
    SocketMissing,
    /// The socket may not be used by us.
    PermissionDenied,
    /// What answers speaks no TLS.
    TlsMissing,
    /// What answers speaks TLS, and we do not.
    TlsRequired,
    /// What answers speaks no TLS newer than 1.1.
    TlsTooOld,
    /// The handshake failed for another reason.
    TlsFailed,
    /// The engine's certificate is not signed by the authority given.
    ServerCertificateUnknownAuthority,
    /// The engine's certificate is for other names than the host asked for.
    ServerCertificateWrongName,
    /// The engine's certificate has ended.
    ServerCertificateExpired,
    /// The engine's certificate has not begun.
    ServerCertificateNotYetValid,
    /// The engine's certificate is no good for another reason, such as one for a client.
    ServerCertificateRefused,
    /// Our certificate has ended.
    ClientCertificateExpired,
    /// Our certificate has not begun.
    ClientCertificateNotYetValid,
    /// The engine does not take our certificate.
    ClientCertificateRefused,
    /// The host of an SSH tunnel shows a key that it is not known by.
    SshHostKeyUnknown,
    /// The host of an SSH tunnel does not let our key in.
    SshKeyRefused,
    /// The host of an SSH tunnel forwards to no sockets.
    SshForwardingRefused,
    /// The engine's API is older than we speak.
    ApiTooOld,
    /// What answers is no Docker Engine.
    NotDocker,
}

/// What is told of an engine that cannot be reached or worked with: words for people, and what it is by name where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// What it is, where that is known.
    pub cause: Option<Cause>,
    words: String,
}

impl Told {
    /// Words about this.
    pub fn of(cause: Cause, words: impl Into<String>) -> Self {
        Self { cause: Some(cause), words: words.into() }
    }
}

impl From<String> for Told {
    fn from(words: String) -> Self {
        Self { cause: None, words }
    }
}

impl From<&str> for Told {
    fn from(words: &str) -> Self {
        words.to_owned().into()
    }
}

impl Deref for Told {
    type Target = str;
    fn deref(&self) -> &str {
        &self.words
    }
}

impl std::fmt::Display for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words)
    }
}
