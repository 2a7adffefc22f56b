//! What a devcontainer begins with, and whose it is.

use super::{Draft, Fields, Refusal};
use crate::resource::names;
use serde_json::Value;

const MEND: &str = "build the image, push it to a registry that your servers reach, and name it in \"image\"; or give an \
                    \"image\" and write the Dockerfile's RUN lines into the template's 'dockerfile'";

/// The image.
pub(super) fn base(fields: &Fields) -> Result<String, Refusal> {
    if fields.contains_key("dockerComposeFile") {
        let message = "\"dockerComposeFile\": a template is one image, and compose files are not read";
        let mend = "name the image of the service that people work in as \"image\", and make a Feature with a 'sidecar' of each \
                    other service (the library has databases: `devsanctum library list`)";
        return Err(Refusal::new(message, mend));
    }
    if fields.contains_key("build") || fields.contains_key("dockerFile") {
        let message = "\"build\": the Dockerfile and its folder are not here when a server builds an image";
        return Err(Refusal::new(message, MEND));
    }
    match fields.get("image") {
        Some(Value::String(image)) => match names::image_reference(image) {
            // By themselves these mean the platform's own.
            Ok(()) if image == "alpine" || image == "debian" => Ok(format!("{image}:latest")),
            Ok(()) => Ok(image.clone()),
            Err(allowed) => Err(Refusal::new(format!("\"image\" is {image:?}: {allowed}"), "give the image by its name")),
        },
        Some(_) => Err(Refusal::new("\"image\" is no text", "give the image by its name, such as \"node:22\"")),
        None => Err(Refusal::new("there is no \"image\"", "give the image by its name, such as \"node:22\"")),
    }
}

/// Images that say in a label of theirs who works in them.
fn labelled(image: &str) -> Option<&'static str> {
    let name = image.strip_prefix("mcr.microsoft.com/devcontainers/")?.split([':', '@']).next()?;
    Some(match name {
        "javascript-node" | "typescript-node" => "node",
        "universal" => "codespace",
        _ => "vscode",
    })
}

/// The user.
pub(super) fn user(fields: &Fields, draft: &mut Draft) {
    let given = ["remoteUser", "containerUser"].into_iter().find_map(|field| Some((field, fields.get(field)?)));
    if fields.contains_key("remoteUser") && fields.contains_key("containerUser") {
        draft.note("containerUser", "is not mapped: services, commands and terminals are all run as the \"remoteUser\"");
    }
    draft.template.user = match given {
        None => draft.template.base.as_deref().and_then(labelled).map(str::to_owned),
        Some((_, Value::String(user))) if names::user_name(user).is_ok() => Some(user.clone()),
        Some((field, value)) => {
            draft.note(field, format!("{value} is not mapped: must be a user of the image, by name or number"));
            None
        }
    };
}
