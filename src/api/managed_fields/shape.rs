//! What the schema says about ownership: which lists have items of their own, which objects go as a whole.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use serde_json::{Map, Value};

/// Metadata the server writes, which nobody owns.
const SYSTEM: [&str; 11] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "name",
    "namespace",
    "resourceVersion",
    "selfLink",
    "uid",
    "clusterName",
];

/// Where in a record a shape stands, as far as the API's conventions give places a meaning of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Root(Part),
    Metadata,
    Labels,
    Owners,
    Owner,
    Finalizers,
    Status,
    Conditions,
    Inner,
}

/// The part of a record a write may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    All,
    /// All but the status.
    Main,
    /// The status alone.
    Status,
}

/// The shape of one place in a record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape<'s> {
    schema: Option<&'s JSONSchemaProps>,
    place: Place,
}

/// A value as ownership sees it.
pub(super) enum Form<'v> {
    /// Not there.
    Absent,
    /// `null`, which stands for whatever the other side is.
    Null,
    /// Owned as a whole: a scalar, an atomic list or an atomic object.
    Leaf,
    /// An object whose fields have owners of their own.
    Map(&'v Map<String, Value>),
    /// A list whose items have owners of their own, each with its path element.
    List(Vec<(String, &'v Value)>),
}

impl Form<'_> {
    /// True for what has no parts: nothing, `null`, or an empty object or list.
    pub fn is_hollow(&self) -> bool {
        match self {
            Self::Absent | Self::Null => true,
            Self::Leaf => false,
            Self::Map(map) => map.is_empty(),
            Self::List(items) => items.is_empty(),
        }
    }
}

impl<'s> Shape<'s> {
    /// The whole record.
    pub fn root(schema: &'s JSONSchemaProps, part: Part) -> Self {
        Self { schema: Some(schema), place: Place::Root(part) }
    }

    /// The record as a write through `subresource` sees it. A kind whose schema has a status keeps it to that subresource.
    pub fn for_write(schema: &'s JSONSchemaProps, subresource: &str) -> Self {
        let has_status = schema.properties.as_ref().is_some_and(|p| p.contains_key("status"));
        let part = match subresource {
            "status" => Part::Status,
            _ if has_status => Part::Main,
            _ => Part::All,
        };
        Self::root(schema, part)
    }

    /// True when this is the root of a record.
    pub fn is_root(&self) -> bool {
        matches!(self.place, Place::Root(_))
    }

    /// True when the field `name` can have an owner.
    pub fn tracks(&self, name: &str) -> bool {
        match self.place {
            Place::Root(Part::Status) => name == "status",
            Place::Root(part) => name != "apiVersion" && name != "kind" && (part == Part::All || name != "status"),
            Place::Metadata => !SYSTEM.contains(&name),
            _ => true,
        }
    }

    /// True when `name` is a field of a known object rather than a key of a map: the containers of fields are owned
    /// with what they contain, those of keys by themselves.
    pub fn is_field(&self, name: &str) -> bool {
        match self.place {
            Place::Root(_) if name == "metadata" => true,
            Place::Metadata | Place::Owner => true,
            Place::Labels => false,
            _ => self.schema.and_then(|s| s.properties.as_ref()).is_some_and(|p| p.contains_key(name)),
        }
    }

    /// The shape of the field or key `name`.
    pub fn child(&self, name: &str) -> Self {
        let place = match (self.place, name) {
            (Place::Root(_), "metadata") => return Self { schema: None, place: Place::Metadata },
            (Place::Root(_), "status") => Place::Status,
            (Place::Metadata, "labels" | "annotations") => Place::Labels,
            (Place::Metadata, "finalizers") => Place::Finalizers,
            (Place::Metadata, "ownerReferences") => Place::Owners,
            (Place::Status, "conditions") => Place::Conditions,
            _ => Place::Inner,
        };
        let named = self.schema.and_then(|s| s.properties.as_ref()).and_then(|p| p.get(name));
        let schema = named.or_else(|| match self.schema.and_then(|s| s.additional_properties.as_ref()) {
            Some(JSONSchemaPropsOrBool::Schema(schema)) => Some(schema),
            _ => None,
        });
        Self { schema, place }
    }

    /// The shape of a list's items.
    pub fn item(&self) -> Self {
        let place = if self.place == Place::Owners { Place::Owner } else { Place::Inner };
        let schema = match self.schema.and_then(|s| s.items.as_ref()) {
            Some(JSONSchemaPropsOrArray::Schema(schema)) => Some(&**schema),
            _ => None,
        };
        Self { schema, place }
    }

    /// The shape below a path element.
    pub fn below(&self, element: &str) -> Self {
        match element.strip_prefix("f:") {
            Some(name) => self.child(name),
            None => self.item(),
        }
    }

    /// How a value at this place is owned. A list whose items cannot be told apart by their keys is owned as a whole.
    pub fn form<'v>(&self, value: Option<&'v Value>) -> Form<'v> {
        match value {
            None => Form::Absent,
            Some(Value::Null) => Form::Null,
            Some(Value::Object(_)) if self.is_atomic_map() => Form::Leaf,
            Some(Value::Object(map)) => Form::Map(map),
            Some(Value::Array(list)) => self.items(list).map_or(Form::Leaf, Form::List),
            Some(_) => Form::Leaf,
        }
    }

    fn is_atomic_map(&self) -> bool {
        self.place == Place::Owner || self.schema.and_then(|s| s.x_kubernetes_map_type.as_deref()) == Some("atomic")
    }

    /// The items of a list with their path elements; `None` when the list is atomic, or two items are alike.
    pub fn items<'v>(&self, list: &'v [Value]) -> Option<Vec<(String, &'v Value)>> {
        let listed = self.schema.and_then(|s| s.x_kubernetes_list_type.as_deref());
        let element = |item: &Value| match (self.place, listed) {
            (Place::Owners, _) => keyed(item, &["uid"]),
            (Place::Finalizers, _) | (_, Some("set")) => Some(format!("v:{item}")),
            (_, Some("map")) => {
                keyed(item, self.schema.and_then(|s| s.x_kubernetes_list_map_keys.as_deref()).unwrap_or_default())
            }
            (Place::Conditions, None) => keyed(item, &["type"]),
            _ => None,
        };
        let items: Vec<_> = list.iter().map(|item| Some((element(item)?, item))).collect::<Option<_>>()?;
        distinct(&items).then_some(items)
    }
}

