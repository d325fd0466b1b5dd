//! What the API server says to a manifest, without an API server: the schema and the CEL rules of the compiled-in CRD.
//!
//! Pure. The schema's keywords are few, and so are their words here: those of kube-apiserver 1.36, so that a check in a
//! pull request reads as the refusal would. `tests/it/manifests.rs` gives each of its manifests to both.

mod hint;

use kube_cel::{ErrorKind, Validator};
use serde_json::{Map, Value};

use crate::api::{GROUP, KonigleSpace, crd};
use crate::desired::Desired;

/// The fields of an object's metadata that people may write.
const METADATA: [&str; 15] = [
    "annotations",
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "finalizers",
    "generateName",
    "generation",
    "labels",
    "managedFields",
    "name",
    "namespace",
    "ownerReferences",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// The only kind of our group.
const KIND: &str = "KonigleSpace";

/// How the API server calls the object as a whole.
const NO_FIELD: &str = "<nil>";

/// What is wrong with a manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// The field, such as `spec.source`; empty where a word stands that is no field.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
    /// What may be meant instead; the API server says nothing of it.
    pub hint: Option<String>,
    /// Whether the rules were not looked at because of it.
    is_blocking: bool,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.field.is_empty() {
            return formatter.write_str(&self.message);
        }
        write!(formatter, "{}: {}", self.field, self.message)
    }
}

impl Fault {
    fn new(field: &str, message: impl Into<String>) -> Self {
        Self { field: field.to_owned(), message: message.into(), hint: None, is_blocking: false }
    }

    fn blocking(field: &str, message: impl Into<String>) -> Self {
        Self { is_blocking: true, ..Self::new(field, message) }
    }

    fn hinting(self, hint: Option<String>) -> Self {
        Self { hint, ..self }
    }

    /// All of it, for people.
    #[must_use]
    pub fn told(&self) -> String {
        self.hint.as_ref().map_or_else(|| self.to_string(), |hint| format!("{self}: {hint}"))
    }
}

/// Whether a manifest is meant to be one of ours: by its group or its kind, for one of the two may be misspelt.
#[must_use]
pub fn is_ours(manifest: &Value) -> bool {
    let api_version = manifest["apiVersion"].as_str().unwrap_or_default();
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    group == GROUP || manifest["kind"] == KIND
}

/// All that is wrong with a KonigleSpace.
#[must_use]
pub fn faults(manifest: &Value) -> Vec<Fault> {
    let crd = serde_json::to_value(crd()).unwrap_or_default();
    let version = &crd["spec"]["versions"][0];
    let word = format!("{GROUP}/{}", version["name"].as_str().unwrap_or_default());
    if manifest["apiVersion"] != word.as_str() {
        return vec![Fault::new("apiVersion", format!("write {word}: no other version is known"))];
    }
    if manifest["kind"] != KIND {
        return vec![Fault::new("kind", format!("write {KIND}: {GROUP} has no other kind"))];
    }
    let schema = &version["schema"]["openAPIV3Schema"];
    let unknown = unknown_fields(schema, manifest);
    if !unknown.is_empty() {
        return unknown;
    }
    let mut manifest = manifest.clone();
    drop_nulls_that_have_defaults(schema, &mut manifest);
    let mut faults = metadata(&manifest["metadata"]);
    constraints(schema, &manifest, "", &mut faults);
    if faults.iter().any(|fault| fault.is_blocking) {
        faults.push(Fault::new(
            NO_FIELD,
            "Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
        ));
        return faults;
    }
    faults.extend(rules(schema, &manifest));
    if faults.is_empty()
        && let Some(fault) = refused_by_the_operator(&manifest)
    {
        faults.push(fault);
    }
    faults
}

/// What the schema lets pass and the operator does not.
fn refused_by_the_operator(manifest: &Value) -> Option<Fault> {
    let space: KonigleSpace = match serde_json::from_value(manifest.clone()) {
        Ok(space) => space,
        Err(error) => return Some(Fault::new("", error.to_string())),
    };
    Desired::parse(&space).err().map(|invalid| Fault::new("spec", invalid.to_string()))
}

