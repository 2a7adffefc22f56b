//! Names that come from users, validated once, here. Nothing else may put a user's string into a host
//! name, a Docker object name, a label or a Traefik rule.

use std::fmt;

const ALPHABET: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";

/// Checks a DNS-1123 label: the form of `metadata.name`.
///
/// # Errors
/// Says what is allowed.
pub fn dns_label(value: &str) -> Result<(), String> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let edge = |b: Option<&u8>| b.is_some_and(|b| *b != b'-');
    let bytes = value.as_bytes();
    if bytes.len() <= 63 && bytes.iter().all(|b| inner(*b)) && edge(bytes.first()) && edge(bytes.last()) {
        return Ok(());
    }
    Err("must be 1 to 63 lower-case letters, digits or '-', starting and ending with a letter or digit \
         (for example 'my-app')"
        .into())
}

/// Checks a fully qualified host name in its canonical form: lower case, no port, no trailing dot, no
/// wildcard, no IP address.
///
/// # Errors
/// Says what is allowed.
pub fn host_name(value: &str) -> Result<(), String> {
    let labels: Vec<&str> = value.split('.').collect();
    let numeric_end = labels.last().is_some_and(|l| l.bytes().all(|b| b.is_ascii_digit()));
    if value.len() <= 253 && labels.len() >= 2 && !numeric_end && labels.iter().all(|l| dns_label(l).is_ok()) {
        return Ok(());
    }
    Err("must be a lower-case host name of at least two DNS labels, without port, wildcard or trailing dot \
         (for example 'app.example.com')"
        .into())
}

/// What the names of an installation's network interfaces begin with, on every Docker host: the shared bridge's is just this.
/// `instance` is the installation's id.
pub fn bridges(instance: &str) -> String {
    format!("ds{}", instance.get(..8).unwrap_or(instance))
}

/// Checks an environment variable's name.
///
/// # Errors
/// Says what is allowed.
pub fn env_name(value: &str) -> Result<(), String> {
    let mut bytes = value.bytes();
    let head = bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_');
    if head && value.len() <= 128 && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_') {
        return Ok(());
    }
    Err("must be a letter or '_' followed by letters, digits or '_', 128 characters at most".into())
}

/// Checks the name or number of a user in an image.
///
/// # Errors
/// Says what is allowed.
pub fn user_name(value: &str) -> Result<(), String> {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
    if value.len() <= 32 && value.bytes().all(ok) && value.bytes().next().is_some_and(|b| b != b'-') {
        return Ok(());
    }
    Err("must be a user of the image, by name (a-z, 0-9, '_' and '-', 32 at most) or number".into())
}

/// Whether this is an e-mail address that a mail server can be given as it is.
pub fn is_email(value: &str) -> bool {
    let plain = value.len() <= 254 && value.chars().all(|c| c.is_ascii_graphic() && !"\"(),:;<>[\\]`".contains(c));
    plain && value.split_once('@').is_some_and(|(user, host)| !user.is_empty() && !host.is_empty() && !host.contains('@'))
}

/// Checks the host of a registry: `registry.example.com:5000`, `docker.io`.
///
/// # Errors
/// Says what is allowed.
pub fn registry_host(value: &str) -> Result<(), String> {
    let is_host = value == "localhost" || value.contains(['.', ':']);
    if is_host && !value.contains(['/', '@']) && image_reference(&format!("{value}/x")).is_ok() {
        return Ok(());
    }
    Err("must be the host of a registry, with its port if need be (for example 'ghcr.io' or 'registry.example.com:5000')".into())
}

/// Checks the name of an image without a tag.
///
/// # Errors
/// Says what is allowed.
pub fn image_repository(value: &str) -> Result<(), String> {
    let last = value.rsplit('/').next().unwrap_or_default();
    if last.contains([':', '@']) {
        return Err("must be a repository without a tag (for example 'registry.example.com/devsanctum/env')".into());
    }
    image_reference(value)
}

/// Checks a Docker image reference: `[registry[:port]/]path[:tag][@digest]`.
///
/// # Errors
/// Says what is allowed.
pub fn image_reference(value: &str) -> Result<(), String> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"._-/:@".contains(&b);
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    if bytes.len() <= 255
        && bytes.iter().all(|b| allowed(*b))
        && edge(bytes.first())
        && edge(bytes.last())
        && !value.contains("//")
        && !value.contains("..")
    {
        return Ok(());
    }
    Err("must be an image reference such as 'node:20' or 'registry.example.com/team/app:1.2'".into())
}

