//! What goes through Traefik to workspaces: requests by its own counters, and what passes over connections that stand open, by the
//! kernel's. Neither alone tells it: Traefik counts a WebSocket when it ends, and a request that is over has no connection.

use super::api::TraefikApi;
use super::render::route_name;
use super::ss::{ends, ss};
use super::types::{RouteTable, Traffic};
use std::collections::BTreeMap;
use std::net::SocketAddr;

/// Where Traefik tells its counters.
const METRICS: &str = "/metrics";
const REQUESTS: &str = "traefik_service_requests_total{";
/// Services of our feed are its HTTP provider's.
const PROVIDER: &str = "@http";

/// What went to whom so far, by uid of the workspace. All of the table are in it.
///
/// # Errors
/// Says what cannot be told, and what to do.
pub async fn traffic(api: &dyn TraefikApi, table: &RouteTable) -> Result<BTreeMap<String, Traffic>, String> {
    let requests = requests(api).await?;
    let connections = api.open_connections().await?;
    let mut all: BTreeMap<String, Traffic> = BTreeMap::new();
    for (uid, entry) in &table.0 {
        let of = all.entry(entry.workspace_uid.clone()).or_default();
        let service = route_name(uid).unwrap_or_default();
        of.requests.insert(uid.clone(), requests.get(&service).copied().unwrap_or(0));
        // On another machine it is its gateway that tells them; here the address may be somebody else's.
        for (near, bytes) in connections.get(&entry.upstream).filter(|_| entry.way.is_none()).into_iter().flatten() {
            of.connections.insert(format!("{near} {}", entry.upstream), *bytes);
        }
    }
    Ok(all)
}

async fn requests(api: &dyn TraefikApi) -> Result<BTreeMap<String, u64>, String> {
    let address = api.address();
    match api.get(METRICS).await {
        Ok((200, body)) => Ok(read_requests(&String::from_utf8_lossy(&body))),
        Ok((404, _)) => Err(format!("Traefik tells no metrics at {address}{METRICS}: start it with --metrics.prometheus=true")),
        Ok((status, _)) => Err(format!("GET {address}{METRICS}: status {status}")),
        Err(lost) => Err(format!("GET {address}{METRICS}: {lost}")),
    }
}

/// Requests by service of ours, in Prometheus' text format: one line for each code, method and protocol.
fn read_requests(text: &str) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for line in text.lines() {
        let Some((labels, value)) = line.strip_prefix(REQUESTS).and_then(|rest| rest.rsplit_once("} ")) else { continue };
        let service = labels.split(',').find_map(|label| label.strip_prefix("service=\"")?.strip_suffix('"'));
        let Some(service) = service.and_then(|service| service.strip_suffix(PROVIDER)) else { continue };
        // Prometheus has only floating-point numbers.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
        let value = value.trim().parse::<f64>().map_or(0, |value| value as u64);
        *all.entry(service.to_owned()).or_default() += value;
    }
    all
}

/// Bytes that went over each connection from this machine, both ways, by its far and near ends.
///
/// # Errors
/// When `ss` cannot be asked.
pub(super) async fn open_connections() -> Result<BTreeMap<SocketAddr, BTreeMap<String, u64>>, String> {
    let done = ss(&["--info", "--oneline"], &[]).await?;
    if !done.status.success() {
        return Err(format!("'ss' says {:?}", String::from_utf8_lossy(&done.stderr).trim()));
    }
    Ok(read_connections(&String::from_utf8_lossy(&done.stdout)))
}

fn read_connections(lines: &str) -> BTreeMap<SocketAddr, BTreeMap<String, u64>> {
    let mut all: BTreeMap<SocketAddr, BTreeMap<String, u64>> = BTreeMap::new();
    for line in lines.lines() {
        let Some((near, far)) = ends(line) else { continue };
        let counts = |word: &str| {
            let (name, count) = word.split_once(':')?;
            matches!(name, "bytes_acked" | "bytes_received").then(|| count.parse::<u64>().unwrap_or(0))
        };
        all.entry(far).or_default().insert(near.to_owned(), line.split_whitespace().filter_map(counts).sum());
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    #[test]
    fn requests_are_counted_by_service_whatever_came_of_them() {
        let text = "# HELP traefik_service_requests_total How many HTTP requests processed on a service.\n\
                    # TYPE traefik_service_requests_total counter\n\
                    traefik_service_requests_total{code=\"200\",method=\"GET\",protocol=\"http\",service=\"ds-a@http\"} 3\n\
                    traefik_service_requests_total{code=\"101\",method=\"GET\",protocol=\"websocket\",service=\"ds-a@http\"} 1\n\
                    traefik_service_requests_total{code=\"200\",method=\"PUT\",protocol=\"http\",service=\"ds-b@http\"} 1.5e+06\n\
                    traefik_service_requests_total{code=\"200\",method=\"GET\",protocol=\"http\",service=\"ds-c@docker\"} 9\n\
                    traefik_service_requests_bytes_total{code=\"200\",method=\"GET\",protocol=\"http\",service=\"ds-a@http\"} 7\n\
                    traefik_service_requests_total{ what else\n";
        assert_eq!(read_requests(text), [("ds-a".to_owned(), 4), ("ds-b".to_owned(), 1_500_000)].into());
    }

    #[test]
    fn bytes_are_counted_by_connection_both_ways() {
        let lines = "ESTAB 0 0 127.0.0.1:7 127.0.0.1:80 cubic rto:204 bytes_sent:21 bytes_acked:22 bytes_received:10 segs_out:3\n\
                     ESTAB 0 0 [::ffff:10.0.0.1]:9 [::ffff:10.0.0.2]:80 cubic bytes_acked:1\nCLOSE-WAIT 1 0 127.0.0.1:8 127.0.0.1:80\n\
                     what else\n";
        let all = read_connections(lines);
        let of = |far: &str| all[&far.parse().unwrap()].iter().map(|(near, n)| (near.as_str(), *n)).collect::<Vec<_>>();
        assert_eq!(of("127.0.0.1:80"), [("127.0.0.1:7", 32), ("127.0.0.1:8", 0)]);
        assert_eq!(of("10.0.0.2:80"), [("[::ffff:10.0.0.1]:9", 1)]);
    }

    #[tokio::test]
    async fn what_the_kernel_tells_grows_with_what_is_said() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let far = listener.local_addr().unwrap();
        let mut near = TcpStream::connect(far).await.unwrap();
        let (mut held, _) = listener.accept().await.unwrap();
        let count = async || open_connections().await.map(|all| all[&far].values().copied().next().unwrap());
        let Ok(before) = count().await else { return eprintln!("skipped: there is no 'ss' here") };
        near.write_all(&[1; 5000]).await.unwrap();
        held.read_exact(&mut [0; 5000]).await.unwrap();
        held.write_all(&[1; 3000]).await.unwrap();
        near.read_exact(&mut [0; 3000]).await.unwrap();
        let after = count().await.unwrap();
        assert!((8000..8100).contains(&(after - before)), "{before} {after}");
    }
}
