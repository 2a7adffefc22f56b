//! Is the API there, and does it know us?

use super::Check;
use crate::cli::args::Globals;
use crate::cli::connect::{Context, connect};
use crate::resource::{SETTINGS_NAME, labels};
use serde_json::Value;

/// Checks the API. Gives the connection back when it answers.
pub async fn check(globals: &Globals) -> (Vec<Check>, Option<Context>) {
    let context = match connect(globals).await {
        Ok(context) => context,
        Err(f) => return (vec![Check::bad("API", f.message.clone(), f.hint.unwrap_or_default())], None),
    };
    let name = format!("API {}", context.server);
    let answer = tokio::time::timeout(std::time::Duration::from_secs(10), context.ask::<Value>("/version")).await;
    let version = match answer {
        Err(_) => return (vec![Check::bad(name, "no answer within 10s", "look at the control plane's log")], None),
        Ok(Err(f)) if f.unreachable => {
            let found = f.message.replacen("{at}", "", 1);
            return (vec![Check::bad(name, found, f.hint.unwrap_or_default())], None);
        }
        Ok(Err(f)) => return (vec![Check::bad(name, f.message, f.hint.unwrap_or_default())], None),
        Ok(Ok(version)) => version,
    };
    let mut checks = vec![Check::good(name, format!("answers, version {}", version["gitVersion"].as_str().unwrap_or("unknown")))];
    checks.push(match context.ask::<Value>("/apis/devsanctum.io/v1/dockerservers?limit=1").await {
        Ok(_) => Check::good("token", "accepted"),
        Err(f) => Check::bad("token", f.message, f.hint.unwrap_or_default()),
    });
    checks.extend(restored(&context).await);
    (checks, Some(context))
}

/// After a restore, what the records do not know is left alone until somebody says that they are right.
async fn restored(context: &Context) -> Option<Check> {
    let settings = context.ask::<Value>(&format!("/apis/devsanctum.io/v1/settings/{SETTINGS_NAME}")).await.ok()?;
    let at = settings["metadata"]["annotations"][labels::RESTORED].as_str()?;
    let found = format!("restored from the backup of {at}: what they do not know on Docker hosts is left alone");
    let mend = format!(
        "look at the events of each DockerServer (StraysHeld names what is unknown, OnlyCopyHeld workspaces that have moved); set {}=true on \
         one to remove what is unknown there; then take \
         the annotation {} off with `devsanctum edit settings/{SETTINGS_NAME}`",
        labels::REMOVE_STRAYS,
        labels::RESTORED
    );
    Some(Check::fair("records", found, mend))
}