/// True when no two items have the same path element.
fn distinct(items: &[(String, &Value)]) -> bool {
    if items.len() <= 8 {
        return items.iter().enumerate().all(|(i, (element, _))| items[..i].iter().all(|(other, _)| other != element));
    }
    let mut elements: Vec<&String> = items.iter().map(|(element, _)| element).collect();
    elements.sort_unstable();
    elements.windows(2).all(|pair| pair[0] != pair[1])
}

/// `k:{"type":"Ready"}`; `None` when the item lacks a key.
fn keyed(item: &Value, keys: &[impl AsRef<str>]) -> Option<String> {
    // The usual case, written without a detour: one key, and nothing in it that JSON escapes.
    if let [key] = keys
        && let Some(text) = item.get(key.as_ref())?.as_str()
        && text.bytes().chain(key.as_ref().bytes()).all(|b| b.is_ascii_graphic() && b != b'"' && b != b'\\')
    {
        return Some(["k:{\"", key.as_ref(), "\":\"", text, "\"}"].concat());
    }
    let mut found = Map::new();
    for key in keys {
        let value = item.get(key.as_ref())?;
        if value.is_object() || value.is_array() || value.is_null() {
            return None;
        }
        found.insert(key.as_ref().to_owned(), value.clone());
    }
    (!found.is_empty()).then(|| format!("k:{}", Value::Object(found)))
}