/// Checks an absolute path inside a container that may carry a volume.
///
/// # Errors
/// Says what is allowed.
pub fn folder_path(value: &str) -> Result<(), String> {
    const SYSTEM: [&str; 13] =
        ["bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "libx32", "proc", "run", "sbin", "sys", "usr"];
    let ok = |c: char| c.is_ascii_alphanumeric() || "._-/".contains(c);
    let clean = value.starts_with('/') && value.len() > 1 && value.len() <= 255 && value.chars().all(ok);
    let parts: Vec<&str> = value.split('/').skip(1).collect();
    if !clean || parts.iter().any(|p| p.is_empty() || *p == "." || *p == "..") {
        return Err("must be an absolute path of letters, digits, '.', '_' and '-', without '..' or a trailing '/'".into());
    }
    // Most images have /var/run and /var/lock for other names of /run and what is below it.
    let through_var = parts[0] == "var" && parts.get(1).is_some_and(|p| ["run", "lock"].contains(p));
    if SYSTEM.contains(&parts[0]) || through_var {
        let system = if through_var { parts[..2].join("/") } else { parts[0].to_owned() };
        return Err(format!("must not lie under a system folder (/{system}); use /home, /workspace, /data, /srv or /var/lib"));
    }
    Ok(())
}

/// A workspace's public name: 8 random characters of base 36.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slug(String);

impl Slug {
    /// Draws a new slug.
    ///
    /// # Errors
    /// When there are no random bytes.
    pub fn drawn<E>(mut draw: impl FnMut() -> Result<[u8; 16], E>) -> Result<Self, E> {
        let mut text = String::with_capacity(8);
        while text.len() < 8 {
            let bytes = draw()?;
            // 252 is the largest multiple of 36 below 256: rejecting the rest keeps all characters equally likely.
            text.extend(bytes.iter().filter(|b| **b < 252).map(|b| ALPHABET[usize::from(*b) % 36] as char).take(8 - text.len()));
        }
        Ok(Self(text))
    }

    /// Reads a slug back from a record.
    ///
    /// # Errors
    /// When it is not 8 characters of base 36.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() == 8 && text.bytes().all(|b| ALPHABET.contains(&b)) {
            return Ok(Self(text.to_owned()));
        }
        Err("must be 8 characters of a-z and 0-9".into())
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_cannot_carry_a_rule_or_a_path() {
        for bad in ["", "-a", "a-", "A", "a.b", "a`)||Host(`x", "a b", "é", &"a".repeat(64), "a\n", "a/b"] {
            assert!(dns_label(bad).is_err(), "{bad:?}");
        }
        assert!(dns_label("my-app-1").is_ok());
    }

    #[test]
    fn a_host_is_canonical() {
        for bad in ["localhost", "*.x.com", "x.com.", "X.com", "x.com:80", "10.0.0.1", "x..com", "x.com`) || Host(`y.com"] {
            assert!(host_name(bad).is_err(), "{bad:?}");
        }
        assert!(host_name("abc.localhost").is_ok());
    }

    #[test]
    fn folders_cannot_shadow_the_system() {
        for bad in [
            "relative",
            "/",
            "/etc/x",
            "/home/../etc",
            "/proc",
            "/home/x/",
            "/ho me",
            "/var/run/devsanctum",
            "/var/lock",
            "/lib64/x",
        ] {
            assert!(folder_path(bad).is_err(), "{bad:?}");
        }
        for good in ["/home/dev/work", "/var/lib/x", "/var/runs", "/data/run"] {
            assert!(folder_path(good).is_ok(), "{good:?}");
        }
    }

    #[test]
    fn slugs_are_eight_of_base_36_and_differ() {
        let mut next = 0u8;
        let mut drawn = || {
            Slug::drawn(|| {
                next += 1;
                // A byte above 251 would make some characters likelier than others.
                Ok::<_, ()>([255, next, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14])
            })
        };
        let (a, b) = (drawn().unwrap(), drawn().unwrap());
        assert_eq!((a.to_string(), b.to_string()), ("bbcdefgh".to_owned(), "cbcdefgh".to_owned()));
        assert_ne!(a, b);
        assert_eq!(Slug::parse(&a.to_string()), Ok(a));
        assert!(Slug::parse("ABCDEFGH").is_err());
    }
}