/// Fields that nobody declared, as a strict API server names them.
fn unknown_fields(schema: &Value, manifest: &Value) -> Vec<Fault> {
    let mut unknown = Vec::new();
    undeclared(schema, manifest, "", &mut unknown);
    if let Value::Object(metadata) = &manifest["metadata"] {
        let names = metadata.keys().filter(|key| !METADATA.contains(&key.as_str()));
        unknown.extend(names.map(|key| (format!("metadata.{key}"), hint::for_field("metadata", key, METADATA))));
    }
    let fault = |(name, hint)| Fault::new("", format!("unknown field \"{name}\"")).hinting(hint);
    unknown.into_iter().map(fault).collect()
}

/// The paths of fields that are not in the schema, each with what may be meant.
fn undeclared(schema: &Value, value: &Value, path: &str, unknown: &mut Vec<(String, Option<String>)>) {
    match value {
        Value::Object(fields) => {
            let Some(properties) = schema["properties"].as_object() else { return };
            for (key, value) in fields {
                let at = child(path, key);
                match properties.get(key) {
                    // The metadata and the words before it are those of every object.
                    _ if path.is_empty() && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") => {}
                    Some(schema) => undeclared(schema, value, &at, unknown),
                    None => {
                        let hint = hint::for_field(path, key, properties.keys().map(String::as_str));
                        unknown.push((at, hint));
                    }
                }
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                undeclared(&schema["items"], item, &format!("{path}[{index}]"), unknown);
            }
        }
        _ => {}
    }
}

/// The API server takes a null as absent where the field has a default.
fn drop_nulls_that_have_defaults(schema: &Value, value: &mut Value) {
    let (Some(properties), Value::Object(fields)) = (schema["properties"].as_object(), value) else { return };
    fields.retain(|key, value| {
        !(value.is_null() && properties.get(key).is_some_and(|schema| !schema["default"].is_null()))
    });
    for (key, value) in fields {
        if let Some(schema) = properties.get(key) {
            drop_nulls_that_have_defaults(schema, value);
        }
    }
}

fn metadata(metadata: &Value) -> Vec<Fault> {
    const LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
    let name = metadata["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        let generated = metadata["generateName"].as_str().is_some_and(|prefix| !prefix.is_empty());
        let missing = Fault::blocking("metadata.name", "Required value: name or generateName is required");
        return if generated { Vec::new() } else { vec![missing] };
    }
    let is_label = |label: &str| {
        let inner = |character: char| character.is_ascii_lowercase() || character.is_ascii_digit();
        label.starts_with(inner)
            && label.ends_with(inner)
            && label.chars().all(|character| inner(character) || character == '-')
    };
    if name.split('.').all(is_label) {
        return Vec::new();
    }
    let message = format!(
        "Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '{LABEL}(\\.{LABEL})*')"
    );
    vec![Fault::new("metadata.name", message)]
}

/// What the keywords of the schema refuse.
fn constraints(schema: &Value, value: &Value, path: &str, faults: &mut Vec<Fault>) {
    let expected = schema["type"].as_str().unwrap_or_default();
    if !is_of_type(value, expected) {
        faults.extend(of_another_type(schema, expected, value, path));
        return;
    }
    match value {
        Value::Object(fields) => object(schema, fields, path, faults),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                constraints(&schema["items"], item, &format!("{path}[{index}]"), faults);
            }
        }
        Value::String(text) => string(schema, text, path, faults),
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or_default();
            let bounds = [
                (schema["minimum"].as_f64().filter(|least| number < *least), "greater"),
                (schema["maximum"].as_f64().filter(|most| number > *most), "less"),
            ];
            for (bound, word) in bounds {
                if let Some(bound) = bound {
                    let message =
                        format!("Invalid value: {value}: {path} in body should be {word} than or equal to {bound}");
                    faults.push(Fault::new(path, message));
                }
            }
        }
        Value::Bool(_) | Value::Null => {}
    }
}

fn object(schema: &Value, fields: &Map<String, Value>, path: &str, faults: &mut Vec<Fault>) {
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(required) {
            faults.push(Fault::blocking(&child(path, required), "Required value"));
        }
    }
    for (key, value) in fields {
        // The metadata are no part of the schema.
        if let Some(schema) = schema["properties"].get(key).filter(|_| !(path.is_empty() && key == "metadata")) {
            constraints(schema, value, &child(path, key), faults);
        }
    }
}

