//! What Konigle needs at the root of an app: `Dockerfile`, and `bentocloud.toml` with something to run.
//!
//! Absent: what the server alone can know. `[app]`, `[deploy]` and the commands are not looked at.

use std::collections::BTreeSet;

use super::inspect::{InspectError, rejected};
use super::names::{Node, Tree, shown};

pub(super) const DOCKERFILE: &str = "Dockerfile";
pub(super) const MANIFEST: &str = "bentocloud.toml";
/// The largest `bentocloud.toml`, in bytes. One made for it takes eighty times as many when it is read.
pub(super) const MANIFEST_MAX: u64 = 64 << 10;
/// So many folders are remembered that may be the app's, of more the shallowest.
const FOLDERS_MAX: usize = 64;
/// So many names are shown of what is at the root instead.
const SHOWN_MAX: usize = 5;

/// The files at the root, and what to name where they are missing.
#[derive(Default)]
pub(super) struct Root {
    dockerfile: bool,
    manifest: bool,
    /// The folders further down that hold a `bentocloud.toml`, with their depth in front.
    candidates: BTreeSet<(usize, String)>,
    first: BTreeSet<String>,
    more: bool,
}

impl Root {
    /// Notes a file by its clean name.
    pub(super) fn note(&mut self, name: &str) {
        let listed = name.split_once('/').map_or_else(|| name.to_owned(), |(top, _)| format!("{top}/"));
        if !self.first.contains(&listed) {
            if self.first.len() < SHOWN_MAX {
                self.first.insert(listed);
            } else {
                self.more = true;
            }
        }
        match name.rsplit_once('/') {
            None => {
                self.dockerfile |= name == DOCKERFILE;
                self.manifest |= name == MANIFEST;
            }
            Some((folder, MANIFEST)) => {
                self.candidates.insert((folder.matches('/').count(), folder.to_owned()));
                if self.candidates.len() > FOLDERS_MAX {
                    self.candidates.pop_last();
                }
            }
            Some(_) => {}
        }
    }

    /// The folders with both files, by their paths in the archive: the shallowest first, those of one depth by name.
    /// `folder` is where this root is, and the first of them where it has both.
    pub(super) fn apps(&self, folder: &str, tree: &Tree) -> Vec<String> {
        let own = (self.dockerfile && self.manifest).then(|| folder.to_owned());
        let inner = self.candidates.iter().map(|(_, inner)| join(folder, inner));
        let is_app = |app: &String| matches!(tree.get(&join(app, DOCKERFILE)), Some(Node::File(_) | Node::Link));
        own.into_iter().chain(inner.filter(is_app)).collect()
    }

    /// Whether both files are there. `folder` is where this root is; `apps` are the folders that have both, the likeliest
    /// first, and `advice` is what to do about that one.
    pub(super) fn judge(
        &self,
        folder: &str,
        apps: impl FnOnce() -> Vec<String>,
        advice: impl FnOnce(&str) -> String,
    ) -> Result<(), InspectError> {
        let missing = match (self.dockerfile, self.manifest) {
            (true, true) => return Ok(()),
            (true, false) => format!("`{MANIFEST}` is missing"),
            (false, true) => format!("`{DOCKERFILE}` is missing"),
            (false, false) => format!("`{DOCKERFILE}` and `{MANIFEST}` are missing"),
        };
        let hint = match apps().as_slice() {
            [] => String::new(),
            [app, others @ ..] => {
                let others = if others.is_empty() { "" } else { ", and in others" };
                format!("; both are {}{others}: {}", place(app), advice(app))
            }
        };
        rejected(format!("{missing} {}, {}{hint}", place(folder), self.instead()))
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
    let Ok(text) = std::str::from_utf8(bytes) else {
        return rejected(format!("`{MANIFEST}` is not UTF-8; save it as UTF-8"));
    };
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
        // The message alone: the error's own text quotes the file, which may hold anything.
        let line =
            error.span().and_then(|span| text.get(..span.start)).map_or(1, |before| before.matches('\n').count() + 1);
        InspectError::Rejected(format!("`{MANIFEST}` is not valid TOML: line {line}: {}", shown_text(error.message())))
    })?;
    let Some(processes) = table.get("processes") else {
        return rejected(format!("`{MANIFEST}` has no `[processes.NAME]`: nothing would run; add one"));
    };
    match processes.as_table() {
        Some(processes) if processes.values().any(toml::Value::is_table) => Ok(()),
        _ => rejected(format!("`processes` in `{MANIFEST}` needs at least one `[processes.NAME]`")),
    }
}

/// Where a folder of an archive is, which is empty for the root.
fn place(folder: &str) -> String {
    if folder.is_empty() { "at its root".to_owned() } else { format!("in its folder {}", shown(folder)) }
}

/// The path of what lies in a folder, which is empty for the root.
fn join(folder: &str, inner: &str) -> String {
    if folder.is_empty() { inner.to_owned() } else { format!("{folder}/{inner}") }
}

fn shown_text(message: &str) -> String {
    message.chars().filter(|character| !character.is_control()).take(200).collect()
}
