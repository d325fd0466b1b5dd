//! The first pass: everything is checked, and what the second one must know is gathered.

use std::collections::HashMap;
use std::fs::File;

use tokio_util::sync::CancellationToken;

use super::super::inspect::{InspectError, rejected};
use super::super::links::Links;
use super::super::names::{Key, Node, Tree, key, shown};
use super::super::root::{DOCKERFILE, MANIFEST, MANIFEST_MAX, Root, check_manifest};
use super::super::{Limits, Part};
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
    (part, folder): (&Part, &str),
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
            _ if is_link => {}
            _ => tar.look_inside(path)?,
        }
    }
    if tree.get(folder) != Some(Node::Folder) {
        let hint = match meant(folder, &top.apps("", &tree)) {
            None => format!("look at its root, {}", top.instead()),
            Some("") => format!("`{DOCKERFILE}` and `{MANIFEST}` are at its root: {}", advice(part, "")),
            Some(app) => format!(
                "did you mean {}, which holds `{DOCKERFILE}` and `{MANIFEST}`? If so, {}",
                shown(app),
                advice(part, app)
            ),
        };
        return rejected(format!("it has no folder {}; {hint}", shown(folder)));
    }
    let apps = || {
        let below = root.apps(folder, &tree);
        if below.is_empty() { top.apps("", &tree) } else { below }
    };
    root.judge(folder, apps, |app| advice(part, app))?;
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

/// Which of these folders may be meant by one that is not there: one of the same name, else the first.
fn meant<'a>(folder: &str, apps: &'a [String]) -> Option<&'a str> {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_lowercase();
    apps.iter().find(|app| name(app) == name(folder)).or(apps.first()).map(String::as_str)
}

/// What to do where the app is in another folder of the archive, `app`, which is empty for its root. Only a source of Flux
/// has a field for it; the others publish another archive.
fn advice(part: &Part, app: &str) -> String {
    match part {
        Part::Folder(_) if app.is_empty() => "leave spec.source.sourceRef.path out".to_owned(),
        Part::Folder(_) => format!("write {} into spec.source.sourceRef.path", shown(app)),
        Part::Whole => "pack that folder's contents, not what is around it".to_owned(),
        Part::Layer(_) if app.is_empty() => "push them again, as one folder".to_owned(),
        Part::Layer(_) => "push that folder alone, not what is around it".to_owned(),
    }
}
