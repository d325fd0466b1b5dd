//! Where the links of an archive lead, decided from their texts: nothing is asked of a file system.

use std::collections::BTreeMap;

use super::inspect::{InspectError, rejected};
use super::names::{Node, Tree, shown};

/// So many bytes of names and targets are kept; an ordinary archive has some ten thousand links in them.
const LINKS_MAX: usize = 1 << 20;
/// So many links are kept: each takes some hundred bytes beside its texts.
const MOST_LINKS: usize = 16 << 10;
/// As Linux follows them.
const MOST_HOPS: u32 = 40;

/// The links of an archive.
#[derive(Default)]
pub(super) struct Links {
    links: BTreeMap<String, Link>,
    bytes: usize,
}

pub(super) struct Link {
    target: String,
    /// A hard link names its file from the root of the archive, a symbolic link from its own folder.
    hard: bool,
}

impl Links {
    pub(super) fn add(&mut self, name: &str, target: &[u8], hard: bool) -> Result<(), InspectError> {
        let Ok(target) = std::str::from_utf8(target) else {
            return rejected(format!("the link {} leads to a name that is not UTF-8; rename the file", shown(name)));
        };
        self.bytes += name.len() + target.len();
        if self.bytes > LINKS_MAX || self.links.len() >= MOST_LINKS {
            return rejected("it has too many links; leave out what the app does not need");
        }
        self.links.insert(name.to_owned(), Link { target: target.to_owned(), hard });
        Ok(())
    }

    /// The names of all links, in order.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.links.keys().map(String::as_str)
    }

    /// The name to which a link leads in the end, and what is there. Refused are links out of the archive, absolute
    /// ones, and loops.
    pub(super) fn resolve(&self, name: &str, tree: &Tree) -> Result<(String, Option<Node>), InspectError> {
        let mut hops = 0;
        let mut path = name.to_owned();
        // The parts that are still to be walked, the next one last.
        let mut ahead: Vec<&str> = Vec::new();
        loop {
            if let Some(link) = self.links.get(&path) {
                hops += 1;
                if hops > MOST_HOPS {
                    return rejected(format!("the link {} leads in a circle; replace it by the file", shown(name)));
                }
                check_target(name, &link.target)?;
                path.truncate(if link.hard { 0 } else { path.rfind('/').unwrap_or(0) });
                ahead.extend(link.target.rsplit('/'));
            }
            match ahead.pop() {
                None => break,
                Some("" | ".") => {}
                Some("..") if path.is_empty() => return leads_out(name, "out of the archive"),
                Some("..") => path.truncate(path.rfind('/').unwrap_or(0)),
                Some(part) => {
                    if !path.is_empty() {
                        path.push('/');
                    }
                    path.push_str(part);
                }
            }
        }
        let node = tree.get(&path);
        Ok((path, node))
    }
}

fn check_target(name: &str, target: &str) -> Result<(), InspectError> {
    let has_drive = matches!(target.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
    if target.starts_with(['/', '\\']) || has_drive {
        return leads_out(name, "to an absolute path");
    }
    if target.is_empty() || target.contains(['\0', '\\']) {
        return leads_out(name, "to a name that is empty or holds a NUL or a backslash");
    }
    Ok(())
}

fn leads_out<T>(name: &str, whither: &str) -> Result<T, InspectError> {
    rejected(format!("the link {} leads {whither}; replace it by the file that it stands for", shown(name)))
}
