//! `auth`: who may do what, and why.

use super::args::{AuthArgs, AuthCommand, WhyArgs};
use super::connect::Context;
use super::failure::{FAILED, Failure};
use super::target;
use super::ui::{self, Tone, clean};
use serde_json::{Value, json};

/// Runs `auth`.
///
/// # Errors
/// What the API refused; with the exit code 1 when what was asked about is not allowed.
pub async fn run(context: &Context, args: AuthArgs) -> Result<(), Failure> {
    match args.command {
        AuthCommand::Why(args) => why(context, args).await,
        AuthCommand::Whoami => whoami(context).await,
    }
}

async fn why(context: &Context, args: WhyArgs) -> Result<(), Failure> {
    let mut words = args.what.splitn(3, '/');
    let def = target::kind(words.next().unwrap_or_default())?;
    let (name, subresource) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let namespace = if def.namespaced { context.namespace.as_str() } else { "" };
    let asked = json!({
        "verb": args.verb, "group": def.group, "resource": def.plural, "subresource": subresource, "name": name,
        "namespace": namespace,
    });
    let (resource, user) = match &args.user {
        Some(user) => ("subjectaccessreviews", json!(user)),
        None => ("selfsubjectaccessreviews", Value::Null),
    };
    let mut review = json!({"apiVersion": "authorization.k8s.io/v1", "spec": {"resourceAttributes": asked}});
    if !user.is_null() {
        review["spec"]["user"] = user;
    }
    let answer = context.post(&format!("/apis/authorization.k8s.io/v1/{resource}"), &review).await??;
    let reason = clean(answer["status"]["reason"].as_str().unwrap_or_default());
    if answer["status"]["allowed"] == true {
        return ui::say(&format!("{}: {reason}", context.ui.paint(Tone::Good, "allowed")));
    }
    ui::say(&format!("{}: {reason}", context.ui.paint(Tone::Bad, "not allowed")))?;
    Err(Failure::silent(FAILED))
}

async fn whoami(context: &Context) -> Result<(), Failure> {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let answer = context.post("/apis/authentication.k8s.io/v1/selfsubjectreviews", &review).await??;
    let info = &answer["status"]["userInfo"];
    let groups: Vec<String> = info["groups"].as_array().into_iter().flatten().filter_map(Value::as_str).map(clean).collect();
    let groups = if groups.is_empty() { "no groups".to_owned() } else { groups.join(", ") };
    ui::say(&format!("{} ({groups})", clean(info["username"].as_str().unwrap_or_default())))
}
