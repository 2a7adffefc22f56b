//! `logs`: what a workspace writes.

use super::args::LogsArgs;
use super::connect::Context;
use super::failure::Failure;
use super::target::check_name;
use crate::resource::Workspace;
use futures::AsyncReadExt;
use kube::Resource;
use kube::api::{LogParams, Request};
use std::io::Write;

/// `ws/web` and `web` are the same here.
pub fn workspace(word: &str) -> Result<&str, Failure> {
    let name = match word.split_once('/') {
        Some((kind, name)) if super::target::kind(kind)?.kind == "Workspace" => name,
        Some(_) => return Err(Failure::usage(format!("{word}: only workspaces can be looked into"))),
        None => word,
    };
    check_name(name).map(|()| name)
}

/// Runs `logs`.
///
/// # Errors
/// When the workspace does not exist or has no container.
pub async fn run(context: &Context, args: LogsArgs) -> Result<(), Failure> {
    let params = LogParams {
        container: args.container,
        follow: args.follow,
        tail_lines: args.tail,
        since_seconds: args.since.map(|d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX)),
        timestamps: args.timestamps,
        ..LogParams::default()
    };
    let request = Request::new(Workspace::url_path(&(), Some(&context.namespace)));
    let mut request = request.logs(workspace(&args.workspace)?, &params).map_err(|e| Failure::usage(e.to_string()))?;
    let mut more = if args.build { "&build=true".to_owned() } else { String::new() };
    if let Some(service) = &args.service {
        check_name(service)?;
        more = format!("&service={service}");
    }
    let uri = format!("{}{more}", request.uri());
    *request.uri_mut() = uri.parse().map_err(|e| Failure::usage(format!("{more}: {e}")))?;
    let stream = context.client.request_stream(request).await?;
    futures::pin_mut!(stream);
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let mut out = std::io::stdout().lock();
        out.write_all(&buffer[..read])?;
        out.flush()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workspace_may_be_named_with_its_kind() {
        assert_eq!(workspace("web").unwrap(), "web");
        assert_eq!(workspace("ws/web").unwrap(), "web");
        assert!(workspace("user/web").is_err() && workspace("ws/a/b").is_err());
    }
}
