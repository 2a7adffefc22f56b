//! Requests to the API, as plain JSON: the command line shows what the server holds, not what this
//! build's types would make of it.

use super::connect::Context;
use super::failure::Failure;
use super::output::table::{self, Table};
use crate::resource::KindDef;
use futures::{Stream, StreamExt};
use http::{Method, Request, header};
use kube::core::WatchEvent;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// Our name among the managers of a record's fields.
pub const MANAGER: &str = "devsanctum";
/// Records asked for at once.
const PAGE: &str = "500";

/// Parameters of a request.
pub type Query<'a> = Vec<(&'a str, String)>;

/// Writes parameters as the end of an address.
fn query(pairs: &[(&str, String)]) -> String {
    let mut text = String::new();
    for (key, value) in pairs {
        text.push(if text.is_empty() { '?' } else { '&' });
        text.push_str(key);
        text.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(byte as char),
                other => text.push_str(&format!("%{other:02X}")),
            }
        }
    }
    text
}

fn request(
    method: Method,
    address: &str,
    pairs: &[(&str, String)],
    body: Option<(&str, &Value)>,
) -> Result<Request<Vec<u8>>, Failure> {
    let mut builder = Request::builder().method(method).uri(format!("{address}{}", query(pairs)));
    let mut bytes = Vec::new();
    if let Some((kind, value)) = body {
        builder = builder.header(header::CONTENT_TYPE, kind);
        bytes = serde_json::to_vec(value)?;
    }
    let builder = builder.header(header::ACCEPT, "application/json");
    builder.body(bytes).map_err(|e| Failure::usage(format!("{address} is not an address to ask: {e}")))
}

impl Context {
    /// Asks for any address and reads the answer as JSON.
    ///
    /// # Errors
    /// What the API refused, or why it was not reached.
    pub async fn ask<T: DeserializeOwned>(&self, address: &str) -> Result<T, Failure> {
        Ok(self.client.request(request(Method::GET, address, &[], None)?).await?)
    }

    /// As [`Context::ask`], with parameters.
    ///
    /// # Errors
    /// As [`Context::ask`].
    pub async fn ask_for<T: DeserializeOwned>(&self, address: &str, pairs: &Query<'_>) -> Result<T, Failure> {
        Ok(self.client.request(request(Method::GET, address, pairs, None)?).await?)
    }

    /// Sends JSON to any address.
    ///
    /// # Errors
    /// As the client has them, so that field errors can be shown at their place.
    pub async fn post(&self, address: &str, body: &Value) -> Result<Result<Value, kube::Error>, Failure> {
        Ok(self.client.request(request(Method::POST, address, &[], Some(("application/json", body)))?).await)
    }

    /// Deletes at any address, and reads the answer as JSON.
    ///
    /// # Errors
    /// As [`Context::ask`].
    pub async fn remove<T: DeserializeOwned>(&self, address: &str) -> Result<T, Failure> {
        Ok(self.client.request(request(Method::DELETE, address, &[], None)?).await?)
    }

    fn address(&self, def: &KindDef, namespace: Option<&str>, name: &str) -> Result<String, Failure> {
        super::target::check_name(name)?;
        if let Some(ns) = namespace {
            super::target::check_name(ns)?;
        }
        Ok(format!("{}/{name}", self.url(def, namespace)))
    }

