//! `Table` (meta.k8s.io/v1): what `kubectl get` prints.

use super::jsonpath::JsonPath;
use crate::resource::KindDef;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

/// How much of each record a row carries (`includeObject`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IncludeObject {
    /// Nothing.
    None,
    /// Its metadata, as `PartialObjectMetadata`.
    #[default]
    Metadata,
    /// All of it.
    Object,
}

impl IncludeObject {
    /// Reads the query parameter; absent or empty is `Metadata`.
    ///
    /// # Errors
    /// Lists what is allowed.
    pub fn parse(text: Option<&str>) -> Result<Self, String> {
        match text.unwrap_or("") {
            "" | "Metadata" => Ok(Self::Metadata),
            "None" => Ok(Self::None),
            "Object" => Ok(Self::Object),
            other => Err(format!("includeObject {other:?} is not known: must be 'None', 'Metadata' or 'Object'")),
        }
    }
}

/// A column, with its path read.
struct Column<'d> {
    name: &'d str,
    kind: &'d str,
    format: &'d str,
    description: &'d str,
    priority: i32,
    path: JsonPath,
}

const NAME_HELP: &str = "Name must be unique within a namespace.";
const AGE_HELP: &str = "Time since the record was created.";

fn built_in<'d>(name: &'d str, kind: &'d str, path: &str, priority: i32) -> Option<Column<'d>> {
    let (format, description) = if name == "Name" { ("name", NAME_HELP) } else { ("", AGE_HELP) };
    Some(Column { name, kind, format, description, priority, path: JsonPath::parse(path).ok()? })
}

/// The kind's columns with a name before them and an age after them. Events are told by what happened: like
/// Kubernetes, their table starts with the time and shows their name only when wide.
fn columns(def: &KindDef) -> Vec<Column<'_>> {
    let has = |name: &str| def.columns.iter().any(|c| c.name == name);
    let event = def.kind == "Event";
    let name = || built_in("Name", "string", ".metadata.name", i32::from(event));
    let own = def.columns.iter().filter_map(|c| {
        Some(Column {
            name: &c.name,
            kind: &c.type_,
            format: c.format.as_deref().unwrap_or_default(),
            description: c.description.as_deref().unwrap_or_default(),
            priority: c.priority.unwrap_or(0),
            path: JsonPath::parse(&c.json_path).ok()?,
        })
    });
    let first = (!has("Name") && !event).then(name).flatten();
    let age = (!has("Age") && !event).then(|| built_in("Age", "date", ".metadata.creationTimestamp", 0)).flatten();
    let last = event.then(name).flatten();
    first.into_iter().chain(own).chain(age).chain(last).collect()
}

/// A table with one row for each record. `list_meta` is the list's `metadata` (resourceVersion, continue), or for a
/// single record or a watch event `{"resourceVersion": …}`. `now` is what ages are counted from.
pub fn table<'v>(
    def: &KindDef,
    records: impl IntoIterator<Item = &'v Value>,
    include: IncludeObject,
    list_meta: Value,
    now: Timestamp,
) -> Value {
    let columns = columns(def);
    let rows = records.into_iter().map(|record| row(&columns, record, include, now)).collect();
    wrap(&columns, rows, list_meta)
}

/// A watch event's object as a table of one row; only the first event of a watch needs `headers`.
pub fn event_table(def: &KindDef, record: &Value, include: IncludeObject, headers: bool, now: Timestamp) -> Value {
    let columns = columns(def);
    let version = record.get("metadata").and_then(|m| m.get("resourceVersion")).cloned().unwrap_or_else(|| "".into());
    let rows = vec![row(&columns, record, include, now)];
    wrap(if headers { &columns } else { &[] }, rows, json!({"resourceVersion": version}))
}

fn wrap(columns: &[Column], rows: Vec<Value>, list_meta: Value) -> Value {
    let definition = |c: &Column| json!({"name": c.name, "type": c.kind, "format": c.format, "description": c.description, "priority": c.priority});
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": list_meta,
        "columnDefinitions": columns.iter().map(definition).collect::<Vec<_>>(), "rows": rows,
    })
}

fn row(columns: &[Column], record: &Value, include: IncludeObject, now: Timestamp) -> Value {
    let cells: Vec<Value> = columns.iter().map(|column| cell(column, record, now)).collect();
    match include {
        IncludeObject::None => json!({"cells": cells}),
        IncludeObject::Metadata => {
            let metadata = record.get("metadata").cloned().unwrap_or_default();
            let object = json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": metadata});
            json!({"cells": cells, "object": object})
        }
        IncludeObject::Object => json!({"cells": cells, "object": record}),
    }
}

fn cell(column: &Column, record: &Value, now: Timestamp) -> Value {
    let first = || column.path.find(record).into_iter().find(|v| !v.is_null());
    match column.kind {
        "date" => {
            let time = first().and_then(Value::as_str);
            time.map_or(Value::Null, |text| text.parse().map_or("<invalid>".into(), |time| age(time, now).into()))
        }
        "integer" => match first() {
            Some(Value::Number(n)) if n.is_f64() => n.as_f64().map_or(Value::Null, |f| Value::from(format!("{f:.0}"))),
            Some(number @ Value::Number(_)) => number.clone(),
            _ => Value::Null,
        },
        "number" => first().filter(|v| v.is_number()).cloned().unwrap_or_default(),
        "boolean" => first().filter(|v| v.is_boolean()).cloned().unwrap_or_default(),
        _ => column.path.print(record).map_or(Value::Null, Value::from),
    }
}

