//! Which features an environment has, with what was chosen of each.

use super::environment::{Library, Unresolvable, refuse};
use crate::resource::FeatureSpec;
use crate::resource::common::FeatureUse;
use std::collections::BTreeMap;

/// A feature by name, and the values of its options.
pub(super) type Chosen = (String, FeatureSpec, BTreeMap<String, String>);

/// All features asked for and all they need, each once, what is needed before what needs it.
pub(super) fn close_over(uses: &[&FeatureUse], library: &dyn Library) -> Result<Vec<Chosen>, Unresolvable> {
    // The project's choice of options comes last in `uses` and wins over the template's.
    let given: BTreeMap<&str, &BTreeMap<String, String>> = uses.iter().map(|u| (u.name.as_str(), &u.options)).collect();
    let mut all = Vec::new();
    for u in uses {
        visit(&u.name, library, &mut Vec::new(), &mut all)?;
    }
    let choose = |(name, feature): (String, FeatureSpec)| {
        let options = options_of(&name, &feature, given.get(name.as_str()).copied())?;
        Ok((name, feature, options))
    };
    all.into_iter().map(choose).collect()
}

/// Checks that a feature and all it needs are there and need each other in no circle.
///
/// # Errors
/// Names what is missing, or the circle.
pub fn check_feature(name: &str, library: &dyn Library) -> Result<(), Unresolvable> {
    visit(name, library, &mut Vec::new(), &mut Vec::new())
}

fn visit(
    name: &str,
    library: &dyn Library,
    path: &mut Vec<String>,
    done: &mut Vec<(String, FeatureSpec)>,
) -> Result<(), Unresolvable> {
    if done.iter().any(|(n, _)| n == name) {
        return Ok(());
    }
    path.push(name.to_owned());
    if path[..path.len() - 1].iter().any(|p| p == name) {
        return refuse("FeatureCycle", format!("features need each other in a circle: {}", path.join(" → ")));
    }
    let Some(feature) = library.feature(name) else {
        return refuse("FeatureNotFound", format!("feature {name:?} does not exist (needed through {})", path.join(" → ")));
    };
    for needed in &feature.requires {
        visit(needed, library, path, done)?;
    }
    path.pop();
    done.push((name.to_owned(), feature));
    Ok(())
}

fn options_of(
    name: &str,
    feature: &FeatureSpec,
    given: Option<&BTreeMap<String, String>>,
) -> Result<BTreeMap<String, String>, Unresolvable> {
    let empty = BTreeMap::new();
    let given = given.unwrap_or(&empty);
    if let Some(key) = given.keys().find(|k| !feature.options.iter().any(|o| &o.key == *k)) {
        let known: Vec<&str> = feature.options.iter().map(|o| o.key.as_str()).collect();
        return refuse("UnknownOption", format!("feature {name:?} has no option {key:?}; it has: {}", known.join(", ")));
    }
    let mut options = BTreeMap::new();
    for o in &feature.options {
        let Some(value) = given.get(&o.key).or(o.default.as_ref()) else {
            if o.required {
                return refuse("OptionRequired", format!("feature {name:?} needs a value for its option {:?}", o.key));
            }
            continue;
        };
        if let Err(allowed) = o.accepts(value) {
            return refuse("OptionInvalid", format!("option {:?} of feature {name:?} is {value:?}: {allowed}", o.key));
        }
        options.insert(o.key.clone(), value.clone());
    }
    Ok(options)
}
