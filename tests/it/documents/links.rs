//! The links between the documents of this repository lead somewhere: to a file that is there, and a heading in it.
//!
//! Addresses elsewhere are not asked for.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use regex::Regex;

use crate::support::run_folder::package;
use crate::support::{Context, Result};

#[test]
fn every_link_leads_to_a_file_and_a_heading() -> Result<()> {
    let mut broken = Vec::new();
    for folder in ["", "docs"] {
        for entry in fs::read_dir(package().join(folder))? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path)?;
                let links = links(&text).into_iter().filter(|link| !leads_somewhere(&path, link));
                broken.extend(links.map(|link| format!("{}: {link}", path.display())));
            }
        }
    }
    assert!(broken.is_empty(), "these lead nowhere:\n{}", broken.join("\n"));
    Ok(())
}

/// The links of a document, without those that lead elsewhere.
fn links(document: &str) -> Vec<String> {
    let pattern = Regex::new(r"\]\(([^)\s]+)\)").expect("a pattern");
    let text = prose(document);
    let links = pattern.captures_iter(&text).map(|link| link[1].to_owned());
    links.filter(|link| !link.contains("://")).collect()
}

fn leads_somewhere(document: &Path, link: &str) -> bool {
    let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
    let target = if file.is_empty() { document.to_owned() } else { document.with_file_name("").join(file) };
    let is_heading =
        || fs::read_to_string(&target).context("a document").is_ok_and(|text| anchors(&text).contains(anchor));
    target.exists() && (anchor.is_empty() || is_heading())
}

/// What links name the headings of a document by, as GitHub makes it.
fn anchors(document: &str) -> BTreeSet<String> {
    let headings = prose(document);
    let headings = headings.lines().filter_map(|line| line.strip_prefix('#')).map(|rest| rest.trim_start_matches('#'));
    let letter = |letter: char| match letter {
        ' ' => Some('-'),
        letter if letter.is_alphanumeric() || "-_".contains(letter) => Some(letter),
        _ => None,
    };
    headings.map(|heading| heading.trim().to_lowercase().chars().filter_map(letter).collect()).collect()
}

/// A document without its blocks.
fn prose(document: &str) -> String {
    let mut is_block = false;
    let mut prose = String::new();
    for line in document.lines() {
        is_block ^= line.trim_start().starts_with("```");
        if !is_block {
            prose.extend([line, "\n"]);
        }
    }
    prose
}

#[test]
fn headings_are_named_as_github_does() {
    let document = "# What it promises, and what it cannot know\n```sh\n# no heading\n```\n### `Ready`\n";
    let anchors: Vec<String> = anchors(document).into_iter().collect();
    assert_eq!(anchors, ["ready", "what-it-promises-and-what-it-cannot-know"]);
    assert_eq!(links("[a](b.md#c) `[d](e)` [f](https://g)\n```sh\n[h](i)\n```\n"), ["b.md#c", "e"]);
    let here = package().join("README.md");
    assert!(leads_somewhere(&here, "docs/faults.md"));
    assert!(!leads_somewhere(&here, "docs/nothing.md"));
    assert!(!leads_somewhere(&here, "#no-such-heading"));
}
