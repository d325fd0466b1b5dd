//! Links between the documents lead somewhere: each relative link of a Markdown file to a file that is there and, where it
//! has an anchor, to a heading of it. So do this repository's own addresses on GitHub, and the paths of documents that
//! code, manifests and scripts name.
//!
//! Absent: whether other people's pages are there; nothing here asks the network.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use regex::Regex;

use crate::support::run_folder::package;

/// Where this repository's files are on GitHub, as alerts and packages name them.
const ON_GITHUB: &str = r"https://github\.com/\w+/konigle-operator/blob/main/([\w./-]+)(?:#([\w-]+))?";

/// All files that Git knows or would take, by their path in the package.
fn files() -> BTreeSet<PathBuf> {
    let mut git = Command::new("git");
    git.args(["ls-files", "--cached", "--others", "--exclude-standard"]).current_dir(package());
    let output = git.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let listed = String::from_utf8(output.stdout).unwrap();
    listed.lines().map(PathBuf::from).filter(|path| package().join(path).exists()).collect()
}

/// The text of each file that is one.
fn texts(files: &BTreeSet<PathBuf>) -> BTreeMap<&Path, String> {
    let text = |path: &PathBuf| fs::read_to_string(package().join(path)).ok();
    files.iter().filter_map(|path| Some((path.as_path(), text(path)?))).collect()
}

fn is_markdown(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "md" || extension == "gotmpl")
}

/// The lines outside of blocks of code.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_block = false;
    text.lines().enumerate().filter_map(move |(number, line)| {
        let fence = line.trim_start().starts_with("```");
        in_block ^= fence;
        (!in_block && !fence).then_some((number + 1, line))
    })
}

/// The anchors that GitHub gives the headings of a page.
fn anchors(text: &str) -> BTreeSet<String> {
    let link = Regex::new(r"\[([^\]]*)\]\([^)]*\)").unwrap();
    let mut anchors = BTreeSet::new();
    for (_, line) in prose(text) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let heading = link.replace_all(heading.trim(), "$1").to_lowercase();
        let kept = heading.chars().filter(|character| character.is_alphanumeric() || " -_".contains(*character));
        let anchor: String = kept.map(|character| if character == ' ' { '-' } else { character }).collect();
        let again = (1..).map(|number| format!("{anchor}-{number}"));
        let free = std::iter::once(anchor.clone()).chain(again).find(|anchor| !anchors.contains(anchor));
        anchors.extend(free);
    }
    anchors
}

/// Where the links of a page lead, each with its line.
fn links(text: &str) -> Vec<(usize, String)> {
    let code = Regex::new(r"`[^`]*`").unwrap();
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let of = |(number, line): (usize, &str)| {
        let without_code = code.replace_all(line, "").into_owned();
        let targets = link.captures_iter(&without_code).map(|found| (number, found[1].to_owned()));
        targets.collect::<Vec<_>>()
    };
    prose(text).flat_map(of).collect()
}

/// A path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut plain, component| {
        match component {
            Component::CurDir => {}
            Component::ParentDir => assert!(plain.pop(), "{} leaves the package", path.display()),
            other => plain.push(other),
        }
        plain
    })
}

/// What is wrong with a link to this path of the package.
fn broken(texts: &BTreeMap<&Path, String>, path: &Path, anchor: Option<&str>) -> Option<String> {
    let is_folder = package().join(path).is_dir();
    match (texts.get(path), anchor) {
        (None, None) if is_folder => None,
        (None, _) => Some(format!("there is no {}", path.display())),
        (Some(text), Some(anchor)) if !anchors(text).contains(anchor) => {
            Some(format!("{} has no heading #{anchor}", path.display()))
        }
        (Some(_), _) => None,
    }
}

#[test]
fn every_link_leads_somewhere() {
    let files = files();
    let texts = texts(&files);
    let mut wrong = Vec::new();
    let mut count = 0;
    for (page, text) in texts.iter().filter(|(path, _)| is_markdown(path)) {
        for (line, target) in links(text).iter().filter(|(_, target)| !target.contains("://")) {
            count += 1;
            let (path, anchor) = target.split_once('#').map_or((target.as_str(), None), |(path, at)| (path, Some(at)));
            let folder = page.parent().unwrap_or(Path::new(""));
            let path = if path.is_empty() { page.to_path_buf() } else { plain(&folder.join(path)) };
            wrong.extend(broken(&texts, &path, anchor).map(|why| format!("{}:{line}: {why}", page.display())));
        }
    }
    assert!(count > 100, "only {count} links were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn addresses_on_github_are_those_of_files_here() {
    let files = files();
    let texts = texts(&files);
    let address = Regex::new(ON_GITHUB).unwrap();
    let mut wrong = Vec::new();
    for (file, text) in &texts {
        for found in address.captures_iter(text) {
            let anchor = found.get(2).map(|anchor| anchor.as_str());
            let why = broken(&texts, Path::new(&found[1]), anchor);
            wrong.extend(why.map(|why| format!("{}: {why}", file.display())));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn documents_that_are_named_anywhere_exist() {
    let files = files();
    let texts = texts(&files);
    let named = Regex::new(r"\bdocs/[\w-]+\.md\b").unwrap();
    let mut wrong = Vec::new();
    for (file, text) in &texts {
        let missing = named.find_iter(text).filter(|path| !texts.contains_key(Path::new(path.as_str())));
        wrong.extend(missing.map(|path| format!("{} names {}", file.display(), path.as_str())));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_page_is_read_as_github_reads_it() {
    let page = "# A `b`: c's d_e\n## [Link](x.md) — two\n## Same\n## Same\n```sh\n# none\n[no](no.md)\n```\n`[no](no.md)` [a](b.md#c) [`d`](#e)\n";
    let expected = ["a-b-cs-d_e", "link--two", "same", "same-1"];
    assert_eq!(anchors(page), expected.map(str::to_owned).into());
    let targets: Vec<(usize, String)> = links(page);
    // That of a heading counts, too.
    assert_eq!(targets, [(2, "x.md".to_owned()), (9, "b.md#c".to_owned()), (9, "#e".to_owned())]);
    assert_eq!(plain(Path::new("docs/../a/./b.md")), Path::new("a/b.md"));
}
