//! Texts with `${variables}` of the developer's machine and of the container.

/// What a text with variables comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    /// As it stands.
    Text(String),
    /// A variable of the image: `${containerEnv:NAME}`.
    OfImage(String),
}

/// A text taken apart. `folder` is what `${containerWorkspaceFolder}` stands for.
///
/// # Errors
/// Names the variable that has no value here.
pub(super) fn pieces(text: &str, folder: &str) -> Result<Vec<Piece>, String> {
    let (mut all, mut rest) = (Vec::new(), text);
    while let Some((before, (inner, after))) = rest.split_once("${").and_then(|(b, a)| Some((b, a.split_once('}')?))) {
        push(&mut all, before);
        let (kind, argument) = inner.split_once(':').unwrap_or((inner, ""));
        match (kind, argument.split_once(':')) {
            ("containerWorkspaceFolder", _) => push(&mut all, folder),
            ("containerWorkspaceFolderBasename", _) => push(&mut all, folder.rsplit('/').next().unwrap_or_default()),
            ("containerEnv", None) if is_name(argument) => all.push(Piece::OfImage(argument.to_owned())),
            ("localEnv" | "env", Some((_, default))) => push(&mut all, default),
            _ => return Err(format!("${{{inner}}}")),
        }
        rest = after;
    }
    push(&mut all, rest);
    Ok(all)
}

/// A text whose variables are all known.
///
/// # Errors
/// Names the variable that has no value here.
pub(super) fn plain(text: &str, folder: &str) -> Result<String, String> {
    pieces(text, folder)?
        .into_iter()
        .map(|piece| match piece {
            Piece::Text(text) => Ok(text),
            Piece::OfImage(name) => Err(format!("${{containerEnv:{name}}}")),
        })
        .collect()
}

fn push(all: &mut Vec<Piece>, text: &str) {
    match all.last_mut() {
        Some(Piece::Text(last)) => last.push_str(text),
        _ => all.push(Piece::Text(text.to_owned())),
    }
}

fn is_name(name: &str) -> bool {
    crate::resource::names::env_name(name).is_ok()
}

/// A name of letters, digits and '-' out of any text; `None` where nothing is left.
pub(super) fn label(text: &str, longest: usize) -> Option<String> {
    let mut made = String::new();
    for c in text.chars() {
        match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9') => made.push(c),
            _ if made.is_empty() || made.ends_with('-') => {}
            _ => made.push('-'),
        }
        if made.len() >= longest {
            break;
        }
    }
    let made = made.trim_end_matches('-');
    (!made.is_empty()).then(|| made.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_known_or_named() {
        let plain = |text: &str| plain(text, "/work/shop");
        assert_eq!(plain("${containerWorkspaceFolder}/a:$PATH $"), Ok("/work/shop/a:$PATH $".into()));
        assert_eq!(plain("${containerWorkspaceFolderBasename}"), Ok("shop".into()));
        assert_eq!(plain("${localEnv:HOME:/root}${localEnv:X:}"), Ok("/root".into()));
        for name in ["${localEnv:HOME}", "${localWorkspaceFolder}", "${devcontainerId}", "${containerEnv:PATH}", "${}"] {
            assert_eq!(plain(&format!("a{name}b")), Err(name.to_owned()));
        }
        assert_eq!(plain("${localEnv:X"), Ok("${localEnv:X".into()));
    }

    #[test]
    fn any_text_makes_a_label_or_none() {
        assert_eq!(label("Web App (dev)!", 54).as_deref(), Some("web-app-dev"));
        assert_eq!(label("--", 54), None);
        assert_eq!(label("日本", 54), None);
        assert_eq!(label(&"ab-".repeat(40), 54).map(|l| l.len()), Some(53));
    }
}
