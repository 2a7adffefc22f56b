//! Where a server's engine listens, and with which credentials.

use super::context::SecretReader;
use super::retry::PassError;
use crate::engine::{Endpoint, SshEndpoint};
use crate::resource::common::SecretRef;
use crate::resource::{DockerServer, Secret, SshHost};
use kube::api::Api;
use kube::{Client, ResourceExt};

/// The endpoint a server's record describes.
///
/// # Errors
/// When the secret it names, or a key of that, is missing.
pub async fn endpoint(client: &Client, secrets: &dyn SecretReader, record: &DockerServer) -> Result<Endpoint, PassError> {
    let spec = &record.spec;
    if let Some(path) = spec.socket() {
        return Ok(Endpoint::Unix(path.into()));
    }
    if let Some(at) = spec.ssh_host() {
        let Some(with) = &spec.ssh else {
            return Err(PassError::stalled("Reachable", "CredentialsMissing", "spec.ssh.secret names no Secret"));
        };
        let [key, known_hosts] = credentials(client, secrets, &with.secret, ["sshKey", "knownHosts"]).await?;
        let SshHost { user, host, port, socket } = at;
        let (user, host, socket) = (user.to_owned(), host.to_owned(), socket.to_owned());
        return Ok(Endpoint::Ssh(SshEndpoint { user, host, port, socket, key, known_hosts }));
    }
    let (host, port) = (spec.host.clone(), spec.port);
    match spec.tls.secret.as_ref().filter(|_| spec.tls.enabled) {
        None => Ok(Endpoint::Tcp { host, port }),
        Some(secret) => {
            let [ca, cert, key] = credentials(client, secrets, secret, ["ca", "cert", "key"]).await?;
            Ok(Endpoint::Tls { host, port, ca, cert, key })
        }
    }
}

async fn credentials<const N: usize>(
    client: &Client,
    secrets: &dyn SecretReader,
    at: &SecretRef,
    keys: [&str; N],
) -> Result<[Vec<u8>; N], PassError> {
    let stalled = |message: String| PassError::stalled("Reachable", "CredentialsMissing", message);
    let (namespace, name) = (at.namespace.as_deref().unwrap_or_default(), at.name.as_str());
    let needed = keys.join(", ");
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let Some(secret) = api.get_opt(name).await? else {
        return Err(stalled(format!("secret {namespace}/{name} with the keys {needed} does not exist")));
    };
    let uid = secret.uid().unwrap_or_default();
    let mut all = Vec::new();
    for key in keys {
        let value = secrets.read(&uid, key).await;
        let value = value.map_err(|e| PassError::transient("Reachable", "CredentialsUnreadable", e))?;
        let missing = || stalled(format!("secret {namespace}/{name} has no key {key:?}; it needs {needed}"));
        all.push(value.ok_or_else(missing)?);
    }
    all.try_into().map_err(|_| stalled(format!("the keys {needed} are needed")))
}
