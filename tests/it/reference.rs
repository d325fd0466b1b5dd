//! The pages of reference in `docs/` say what there is, and nothing else: reasons, conditions, annotations, Events, fields,
//! flags, versions, and the tests that stand beside claims.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::builder::Resettable;
use clap::{Args as _, Command};
use konigle_operator::api::{RECONCILE_AT, REDEPLOY_AT, RELEASED, RESET_AT, RESOLVE_ATTEMPT};
use konigle_operator::config::Config;
use konigle_operator::reason::Reason;
use regex::Regex;
use serde_json::Value;

use crate::support::run_folder::package;

const CONDITIONS: &str = "docs/conditions.md";
/// Every combination that can be rendered of what health is read from; a test in `src/status` keeps them true.
const RENDERED: &str = "deploy/argocd/resource_customizations/cloud.konigle.com/KonigleSpace/testdata";

type Words = BTreeSet<String>;

fn page(path: &str) -> String {
    fs::read_to_string(package().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The part of a page below a heading, down to the next one of its level or above.
fn below<'a>(page: &'a str, heading: &str) -> &'a str {
    let start = page.find(&format!("\n{heading}\n")).unwrap_or_else(|| panic!("there is no heading {heading}"));
    let rest = &page[start + heading.len() + 2..];
    let level = heading.len() - heading.trim_start_matches('#').len();
    let ends = (1..=level).filter_map(|level| rest.find(&format!("\n{} ", "#".repeat(level))));
    &rest[..ends.min().unwrap_or(rest.len())]
}

/// The rows of the table whose head begins with this cell, without the head.
fn table<'a>(text: &'a str, first_cell: &str) -> Vec<Vec<&'a str>> {
    let cells = |line: &'a str| -> Vec<&'a str> {
        line.trim_matches('|').split(" | ").map(|cell| cell.trim_matches([' ', '|'])).collect()
    };
    let mut lines = text.lines().skip_while(|line| !line.starts_with(&format!("| {first_cell} |")));
    assert!(lines.next().is_some(), "there is no table that begins with {first_cell}");
    lines.skip(1).take_while(|line| line.starts_with('|')).map(cells).collect()
}

/// What stands in backquotes.
fn quoted(text: &str) -> Words {
    text.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn words<'a>(words: impl IntoIterator<Item = &'a str>) -> Words {
    words.into_iter().map(str::to_owned).collect()
}

/// The sections of the reasons, in their order.
fn sections(page: &str) -> Vec<(&str, &str)> {
    below(page, "## Reasons").split("\n### ").skip(1).map(|section| section.split_once('\n').unwrap()).collect()
}

/// Where a section says that its reason shows: `Ready=False Stalled`, `ArtifactReady=False`.
fn appearances(section: &str) -> Words {
    let first = section.trim_start().split("\n\n").next().unwrap().replace('\n', " ");
    let shown = Regex::new(r"`(\w+=(?:True|False|Unknown))`(?: with `(\w+)`)?").unwrap();
    let with = |found: regex::Captures<'_>| match found.get(2) {
        Some(companion) => format!("{} {}", &found[1], companion.as_str()),
        None => found[1].to_owned(),
    };
    shown.captures_iter(&first).map(with).collect()
}