    /// A record, or `None` when it does not exist.
    ///
    /// # Errors
    /// As [`Context::ask`].
    pub async fn get(&self, def: &KindDef, namespace: Option<&str>, name: &str) -> Result<Option<Value>, Failure> {
        match self.client.request(request(Method::GET, &self.address(def, namespace, name)?, &[], None)?).await {
            Ok(value) => Ok(Some(value)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    /// All records of a kind that fit the selectors, page by page. Every one carries its kind.
    ///
    /// # Errors
    /// As [`Context::ask`].
    pub async fn list(
        &self,
        def: &KindDef,
        namespace: Option<&str>,
        selectors: &Query<'_>,
    ) -> Result<(Vec<Value>, String), Failure> {
        let (mut found, mut next) = (Vec::new(), String::new());
        loop {
            let mut pairs = selectors.clone();
            pairs.push(("limit", PAGE.into()));
            if !next.is_empty() {
                pairs.push(("continue", next.clone()));
            }
            let mut page: Value = self.client.request(request(Method::GET, &self.url(def, namespace), &pairs, None)?).await?;
            let items = page["items"].take();
            let Value::Array(items) = items else { return Err(Failure::new("the API's answer is not a list")) };
            found.extend(items.into_iter().map(|item| kinded(item, def)));
            next = page.pointer("/metadata/continue").and_then(Value::as_str).unwrap_or_default().to_owned();
            if next.is_empty() {
                let version = page.pointer("/metadata/resourceVersion").and_then(Value::as_str).unwrap_or_default();
                return Ok((found, version.to_owned()));
            }
        }
    }

    /// The same as a table laid out by the server. `name` asks for one record.
    ///
    /// # Errors
    /// As [`Context::ask`].
    pub async fn table(
        &self,
        def: &KindDef,
        namespace: Option<&str>,
        name: Option<&str>,
        selectors: &Query<'_>,
    ) -> Result<Table, Failure> {
        let address = match name {
            Some(name) => self.address(def, namespace, name)?,
            None => self.url(def, namespace),
        };
        let mut whole = Table::default();
        loop {
            let mut pairs = selectors.clone();
            pairs.push(("includeObject", "Object".into()));
            if name.is_none() {
                pairs.push(("limit", PAGE.into()));
            }
            if let Some(next) = whole.metadata.next.take() {
                pairs.push(("continue", next));
            }
            let page: Table =
                self.client.request(accepting(request(Method::GET, &address, &pairs, None)?, table::ACCEPT)).await?;
            if whole.column_definitions.is_empty() {
                whole.column_definitions = page.column_definitions;
            }
            whole.rows.extend(page.rows);
            whole.metadata = page.metadata;
            if whole.metadata.next.as_ref().is_none_or(String::is_empty) {
                return Ok(whole);
            }
        }
    }

    /// Every change from a version on. `as_table` asks for rows in place of records.
    ///
    /// # Errors
    /// As [`Context::ask`].
    pub async fn watch(
        &self,
        def: &KindDef,
        namespace: Option<&str>,
        selectors: &Query<'_>,
        version: &str,
        as_table: bool,
    ) -> Result<impl Stream<Item = Result<WatchEvent<Value>, Failure>> + Unpin + use<>, Failure> {
        let mut pairs = selectors.clone();
        pairs.extend([("watch", "true".to_owned()), ("resourceVersion", version.to_owned()), ("timeoutSeconds", "290".into())]);
        if as_table {
            pairs.push(("includeObject", "Object".into()));
        }
        let mut request = request(Method::GET, &self.url(def, namespace), &pairs, None)?;
        if as_table {
            request = accepting(request, table::ACCEPT);
        }
        let changes = self.client.request_events::<Value>(request).await?;
        Ok(Box::pin(changes.map(|change| change.map_err(Failure::from))))
    }

    /// Server-side apply of a record by our manager.
    ///
    /// # Errors
    /// Two levels: the outer for a request that cannot be made, the inner as the API refused it.
    pub async fn apply(
        &self,
        def: &KindDef,
        namespace: Option<&str>,
        name: &str,
        record: &Value,
        dry: bool,
        force: bool,
    ) -> Result<Result<Value, kube::Error>, Failure> {
        let mut pairs =
            vec![("fieldManager", MANAGER.to_owned()), ("fieldValidation", "Strict".into()), ("force", force.to_string())];
        if dry {
            pairs.push(("dryRun", "All".into()));
        }
        let address = self.address(def, namespace, name)?;
        let request = request(Method::PATCH, &address, &pairs, Some(("application/apply-patch+yaml", record)))?;
        Ok(self.client.request(request).await)
    }

    /// Merge patch of a record.
    ///
    /// # Errors
    /// As [`Context::apply`].
    pub async fn merge(
        &self,
        def: &KindDef,
        namespace: Option<&str>,
        name: &str,
        patch: &Value,
        manager: &str,
    ) -> Result<Result<Value, kube::Error>, Failure> {
        let pairs = [("fieldManager", manager.to_owned()), ("fieldValidation", "Strict".into())];
        let address = self.address(def, namespace, name)?;
        let request = request(Method::PATCH, &address, &pairs, Some(("application/merge-patch+json", patch)))?;
        Ok(self.client.request(request).await)
    }

    /// Deletes a record, that of this `uid` alone where one is given. `false` when there was none.
    ///
    /// # Errors
    /// As [`Context::ask`].
    pub async fn delete(
        &self,
        def: &KindDef,
        namespace: Option<&str>,
        name: &str,
        uid: Option<&str>,
        dry: bool,
    ) -> Result<bool, Failure> {
        let mut options = json!({"apiVersion": "v1", "kind": "DeleteOptions"});
        if let Some(uid) = uid {
            options["preconditions"] = json!({"uid": uid});
        }
        if dry {
            options["dryRun"] = json!(["All"]);
        }
        let address = self.address(def, namespace, name)?;
        let request = request(Method::DELETE, &address, &[], Some(("application/json", &options)))?;
        match self.client.request::<Value>(request).await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(e) => Err(e.into()),
        }
    }
}

fn accepting(mut request: Request<Vec<u8>>, accept: &'static str) -> Request<Vec<u8>> {
    request.headers_mut().insert(header::ACCEPT, header::HeaderValue::from_static(accept));
    request
}

/// Items of a list leave their kind out; for printing they need it.
fn kinded(mut item: Value, def: &KindDef) -> Value {
    if let Some(fields) = item.as_object_mut() {
        fields.entry("apiVersion").or_insert_with(|| def.api_version().into());
        fields.entry("kind").or_insert_with(|| def.kind.clone().into());
    }
    item
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_cannot_leave_its_parameter() {
        let pairs = [("a", "x&b=1#é".to_owned()), ("c", "d e".into())];
        assert_eq!(query(&pairs), "?a=x%26b%3D1%23%C3%A9&c=d%20e");
    }
}
