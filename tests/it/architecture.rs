//! The shape of the code, as ARCHITECTURE.md promises it: which way imports point, what pure files must not contain,
//! and how long a file may be. Read from the sources as text; what only a compiler could see is not checked.

mod points;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::support::run_folder::package;

/// The modules from the bottom to the top. Code may name lower layers, and of its own layer only its own module.
const LAYERS: &[&[&str]] = &[
    // Points beside calls: known to whatever calls.
    &["crash"],
    // Words and small tools; they know nothing of each other.
    &[
        "api",
        "reason",
        "time",
        "text",
        "redact",
        "retry_after",
        "address",
        "clock",
        "cluster",
        "config",
        "metrics",
        "stamp",
    ],
    &["telemetry"],
    // What messages tell people to run.
    &["commands"],
    // The outside world: Konigle, the hosts of artifacts, the pages for probes. They know no resource's status.
    &["konigle", "artifact", "health"],
    // Decisions, all pure.
    &["footprint", "released"],
    &["origin"],
    &["desired"],
    &["observation"],
    &["wish"],
    &["judge"],
    &["plan"],
    &["status"],
    &["tally"],
    // What a pass is given.
    &["credentials", "memory", "live_lists", "sources", "turns"],
    &["context"],
    // The steps of a pass, and the pass.
    &["lookup"],
    &["observe", "record"],
    &["download", "release"],
    &["reconcile"],
    // The process.
    &["watch", "leader"],
    &["controller"],
    &["main"],
];

/// Decisions are functions of values: these files hold no I/O, no clock, no randomness and no logging.
const PURE: &[&str] = &[
    "api",
    "reason",
    "time",
    "text",
    "redact",
    "commands",
    "origin",
    "desired",
    "observation",
    "wish",
    "footprint",
    "released",
    "judge",
    "plan",
    "status",
    "konigle::model",
    "plugin::outlook",
    "plugin::progress",
    "plugin::reading",
    "plugin::schema",
    "plugin::transfer",
    "plugin::wanted",
];

/// What makes a file impure, and the reason to say.
const IMPURE_WORDS: &[(&str, &str)] = &[
    ("async ", "waits"),
    (".await", "waits"),
    ("tokio", "waits"),
    ("konigle::Client", "speaks to Konigle"),
    ("artifact::Store", "reads files"),
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
        let Some(own) = layer_of(&source.module) else {
            wrong.push(format!("{} is in no layer: add it to LAYERS", source.path.display()));
            continue;
        };
        for named in modules_named(&source.code) {
            let (from, to) = (top(&source.module), top(&named));
            let points_up = layer_of(&named).is_some_and(|layer| layer >= own) && from != to;
            if points_up {
                wrong.push(format!("{} names crate::{named}, which is not below it", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "imports point up:\n{}", wrong.join("\n"));
}

#[test]
fn the_operator_does_not_know_the_simulator_and_the_plugin() {
    for source in sources().iter().filter(|source| !is_apart(&source.module)) {
        let named = modules_named(&source.code);
        let wrong = named.iter().find(|named| matches!(top(named), "sim" | "plugin"));
        assert!(wrong.is_none(), "{} names crate::{}", source.path.display(), wrong.unwrap());
    }
}

#[test]
fn the_simulator_shares_no_code_with_the_client() {
    for source in sources().iter().filter(|source| top(&source.module) == "sim") {
        for named in modules_named(&source.code) {
            let own = matches!(top(&named), "sim" | "clock");
            assert!(
                own,
                "{} names crate::{named}: client and simulator could be wrong together",
                source.path.display()
            );
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

/// The simulator, the plugin and the other programs are no part of the operator.
fn is_apart(module: &str) -> bool {
    matches!(top(module), "sim" | "plugin" | "bin" | "lib")
}

/// The layer of a module, or of the module that holds it.
fn layer_of(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&top(module)))
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
            } else if entry.extension().is_some_and(|extension| extension == "rs") && !is_a_test(&entry) {
                let text = fs::read_to_string(&entry).unwrap();
                let module = module_of(entry.strip_prefix(&root).unwrap());
                sources.push(Source { module, code: code_of(&text), text, path: entry });
            }
        }
    }
    assert!(!sources.is_empty(), "no sources in {}", root.display());
    sources
}

/// Files that are compiled for tests only may be long, and may name what they test from below.
fn is_a_test(path: &Path) -> bool {
    let name = path.file_stem().and_then(|stem| stem.to_str());
    name.is_some_and(|name| matches!(name, "tests" | "properties" | "schedules" | "test_facts"))
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

/// The modules that code names by `crate::…`, groups such as `crate::{api, plan::{Step, next_step}}` included.
fn modules_named(code: &str) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for (start, matched) in code.match_indices("crate::").chain(code.match_indices("konigle_operator::")) {
        for path in paths(&code[start + matched.len()..]) {
            let (first, second) = (path.first().map_or("", String::as_str), path.get(1).map_or("", String::as_str));
            let qualified = format!("{first}::{second}");
            let known = |name: &str| LAYERS.iter().any(|layer| layer.contains(&name));
            if qualified == "konigle::model" {
                named.insert(qualified);
            } else if known(first) || matches!(first, "sim" | "plugin") {
                named.insert(first.to_owned());
            }
        }
    }
    named
}

/// The first two words of every path that begins here: one, or one for each member of a group.
fn paths(text: &str) -> Vec<Vec<String>> {
    let text = text.trim_start();
    if let Some(group) = text.strip_prefix('{') {
        return members(group).into_iter().flat_map(paths).collect();
    }
    let length =
        text.find(|character: char| !character.is_ascii_alphanumeric() && character != '_').unwrap_or(text.len());
    let (word, rest) = text.split_at(length);
    let below = rest.strip_prefix("::").map(paths).unwrap_or_default();
    if below.is_empty() {
        return vec![vec![word.to_owned()]];
    }
    below.into_iter().map(|path| [word.to_owned()].into_iter().chain(path.into_iter().take(1)).collect()).collect()
}

/// The members of a group, up to its closing brace.
fn members(group: &str) -> Vec<&str> {
    let (mut depth, mut start, mut members) = (0, 0, Vec::new());
    for (position, character) in group.char_indices() {
        match character {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            '}' => {
                members.push(&group[start..position]);
                break;
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

#[test]
fn names_are_read_from_every_form_of_import() {
    let code = "use crate::api; use crate::{plan::{Step, next_step}, konigle::{self, model::Space}, redact}; \
                crate::controller::{Context, run}; crate::Result; crate::sim::start()";
    let named: Vec<String> = modules_named(code).into_iter().collect();
    let expected = ["api", "controller", "konigle", "konigle::model", "plan", "redact", "sim"];
    assert_eq!(named, expected);
}
