//! `template`: what a template comes to.

use super::args::{RenderArgs, TemplateArgs, TemplateCommand};
use super::connect::Context;
use super::failure::Failure;
use super::output::yaml;
use super::{target, ui};
use crate::resource::Template;
use crate::resource::conditions::find;

/// Runs `template`.
///
/// # Errors
/// When there is no such template, or it cannot be put together: then in the words of its condition.
pub async fn run(context: &Context, args: TemplateArgs) -> Result<(), Failure> {
    let TemplateCommand::Render(args) = args.command;
    render(context, &args).await
}

async fn render(context: &Context, args: &RenderArgs) -> Result<(), Failure> {
    let def = target::kind("template")?;
    target::check_name(&args.template)?;
    let found = context.get(def, None, &args.template).await?;
    let found = found.ok_or_else(|| Failure::new(format!("template {:?} does not exist", args.template)))?;
    let template: Template = serde_json::from_value(found)?;
    let status = template.status.unwrap_or_default();
    let current = status.observed_generation == template.metadata.generation;
    let Some(resolved) = status.resolved.filter(|_| current) else {
        let why = find(&status.conditions, "Resolved").filter(|c| current && c.status != "True");
        let words = why.map_or("the control plane has not looked at it yet", |c| c.message.as_str());
        return Err(Failure::new(format!("template {:?} cannot be rendered: {words}", args.template)));
    };
    if !args.dockerfile {
        return ui::say(&yaml(&serde_json::to_value(resolved)?)?);
    }
    let plain =
        || Failure::new(format!("nothing is built for template {:?}: it uses {} as it is", args.template, resolved.image));
    ui::say(resolved.dockerfile.as_ref().ok_or_else(plain)?)
}
