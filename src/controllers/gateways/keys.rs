//! The keys of this installation's gateways. The authority's is kept as any secret is, sealed; the others are made anew by each
//! process, and are in its memory, in the proxy's, and in the gateway they are for.

use crate::controllers::context::Context;
use crate::proxy::gateway::{Authority, CONTROL, Identity, PROXY};
use crate::resource::{SYSTEM_NAMESPACE, Secret, SecretSpec};
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Name of the secret that the authority is in.
pub const GATEWAYS: &str = "gateways";
const CERTIFICATE: &str = "ca.crt";
const KEY: &str = "ca.key";
/// A day, in seconds.
const DAY: u64 = 24 * 3600;

/// What gateways, and those who come to them, are known by.
#[derive(Clone)]
pub struct Keys {
    /// Which secret, in which version, they are from.
    from: (String, Option<String>),
    made: Instant,
    /// Vouches for both ends.
    pub authority: Arc<Authority>,
    /// The proxy's.
    pub proxy: Arc<Identity>,
    /// The control plane's own.
    pub control: Arc<Identity>,
}

/// Those there are, made where there are none.
///
/// # Errors
/// In words for people.
pub async fn of(ctx: &Context, known: &mut Option<Keys>) -> Result<Keys, String> {
    let secret = kept(ctx).await?;
    let from = (secret.uid().unwrap_or_default(), secret.resource_version());
    let stale = Duration::from_secs(Identity::STALE_DAYS * DAY);
    if let Some(keys) = known.as_ref().filter(|keys| keys.from == from && keys.made.elapsed() < stale) {
        return Ok(keys.clone());
    }
    let value = async |key: &str| {
        let value = ctx.secrets.read(&from.0, key).await?;
        let text = value.and_then(|bytes| String::from_utf8(bytes).ok());
        text.ok_or_else(|| {
            format!("secret {SYSTEM_NAMESPACE}/{GATEWAYS} has no key {key:?} that is text: delete it, and another one is made")
        })
    };
    let (certificate, key) = (value(CERTIFICATE).await?, value(KEY).await?);
    let authority = Authority::read(&certificate, &key).map_err(|e| format!("secret {SYSTEM_NAMESPACE}/{GATEWAYS}: {e}"))?;
    let (proxy, control) = (Arc::new(authority.client(PROXY)?), Arc::new(authority.client(CONTROL)?));
    let keys = Keys { from, made: Instant::now(), authority: Arc::new(authority), proxy, control };
    *known = Some(keys.clone());
    Ok(keys)
}

/// The secret that the authority is in.
async fn kept(ctx: &Context) -> Result<Secret, String> {
    let api: Api<Secret> = Api::namespaced(ctx.frame.client.clone(), SYSTEM_NAMESPACE);
    let failed = |e: kube::Error| format!("secret {SYSTEM_NAMESPACE}/{GATEWAYS}: {e}");
    if let Some(secret) = api.get_opt(GATEWAYS).await.map_err(failed)? {
        return Ok(secret);
    }
    let (certificate, key) = Authority::make().map_err(|e| e.to_string())?;
    let data = BTreeMap::from([(CERTIFICATE.to_owned(), Some(certificate)), (KEY.to_owned(), Some(key))]);
    let params = PostParams { field_manager: Some("devsanctum-server".into()), ..PostParams::default() };
    match api.create(&params, &Secret::new(GATEWAYS, SecretSpec { data })).await {
        // Two servers' passes want one at once.
        Err(kube::Error::Api(e)) if e.code == 409 => api.get(GATEWAYS).await.map_err(failed),
        made => made.map_err(failed),
    }
}
