//! Rows for spreadsheets, which take some texts for formulas.

use serde_json::Value;

/// The columns, in order; each is a field of a row as the API gives it.
pub const COLUMNS: [&str; 17] = [
    "seq",
    "time",
    "user",
    "how",
    "proof",
    "role",
    "address",
    "verb",
    "kind",
    "namespace",
    "name",
    "subresource",
    "uid",
    "code",
    "reason",
    "changes",
    "hash",
];

/// One cell. What a spreadsheet would run begins with an apostrophe, which makes it a text.
pub fn cell(text: &str) -> String {
    let runs = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if runs { format!("'{text}") } else { text.to_owned() };
    if text.contains(['"', ',', '\n', '\r', '\'']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

/// One row, with the end of its line.
pub fn line(row: &Value) -> String {
    let text = |column: &&str| match &row[*column] {
        Value::Null => String::new(),
        Value::String(text) => cell(text),
        other => cell(&other.to_string()),
    };
    COLUMNS.iter().map(text).collect::<Vec<_>>().join(",") + "\r\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn no_cell_is_a_formula_and_none_leaves_its_place() {
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"] {
            let cell = cell(formula);
            assert!(cell.trim_start_matches('"').starts_with('\''), "{cell}");
        }
        assert_eq!(cell("plain"), "plain");
        assert_eq!(cell("a,\"b\"\nc"), "\"a,\"\"b\"\"\nc\"");
        let row = line(&json!({"seq": 7, "user": "=cmd", "changes": [{"path": "/a"}], "code": 200}));
        assert!(
            row.starts_with("7,,\"'=cmd\",") && row.contains("\"[{\"\"path\"\":\"\"/a\"\"}]\"") && row.ends_with(",\r\n"),
            "{row}"
        );
    }
}
