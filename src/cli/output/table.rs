//! Tables as the server lays them out (`meta.k8s.io/v1` `Table`), aligned as kubectl aligns them.

use crate::cli::ui::{Tone, Ui, clean, columns};
use serde::Deserialize;
use serde_json::Value;

/// What to ask for, so that the server answers with a table.
pub const ACCEPT: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

/// A table of records.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Table {
    /// Bookkeeping of the list.
    pub metadata: ListMeta,
    /// Columns; a watch leaves them out after the first event.
    pub column_definitions: Vec<Column>,
    /// Rows.
    pub rows: Vec<Row>,
}

/// Bookkeeping of a list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ListMeta {
    /// Version to watch from.
    pub resource_version: String,
    /// More to fetch.
    #[serde(rename = "continue")]
    pub next: Option<String>,
}

/// A column.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Column {
    /// Heading.
    pub name: String,
    /// Shown only when wide, where above 0.
    pub priority: i64,
}

/// A row.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Row {
    /// Cells in the order of the columns.
    pub cells: Vec<Value>,
    /// The record, whole or its metadata alone.
    pub object: Value,
}

/// What to show of a table.
#[derive(Clone, Copy, Debug, Default)]
pub struct Show {
    /// Columns of priority above 0 too.
    pub wide: bool,
    /// A column with the project.
    pub namespace: bool,
    /// A column with the labels.
    pub labels: bool,
    /// Names as `kind.group/name`.
    pub kind: bool,
    /// The header line.
    pub headers: bool,
}

impl Table {
    /// Takes in the rows of another table of the same kind.
    pub fn append(&mut self, other: Table) {
        if self.column_definitions.is_empty() {
            self.column_definitions = other.column_definitions;
        }
        self.rows.extend(other.rows);
        self.metadata = other.metadata;
    }

    /// The header and the cells of all rows as text.
    pub fn cells(&self, show: Show) -> Vec<Vec<String>> {
        let shown: Vec<usize> =
            self.column_definitions.iter().enumerate().filter(|(_, c)| show.wide || c.priority == 0).map(|(i, _)| i).collect();
        let mut lines = Vec::new();
        if show.headers {
            let mut header: Vec<String> = shown.iter().map(|i| clean(&self.column_definitions[*i].name).to_uppercase()).collect();
            if show.namespace {
                header.insert(0, "NAMESPACE".into());
            }
            if show.labels {
                header.push("LABELS".into());
            }
            lines.push(header);
        }
        lines.extend(self.rows.iter().map(|row| row.line(&shown, show)));
        lines
    }

    /// Lines ready to print.
    pub fn lines(&self, show: Show, ui: Ui) -> Vec<String> {
        let mut lines = columns(&self.cells(show));
        if let Some(header) = lines.first_mut().filter(|_| show.headers) {
            *header = ui.paint(Tone::Strong, header);
        }
        lines
    }
}

impl Row {
    fn line(&self, shown: &[usize], show: Show) -> Vec<String> {
        let text = |path: &str| clean(self.object.pointer(path).and_then(Value::as_str).unwrap_or_default());
        let mut line: Vec<String> = shown.iter().map(|i| cell(self.cells.get(*i))).collect();
        if let Some(first) = line.first_mut().filter(|_| show.kind) {
            let named = super::name(&self.object);
            let prefix = named.split_once('/').map(|(kind, _)| kind.to_owned()).unwrap_or_default();
            *first = format!("{prefix}/{first}");
        }
        if show.namespace {
            line.insert(0, text("/metadata/namespace"));
        }
        if show.labels {
            line.push(labels(&self.object));
        }
        line
    }
}

fn cell(value: Option<&Value>) -> String {
    match value {
        None | Some(Value::Null) => "<none>".into(),
        Some(Value::String(text)) if text.is_empty() => String::new(),
        Some(value) => clean(&super::jsonpath::shown(value)),
    }
}

/// `a=b,c=d`, or `<none>`.
pub fn labels(object: &Value) -> String {
    let pairs = object.pointer("/metadata/labels").and_then(Value::as_object).map(|labels| {
        let pair = |(k, v): (&String, &Value)| clean(&format!("{k}={}", super::jsonpath::shown(v)));
        labels.iter().map(pair).collect::<Vec<_>>().join(",")
    });
    pairs.filter(|p| !p.is_empty()).unwrap_or_else(|| "<none>".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn table() -> Table {
        serde_json::from_value(json!({
            "columnDefinitions": [{"name": "Name"}, {"name": "Phase"}, {"name": "Image", "priority": 1}],
            "rows": [
                {"cells": ["web", "RUNNING", "alpine"], "object": {"apiVersion": "devsanctum.io/v1", "kind": "Workspace", "metadata": {"name": "web", "namespace": "shop", "labels": {"a": "b"}}}},
                {"cells": ["evil\u{1b}[2J", null, null], "object": {"metadata": {}}},
            ],
        }))
        .unwrap()
    }

    #[test]
    fn tables_print_as_kubectl_prints_them() {
        let ui = Ui { color: false };
        let headers = Show { headers: true, ..Show::default() };
        assert_eq!(table().lines(headers, ui), ["NAME       PHASE", "web        RUNNING", "evil [2J   <none>"]);
        let wide = table().lines(Show { wide: true, namespace: true, labels: true, ..headers }, ui);
        assert_eq!(wide[0].split_whitespace().collect::<Vec<_>>(), ["NAMESPACE", "NAME", "PHASE", "IMAGE", "LABELS"]);
        assert_eq!(wide[1].split_whitespace().collect::<Vec<_>>(), ["shop", "web", "RUNNING", "alpine", "a=b"]);
        let kinds = table().lines(Show { kind: true, ..Show::default() }, ui);
        assert!(kinds[0].starts_with("workspace.devsanctum.io/web "), "{kinds:?}");
    }
}
