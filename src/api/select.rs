//! Which records a list, a watch or a deletion of a collection is about.

use super::events;
use super::fail::damaged;
use super::record;
use super::request::{Params, Target};
use super::selector::{FieldSelector, LabelSelector};
use super::status::ApiError;
use crate::access::Sight;
use crate::store::{Key, Stored};
use serde_json::Value;

/// Labels and fields asked for.
#[derive(Clone, Debug)]
pub struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
    sight: Option<Sight>,
}

impl Selection {
    /// Reads `labelSelector` and `fieldSelector`. An address of one record (for a watch) selects by its name.
    ///
    /// # Errors
    /// 400 saying what is wrong.
    pub fn parse(target: &Target, params: &Params) -> Result<Self, ApiError> {
        let labels = LabelSelector::parse(params.get("labelSelector").unwrap_or("")).map_err(ApiError::bad_request)?;
        let mut text = params.get("fieldSelector").unwrap_or("").to_owned();
        if target.served.is_new_event() {
            text = events::core_selector(&text);
        }
        if let Some(name) = &target.name {
            let joint = if text.is_empty() { "" } else { "," };
            text = format!("{text}{joint}metadata.name={name}");
        }
        let fields = FieldSelector::parse(&text, target.served.def).map_err(ApiError::bad_request)?;
        Ok(Self { labels, fields, sight: None })
    }

    /// Of what is selected, what a caller sees.
    pub fn seen(self, sight: Option<Sight>) -> Self {
        Self { sight, ..self }
    }

    /// True when everything is selected.
    pub fn is_all(&self) -> bool {
        self.sight.is_none() && self.selects_all()
    }

    fn selects_all(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// The one name that can match, where the fields say so.
    pub fn only_name(&self) -> Option<&str> {
        self.fields.exact("metadata.name")
    }

    /// True when a record can be told not to match by where it lies, without reading it.
    pub fn excludes(&self, key: &Key) -> bool {
        self.only_name().is_some_and(|name| name != key.name)
    }

    /// True for a record that the caller may see.
    pub fn sees(&self, stored: &Stored) -> bool {
        self.sight.as_ref().is_none_or(|sight| sight.sees(stored))
    }

    /// True for a record that is selected.
    pub fn matches(&self, record: &Value) -> bool {
        self.labels.matches(record) && self.fields.matches(record)
    }

    /// True for a stored record that is selected.
    ///
    /// # Errors
    /// 500 when it is damaged.
    pub fn matches_stored(&self, stored: &Stored) -> Result<bool, ApiError> {
        if self.is_all() {
            return Ok(true);
        }
        if self.excludes(&stored.key) || !self.sees(stored) {
            return Ok(false);
        }
        // Most of a list's time would go into reading what nothing is asked of.
        Ok(self.selects_all() || self.matches(&record::parse(&stored.body).map_err(damaged)?))
    }
}
