//! Traefik's dynamic configuration, as far as we use it. Field names are Traefik's own.
//!
//! Empty maps are left out: Traefik refuses `{"http": {"routers": {}}}` ("cannot be a standalone element").

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A whole dynamic configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// HTTP part; left out when empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    /// Certificates; left out when Traefik gets them elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
}

/// `http`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Http {
    /// Which requests go to which service.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub routers: BTreeMap<String, Router>,
    /// Where requests go.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub services: BTreeMap<String, Service>,
    /// What happens to requests on the way.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub middlewares: BTreeMap<String, Middleware>,
    /// How servers are spoken to.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub servers_transports: BTreeMap<String, ServersTransport>,
}

/// `http.routers.<name>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Router {
    /// Entry points it listens on.
    pub entry_points: Vec<String>,
    /// Rule that a request must match.
    pub rule: String,
    /// Larger wins. Always set: the default is the length of the rule.
    pub priority: i64,
    /// Name of the service.
    pub service: String,
    /// Names of the middlewares, in order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub middlewares: Vec<String>,
    /// TLS ends here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<RouterTls>,
}

/// `http.routers.<name>.tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct RouterTls {
    /// Resolver that orders the certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cert_resolver: Option<String>,
    /// Names the certificate is ordered for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub domains: Vec<Domain>,
}

/// A name a certificate is ordered for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Domain {
    /// The name, such as `*.example.com`.
    pub main: String,
}

/// `http.services.<name>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Service {
    /// Its servers.
    pub load_balancer: LoadBalancer,
}

/// `http.services.<name>.loadBalancer`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancer {
    /// Addresses.
    pub servers: Vec<Server>,
    /// The workspace sees the host name that was asked for.
    pub pass_host_header: bool,
    /// Name of a servers transport.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub servers_transport: Option<String>,
}

/// A server of a load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// `http://` or `https://`, address and port.
    pub url: String,
}

/// `http.serversTransports.<name>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServersTransport {
    /// The server's certificate is not checked.
    pub insecure_skip_verify: bool,
    /// The name said in the handshake, which the server's certificate must be for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub server_name: String,
    /// Authorities that may vouch for the server: paths, or the PEM text itself.
    #[serde(rename = "rootCAs", skip_serializing_if = "Vec::is_empty")]
    pub root_cas: Vec<String>,
    /// What is shown to the server.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<CertificateFiles>,
    /// HTTP/1.1 alone.
    #[serde(rename = "disableHTTP2", skip_serializing_if = "is_default")]
    pub disable_http2: bool,
    /// Connections kept open while nothing goes over them; Go's own default, which 0 is, is two.
    #[serde(skip_serializing_if = "is_default")]
    pub max_idle_conns_per_host: u32,
}

/// `http.middlewares.<name>`: exactly one of its fields is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Middleware {
    /// Asks the gate first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forward_auth: Option<ForwardAuth>,
    /// Sets and removes headers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<Headers>,
}

/// `http.middlewares.<name>.forwardAuth`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ForwardAuth {
    /// Address of the check.
    pub address: String,
    /// Believe `X-Forwarded-*` from the client. Never.
    pub trust_forward_header: bool,
    /// Headers taken from the gate's answer in place of the client's.
    pub auth_response_headers: Vec<String>,
    /// The same by a pattern over canonical header names.
    pub auth_response_headers_regex: String,
    /// Longest answer of the gate, in bytes.
    pub max_response_body_size: i64,
}

/// `http.middlewares.<name>.headers`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Headers {
    /// Set on the request; an empty value removes.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub custom_request_headers: BTreeMap<String, String>,
    /// Set on the response.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub custom_response_headers: BTreeMap<String, String>,
    /// `Strict-Transport-Security: max-age`, in seconds; 0 is none.
    #[serde(skip_serializing_if = "is_default")]
    pub sts_seconds: i64,
    /// The same for all hosts below.
    #[serde(rename = "stsIncludeSubdomains", skip_serializing_if = "is_default")]
    pub sts_include_subdomains: bool,
    /// Also where TLS ended before Traefik.
    #[serde(rename = "forceSTSHeader", skip_serializing_if = "is_default")]
    pub force_sts_header: bool,
}

/// `tls`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tls {
    /// Stores by name; Traefik knows only `default`.
    pub stores: BTreeMap<String, TlsStore>,
}

/// `tls.stores.<name>`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsStore {
    /// Served where no other certificate fits.
    pub default_certificate: CertificateFiles,
}

/// A certificate and its key: paths on Traefik's machine, or the PEM text itself.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateFiles {
    /// Certificate chain, PEM.
    pub cert_file: String,
    /// Private key, PEM.
    pub key_file: String,
}

impl std::fmt::Debug for CertificateFiles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CertificateFiles")
    }
}
