//! The shape of the code, as ARCHITECTURE.md promises it: which way imports point, what pure files must not contain,
//! and how long a file may be. Read from the sources as text; what only a compiler could see is not checked.

#![expect(clippy::unwrap_used, reason = "the sources of this very package are there and readable")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::run_folder::package;

/// The modules from the bottom to the top. Code may name modules of lower layers, and of its own layer only itself.
const LAYERS: &[&[&str]] = &[
    &["api", "redact", "konigle::model"],
    &["desired"],
    &["plan"],
    &["status"],
    &["metrics"],
    &["konigle", "artifact"],
    &["memory"],
    &["observe", "release", "record"],
    &["reconcile"],
    &["controller"],
    &["config", "http", "telemetry"],
    &["main"],
];

/// Decisions are functions of values: these files hold no I/O, no clock, no randomness and no logging.
const PURE: &[&str] = &["api", "desired", "plan", "status", "redact", "konigle::model"];

/// What makes a file impure, and the reason to say.
const IMPURE_WORDS: &[(&str, &str)] = &[
    ("async ", "waits"),
    (".await", "waits"),
    ("tokio", "waits"),
    ("reqwest", "speaks to Konigle"),
    ("kube::Client", "speaks to Kubernetes"),
    ("kube::Api", "speaks to Kubernetes"),
    ("kube::api", "speaks to Kubernetes"),
    ("kube::runtime", "speaks to Kubernetes"),
    ("tracing", "logs"),
    ("println!", "logs"),
    ("::now()", "reads a clock"),
    ("SystemTime", "reads a clock"),
    ("Instant", "reads a clock"),
    ("SystemRandom", "is random"),
    ("RandomState", "is random"),
    ("std::fs", "reads files"),
    ("std::env", "reads the environment"),
    ("std::net", "speaks to the network"),
];

/// The most lines of code in a file, without comments, blank lines and unit tests.
const MOST_LINES: usize = 500;

struct Source {
    path: PathBuf,
    /// Its module, such as `konigle::client`; `main` and `bin` for the programs.
    module: String,
    /// Without comments and unit tests.
    code: String,
    text: String,
}

#[test]
fn imports_point_down() {
    let mut wrong = Vec::new();
    for source in sources().iter().filter(|source| !is_apart(&source.module)) {
        let own = layer_of(&source.module);
        let Some(own) = own else {
            wrong.push(format!("{} is in no layer: add it to LAYERS", source.path.display()));
            continue;
        };
        for named in modules_named(&source.code) {
            let same = top(&named) == top(&source.module);
            match layer_of(&named) {
                Some(layer) if layer < own || same => {}
                Some(_) => wrong.push(format!("{} names crate::{named}, which is not below it", source.path.display())),
                None => {}
            }
        }
    }
    assert!(wrong.is_empty(), "imports point up:\n{}", wrong.join("\n"));
}

#[test]
fn the_operator_does_not_know_the_simulator() {
    for source in sources().iter().filter(|source| !is_apart(&source.module)) {
        let named = modules_named(&source.code);
        assert!(!named.iter().any(|named| top(named) == "sim"), "{} names crate::sim", source.path.display());
    }
}

#[test]
fn the_simulator_shares_no_code_with_the_client() {
    for source in sources().iter().filter(|source| top(&source.module) == "sim") {
        for named in modules_named(&source.code) {
            assert_eq!(top(&named), "sim", "{}: client and simulator could be wrong together", source.path.display());
        }
    }
}

