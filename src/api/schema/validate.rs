//! Checking a record against its structural schema, in Kubernetes' words.

use super::path::{Path, scalar};
use crate::resource::{FieldErrors, Problem};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use k8s_openapi::jiff::Timestamp;
use regex_lite::Regex;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{LazyLock, PoisonError, RwLock};

/// Adds an error for every value that does not fit.
pub(super) fn validate(schema: &JSONSchemaProps, value: &Value, path: Path, errors: &mut FieldErrors) {
    if errors.0.len() >= super::MAX_TOLD || (value.is_null() && schema.nullable == Some(true)) {
        return;
    }
    if !has_type(schema, value) {
        let wanted = match schema.x_kubernetes_int_or_string {
            Some(true) => "integer or string",
            _ => schema.type_.as_deref().unwrap_or("object"),
        };
        let detail = format!("{path} in body must be of type {wanted}: {:?}", type_name(value));
        return errors.push(path.to_string(), Problem::Invalid, scalar(value), detail);
    }
    one_of_enum(schema, value, path, errors);
    combined(schema, value, path, errors);
    match value {
        Value::Object(map) => object(schema, map, path, errors),
        Value::Array(items) => list(schema, items, path, errors),
        Value::String(text) => string(schema, text, path, errors),
        Value::Number(_) => number(schema, value, path, errors),
        Value::Null | Value::Bool(_) => {}
    }
}

