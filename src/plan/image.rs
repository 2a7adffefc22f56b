//! The image of an environment: one as it is, or how it is made.

use super::environment::{Unresolvable, refuse};
use super::features::Chosen;
use crate::image::{Recipe, Supervised, read};
use crate::resource::common::Service;
use crate::resource::{Images, TemplateSpec};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What `alpine` and `debian` are made of, where the settings name no image of their own.
const ALPINE: &str = "alpine:3.23";
const DEBIAN: &str = "debian:13-slim";

/// Where an environment's image comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Image {
    /// It is there, or can be pulled.
    AsItIs(String),
    /// It is built on each server that needs it.
    Built(Arc<Recipe>),
}

impl Image {
    /// Its name on an engine.
    pub fn reference(&self) -> String {
        match self {
            Self::AsItIs(name) => name.clone(),
            Self::Built(recipe) => recipe.tag(),
        }
    }
}

/// The small image the probe on each server runs.
pub fn probe_image(images: &Images) -> String {
    images.probe.clone().unwrap_or_else(|| "devsanctum/base:tiny".into())
}

/// The image of the gateway on each server that is another machine.
pub fn gateway_image(images: &Images) -> String {
    images.gateway.clone().unwrap_or_else(|| "haproxy:3.0-alpine".into())
}

/// The image of a template with these features, and the names of the services kept running in it.
pub(super) fn image(template: &TemplateSpec, features: &[Chosen], images: &Images) -> Result<Image, Unresolvable> {
    let recipe = recipe(template, features, images)?;
    readable(&recipe)?;
    fits_base(&recipe.base, features)?;
    supervisable(template, &recipe)?;
    Ok(if recipe.is_plain() { Image::AsItIs(recipe.base) } else { Image::Built(Arc::new(recipe)) })
}

/// The image to begin with, and whether it is a bare distribution.
fn base(name: Option<&str>, images: &Images) -> (String, bool) {
    let (own, bare) = match name.unwrap_or("alpine") {
        "alpine" => (&images.alpine, ALPINE),
        "debian" => (&images.debian, DEBIAN),
        image => return (image.to_owned(), false),
    };
    own.clone().map_or_else(|| (bare.to_owned(), true), |own| (own, false))
}

/// What an image's tag begins with, such as the 20 of `node:20-bullseye`.
fn version(base: &str) -> Option<semver::Version> {
    let (_, tag) = base.split('@').next()?.rsplit_once(':').filter(|(_, tag)| !tag.contains('/'))?;
    let number = tag.split(|c: char| !c.is_ascii_digit() && c != '.').next()?.trim_end_matches('.');
    let mut parts = number.split('.').map(|part| part.parse().ok());
    let first = parts.next()??;
    let mut rest = || parts.next().flatten().unwrap_or(0);
    Some(semver::Version::new(first, rest(), rest()))
}

/// Docker's builder reads no longer line, and each instruction is one.
const LONGEST_LINE: usize = 65_534;

fn readable(recipe: &Recipe) -> Result<(), Unresolvable> {
    match recipe.lines().iter().map(ToString::to_string).find(|line| line.len() > LONGEST_LINE) {
        None => Ok(()),
        Some(line) => {
            let begins: String = line.chars().take(60).collect();
            let message = format!(
                "an instruction of {} bytes comes of it ({begins}…), and no builder reads more than {LONGEST_LINE}: shorten it, its \
                 options' values or the packages, or make several of it",
                line.len()
            );
            refuse("DockerfileInvalid", message)
        }
    }
}

fn fits_base(base: &str, features: &[Chosen]) -> Result<(), Unresolvable> {
    let Some(version) = version(base) else { return Ok(()) };
    for (name, feature, _) in features {
        let Some(range) = &feature.base_versions else { continue };
        // Admission lets in only what can be read.
        if semver::VersionReq::parse(range).is_ok_and(|wanted| !wanted.matches(&version)) {
            let message = format!(
                "feature {name:?} works with versions {range} of a base, and the base is {base}: choose another base, or leave the \
                 feature out"
            );
            return refuse("BaseVersionUnsuitable", message);
        }
    }
    Ok(())
}

/// Services are kept running by the image's first process, whose place a start command takes.
fn supervisable(template: &TemplateSpec, recipe: &Recipe) -> Result<(), Unresolvable> {
    let services: Vec<&str> = recipe.services.keys().map(String::as_str).collect();
    match template.start_command.as_ref().and_then(|c| c.first()) {
        Some(program) if !services.is_empty() => {
            let message = format!(
                "startCommand ({program:?}) takes the place of the first process, which would keep services running ({}): leave it \
                 out, or make a service of it",
                services.join(", ")
            );
            refuse("ServicesNeverRun", message)
        }
        _ => Ok(()),
    }
}

fn recipe(template: &TemplateSpec, features: &[Chosen], images: &Images) -> Result<Recipe, Unresolvable> {
    let (base, bare) = base(template.base.as_deref(), images);
    let mut recipe = Recipe {
        base,
        bare,
        supervised: bare && template.start_command.is_none(),
        packages: template.packages.iter().cloned().collect(),
        ..Recipe::default()
    };
    let user = template.user.as_ref();
    for (name, feature, options) in features {
        let who = format!("feature {name:?}");
        recipe.packages.extend(feature.packages.iter().cloned());
        append(&mut recipe, &who, feature.dockerfile.as_deref(), options)?;
        feature.service.iter().try_for_each(|s| supervise(&mut recipe, &who, s, options, user))?;
    }
    // What features bring is there for the template to use.
    let none = BTreeMap::new();
    append(&mut recipe, "the template", template.dockerfile.as_deref(), &none)?;
    template.services.iter().try_for_each(|s| supervise(&mut recipe, "the template", s, &none, user))?;
    Ok(recipe)
}

fn append(recipe: &mut Recipe, who: &str, text: Option<&str>, options: &BTreeMap<String, String>) -> Result<(), Unresolvable> {
    let extras = match read(text.unwrap_or_default()) {
        Ok(extras) => extras,
        // Admission lets none in; a record from before it did may be there.
        Err(e) => return refuse("DockerfileInvalid", format!("dockerfile of {who}, {e}")),
    };
    recipe.instructions.extend(extras.iter().map(|e| e.filled(options)));
    Ok(())
}

fn supervise(
    recipe: &mut Recipe,
    who: &str,
    service: &Service,
    options: &BTreeMap<String, String>,
    user: Option<&String>,
) -> Result<(), Unresolvable> {
    let supervised = Supervised::new(&service.run, options, service.user.as_ref().or(user).cloned());
    match recipe.services.insert(service.name.clone(), supervised) {
        None => Ok(()),
        Some(_) => {
            refuse("ServiceTaken", format!("{who} brings a service {:?}, but one of that name is there already", service.name))
        }
    }
}

#[cfg(test)]
#[path = "image_tests.rs"]
mod tests;
