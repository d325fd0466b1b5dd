//! The first pass: everything is checked, and what the second one must know is gathered.

use std::collections::HashMap;
use std::fs::File;

use tokio_util::sync::CancellationToken;

use super::super::Limits;
use super::super::inspect::{InspectError, rejected};
use super::super::links::Links;
use super::super::names::{Key, Node, Tree, key, shown};
use super::super::root::{DOCKERFILE, MANIFEST, MANIFEST_MAX, Root, check_manifest};
use super::ignore::{IGNORE_FILE, IGNORE_FILE_MAX, Ignore};
use super::tar::{Kind, Tar};

/// Which files go into the ZIP, and under which names.
pub(super) struct Plan {
    folder: String,
    ignore: Ignore,
    /// By the file's key, the links that stand for it.
    links: HashMap<Key, Vec<String>>,
}

impl Plan {
    /// The names in the ZIP of the file with this name in the tar file.
    pub(super) fn names(&self, name: &str) -> Result<Vec<String>, InspectError> {
        let mut names = Vec::new();
        if let Some(path) = self.kept(name)? {
            names.push(path.to_owned());
        }
        names.extend(self.links.get(&key(name)).into_iter().flatten().cloned());
        Ok(names)
    }

    /// The path from the folder, unless it lies elsewhere or is left out.
    fn kept<'n>(&self, name: &'n str) -> Result<Option<&'n str>, InspectError> {
        let Some(path) = below(&self.folder, name) else { return Ok(None) };
        Ok(if self.ignore.matches(path)? { None } else { Some(path) })
    }
}

/// Checks the whole file.
pub(super) fn survey(
    source: &File,
    folder: &str,
    limits: &Limits,
    stop: &CancellationToken,
) -> Result<Plan, InspectError> {
    let folder = folder.trim_matches('/');
    let mut tar = Tar::open(source, limits, stop)?;
    let (mut tree, mut links) = (Tree::new(limits), Links::default());
    let (mut root, mut top) = (Root::default(), Root::default());
    let (mut manifest, mut ignore_file) = (None, None);
    while let Some(member) = tar.next_member()? {
        let name = &member.name;
        match &member.kind {
            Kind::Folder if name.is_empty() => continue,
            Kind::Folder => {
                tree.add(name, Node::Folder)?;
                continue;
            }
            Kind::File { size, .. } => tree.add(name, Node::File(*size))?,
            Kind::Symlink(target) | Kind::HardLink(target) => {
                tree.add(name, Node::Link)?;
                links.add(name, target, matches!(member.kind, Kind::HardLink(_)))?;
            }
        }
        top.note(name);
        let Some(path) = below(folder, name) else { continue };
        root.note(path);
        let is_link = !matches!(member.kind, Kind::File { .. });
        match path {
            MANIFEST | IGNORE_FILE if is_link => {
                return rejected(format!("`{path}` is a link; put the file itself into the archive"));
            }
            MANIFEST => manifest = Some(tar.content(&format!("`{MANIFEST}`"), MANIFEST_MAX)?),
            IGNORE_FILE => ignore_file = Some(tar.content(&format!("`{IGNORE_FILE}`"), IGNORE_FILE_MAX)?),
            _ => {}
        }
    }
    if tree.get(folder) != Some(Node::Folder) {
        return rejected(format!("it has no folder {}; look at its root, {}", shown(folder), top.instead()));
    }
    root.judge(|inner| advice(folder, inner))?;
    let ignore = Ignore::read(ignore_file.as_deref())?;
    for needed in [DOCKERFILE, MANIFEST] {
        if ignore.matches(needed)? {
            return rejected(format!(
                "`{IGNORE_FILE}` leaves out `{needed}`, which Konigle needs; take the pattern out"
            ));
        }
    }
    check_manifest(&manifest.unwrap_or_default())?;
    let mut plan = Plan { folder: folder.to_owned(), ignore, links: HashMap::new() };
    for name in links.names() {
        let Some(path) = plan.kept(name)? else { continue };
        if stop.is_cancelled() {
            return Err(InspectError::Stopped);
        }
        let (target, node) = links.resolve(name, &tree)?;
        let what = match node {
            Some(Node::File(size)) => {
                tar.unpack(size)?;
                plan.links.entry(key(&target)).or_default().push(path.to_owned());
                continue;
            }
            Some(_) => "a folder",
            None => "nothing in the archive",
        };
        return rejected(format!(
            "the link {} leads to {what}; replace it by the files that it stands for, or leave it out with \
             `{IGNORE_FILE}`",
            shown(path)
        ));
    }
    Ok(plan)
}

/// The path from `folder`, of what lies in it.
fn below<'n>(folder: &str, name: &'n str) -> Option<&'n str> {
    if folder.is_empty() { Some(name) } else { name.strip_prefix(folder)?.strip_prefix('/') }
}

/// What to do where the app is one folder further down.
fn advice(folder: &str, inner: &str) -> String {
    let path = if folder.is_empty() { inner.to_owned() } else { format!("{folder}/{inner}") };
    format!(
        "pack the folder's contents, not the folder, or, where the source has a `path`, write `path:` {}",
        shown(&path)
    )
}
