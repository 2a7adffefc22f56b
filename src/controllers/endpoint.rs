//! Where a server's engine listens, and with which credentials.

use super::context::SecretReader;
use super::retry::PassError;
use crate::engine::Endpoint;
use crate::resource::{DockerServer, Secret};
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
    let (host, port) = (spec.host.clone(), spec.port);
    match spec.tls.secret.as_ref().filter(|_| spec.tls.enabled) {
        None => Ok(Endpoint::Tcp { host, port }),
        Some(secret) => {
            let namespace = secret.namespace.clone().unwrap_or_default();
            let [ca, cert, key] = credentials(client, secrets, &namespace, &secret.name).await?;
            Ok(Endpoint::Tls { host, port, ca, cert, key })
        }
    }
}

async fn credentials(
    client: &Client,
    secrets: &dyn SecretReader,
    namespace: &str,
    name: &str,
) -> Result<[Vec<u8>; 3], PassError> {
    let stalled = |message: String| PassError::stalled("Reachable", "CredentialsMissing", message);
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let Some(secret) = api.get_opt(name).await? else {
        return Err(stalled(format!("secret {namespace}/{name} with the keys ca, cert and key does not exist")));
    };
    let uid = secret.uid().unwrap_or_default();
    let mut all = Vec::new();
    for key in ["ca", "cert", "key"] {
        let value = secrets.read(&uid, key).await;
        let value = value.map_err(|e| PassError::transient("Reachable", "CredentialsUnreadable", e))?;
        let missing = || stalled(format!("secret {namespace}/{name} has no key {key:?}; it needs ca, cert and key, all PEM"));
        all.push(value.ok_or_else(missing)?);
    }
    all.try_into().map_err(|_| stalled("three keys are needed".into()))
}
