//! `wait`: until a record is as wanted, or the time is up.

use super::args::WaitArgs;
use super::connect::Context;
use super::describe;
use super::failure::{Failure, TIMED_OUT};
use super::output::jsonpath::{Template, shown};
use super::target::{Target, targets, title};
use super::ui;
use futures::StreamExt;
use kube::core::WatchEvent;
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;

/// What is waited for.
pub enum Until {
    /// A condition with this status.
    Condition(String, String),
    /// The record is gone.
    Gone,
    /// The record is there.
    There,
    /// A path has this value, or any where left out.
    Path(Template, Option<String>),
}

impl Until {
    /// Reads `--for`.
    ///
    /// # Errors
    /// Says what is allowed.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let wrong = || {
            Failure::usage(format!("--for={text}: must be condition=TYPE[=STATUS], delete, create or jsonpath={{PATH}}[=VALUE]"))
        };
        match text.split_once('=') {
            None if text == "delete" => Ok(Self::Gone),
            None if text == "create" => Ok(Self::There),
            Some(("condition", rest)) if !rest.is_empty() => {
                let (name, status) = rest.split_once('=').unwrap_or((rest, "True"));
                Ok(Self::Condition(name.to_owned(), status.to_owned()))
            }
            Some(("jsonpath", rest)) => {
                let (path, value) = match rest.rsplit_once("}=") {
                    Some((path, value)) => (format!("{path}}}"), Some(value.to_owned())),
                    None => (rest.to_owned(), None),
                };
                Ok(Self::Path(Template::parse(path.trim_matches('\'')).map_err(Failure::usage)?, value))
            }
            _ => Err(wrong()),
        }
    }

    /// True when a record, or its absence, is what is waited for.
    pub fn met(&self, object: Option<&Value>) -> bool {
        match (self, object) {
            (Self::Gone, object) => object.is_none(),
            (_, None) => false,
            (Self::There, Some(_)) => true,
            (Self::Condition(name, status), Some(object)) => condition(object, name).is_some_and(|c| {
                let current = object.pointer("/metadata/generation").and_then(Value::as_i64);
                // A condition that speaks of an older spec says nothing of this one.
                let stale = c["observedGeneration"].as_i64().zip(current).is_some_and(|(seen, now)| seen < now);
                !stale && c["status"].as_str().is_some_and(|s| s.eq_ignore_ascii_case(status))
            }),
            (Self::Path(path, value), Some(object)) => match (path.find(object).as_slice(), value) {
                ([], _) => false,
                (found, Some(value)) => found.iter().all(|v| shown(v) == *value),
                (found, None) => found.iter().all(|v| !v.is_null()),
            },
        }
    }
}

fn condition<'v>(object: &'v Value, name: &str) -> Option<&'v Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|c| c["type"].as_str().is_some_and(|t| t.eq_ignore_ascii_case(name)))
}

/// Runs `wait`.
///
/// # Errors
/// With the exit code 4 when the time is up.
pub async fn run(context: &Context, args: WaitArgs) -> Result<(), Failure> {
    let until = Until::parse(&args.until)?;
    let begun = Instant::now();
    for Target { def, name } in targets(&args.what)? {
        let Some(name) = name else { return Err(Failure::usage("name the records, as KIND/NAME")) };
        let mut last = None;
        let mut look = |object: Option<&Value>| {
            last = object.cloned();
            until.met(object)
        };
        let target = Watched { def, namespace: context.scope(false), name: &name };
        // The first look takes the time it takes: with --timeout=0 it is the only one, as with kubectl.
        if target.look(context, &until, &mut look).await?.is_some() {
            let left = args.timeout.saturating_sub(begun.elapsed());
            match tokio::time::timeout(left, target.wait(context, &until, &mut look)).await {
                Ok(result) => result?,
                Err(_) => return Err(late(&title(def, &name), &args, last.as_ref(), context)),
            }
        }
        let done = if matches!(until, Until::Gone) { "deleted" } else { "condition met" };
        ui::say(&format!("{} {done}", title(def, &name)))?;
    }
    Ok(())
}

