//! Environment variables.

use super::text::{Piece, pieces};
use super::{Draft, Fields};
use serde_json::Value;

/// Variables of the container, and over them those of programs that people start; here both are of the container.
pub(super) fn variables(fields: &Fields, draft: &mut Draft) {
    for field in ["containerEnv", "remoteEnv"] {
        match fields.get(field) {
            None => {}
            Some(Value::Object(all)) => all.iter().for_each(|(name, value)| variable(field, name, value, draft)),
            Some(_) => draft.note(field, "must be an object"),
        }
    }
}

fn variable(field: &str, name: &str, value: &Value, draft: &mut Draft) {
    let at = format!("{field}.{name}");
    if let Err(allowed) = crate::resource::names::env_name(name) {
        return draft.note(at, format!("is not mapped: a variable's name {allowed}"));
    }
    let text = match value {
        Value::String(text) if !text.contains('\0') => text.clone(),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        Value::Null => return draft.note(at, "is not mapped: a variable cannot be taken away; set it to what it should be"),
        _ => return draft.note(at, "is not mapped: must be a text"),
    };
    if text.contains("${containerWorkspaceFolder}") {
        let folder = draft.workdir();
        draft.note(
            &at,
            format!("${{containerWorkspaceFolder}} is {folder} in it; a repository lies in a folder of its own below that"),
        );
    }
    match pieces(&text, draft.workdir()) {
        Ok(pieces) => put(&at, name, pieces, draft),
        Err(variable) => draft.note(at, format!("is not mapped: {variable} has no value here; set it in 'env' of the Workspace")),
    }
}

/// A variable that is made of the image's own is set in the image, any other in the template.
fn put(at: &str, name: &str, pieces: Vec<Piece>, draft: &mut Draft) {
    let (mut plain, mut word, mut of_image) = (String::new(), String::new(), false);
    for piece in pieces {
        match piece {
            Piece::Text(text) => {
                word.push_str(&escaped(&text));
                plain.push_str(&text);
            }
            Piece::OfImage(other) => match draft.template.env.get(&other) {
                Some(known) => {
                    word.push_str(&escaped(known));
                    plain.push_str(known);
                }
                None => {
                    word.push_str(&format!("${{{other}}}"));
                    of_image = true;
                }
            },
        }
    }
    if !of_image {
        draft.template.env.insert(name.to_owned(), plain);
    } else if word.chars().any(char::is_control) || word.ends_with('\\') || word.contains("{{option.") {
        draft.note(at, "is not mapped: what is made of the image's variables must be one line");
    } else {
        draft.instructions.push(format!("ENV {name}=\"{word}\""));
        draft.template.env.remove(name);
    }
}

/// A text in double quotes of a Dockerfile.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$")
}
