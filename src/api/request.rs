//! What a request asks for: its address, its parameters, its body.

use super::deletion::Propagation;
use super::schema::FieldValidation;
use super::served::{Served, find};
use super::status::ApiError;
use super::strict_json;
use crate::access::Identity;
use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::{HeaderMap, Uri, header};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;

/// Largest body taken, in bytes, as in Kubernetes.
pub const MAX_BODY: usize = 3 * 1024 * 1024;
/// How long a body may take to come.
const BODY_PATIENCE: Duration = Duration::from_secs(60);
/// Deepest nesting taken.
const MAX_DEPTH: usize = 64;

/// A part of a record with an address of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subresource {
    /// The record itself.
    None,
    /// Its status.
    Status,
    /// Running commands in a workspace.
    Exec,
    /// Connections to ports in a workspace.
    Portforward,
    /// A terminal in a workspace.
    Terminal,
    /// A workspace's log.
    Log,
}

impl Subresource {
    /// As addresses and managed fields name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Status => "status",
            Self::Exec => "exec",
            Self::Portforward => "portforward",
            Self::Terminal => "terminal",
            Self::Log => "log",
        }
    }
}

/// What an address is about.
#[derive(Clone, Debug)]
pub struct Target {
    /// Kind.
    pub served: &'static Served,
    /// Project, or `None` for all of them and for cluster kinds.
    pub namespace: Option<String>,
    /// One record, or `None` for all.
    pub name: Option<String>,
    /// Part of the record.
    pub subresource: Subresource,
}

impl Target {
    /// Reads an address under `/api/v1/` or `/apis/`.
    ///
    /// # Errors
    /// 404 for what is not served.
    pub fn parse(path: &str) -> Result<Self, ApiError> {
        Self::read(path).ok_or_else(ApiError::unknown_path)
    }

    fn read(path: &str) -> Option<Self> {
        let parts: Vec<&str> = path.strip_prefix('/')?.split('/').collect();
        let (group, version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return None,
        };
        // Names need no escapes; an escaped one could only be an attempt to look like another.
        if rest.iter().any(|part| part.is_empty() || part.contains('%')) {
            return None;
        }
        let (namespace, rest) = match rest {
            ["namespaces", _, "status"] if group.is_empty() => (None, rest),
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            _ => (None, rest),
        };
        let (plural, name, sub) = match rest {
            [plural] => (plural, None, ""),
            [plural, name] => (plural, Some(*name), ""),
            [plural, name, sub] => (plural, Some(*name), *sub),
            _ => return None,
        };
        let served = find(group, version, plural)?;
        let def = served.def;
        let subresource = match sub {
            "" => Subresource::None,
            "status" if def.has_status => Subresource::Status,
            "exec" if def.kind == "Workspace" => Subresource::Exec,
            "portforward" if def.kind == "Workspace" => Subresource::Portforward,
            "terminal" if def.kind == "Workspace" => Subresource::Terminal,
            "log" if def.kind == "Workspace" => Subresource::Log,
            _ => return None,
        };
        let placed = if def.namespaced { namespace.is_some() || name.is_none() } else { namespace.is_none() };
        placed.then(|| Self { served, namespace: namespace.map(Into::into), name: name.map(Into::into), subresource })
    }
}

/// The parameters of an address.
#[derive(Debug, Default)]
pub struct Params(Vec<(String, String)>);

impl Params {
    /// Reads them.
    ///
    /// # Errors
    /// 400 when they are not of the form `a=b&c=d`.
    pub fn parse(uri: &Uri) -> Result<Self, ApiError> {
        if uri.query().is_none_or(str::is_empty) {
            return Ok(Self::default());
        }
        axum::extract::Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map(|q| Self(q.0))
            .map_err(|e| ApiError::bad_request(e.to_string()))
    }

    /// One parameter; `None` where it is missing or empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(k, v)| k == name && !v.is_empty()).map(|(_, v)| v.as_str())
    }

    /// All values of a parameter, in order.
    pub fn all(&self, name: &str) -> Vec<String> {
        self.0.iter().filter(|(k, _)| k == name).map(|(_, v)| v.clone()).collect()
    }

    /// The names of all.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }

    /// A yes-or-no parameter; missing means no.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            None | Some("false" | "0") => Ok(false),
            Some("true" | "1") => Ok(true),
            Some(other) => Err(ApiError::bad_request(format!("{name}={other:?} is not known: must be 'true' or 'false'"))),
        }
    }

    /// A whole number that is not negative.
    ///
    /// # Errors
    /// 400 for anything else.
    pub fn number(&self, name: &str) -> Result<Option<u64>, ApiError> {
        let parse = |text: &str| {
            text.parse()
                .map_err(|_| ApiError::bad_request(format!("{name}={text:?} is not known: must be a whole number, 0 or more")))
        };
        self.get(name).map(parse).transpose()
    }

    /// `dryRun=All`.
    ///
    /// # Errors
    /// 400 for other values.
    pub fn dry_run(&self) -> Result<bool, ApiError> {
        let given: Vec<&str> = self.0.iter().filter(|(k, _)| k == "dryRun").map(|(_, v)| v.as_str()).collect();
        dry_run(&given)
    }

    /// `fieldValidation`.
    ///
    /// # Errors
    /// 400 for unknown values.
    pub fn validation(&self) -> Result<FieldValidation, ApiError> {
        FieldValidation::parse(self.get("fieldValidation")).map_err(ApiError::bad_request)
    }
}

