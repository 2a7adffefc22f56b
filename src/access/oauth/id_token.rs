//! ID tokens: signed statements of who somebody is (OpenID Connect Core 1.0, section 2 and 3.1.3.7).

use super::{OAuthError, unexpected};
use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey, Validation, decode, decode_header};
use ring::signature::{self as signing, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;

/// Differences of clocks that are borne, in seconds.
const LEEWAY: u64 = 60;
/// What may be signed with: by a key that only the provider has, and nothing that we could have made ourselves.
const ALGORITHMS: [Algorithm; 7] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// What a token must say.
pub(super) struct Expected<'a> {
    pub issuer: &'a str,
    pub client_id: &'a str,
    pub nonce: &'a str,
}

/// One audience, or several.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

/// What a token says.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Claims {
    pub sub: String,
    aud: Audience,
    #[serde(default)]
    azp: Option<String>,
    #[serde(default)]
    nonce: Option<String>,
    #[serde(default)]
    pub email: Option<String>,
    #[serde(default)]
    pub email_verified: Option<serde_json::Value>,
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub preferred_username: Option<String>,
}

/// A provider's keys.
#[derive(Clone, Debug, Deserialize)]
#[serde(transparent)]
pub(super) struct Keys(JwkSet);

impl Keys {
    /// Whether the key is here that a token names.
    pub fn has(&self, token: &str) -> bool {
        decode_header(token).is_ok_and(|header| self.named(header.kid.as_deref()).is_some())
    }

    fn named(&self, kid: Option<&str>) -> Option<&jsonwebtoken::jwk::Jwk> {
        match (kid, self.0.keys.as_slice()) {
            (Some(kid), _) => self.0.find(kid),
            (None, [only]) => Some(only),
            (None, _) => None,
        }
    }

    /// What a token says, if it is signed with one of these keys and is what was expected.
    pub fn verify(&self, token: &str, expected: &Expected<'_>) -> Result<Claims, OAuthError> {
        // The first to set it wins, and all set the same.
        let _ = PROVIDER.install_default();
        let wrong = |e: jsonwebtoken::errors::Error| unexpected(format!("its ID token is not taken: {e}"));
        let header = decode_header(token).map_err(wrong)?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(unexpected(format!("its ID token is signed by {:?}, which is not taken", header.alg)));
        }
        let key = self.named(header.kid.as_deref());
        let key = key.ok_or_else(|| unexpected("its ID token is signed with a key that it does not publish"))?;
        let mut rules = Validation::new(header.alg);
        rules.leeway = LEEWAY;
        rules.validate_nbf = true;
        rules.set_audience(&[expected.client_id]);
        rules.set_issuer(&[expected.issuer]);
        rules.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let key = DecodingKey::from_jwk(key).map_err(wrong)?;
        let claims = decode::<Claims>(token, &key, &rules).map_err(wrong)?.claims;
        let several = matches!(&claims.aud, Audience::Several(all) if all.len() > 1);
        if claims.azp.as_deref().map_or(several, |azp| azp != expected.client_id) {
            return Err(unexpected("its ID token is for somebody else"));
        }
        let nonce = claims.nonce.as_deref().unwrap_or_default();
        if !bool::from(nonce.as_bytes().ct_eq(expected.nonce.as_bytes())) {
            return Err(unexpected("its ID token is of another attempt"));
        }
        if claims.sub.is_empty() || claims.sub.len() > 255 {
            return Err(unexpected("its ID token names nobody"));
        }
        Ok(claims)
    }
}

/// Signatures by ring, which is here for TLS: the crates that `jsonwebtoken` brings for them would be second ones.
static PROVIDER: CryptoProvider =
    CryptoProvider { signer_factory: never, verifier_factory: verifier, key_utils: KeyUtils::new_unimplemented() };

