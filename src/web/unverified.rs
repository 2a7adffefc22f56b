//! TLS to a workspace's own service, as the proxy speaks it: the certificate is the workspace's own and is not checked, and the way there
//! is the container's own bridge. Never for anything else.

use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{self, CryptoProvider};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// A container's bridge is this machine's own.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Finds a container that went away without a word under a quiet connection.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// Takes `http://` and `https://` addresses.
pub fn connector() -> HttpsConnector<HttpConnector> {
    static CONNECTOR: LazyLock<HttpsConnector<HttpConnector>> = LazyLock::new(|| {
        let provider = crypto::ring::default_provider();
        let any = Arc::new(AnyCertificate(provider.clone()));
        let builder = ClientConfig::builder_with_provider(Arc::new(provider));
        let builder = builder.with_safe_default_protocol_versions().expect("ring has the default versions");
        let config = builder.dangerous().with_custom_certificate_verifier(any).with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        tcp.set_keepalive(Some(KEEPALIVE));
        // What is typed goes out at once.
        tcp.set_nodelay(true);
        HttpsConnectorBuilder::new().with_tls_config(config).https_or_http().enable_http1().wrap_connector(tcp)
    });
    CONNECTOR.clone()
}

/// Whoever has the key of the certificate that is shown.
#[derive(Debug)]
struct AnyCertificate(CryptoProvider);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::Service;

    #[tokio::test]
    async fn what_is_typed_goes_out_at_once() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
        let hyper_rustls::MaybeHttpsStream::Http(stream) = connector().call(to).await.unwrap() else {
            panic!("no TLS was asked for")
        };
        assert!(stream.inner().nodelay().unwrap());
    }
}