fn has_type(schema: &JSONSchemaProps, value: &Value) -> bool {
    let integer = || value.is_i64() || value.is_u64();
    if schema.x_kubernetes_int_or_string == Some(true) {
        return integer() || value.is_string();
    }
    match schema.type_.as_deref() {
        None => !value.is_null(),
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("number") => value.is_number(),
        Some("integer") => integer(),
        Some(_) => false,
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Adds `<path> in body <what>`.
fn refuse(value: &Value, path: Path, what: impl AsRef<str>, errors: &mut FieldErrors) {
    errors.push(path.to_string(), Problem::Invalid, scalar(value), format!("{path} in body {}", what.as_ref()));
}

fn one_of_enum(schema: &JSONSchemaProps, value: &Value, path: Path, errors: &mut FieldErrors) {
    let Some(allowed) = schema.enum_.as_ref().filter(|allowed| !allowed.iter().any(|a| a.0 == *value)) else { return };
    let allowed: Vec<String> = allowed.iter().filter(|a| !a.0.is_null()).map(|a| a.0.to_string()).collect();
    let detail = format!("supported values: {}", allowed.join(", "));
    errors.push(path.to_string(), Problem::NotSupported, scalar(value), detail);
}

/// `allOf`, `anyOf`, `oneOf` and `not`, which may only restrict what the structural part says.
fn combined(schema: &JSONSchemaProps, value: &Value, path: Path, errors: &mut FieldErrors) {
    let fits = |schema: &JSONSchemaProps| {
        let mut found = FieldErrors::default();
        validate(schema, value, path, &mut found);
        found.0.is_empty()
    };
    for each in schema.all_of.iter().flatten() {
        validate(each, value, path, errors);
    }
    if schema.any_of.as_ref().is_some_and(|any| !any.iter().any(fits)) {
        refuse(value, path, "must validate at least one schema (anyOf)", errors);
    }
    if schema.one_of.as_ref().is_some_and(|one| one.iter().filter(|s| fits(s)).count() != 1) {
        refuse(value, path, "must validate one and only one schema (oneOf)", errors);
    }
    if schema.not.as_ref().is_some_and(|not| fits(not)) {
        refuse(value, path, "must not validate the schema (not)", errors);
    }
}

fn object(schema: &JSONSchemaProps, map: &Map<String, Value>, path: Path, errors: &mut FieldErrors) {
    for name in schema.required.iter().flatten().filter(|name| !map.contains_key(*name)) {
        let field = schema.properties.as_ref().and_then(|p| p.get(name));
        errors.required(Path::Field(&path, name).to_string(), field.map(hint).unwrap_or_default());
    }
    within(map.len(), schema.min_properties, schema.max_properties, "properties", "have", path, errors);
    for (name, value) in map {
        match (schema.properties.as_ref().and_then(|p| p.get(name)), &schema.additional_properties) {
            (Some(field), _) => validate(field, value, Path::Field(&path, name), errors),
            (None, Some(JSONSchemaPropsOrBool::Schema(each))) => validate(each, value, Path::Key(&path, name), errors),
            (None, _) => {}
        }
    }
}

/// What a missing field is for: its type and the first sentence of its description.
fn hint(field: &JSONSchemaProps) -> String {
    let kind = field.type_.as_deref().unwrap_or("value");
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    match field.description.as_deref().and_then(|d| d.lines().next()).filter(|d| d.len() <= 200) {
        Some(text) => format!("{article} {kind}: {text}"),
        None => format!("{article} {kind}"),
    }
}

fn list(schema: &JSONSchemaProps, items: &[Value], path: Path, errors: &mut FieldErrors) {
    within(items.len(), schema.min_items, schema.max_items, "items", "have", path, errors);
    let distinct = schema.unique_items == Some(true) || schema.x_kubernetes_list_type.as_deref() == Some("set");
    if distinct {
        let mut seen = std::collections::BTreeSet::new();
        for (index, item) in items.iter().enumerate().filter(|(_, item)| !seen.insert(item.to_string())) {
            errors.push(Path::Index(&path, index).to_string(), Problem::Duplicate, scalar(item), "");
        }
    }
    if let Some(JSONSchemaPropsOrArray::Schema(each)) = &schema.items {
        for (index, item) in items.iter().enumerate() {
            validate(each, item, Path::Index(&path, index), errors);
        }
    }
}

/// A count between two limits; `verb` and `unit` make the sentence.
fn within(count: usize, least: Option<i64>, most: Option<i64>, unit: &str, verb: &str, path: Path, errors: &mut FieldErrors) {
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let mut wrong = |what: String| refuse(&Value::from(count), path, what, errors);
    if let Some(least) = least.filter(|least| count < *least) {
        wrong(format!("should {verb} at least {least} {unit}"));
    }
    if let Some(most) = most.filter(|most| count > *most) {
        wrong(format!("should {verb} at most {most} {unit}"));
    }
}

fn string(schema: &JSONSchemaProps, text: &str, path: Path, errors: &mut FieldErrors) {
    if schema.min_length.is_some() || schema.max_length.is_some() {
        within(text.chars().count(), schema.min_length, schema.max_length, "chars long", "be", path, errors);
    }
    let value = || Value::from(text);
    if let Some(pattern) = schema.pattern.as_deref().filter(|pattern| !matches(pattern, text)) {
        refuse(&value(), path, format!("should match '{pattern}'"), errors);
    }
    let well_formed = match schema.format.as_deref() {
        Some("date-time" | "datetime") => text.parse::<Timestamp>().is_ok(),
        Some("ip") => text.parse::<IpAddr>().is_ok(),
        Some("ipv4") => text.parse::<Ipv4Addr>().is_ok(),
        Some("ipv6") => text.parse::<Ipv6Addr>().is_ok(),
        Some("uuid") => uuid::Uuid::try_parse(text).is_ok(),
        _ => true,
    };
    if !well_formed {
        let format = schema.format.as_deref().unwrap_or_default();
        refuse(&value(), path, format!("must be of type {format}{}", example(format)), errors);
    }
}

fn example(format: &str) -> &'static str {
    match format {
        "date-time" | "datetime" => ", such as \"2026-01-31T12:00:00Z\"",
        "ip" | "ipv4" => ", such as \"192.0.2.1\"",
        "ipv6" => ", such as \"2001:db8::1\"",
        _ => "",
    }
}

/// Patterns come from our own schemas and are compiled once.
fn matches(pattern: &str, text: &str) -> bool {
    static COMPILED: LazyLock<RwLock<BTreeMap<String, Option<Regex>>>> = LazyLock::new(RwLock::default);
    if let Some(regex) = COMPILED.read().unwrap_or_else(PoisonError::into_inner).get(pattern) {
        return regex.as_ref().is_some_and(|regex| regex.is_match(text));
    }
    let regex = Regex::new(pattern).ok();
    let found = regex.as_ref().is_some_and(|regex| regex.is_match(text));
    COMPILED.write().unwrap_or_else(PoisonError::into_inner).insert(pattern.to_owned(), regex);
    found
}

fn number(schema: &JSONSchemaProps, value: &Value, path: Path, errors: &mut FieldErrors) {
    let (Some(float), mut wrong) = (value.as_f64(), |what: String| refuse(value, path, what, errors)) else { return };
    if let Some(range) = schema.format.as_deref().and_then(whole_range)
        && !as_i128(value).is_none_or(|whole| range.contains(&whole))
    {
        return wrong(format!("must be between {} and {}", range.start(), range.end()));
    }
    let (over, under) = (schema.exclusive_minimum == Some(true), schema.exclusive_maximum == Some(true));
    if let Some(least) = schema.minimum.filter(|least| float < *least || (over && float == *least)) {
        wrong(format!("should be greater than {}{least}", if over { "" } else { "or equal to " }));
    }
    if let Some(most) = schema.maximum.filter(|most| float > *most || (under && float == *most)) {
        wrong(format!("should be less than {}{most}", if under { "" } else { "or equal to " }));
    }
    if let Some(step) = schema.multiple_of.filter(|step| *step > 0.0 && (float / step).fract() != 0.0) {
        wrong(format!("should be a multiple of {step}"));
    }
}

fn as_i128(value: &Value) -> Option<i128> {
    value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from))
}

/// Integers a format can hold; the kinds' Rust types cannot hold others.
fn whole_range(format: &str) -> Option<std::ops::RangeInclusive<i128>> {
    Some(match format {
        "int32" => i32::MIN.into()..=i32::MAX.into(),
        "int64" => i64::MIN.into()..=i64::MAX.into(),
        "uint8" => 0..=u8::MAX.into(),
        "uint16" => 0..=u16::MAX.into(),
        "uint32" => 0..=u32::MAX.into(),
        "uint64" | "uint" => 0..=u64::MAX.into(),
        _ => return None,
    })
}