fn never(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>, jsonwebtoken::errors::Error> {
    Err(ErrorKind::InvalidAlgorithm.into())
}

enum How {
    Rsa(&'static RsaParameters),
    Plain(&'static dyn VerificationAlgorithm),
}

struct Verifier {
    algorithm: Algorithm,
    how: How,
    key: DecodingKey,
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, jsonwebtoken::errors::Error> {
    let how = match algorithm {
        Algorithm::RS256 => How::Rsa(&signing::RSA_PKCS1_2048_8192_SHA256),
        Algorithm::RS384 => How::Rsa(&signing::RSA_PKCS1_2048_8192_SHA384),
        Algorithm::RS512 => How::Rsa(&signing::RSA_PKCS1_2048_8192_SHA512),
        Algorithm::PS256 => How::Rsa(&signing::RSA_PSS_2048_8192_SHA256),
        Algorithm::ES256 => How::Plain(&signing::ECDSA_P256_SHA256_FIXED),
        Algorithm::ES384 => How::Plain(&signing::ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDSA => How::Plain(&signing::ED25519),
        _ => return Err(ErrorKind::InvalidAlgorithm.into()),
    };
    if key.family() != algorithm.family() {
        return Err(ErrorKind::InvalidKeyFormat.into());
    }
    Ok(Box::new(Verifier { algorithm: *algorithm, how, key: key.clone() }))
}

impl signature::Verifier<Vec<u8>> for Verifier {
    fn verify(&self, message: &[u8], signature: &Vec<u8>) -> Result<(), signature::Error> {
        let verified = match (&self.how, self.key.kind()) {
            (How::Rsa(how), DecodingKeyKind::RsaModulusExponent { n, e }) => {
                RsaPublicKeyComponents { n, e }.verify(how, message, signature)
            }
            (How::Plain(how), DecodingKeyKind::SecretOrDer(key)) => UnparsedPublicKey::new(*how, key).verify(message, signature),
            _ => return Err(signature::Error::new()),
        };
        verified.map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Verifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use ring::rand::SystemRandom;
    use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
    use serde_json::{Value, json};

    const EXPECTED: Expected<'static> = Expected { issuer: "https://login.example.com", client_id: "us", nonce: "n" };

    struct Issuer(EcdsaKeyPair);

    impl Issuer {
        fn new() -> Self {
            let chance = SystemRandom::new();
            let bytes = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &chance).unwrap();
            Self(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, bytes.as_ref(), &chance).unwrap())
        }

        fn keys(&self) -> Keys {
            let point = self.0.public_key().as_ref();
            let coordinate = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
            let (x, y) = (coordinate(&point[1..33]), coordinate(&point[33..]));
            let key = json!({"kty": "EC", "crv": "P-256", "kid": "k", "x": x, "y": y});
            serde_json::from_value(json!({"keys": [key]})).unwrap()
        }

        fn sign(&self, header: &Value, claims: &Value) -> String {
            let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
            let message = format!("{}.{}", part(header), part(claims));
            let signature = self.0.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
        }
    }

    fn claims() -> Value {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        json!({"iss": "https://login.example.com", "aud": "us", "sub": "42", "nonce": "n", "exp": now + 300, "iat": now, "email": "ada@example.com"})
    }

    fn header() -> Value {
        json!({"alg": "ES256", "kid": "k", "typ": "JWT"})
    }

    #[test]
    fn a_token_is_taken_that_is_the_issuers_for_us_and_for_this_attempt() {
        let issuer = Issuer::new();
        let found = issuer.keys().verify(&issuer.sign(&header(), &claims()), &EXPECTED).unwrap();
        assert_eq!((found.sub.as_str(), found.email.as_deref()), ("42", Some("ada@example.com")));
        let mut several = claims();
        (several["aud"], several["azp"]) = (json!(["others", "us"]), json!("us"));
        assert!(issuer.keys().verify(&issuer.sign(&header(), &several), &EXPECTED).is_ok());
    }

    #[test]
    fn every_other_token_is_refused() {
        let issuer = Issuer::new();
        let now = claims()["iat"].as_u64().unwrap();
        let with = |key: &str, value: Value| {
            let mut claims = claims();
            claims[key] = value;
            issuer.sign(&header(), &claims)
        };
        let headed = |header: Value| issuer.sign(&header, &claims());
        let good = issuer.sign(&header(), &claims());
        let (message, signature) = good.rsplit_once('.').unwrap();
        let payload = URL_SAFE_NO_PAD.encode(claims().to_string().replace("42", "43"));
        let unsigned = URL_SAFE_NO_PAD.encode(json!({"alg": "none"}).to_string());
        let refused = [
            ("another issuer", with("iss", json!("https://evil.example.com"))),
            ("none at all", with("iss", Value::Null)),
            ("for others", with("aud", json!("others"))),
            ("for several, and not said to be for us", with("aud", json!(["others", "us"]))),
            ("made for others", with("azp", json!("others"))),
            ("another attempt", with("nonce", json!("m"))),
            ("of no attempt", with("nonce", Value::Null)),
            ("over", with("exp", json!(now - 120))),
            ("for ever", with("exp", Value::Null)),
            ("not yet", with("nbf", json!(now + 600))),
            ("of nobody", with("sub", json!(""))),
            ("another key", headed(json!({"alg": "ES256", "kid": "other"}))),
            ("another way to sign", headed(json!({"alg": "RS256", "kid": "k"}))),
            ("a secret of ours", headed(json!({"alg": "HS256", "kid": "k"}))),
            ("another signer", Issuer::new().sign(&header(), &claims())),
            ("another person", format!("{}.{payload}.{signature}", message.split('.').next().unwrap())),
            ("unsigned", format!("{unsigned}.{}.", message.split('.').nth(1).unwrap())),
            ("no signature", format!("{message}.")),
            ("two parts", message.to_owned()),
            ("nothing", String::new()),
        ];
        for (what, token) in refused {
            assert!(issuer.keys().verify(&token, &EXPECTED).is_err(), "{what}");
        }
    }
}
