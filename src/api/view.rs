//! How records are shown: whole, as metadata alone, or as a table.

use super::events;
use super::fail::damaged;
use super::record;
use super::request::Params;
use super::served::Served;
use super::status::ApiError;
use super::table::{IncludeObject, event_table, table};
use crate::store::Stored;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use k8s_openapi::jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

/// Which form the caller asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// The record.
    Whole,
    /// `PartialObjectMetadata`.
    Metadata,
    /// `Table`.
    Table(IncludeObject),
}

/// Reads the `Accept` header.
///
/// # Errors
/// 406 when no form we have is accepted.
pub fn negotiate(headers: &HeaderMap, params: &Params) -> Result<Form, ApiError> {
    let accept = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("*/*");
    for range in accept.split(',') {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or("");
        if !matches!(media, "application/json" | "application/*" | "*/*" | "") {
            continue;
        }
        match parts.find_map(|p| p.strip_prefix("as=")) {
            None => return Ok(Form::Whole),
            Some("Table") => {
                let include = IncludeObject::parse(params.get("includeObject")).map_err(ApiError::bad_request)?;
                return Ok(Form::Table(include));
            }
            Some("PartialObjectMetadata" | "PartialObjectMetadataList") => return Ok(Form::Metadata),
            Some(_) => {}
        }
    }
    Err(ApiError::not_acceptable("only the following media types are accepted: application/json"))
}

/// The metadata of a record, as it lies in its JSON.
#[derive(Deserialize)]
struct Partial<'a> {
    #[serde(borrow)]
    metadata: &'a RawValue,
}

/// How records of one kind are shown to one caller.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// Kind, in the spelling asked for.
    pub served: &'static Served,
    /// Form.
    pub form: Form,
}

impl View {
    /// A stored record in the spelling asked for.
    ///
    /// # Errors
    /// 500 when the stored record is damaged.
    pub fn parse(&self, body: &[u8]) -> Result<Value, ApiError> {
        let value = record::parse(body).map_err(damaged)?;
        Ok(if self.served.is_new_event() { events::to_new(value) } else { value })
    }

    /// One record. `headers` says whether a table repeats its columns.
    ///
    /// # Errors
    /// As for [`Self::parse`].
    pub fn one(&self, body: &Bytes, headers: bool) -> Result<Bytes, ApiError> {
        match self.form {
            Form::Whole if !self.served.is_new_event() => Ok(body.clone()),
            Form::Whole => Ok(self.parse(body)?.to_string().into()),
            Form::Metadata => {
                let partial: Partial<'_> = serde_json::from_slice(body).map_err(damaged)?;
                let mut out = BytesMut::with_capacity(partial.metadata.get().len() + 80);
                out.put(&b"{\"kind\":\"PartialObjectMetadata\",\"apiVersion\":\"meta.k8s.io/v1\",\"metadata\":"[..]);
                out.put(partial.metadata.get().as_bytes());
                out.put_u8(b'}');
                Ok(out.freeze())
            }
            Form::Table(include) => {
                let stored = record::parse(body).map_err(damaged)?;
                Ok(event_table(self.served.def, &stored, include, headers, Timestamp::now()).to_string().into())
            }
        }
    }

    /// A list. `meta` is the list's own metadata.
    ///
    /// # Errors
    /// As for [`Self::parse`].
    pub fn list(&self, items: &[Stored], meta: &Value) -> Result<Bytes, ApiError> {
        if let Form::Table(include) = self.form {
            let parsed: Result<Vec<Value>, _> = items.iter().map(|s| record::parse(&s.body)).collect();
            let shown = parsed.map_err(damaged)?;
            return Ok(table(self.served.def, &shown, include, meta.clone(), Timestamp::now()).to_string().into());
        }
        let (kind, version) = match self.form {
            Form::Metadata => ("PartialObjectMetadataList".to_owned(), "meta.k8s.io/v1"),
            _ => (format!("{}List", self.served.def.kind), self.served.api_version.as_str()),
        };
        let mut out = BytesMut::with_capacity(items.iter().map(|s| s.body.len() + 1).sum::<usize>() + 256);
        let head = format!("{{\"kind\":{},\"apiVersion\":{},\"metadata\":{meta},\"items\":[", json!(kind), json!(version));
        out.put(head.as_bytes());
        for (i, item) in items.iter().enumerate() {
            if i > 0 {
                out.put_u8(b',');
            }
            out.put(self.one(&item.body, true)?);
        }
        out.put(&b"]}"[..]);
        Ok(out.freeze())
    }

    /// A bookmark of a watch.
    pub fn bookmark(&self, revision: i64, initial_events_end: bool) -> Value {
        let mut meta = json!({"resourceVersion": revision.to_string(), "creationTimestamp": null});
        if initial_events_end {
            meta["annotations"] = json!({"k8s.io/initial-events-end": "true"});
        }
        match self.form {
            Form::Whole => json!({"kind": self.served.def.kind, "apiVersion": self.served.api_version, "metadata": meta}),
            Form::Metadata => json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta}),
            Form::Table(_) => json!({
                "kind": "Table", "apiVersion": "meta.k8s.io/v1", "columnDefinitions": [],
                "metadata": {"resourceVersion": revision.to_string()},
                "rows": [{"cells": [], "object": {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta}}],
            }),
        }
    }
}

/// A JSON answer.
pub fn json_response(status: StatusCode, body: impl Into<Body>, warnings: &[String]) -> Response {
    let mut response =
        (status, [(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body.into()).into_response();
    for warning in warnings {
        let text: String = warning.chars().map(|c| if c.is_control() || !c.is_ascii() { '?' } else { c }).collect();
        let quoted = format!("299 - \"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        if let Ok(value) = HeaderValue::from_str(&quoted) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
    response
}