fn string(schema: &Value, text: &str, path: &str, faults: &mut Vec<Fault>) {
    let length = u64::try_from(text.chars().count()).unwrap_or(u64::MAX);
    if let Some(most) = schema["maxLength"].as_u64().filter(|most| length > *most) {
        let unit = if most == 1 { "byte" } else { "bytes" };
        faults.push(Fault::blocking(path, format!("Too long: may not be more than {most} {unit}")));
    }
    if let Some(least) = schema["minLength"].as_u64().filter(|least| length < *least) {
        let message = format!("Invalid value: {text:?}: {path} in body should be at least {least} chars long");
        faults.push(Fault::new(path, message));
    }
    if let Some(words) = schema["enum"].as_array().filter(|words| !words.iter().any(|word| word == text)) {
        let hint = hint::for_word(path, text, words.iter().filter_map(Value::as_str));
        let words: Vec<String> = words.iter().map(Value::to_string).collect();
        let message = format!("Unsupported value: {text:?}: supported values: {}", words.join(", "));
        faults.push(Fault::blocking(path, message).hinting(hint));
    }
}

/// A number of a certain format is called by the format, and so is what stands in its place.
fn of_another_type(schema: &Value, expected: &str, value: &Value, path: &str) -> Vec<Fault> {
    let format = schema["format"].as_str().unwrap_or_default();
    let is_fraction = value.is_f64();
    let (wanted, found) = match value {
        Value::String(_) | Value::Array(_) | Value::Null => (expected, type_of(value)),
        _ if format.is_empty() => (expected, type_of(value)),
        Value::Number(_) => (format, "float64"),
        Value::Bool(_) | Value::Object(_) => (format, ""),
    };
    let message = format!("Invalid value: \"{found}\": {path} in body must be of type {wanted}: \"{found}\"");
    let checked =
        format!("Invalid value: \"\": Checked value must be of type {expected} with format {format} in {path}");
    let checked = (is_fraction && !format.is_empty()).then(|| Fault::new(NO_FIELD, checked));
    checked.into_iter().chain([Fault::blocking(path, message)]).collect()
}

fn is_of_type(value: &Value, expected: &str) -> bool {
    match expected {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "number" => value.is_number(),
        _ => true,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Object(_) => "object",
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::Null => "null",
    }
}

/// What the CEL rules refuse.
fn rules(schema: &Value, manifest: &Value) -> Vec<Fault> {
    let Err(errors) = Validator::new().validate(schema, manifest, None) else { return Vec::new() };
    let fault = |error: kube_cel::ValidationError| {
        let field = if error.field_path.is_empty() { NO_FIELD } else { &error.field_path };
        match error.kind {
            ErrorKind::ValidationFailure => {
                // A value that is long by nature is left out.
                let value = match at(manifest, &error.field_path) {
                    Value::Object(_) | Value::Array(_) => String::new(),
                    value => format!("{value}: "),
                };
                Fault::new(field, format!("Invalid value: {value}{}", error.message))
            }
            _ => Fault::new(field, format!("the rule `{}` cannot be checked: {}", error.rule, error.message)),
        }
    };
    errors.into_vec().into_iter().map(fault).collect()
}

/// The value at a path such as `spec.source.http`.
fn at<'a>(manifest: &'a Value, path: &str) -> &'a Value {
    path.split('.').filter(|key| !key.is_empty()).fold(manifest, |value, key| &value[key])
}

fn child(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// The keywords below `schema`.
    fn keywords(schema: &Value, found: &mut BTreeSet<String>) {
        let Value::Object(fields) = schema else { return };
        for (key, value) in fields {
            found.insert(key.clone());
            match key.as_str() {
                "properties" => value.as_object().unwrap().values().for_each(|value| keywords(value, found)),
                "items" | "additionalProperties" => keywords(value, found),
                _ => {}
            }
        }
    }

    #[test]
    fn every_keyword_of_the_schema_is_looked_at() {
        let crd = serde_json::to_value(crd()).unwrap();
        let mut found = BTreeSet::new();
        keywords(&crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], &mut found);
        let known = [
            "default",
            "description",
            "enum",
            "format",
            "items",
            "maxLength",
            "maximum",
            "minLength",
            "minimum",
            "properties",
            "required",
            "title",
            "type",
            "x-kubernetes-list-map-keys",
            "x-kubernetes-list-type",
            "x-kubernetes-validations",
        ];
        let unknown: Vec<_> = found.iter().filter(|word| !known.contains(&word.as_str())).collect();
        assert!(unknown.is_empty(), "teach `constraints` these keywords: {unknown:?}");
    }
}