/// Longest name of a field manager, in bytes.
const MAX_MANAGER: usize = 128;

/// A field manager's name is printable and short.
///
/// # Errors
/// 400 naming `field`.
pub fn check_manager(field: &str, name: &str) -> Result<(), ApiError> {
    if name.is_empty() || name.len() > MAX_MANAGER || name.chars().any(char::is_control) {
        return Err(ApiError::bad_request(format!("{field}: must be printable, and 1 to {MAX_MANAGER} bytes long")));
    }
    Ok(())
}

/// Who owns the fields a request sets: the parameter, else the program that calls, else the caller.
pub fn field_manager(params: &Params, headers: &HeaderMap, identity: &Identity) -> Result<String, ApiError> {
    if let Some(name) = params.get("fieldManager") {
        check_manager("fieldManager", name)?;
        return Ok(name.to_owned());
    }
    let agent = headers.get(header::USER_AGENT).and_then(|v| v.to_str().ok()).unwrap_or("");
    let word: String = agent.split(['/', ' ']).next().unwrap_or("").chars().take(MAX_MANAGER).collect();
    Ok(if word.is_empty() { identity.name.clone() } else { word })
}

/// The media type of a body, without parameters; JSON where nothing is said.
pub fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or("");
    match value.split(';').next().unwrap_or("").trim() {
        "" => "application/json",
        given => given,
    }
}

/// Reads a whole body.
///
/// # Errors
/// 413 above [`MAX_BODY`]; 408 for one that does not come to its end within [`BODY_PATIENCE`].
pub async fn read_body(body: Body) -> Result<Bytes, ApiError> {
    let read = tokio::time::timeout(BODY_PATIENCE, to_bytes(body, MAX_BODY)).await;
    let read =
        read.map_err(|_| ApiError::request_timeout(format!("the body was not there within {BODY_PATIENCE:?}: send it again")))?;
    read.map_err(|e| {
        let source = std::error::Error::source(&e);
        if source.is_some_and(|s| s.is::<http_body_util::LengthLimitError>()) {
            return ApiError::too_large(format!("Request entity too large: limit is {MAX_BODY} bytes"));
        }
        ApiError::bad_request(format!("the body could not be read: {e}"))
    })
}

/// Decodes a body that holds a record.
///
/// # Errors
/// 415 for other formats than JSON and YAML, 400 for what cannot be read.
pub fn decode(media: &str, body: &[u8]) -> Result<Value, ApiError> {
    match media {
        "application/json" => decode_json(body),
        "application/yaml" | "application/x-yaml" | "text/yaml" | "text/x-yaml" => decode_yaml(body),
        "application/vnd.kubernetes.protobuf" => {
            let accepted = ["application/json", "application/yaml", "(protobuf is not: `kubectl apply -f` sends JSON)"];
            Err(ApiError::unsupported_media_type(&accepted))
        }
        _ => Err(ApiError::unsupported_media_type(&["application/json", "application/yaml"])),
    }
}

/// Decodes JSON, nested [`MAX_DEPTH`] deep at most.
///
/// # Errors
/// 400 with the place of the error.
pub fn decode_json(body: &[u8]) -> Result<Value, ApiError> {
    let value = strict_json::parse(body).map_err(|e| ApiError::bad_request(format!("the body is not JSON: {e}")))?;
    check_depth(value)
}

/// Decodes one YAML document (or JSON, which is YAML), without letting aliases or nesting grow.
///
/// # Errors
/// 400 with the place of the error.
pub fn decode_yaml(body: &[u8]) -> Result<Value, ApiError> {
    // JSON is the usual case, and read ten times as fast.
    if body.trim_ascii_start().first() == Some(&b'{')
        && let Ok(value) = strict_json::parse(body)
    {
        return check_depth(value);
    }
    let read = serde_saphyr::from_slice::<Value>(body);
    // The short form of the error: the long one quotes the document, which may hold secrets.
    check_depth(read.map_err(|e| ApiError::bad_request(format!("the body is not YAML: {}", e.without_snippet())))?)
}

