//! `port-forward`: ports of a workspace, reached from this machine.

use super::args::PortForwardArgs;
use super::connect::Context;
use super::failure::Failure;
use super::{logs, ui};
use crate::resource::Workspace;
use futures::future::try_join_all;
use kube::Api;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// How long to wait after a connection that could not be taken: most often too many files are open.
const PAUSE: Duration = Duration::from_millis(100);

/// Runs `port-forward`: until it is interrupted.
///
/// # Errors
/// When the workspace does not exist, or a port here is taken.
pub async fn run(context: &Context, args: PortForwardArgs) -> Result<(), Failure> {
    let name = logs::workspace(&args.workspace)?;
    let ports = args.ports.iter().map(|word| pair(word)).collect::<Result<Vec<_>, _>>()?;
    let api: Api<Workspace> = Api::namespaced(context.client.clone(), &context.namespace);
    api.get(name).await?;
    let mut listeners = Vec::new();
    for (local, remote) in ports {
        let address = SocketAddr::new(args.address, local);
        let taken = |e| Failure::new(format!("cannot listen on {address}: {e}")).hint("choose another port: LOCAL:PORT");
        let listener = TcpListener::bind(address).await.map_err(taken)?;
        ui::say(&format!("Forwarding from {} -> {remote}", listener.local_addr()?))?;
        listeners.push((listener, remote));
    }
    try_join_all(listeners.into_iter().map(|(listener, remote)| serve(listener, remote, &api, name))).await?;
    Ok(())
}

/// `LOCAL:PORT`, `:PORT` or `PORT`.
fn pair(word: &str) -> Result<(u16, u16), Failure> {
    let (local, remote) = word.split_once(':').unwrap_or((word, word));
    let local = if local.is_empty() { Ok(0) } else { local.parse() };
    match (local, remote.parse()) {
        (Ok(local), Ok(remote)) if remote != 0 => Ok((local, remote)),
        _ => Err(Failure::usage(format!("{word:?} is no port: must be PORT or LOCAL:PORT, such as 8080 or 9000:8080"))),
    }
}

/// Takes connections, each of which gets one of its own in the workspace.
async fn serve(listener: TcpListener, port: u16, api: &Api<Workspace>, name: &str) -> Result<(), Failure> {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                ui::note(&format!("error: {e}"));
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let (api, name) = (api.clone(), name.to_owned());
        tokio::spawn(async move {
            if let Err(failure) = carry(stream, port, &api, &name).await {
                ui::note(&failure.render(None));
            }
        });
    }
}

async fn carry(mut here: TcpStream, port: u16, api: &Api<Workspace>, name: &str) -> Result<(), Failure> {
    let mut forwarder = api.portforward(name, &[port]).await?;
    let there = forwarder.take_stream(port);
    let mut there = there.ok_or_else(|| Failure::new(format!("the API opened no stream for port {port}")))?;
    // A connection that ends roughly on either side is nobody's fault here.
    let _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
    forwarder.abort();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_read_as_kubectl_reads_them() {
        assert_eq!(pair("8080").unwrap(), (8080, 8080));
        assert_eq!(pair("9000:80").unwrap(), (9000, 80));
        assert_eq!(pair(":80").unwrap(), (0, 80));
        for bad in ["", ":", "80:", "0", "80:0", "65536", "a:80", "-1", "1:2:3"] {
            assert!(pair(bad).is_err(), "{bad}");
        }
    }
}