fn late(title: &str, args: &WaitArgs, last: Option<&Value>, context: &Context) -> Failure {
    let waited = humantime::format_duration(Duration::from_secs(args.timeout.as_secs()));
    let failure = Failure::new(format!("{title} is not as wanted ({}) after {waited}", args.until));
    let state = last.map_or_else(
        || "it does not exist".into(),
        |object| {
            let said = condition(object, "Ready").map(|c| describe::words(c, context.ui));
            said.unwrap_or_else(|| "it says nothing about itself yet".into())
        },
    );
    Failure { code: TIMED_OUT, ..failure.hint(format!("{state}; `devsanctum describe {title}` tells more")) }
}

/// One record to keep an eye on.
pub struct Watched<'a> {
    /// Kind.
    pub def: &'static crate::resource::KindDef,
    /// Project.
    pub namespace: Option<&'a str>,
    /// Name.
    pub name: &'a str,
}

impl Watched<'_> {
    /// Looks at the record and every change of it until `met` says it is enough.
    ///
    /// # Errors
    /// When the record does not exist and its making is not what is waited for, or the API refuses.
    pub async fn wait(
        &self,
        context: &Context,
        until: &Until,
        met: &mut impl FnMut(Option<&Value>) -> bool,
    ) -> Result<(), Failure> {
        while let Some(version) = self.look(context, until, met).await? {
            let query = self.query();
            let mut stream = context.watch(self.def, self.namespace, &query, &version, false).await?;
            while let Some(change) = stream.next().await {
                let object = match change? {
                    WatchEvent::Added(o) | WatchEvent::Modified(o) => Some(o),
                    WatchEvent::Deleted(_) => None,
                    WatchEvent::Bookmark(_) => continue,
                    WatchEvent::Error(_) => break,
                };
                if met(object.as_ref()) {
                    return Ok(());
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    fn query(&self) -> Vec<(&'static str, String)> {
        vec![("fieldSelector", format!("metadata.name={}", self.name))]
    }

    /// Looks at the record once; gives the version to go on from when `met` says it is not enough.
    async fn look(
        &self,
        context: &Context,
        until: &Until,
        met: &mut impl FnMut(Option<&Value>) -> bool,
    ) -> Result<Option<String>, Failure> {
        let (found, version) = context.list(self.def, self.namespace, &self.query()).await?;
        if met(found.first()) {
            return Ok(None);
        }
        if found.is_empty() && !matches!(until, Until::There | Until::Gone) {
            return Err(Failure::new(format!("{} does not exist", title(self.def, self.name))));
        }
        Ok(Some(version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn met(until: &str, object: Option<&Value>) -> bool {
        Until::parse(until).unwrap().met(object)
    }

    #[test]
    fn conditions_count_for_the_current_spec_alone() {
        let at = |seen: i64| json!({"metadata": {"generation": 2}, "status": {"phase": "RUNNING", "conditions": [{"type": "Ready", "status": "True", "observedGeneration": seen}]}});
        assert!(met("condition=Ready", Some(&at(2))) && met("condition=ready=true", Some(&at(2))));
        assert!(!met("condition=Ready", Some(&at(1))) && !met("condition=Ready=False", Some(&at(2))));
        assert!(!met("condition=Ready", None) && !met("condition=Other", Some(&at(2))));
    }

    #[test]
    fn paths_and_absence_can_be_waited_for() {
        let object = json!({"status": {"phase": "RUNNING", "none": null}});
        assert!(met("jsonpath={.status.phase}=RUNNING", Some(&object)) && met("jsonpath={.status.phase}", Some(&object)));
        assert!(!met("jsonpath={.status.phase}=STOPPED", Some(&object)) && !met("jsonpath={.status.x}", Some(&object)));
        assert!(!met("jsonpath={.status.none}", Some(&object)));
        assert!(met("delete", None) && !met("delete", Some(&object)) && met("create", Some(&object)) && !met("create", None));
        for bad in ["", "condition", "condition=", "jsonpath={.a", "ready"] {
            assert!(Until::parse(bad).is_err(), "{bad}");
        }
    }
}
