//! Registries that want a login, and the one that built images are shared through.

use super::context::Context;
use crate::engine::Login;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;

/// Docker's own, which names without a host mean.
const DOCKER_IO: &str = "docker.io";

/// The registry that an image's name says it is at.
fn host(reference: &str) -> &str {
    match reference.split_once('/') {
        Some((first, _)) if first == "localhost" || first.contains(['.', ':']) => first,
        _ => DOCKER_IO,
    }
}

/// What to sign in with at an image's registry, if the settings say so.
///
/// # Errors
/// Says which secret, or which key of it, is missing.
pub async fn login(ctx: &Context, reference: &str) -> Result<Option<Login>, String> {
    let (host, settings) = (host(reference), ctx.settings());
    let Some(registry) = settings.registries.iter().find(|r| r.host == host) else { return Ok(None) };
    let namespace = registry.credentials.namespace.clone().unwrap_or_default();
    let secret = ctx.caches.secrets.get(&ObjectRef::new(&registry.credentials.name).within(&namespace));
    let named = format!("secret {namespace}/{}, which Settings name for {host},", registry.credentials.name);
    let secret = secret.ok_or_else(|| format!("{named} does not exist"))?;
    let uid = secret.uid().unwrap_or_default();
    let value = async |key: &str| {
        let value = ctx.secrets.read(&uid, key).await?;
        let text = value.and_then(|bytes| String::from_utf8(bytes).ok());
        text.ok_or_else(|| format!("{named} has no key {key:?} that is text"))
    };
    Ok(Some(Login { host: host.to_owned(), username: value("username").await?, password: value("password").await? }))
}

/// The name by which servers share a built image, if they do.
pub fn shared(ctx: &Context, tag: &str) -> Option<String> {
    let digest = tag.rsplit(':').next()?;
    Some(format!("{}:{digest}", ctx.settings().images.repository?))
}

#[cfg(test)]
mod tests {
    use super::host;

    #[test]
    fn a_name_without_a_host_is_docker_s() {
        assert_eq!(host("node:22"), DOCKER);
        assert_eq!(host("library/node"), DOCKER);
        assert_eq!(host("localhost/x"), "localhost");
        assert_eq!(host("127.0.0.1:5000/a/b:1"), "127.0.0.1:5000");
        assert_eq!(host("ghcr.io/a/b@sha256:00"), "ghcr.io");
    }

    const DOCKER: &str = super::DOCKER_IO;
}