/// Where each reason shows in the statuses that can be rendered, likewise.
fn rendered() -> BTreeMap<String, Words> {
    let mut shown: BTreeMap<String, Words> = BTreeMap::new();
    for file in fs::read_dir(package().join(RENDERED)).unwrap().map(|entry| entry.unwrap().path()) {
        let resource: Value = serde_saphyr::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
        let conditions = resource["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let companion =
            ["Stalled", "Reconciling"].into_iter().find(|kind| conditions.iter().any(|it| it["type"] == *kind));
        for condition in &conditions {
            let text = |key: &str| condition[key].as_str().unwrap();
            let said = format!("{}={}", text("type"), text("status"));
            let said = match (text("type"), companion) {
                ("Stalled" | "Reconciling", _) => continue,
                ("Ready", Some(companion)) => format!("{said} {companion}"),
                _ => said,
            };
            shown.entry(text("reason").to_owned()).or_default().insert(said);
        }
    }
    assert!(shown.len() > 30, "only {} reasons are rendered", shown.len());
    shown
}

#[test]
fn every_reason_has_a_section_with_a_way_out_and_no_other_word_has() {
    let page = page(CONDITIONS);
    let sections = sections(&page);
    let found: Vec<&str> = sections.iter().map(|(reason, _)| *reason).collect();
    let mut expected: Vec<&str> = Reason::ALL.iter().map(|reason| reason.word()).collect();
    expected.sort_unstable_by_key(|word| word.to_lowercase());
    assert_eq!(found, expected, "{CONDITIONS}, in alphabetical order; right: the code's");
    for (reason, section) in sections {
        let paragraphs: Vec<&str> = section.trim().split("\n\n").collect();
        let [shown, means, way_out] = paragraphs[..] else {
            panic!("{reason}: where, what, and the way out: {section}")
        };
        assert!(!appearances(shown).is_empty(), "{reason}: {shown}");
        assert!(means.ends_with('.') && !means.starts_with('*'), "{reason}: {means}");
        let way_out = way_out.strip_prefix("**Way out:** ").unwrap_or_else(|| panic!("{reason} has no way out"));
        assert!(way_out.len() > 10 && way_out.ends_with('.'), "{reason}: {way_out}");
    }
}

#[test]
fn each_reason_is_said_to_show_where_it_does() {
    let page = page(CONDITIONS);
    let mut rendered = rendered();
    for (reason, section) in sections(&page) {
        let said = appearances(section);
        let shown = rendered.remove(reason).unwrap_or_default();
        let of_ready =
            |words: &Words| -> Words { words.iter().filter(|it| it.starts_with("Ready=")).cloned().collect() };
        assert_eq!(of_ready(&said), of_ready(&shown), "{reason}; right: what can be rendered");
        // Whatever stands in the way of a deploy is said of it: once, for all of them.
        let missing: Vec<&String> = shown.difference(&said).filter(|it| *it != "Deployed=Unknown").collect();
        assert!(missing.is_empty(), "{reason} shows as {missing:?}, too");
    }
    assert!(rendered.is_empty(), "no section for {rendered:?}");
}

#[test]
fn the_index_of_reasons_leads_to_those_that_it_speaks_of() {
    let page = page(CONDITIONS);
    let reasons = below(&page, "## Reasons");
    let linked = |row: &[&str]| -> Words {
        let link = Regex::new(r"\[(\w+)\]\(#(\w+)\)").unwrap();
        let links = link.captures_iter(row[1]).inspect(|found| assert_eq!(found[1].to_lowercase(), found[2]));
        links.map(|found| found[1].to_owned()).collect()
    };
    let that = |shows: &dyn Fn(&str) -> bool| -> Words {
        let shown = sections(&page).into_iter().filter(|(_, section)| appearances(section).iter().any(|it| shows(it)));
        shown.map(|(reason, _)| reason.to_owned()).collect()
    };
    let of_ready = table(reasons, "`Ready`");
    let expected = [
        that(&|it| it == "Ready=True"),
        that(&|it| it.ends_with(" Reconciling")),
        that(&|it| it == "Ready=False" || it == "Ready=Unknown"),
        that(&|it| it.ends_with(" Stalled")),
    ];
    assert_eq!(of_ready.iter().map(|row| linked(row)).collect::<Vec<_>>(), expected);
    let of_others = table(reasons, "condition");
    let expected = [that(&|it| it == "PromotionAllowed=False"), that(&|it| it.starts_with("ContentVerified="))];
    assert_eq!(of_others.iter().map(|row| linked(row)).collect::<Vec<_>>(), expected);
}

#[test]
fn the_table_of_conditions_has_all_that_reasons_show_in() {
    let page = page(CONDITIONS);
    let mut possible = Words::new();
    for row in table(below(&page, "## Conditions"), "condition") {
        let kind = row[0].split('`').nth(1).unwrap();
        for (status, cell) in ["True", "False", "Unknown"].iter().zip(&row[1..]) {
            if !["absent", "–"].contains(cell) {
                possible.insert(format!("{kind}={status}"));
            }
        }
    }
    let plain = |it: &String| it.split(' ').next().unwrap().to_owned();
    let rendered = rendered().into_values().flatten().map(|it| plain(&it));
    let documented = sections(&page).into_iter().flat_map(|(_, section)| appearances(section)).map(|it| plain(&it));
    let mut shown: Words = rendered.chain(documented).collect();
    shown.extend(words(["Stalled=True", "Reconciling=True"]));
    assert_eq!(possible, shown, "left: the table; right: what can be rendered, and what the sections say");
}

#[test]
fn annotations_fields_and_words_are_the_codes() {
    let page = page(CONDITIONS);
    let first_cells = |heading: &str, head: &str| -> Words {
        table(below(&page, heading), head).iter().flat_map(|row| quoted(row[0])).collect()
    };
    let known = [RECONCILE_AT, RESET_AT, REDEPLOY_AT, RESOLVE_ATTEMPT, RELEASED];
    assert_eq!(first_cells("## Annotations", "annotation"), words(known));
    assert_eq!(first_cells("## Annotations", "answer"), words(["succeeded", "failed", "retry"]));
    assert_eq!(first_cells("## Status", "field"), fields(&schema("status")));
    assert_eq!(first_cells("## Status", "`release.attribution`"), variants("Attribution"));
    assert_eq!(first_cells("## Status", "`cause` of an attempt"), variants("Cause"));
    assert_eq!(first_cells("## Status", "`result` in `history`"), variants("AttemptResult"));
}

#[test]
fn every_event_is_told_of_and_no_other_is() {
    let page = page(CONDITIONS);
    let told: Words = table(below(&page, "## Events"), "Event").iter().flat_map(|row| quoted(row[0])).collect();
    let made = Regex::new(
        r#"warning: (?:true|false),\s*reason: "(\w+)"|=> \((?:true|false), "(\w+)"\)|let reason = if [^"]*"(\w+)" \} else \{ "(\w+)""#,
    )
    .unwrap();
    let mut in_code = Words::new();
    for file in sources("src") {
        let text = fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        in_code.extend(
            made.captures_iter(code).flat_map(|found| {
                found.iter().skip(1).flatten().map(|word| word.as_str().to_owned()).collect::<Vec<_>>()
            }),
        );
    }
    assert_eq!(told, in_code);
}

#[test]
fn the_table_of_the_spec_has_its_fields_and_their_defaults() {
    let spec = schema("spec");
    let page = page("docs/spec.md");
    let rows = table(&page, "`spec`");
    let named: Words = rows.iter().flat_map(|row| quoted(row[0])).map(|field| top(&field)).collect();
    assert_eq!(named, fields(&spec));
    for row in rows {
        for field in quoted(row[0]) {
            let schema = field.split('.').fold(&spec, |schema, name| &schema["properties"][name]);
            let default = match &schema["default"] {
                Value::Null => continue,
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert!(quoted(row[1]).contains(&default), "{field} is {default} by default, not {}", row[1]);
        }
    }
}

#[test]
fn the_table_of_flags_has_them_all_with_their_defaults() {
    let run = Config::augment_args(Command::new("run")).mut_args(|flag| flag.env(Resettable::Reset));
    let mut documented = BTreeMap::new();
    for row in table(&page("docs/flags.md"), "flag") {
        let flags = quoted(row[0]);
        // Of several in one row the defaults stand in their order.
        documented.extend(flags.into_iter().map(|flag| (flag, row[1].to_owned())));
    }
    let visible = run.get_arguments().filter(|flag| !flag.is_hide_set());
    let flags: BTreeMap<String, Option<String>> = visible
        .filter_map(|flag| {
            let default = flag.get_default_values().first().and_then(|value| value.to_str()).map(str::to_owned);
            Some((format!("--{}", flag.get_long()?), default))
        })
        .filter(|(flag, _)| flag != "--help")
        .collect();
    assert_eq!(documented.keys().collect::<Vec<_>>(), flags.keys().collect::<Vec<_>>());
    for (flag, default) in flags {
        let Some(default) = default.filter(|default| default != "false") else { continue };
        assert!(quoted(&documented[&flag]).contains(&default), "{flag} is {default}, not {}", documented[&flag]);
    }
}

#[test]
fn the_versions_that_are_said_to_be_tested_are() {
    let page = page("docs/install.md");
    let rows = table(below(&page, "## Supported versions"), "program");
    assert!(rows.len() >= 5);
    for row in rows {
        let [program, _, tested, shown_by, pinned] = row[..] else { panic!("{row:?}") };
        assert!(!quoted(shown_by).is_empty(), "{program}: which command shows it?");
        for file in quoted(pinned) {
            let text = fs::read_to_string(package().join(&file)).unwrap();
            assert!(text.contains(tested), "{program}: {file} does not name {tested}");
        }
    }
}

#[test]
fn the_tests_that_stand_beside_claims_exist() {
    let (unit, integration) = (tests_below("src"), tests_below("tests/it"));
    let rows: Words = table(&page("docs/faults.md"), "row").iter().map(|row| row[0].to_owned()).collect();
    let mut pages: Vec<PathBuf> = fs::read_dir(package().join("docs")).unwrap().map(|it| it.unwrap().path()).collect();
    pages.push(package().join("README.md"));
    let mut claims = 0;
    for page in pages.iter().filter(|page| page.extension().is_some_and(|extension| extension == "md")) {
        // Words of several parts are something else there, or tests of another kind; each is checked by its own test.
        if ["faults.md", "metrics.md", "pitfalls.md"].iter().any(|name| page.ends_with(name)) {
            continue;
        }
        for name in quoted(&fs::read_to_string(page).unwrap().replace("```", "")) {
            let exists = match name.split_once(':') {
                Some(("unit" | "faults", "")) => continue,
                Some(("unit", test)) => unit.contains(test),
                Some(("faults", row)) => rows.contains(row),
                _ if is_test_name(&name) => integration.contains(&name),
                _ => continue,
            };
            assert!(exists, "{}: there is no test {name}", page.display());
            claims += 1;
        }
    }
    assert!(claims > 30, "only {claims} claims were found");
}

/// What looks like a test: no field, flag or metric is a sentence.
fn is_test_name(word: &str) -> bool {
    let is_snake =
        word.chars().all(|character| character == '_' || character.is_ascii_lowercase() || character.is_ascii_digit());
    is_snake && word.matches('_').count() >= 3 && !word.starts_with("konigle_")
}

fn top(field: &str) -> String {
    field.split('.').next().unwrap().to_owned()
}

/// The schema of `spec` or `status`, of the CRD that is installed.
fn schema(part: &str) -> Value {
    let crd: Value = serde_saphyr::from_str(&page("crds/koniglespaces.cloud.konigle.com.yaml")).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][part].clone()
}

fn fields(schema: &Value) -> Words {
    schema["properties"].as_object().unwrap().keys().cloned().collect()
}

/// The words of an enum of the status, but that of what another version wrote.
fn variants(name: &str) -> Words {
    let text = page("src/api/status.rs");
    let (_, rest) = text.split_once(&format!("pub enum {name} {{")).unwrap_or_else(|| panic!("no enum {name}"));
    let (body, _) = rest.split_once("\n}").unwrap();
    let lines = body.lines().map(str::trim).filter(|line| !line.starts_with(['/', '#']) && !line.is_empty());
    lines.map(|line| line.trim_end_matches(',').to_owned()).filter(|word| word != "Other").collect()
}

fn sources(folder: &str) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![package().join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            match path.extension() {
                _ if path.is_dir() => folders.push(path),
                Some(extension) if extension == "rs" => files.push(path),
                _ => {}
            }
        }
    }
    files
}

fn tests_below(folder: &str) -> Words {
    sources(folder).iter().flat_map(|file| crate::pitfalls::tests_of(Path::new(file))).collect()
}