fn check_depth(value: Value) -> Result<Value, ApiError> {
    fn deep(value: &Value, left: usize) -> bool {
        match value {
            Value::Array(items) => left == 0 || items.iter().any(|v| deep(v, left - 1)),
            Value::Object(fields) => left == 0 || fields.values().any(|v| deep(v, left - 1)),
            _ => false,
        }
    }
    if deep(&value, MAX_DEPTH) {
        return Err(ApiError::bad_request(format!("the body is nested more than {MAX_DEPTH} levels deep")));
    }
    if !value.is_object() && !value.is_array() {
        return Err(ApiError::bad_request("the body must be an object"));
    }
    Ok(value)
}

/// How a deletion is to be done, from parameters and body.
#[derive(Debug, Default)]
pub struct DeleteOptions {
    /// What happens to dependents.
    pub propagation: Propagation,
    /// Delete only this incarnation.
    pub uid: Option<String>,
    /// Delete only this version.
    pub resource_version: Option<String>,
    /// Only look.
    pub dry_run: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeleteBody {
    propagation_policy: Option<String>,
    orphan_dependents: Option<bool>,
    preconditions: Option<BTreeMap<String, Option<String>>>,
    dry_run: Option<Vec<String>>,
}

impl DeleteOptions {
    /// Reads them; the body has the last word.
    ///
    /// # Errors
    /// 400 for unknown values.
    pub fn parse(params: &Params, media: &str, body: &[u8]) -> Result<Self, ApiError> {
        let sent: DeleteBody = match body.trim_ascii() {
            [] => DeleteBody::default(),
            text => {
                let value = decode(media, text)?;
                serde_json::from_value(value).map_err(|e| ApiError::bad_request(format!("the body is no DeleteOptions: {e}")))?
            }
        };
        let orphan = sent.orphan_dependents.unwrap_or(false);
        let policy = sent.propagation_policy.as_deref().or_else(|| params.get("propagationPolicy"));
        let propagation = match policy {
            None if orphan => Propagation::Orphan,
            None | Some("Background") => Propagation::Background,
            Some("Foreground") => Propagation::Foreground,
            Some("Orphan") => Propagation::Orphan,
            Some(other) => {
                let message = format!("propagationPolicy {other:?} is not known: must be 'Background', 'Foreground' or 'Orphan'");
                return Err(ApiError::bad_request(message));
            }
        };
        let mut pre = sent.preconditions.unwrap_or_default();
        Ok(Self {
            propagation,
            uid: pre.remove("uid").flatten(),
            resource_version: pre.remove("resourceVersion").flatten(),
            dry_run: params.dry_run()? | dry_run(&sent.dry_run.unwrap_or_default())?,
        })
    }
}

/// Whether nothing is to be stored. What is misspelt must not be taken for "no".
fn dry_run(given: &[impl AsRef<str>]) -> Result<bool, ApiError> {
    match given.iter().map(AsRef::as_ref).find(|word| *word != "All") {
        Some(other) => Err(ApiError::bad_request(format!("dryRun={other:?} is not known: must be 'All'"))),
        None => Ok(!given.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_kubernetes_reads_them() {
        let read =
            |path: &str| Target::parse(path).map(|t| (t.served.def.kind.clone(), t.namespace, t.name, t.subresource.name()));
        let some = |s: &str| Some(s.to_owned());
        let base = "/apis/devsanctum.io/v1";
        assert_eq!(read("/api/v1/namespaces/team").unwrap(), ("Namespace".into(), None, some("team"), ""));
        assert_eq!(read("/api/v1/namespaces/team/events").unwrap(), ("Event".into(), some("team"), None, ""));
        assert_eq!(read(&format!("{base}/workspaces")).unwrap(), ("Workspace".into(), None, None, ""));
        let whole = read(&format!("{base}/namespaces/team/workspaces/a/exec")).unwrap();
        assert_eq!(whole, ("Workspace".into(), some("team"), some("a"), "exec"));
        for bad in ["/workspaces/a", "/namespaces/team/users", "/users/a/exec", "/users/%61", "/users/", "/pods", ""] {
            assert_eq!(read(&format!("{base}{bad}")).unwrap_err().code(), 404, "{bad}");
        }
    }

    #[test]
    fn a_yaml_bomb_and_a_deep_document_are_refused() {
        let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n\
                    d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\n\
                    g: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
        assert!(decode_yaml(bomb.as_bytes()).is_err());
        let deep = format!("{}1{}", "{\"a\":".repeat(100), "}".repeat(100));
        assert!(decode_json(deep.as_bytes()).is_err() && decode_yaml(deep.as_bytes()).is_err());
        assert!(decode_yaml(b"a: 1\na: 2\n").is_err(), "a key given twice is an error");
        assert_eq!(decode("application/vnd.kubernetes.protobuf", b"k8s").unwrap_err().code(), 415);
    }
}
