//! Is the API there, and does it know us?

use super::Check;
use crate::cli::args::Globals;
use crate::cli::connect::{Context, connect};
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
    (checks, Some(context))
}