#[test]
fn decisions_are_pure() {
    let mut wrong = Vec::new();
    for source in sources() {
        if PURE.contains(&source.module.as_str()) || PURE.contains(&top(&source.module)) {
            for (word, reason) in IMPURE_WORDS.iter().filter(|(word, _)| source.code.contains(word)) {
                wrong.push(format!("{} {reason}: it contains `{word}`", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "pure files must stay pure:\n{}", wrong.join("\n"));
}

#[test]
fn files_are_short() {
    let long: Vec<String> = sources()
        .iter()
        .map(|source| (source.code.lines().filter(|line| !line.trim().is_empty()).count(), &source.path))
        .filter(|(lines, _)| *lines > MOST_LINES)
        .map(|(lines, path)| format!("{}: {lines} lines of code", path.display()))
        .collect();
    assert!(long.is_empty(), "at most {MOST_LINES} lines of code:\n{}", long.join("\n"));
}

#[test]
fn every_file_says_what_it_is() {
    for source in sources() {
        assert!(source.text.starts_with("//! "), "{} does not begin with a module doc", source.path.display());
    }
}

/// The simulator and the other programs are no part of the operator.
fn is_apart(module: &str) -> bool {
    matches!(top(module), "sim" | "bin" | "lib")
}

/// The layer of a module, or of the module that holds it.
fn layer_of(module: &str) -> Option<usize> {
    let position = |name: &str| LAYERS.iter().position(|layer| layer.contains(&name));
    position(module).or_else(|| position(top(module)))
}

fn top(module: &str) -> &str {
    module.split("::").next().unwrap_or(module)
}

fn sources() -> Vec<Source> {
    let root = package().join("src");
    let mut folders = vec![root.clone()];
    let mut sources = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&entry).unwrap();
                let module = module_of(entry.strip_prefix(&root).unwrap());
                sources.push(Source { module, code: code_of(&text), text, path: entry });
            }
        }
    }
    assert!(!sources.is_empty(), "no sources in {}", root.display());
    sources
}

/// `konigle/client.rs` is `konigle::client`, `konigle/mod.rs` is `konigle`.
fn module_of(path: &Path) -> String {
    let path = path.with_extension("");
    let parts: Vec<&str> = path.iter().map(|part| part.to_str().unwrap()).filter(|part| *part != "mod").collect();
    parts.join("::")
}

/// The text without line comments and without what follows the first `#[cfg(test)]` of a module.
fn code_of(text: &str) -> String {
    let until = text.find("#[cfg(test)]\nmod ").unwrap_or(text.len());
    let lines = text[..until].lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// The modules that code names by `crate::…`, groups such as `crate::{api, plan::Step}` included.
fn modules_named(code: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for (start, matched) in code.match_indices("crate::").chain(code.match_indices("konigle_operator::")) {
        let rest = &code[start + matched.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            named.extend(split_group(group).into_iter().filter_map(module_in));
        } else {
            named.extend(module_in(rest));
        }
    }
    named
}

/// The members of a group, up to its closing brace; nested groups stay whole.
fn split_group(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut members) = (0, 0, Vec::new());
    for (position, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' => {
                members.push(&group[start..position]);
                return members;
            }
            ',' if depth == 0 => {
                members.push(&group[start..position]);
                start = position + 1;
            }
            _ => {}
        }
    }
    members
}

/// `konigle::model` of `konigle::model::Space`, `plan` of `plan::Step`, nothing of a type or macro at the root.
fn module_in(path: &str) -> Option<String> {
    let word = |text: &str| -> String {
        text.trim_start()
            .chars()
            .take_while(|character| character.is_ascii_alphanumeric() || *character == '_')
            .collect()
    };
    let first = word(path);
    let rest = path.trim_start().strip_prefix(first.as_str())?.strip_prefix("::");
    let second = rest.map(word).unwrap_or_default();
    let qualified = format!("{first}::{second}");
    let known = |name: &str| LAYERS.iter().any(|layer| layer.contains(&name));
    match () {
        () if known(&qualified) => Some(qualified),
        () if known(&first) || first == "sim" => Some(first),
        () => None,
    }
}

#[test]
fn names_are_read_from_every_form_of_import() {
    let code = "use crate::api; use crate::{plan::{Step, next_step}, konigle::{model::Space}, redact}; \
                crate::konigle::model::Space; crate::Result; crate::sim::start()";
    let named: Vec<String> = modules_named(code).into_iter().collect();
    assert_eq!(named, ["api", "konigle", "konigle::model", "plan", "redact", "sim"]);
}