/// How long ago something was, as kubectl says it: two units at most, and only one where the second tells little.
pub fn age(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(time.as_second());
    // Clocks of two machines differ a little.
    if seconds < -1 {
        return "<invalid>".into();
    }
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let years = days / 365;
    let two = |big: i64, unit: &str, small: i64, part: &str| match small {
        0 => format!("{big}{unit}"),
        small => format!("{big}{unit}{small}{part}"),
    };
    match () {
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => two(minutes, "m", seconds % 60, "s"),
        () if hours < 3 => format!("{minutes}m"),
        () if hours < 8 => two(hours, "h", minutes % 60, "m"),
        () if hours < 48 => format!("{hours}h"),
        () if days < 8 => two(days, "d", hours % 24, "h"),
        () if days < 730 => format!("{days}d"),
        () if years < 8 => two(years, "y", days % 365, "d"),
        () => format!("{years}y"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::{kind, kinds};

    fn now() -> Timestamp {
        "2026-03-01T00:00:00Z".parse().unwrap()
    }

    fn record() -> Value {
        json!({"apiVersion": "devsanctum.io/v1", "kind": "Workspace",
            "metadata": {"name": "w", "resourceVersion": "7", "creationTimestamp": "2026-02-28T23:55:00Z"},
            "spec": {"owner": "ada"},
            "status": {"phase": "RUNNING", "dockerServer": "s", "services": [{"url": "http://x"}, {"url": "http://y"}]}})
    }

    #[test]
    fn a_table_starts_with_the_name_and_ends_wide() {
        let table = table(kind("Workspace").unwrap(), [&record()], IncludeObject::None, json!({"resourceVersion": "9"}), now());
        let names: Vec<&str> =
            table["columnDefinitions"].as_array().unwrap().iter().map(|c| c["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["Name", "Phase", "URL", "Server", "Age", "Owner", "Image", "Message"]);
        assert_eq!(table["columnDefinitions"][0]["format"], "name");
        assert_eq!(table["columnDefinitions"][5]["priority"], 1);
        assert_eq!(table["rows"], json!([{"cells": ["w", "RUNNING", "http://x", "s", "5m", "ada", null, null]}]));
        assert_eq!(table["metadata"], json!({"resourceVersion": "9"}));
    }

    #[test]
    fn rows_carry_as_much_of_the_record_as_asked() {
        let of = |include| table(kind("Workspace").unwrap(), [&record()], include, json!({}), now())["rows"][0]["object"].clone();
        assert_eq!(of(IncludeObject::None), Value::Null);
        assert_eq!(of(IncludeObject::Object), record());
        let partial = of(IncludeObject::parse(None).unwrap());
        assert_eq!((&partial["kind"], &partial["metadata"]["name"]), (&json!("PartialObjectMetadata"), &json!("w")));
        assert_eq!(partial.get("spec"), None);
        assert!(IncludeObject::parse(Some("All")).unwrap_err().contains("'Object'"));
    }

    #[test]
    fn a_watch_event_is_a_table_of_one_row() {
        let def = kind("Workspace").unwrap();
        let first = event_table(def, &record(), IncludeObject::Metadata, true, now());
        let next = event_table(def, &record(), IncludeObject::Metadata, false, now());
        assert_eq!(first["columnDefinitions"].as_array().unwrap().len(), 8);
        assert_eq!(next["columnDefinitions"], json!([]));
        assert_eq!(first["rows"], next["rows"]);
        assert_eq!(first["metadata"]["resourceVersion"], "7");
    }

    #[test]
    fn every_kind_has_a_name_and_an_age_or_is_an_event() {
        for def in kinds() {
            let names: Vec<&str> = columns(def).iter().map(|c| c.name).collect();
            assert!(names.contains(&"Name"), "{}", def.kind);
            assert_eq!(names.contains(&"Age"), def.kind != "Event", "{}", def.kind);
        }
        assert_eq!(columns(kind("Event").unwrap())[0].name, "Last Seen");
    }

    #[test]
    fn ages_read_as_kubectl_writes_them() {
        for (seconds, expected) in [
            (-5, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (599, "9m59s"),
            (600, "10m"),
            (10_799, "179m"),
            (10_800, "3h"),
            (28_799, "7h59m"),
            (28_800, "8h"),
            (172_799, "47h"),
            (172_800, "2d"),
            (183_600, "2d3h"),
            (691_200, "8d"),
            (63_071_999, "729d"),
            (63_072_000, "2y"),
            (63_158_400, "2y1d"),
            (252_288_000, "8y"),
        ] {
            assert_eq!(age(now() - k8s_openapi::jiff::SignedDuration::from_secs(seconds), now()), expected, "{seconds}");
        }
    }

    #[test]
    fn odd_values_leave_their_cell_empty() {
        let mut odd = record();
        odd["metadata"]["creationTimestamp"] = json!("whenever");
        odd["status"] = json!({"phase": {"not": "text"}, "services": "none"});
        let table = table(kind("Workspace").unwrap(), [&odd], IncludeObject::None, json!({}), now());
        assert_eq!(table["rows"][0]["cells"], json!(["w", "{\"not\":\"text\"}", null, null, "<invalid>", "ada", null, null]));
    }
}
