//! What Konigle needs at the root of an app: `Dockerfile`, and `bentocloud.toml` with something to run.
//!
//! Absent: what the server alone can know. `[app]`, `[deploy]` and the commands are not looked at.

use std::collections::{BTreeMap, BTreeSet};

use super::inspect::{InspectError, rejected};
use super::names::shown;

pub(super) const DOCKERFILE: &str = "Dockerfile";
pub(super) const MANIFEST: &str = "bentocloud.toml";
/// The largest `bentocloud.toml`, in bytes.
pub(super) const MANIFEST_MAX: u64 = 1 << 20;
/// So many folders are remembered that may be the app's; where there are more, none can be named for it.
const FOLDERS_MAX: usize = 64;
/// So many names are shown of what is at the root instead.
const SHOWN_MAX: usize = 5;

/// The files at the root, and what to name where they are missing.
#[derive(Default)]
pub(super) struct Root {
    dockerfile: bool,
    manifest: bool,
    /// Top-level folders that hold one of the two files.
    folders: BTreeMap<String, Found>,
    first: BTreeSet<String>,
    more: bool,
}

#[derive(Default)]
struct Found {
    dockerfile: bool,
    manifest: bool,
}

impl Root {
    /// Notes a file by its clean name.
    pub(super) fn note(&mut self, name: &str) {
        let (top, below) = name.split_once('/').map_or((name, None), |(top, below)| (top, Some(below)));
        let listed = if below.is_some() { format!("{top}/") } else { top.to_owned() };
        if !self.first.contains(&listed) {
            if self.first.len() < SHOWN_MAX {
                self.first.insert(listed);
            } else {
                self.more = true;
            }
        }
        match below {
            None => {
                self.dockerfile |= top == DOCKERFILE;
                self.manifest |= top == MANIFEST;
            }
            Some(file @ (DOCKERFILE | MANIFEST))
                if self.folders.len() < FOLDERS_MAX || self.folders.contains_key(top) =>
            {
                let found = self.folders.entry(top.to_owned()).or_default();
                found.dockerfile |= file == DOCKERFILE;
                found.manifest |= file == MANIFEST;
            }
            Some(_) => {}
        }
    }

    /// Whether both files are there; `advice` is what to do where they are together in a folder.
    pub(super) fn judge(&self, advice: impl FnOnce(&str) -> String) -> Result<(), InspectError> {
        let missing = match (self.dockerfile, self.manifest) {
            (true, true) => return Ok(()),
            (true, false) => format!("`{MANIFEST}` is missing"),
            (false, true) => format!("`{DOCKERFILE}` is missing"),
            (false, false) => {
                let mut complete = self.folders.iter().filter(|(_, found)| found.dockerfile && found.manifest);
                if let (Some((folder, _)), None, true) =
                    (complete.next(), complete.next(), self.folders.len() < FOLDERS_MAX)
                {
                    let place = shown(&format!("{folder}/"));
                    return rejected(format!("the files are in its folder {place}; {}", advice(folder)));
                }
                format!("`{DOCKERFILE}` and `{MANIFEST}` are missing")
            }
        };
        rejected(format!("{missing} at its root, {}", self.instead()))
    }

    /// What is at the root, as the end of a sentence.
    pub(super) fn instead(&self) -> String {
        if self.first.is_empty() {
            return "which is empty".to_owned();
        }
        let names: Vec<String> = self.first.iter().map(|name| shown(name)).collect();
        format!("where {}{} stand", names.join(", "), if self.more { " and others" } else { "" })
    }
}

/// What the official client asks of the manifest as well: it parses, and something is to be run.
pub(super) fn check_manifest(bytes: &[u8]) -> Result<(), InspectError> {
    let Ok(text) = std::str::from_utf8(bytes) else { return rejected(format!("`{MANIFEST}` is not UTF-8")) };
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        // The message alone: the error's own text quotes the file, which may hold anything.
        let line =
            error.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.matches('\n').count() + 1);
        InspectError::Rejected(format!("`{MANIFEST}` is not valid TOML: line {line}: {}", shown_text(error.message())))
    })?;
    let Some(processes) = table.get("processes") else {
        return rejected(format!("`{MANIFEST}` has no `[processes.NAME]`: nothing would run"));
    };
    match processes.as_table() {
        Some(processes) if processes.values().any(toml::Value::is_table) => Ok(()),
        _ => rejected(format!("`processes` in `{MANIFEST}` needs at least one `[processes.NAME]`")),
    }
}

fn shown_text(message: &str) -> String {
    message.chars().filter(|character| !character.is_control()).take(200).collect()
}
