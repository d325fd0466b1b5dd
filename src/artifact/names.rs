//! The names in an archive, as strangers wrote them: which are refused, which stand for the same, and how one is shown.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::inspect::{InspectError, rejected};
use super::limits::too_many_entries;
use super::{Digest, Limits};

/// No file system that an app runs on has longer names of files.
const PART_MAX: usize = 255;

/// The name without `.` and empty parts; empty for the root. Names that some program would write outside its folder, or
/// that programs read differently, are refused.
pub(super) fn clean_name(raw: &[u8], limits: &Limits) -> Result<String, InspectError> {
    if raw.len() > limits.max_path_length.into() {
        return rejected(format!(
            "the name {} of one of its entries is longer than {} bytes, which is all that this operator allows: shorten \
             it, or raise the operator's `--artifact-max-path-length`",
            shown(&String::from_utf8_lossy(raw)),
            limits.max_path_length
        ));
    }
    let Ok(name) = std::str::from_utf8(raw) else {
        let name = String::from_utf8_lossy(raw);
        return rejected(format!("the name {} is not UTF-8; rename the file", shown(&name)));
    };
    let has_drive = matches!(raw, [letter, b':', ..] if letter.is_ascii_alphabetic());
    let (reason, advice) = if name.contains('\0') {
        ("holds a NUL", "rename the file")
    } else if name.starts_with(['/', '\\']) || has_drive {
        ("is an absolute path", "make the archive with relative paths")
    } else if name.split(['/', '\\']).any(|part| part == "..") {
        ("leads out of the folder", "make the archive with relative paths")
    } else if name.contains('\\') {
        (
            "holds a backslash, which is a part of the name to some programs and a separator to others",
            "make the archive with `/` between folders",
        )
    } else if name.split('/').any(|part| part.len() > PART_MAX) {
        ("has a part that is longer than 255 bytes", "shorten it")
    } else if name.is_empty() {
        ("is empty", "make the archive anew")
    } else {
        let parts: Vec<&str> = name.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        return Ok(parts.join("/"));
    };
    rejected(format!("the name {} of one of its entries {reason}; {advice}", shown(name)))
}

/// A name that a stranger chose, fit for a message: short, without control characters.
pub(super) fn shown(name: &str) -> String {
    const MAX: usize = 80;
    let mut short: String = name.chars().take(MAX).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    format!("`{}`", short.escape_debug())
}

/// Stands for a name in constant memory.
pub(super) type Key = u128;

/// Half of a SHA-256: nobody can make two names with one key by will, and one key for two names would only refuse them.
pub(super) fn key(name: &str) -> Key {
    Digest::of(name.as_bytes()).first_half()
}

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Node {
    /// With its size in bytes.
    File(u64),
    /// In the archive, or implied by what is in it.
    Folder,
    /// A symbolic or hard link.
    Link,
}

/// All clean names of an archive, files and folders, so that none stands for two things.
pub(super) struct Tree {
    nodes: HashMap<Key, Node>,
    most: u64,
}

impl Tree {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { nodes: HashMap::new(), most: limits.max_entries }
    }

    pub(super) fn get(&self, name: &str) -> Option<Node> {
        if name.is_empty() { Some(Node::Folder) } else { self.nodes.get(&key(name)).copied() }
    }

    /// Adds a name and the folders that it lies in. A folder may be named twice: that hides nothing.
    pub(super) fn add(&mut self, name: &str, node: Node) -> Result<(), InspectError> {
        match self.nodes.entry(key(name)) {
            Entry::Vacant(place) => {
                place.insert(node);
            }
            Entry::Occupied(former) => {
                return match (*former.get(), node) {
                    (Node::Folder, Node::Folder) => Ok(()),
                    (Node::Folder, _) | (_, Node::Folder) => two_in_one(name),
                    _ => rejected(format!("{} is in it twice; make the archive anew, from one folder", shown(name))),
                };
            }
        }
        let mut rest = name;
        while let Some((folder, _)) = rest.rsplit_once('/') {
            match self.nodes.entry(key(folder)) {
                // Then those above it are there, too.
                Entry::Occupied(former) if *former.get() == Node::Folder => break,
                Entry::Occupied(_) => return two_in_one(folder),
                Entry::Vacant(place) => {
                    place.insert(Node::Folder);
                }
            }
            if self.nodes.len() as u64 > self.most {
                return too_many_entries(self.most);
            }
            rest = folder;
        }
        if self.nodes.len() as u64 > self.most { too_many_entries(self.most) } else { Ok(()) }
    }
}

fn two_in_one<T>(name: &str) -> Result<T, InspectError> {
    rejected(format!(
        "{} is a file or a link in it, and a folder as well; make the archive anew, from one folder",
        shown(name)
    ))
}
