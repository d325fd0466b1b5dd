//! The alert rules: the real promtool reads them and plays the scenes of `tests/alerts`; each has a runbook, is tried both
//! ways, and asks for metrics that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use regex::Regex;
use serde_json::Value;

use super::documents::{asked_for, documented};
use crate::support::parts::part;
use crate::support::run_folder::package;
use crate::support::{Context, Failure, Result};

const RULES: &str = "charts/konigle-operator/files/prometheusrules.yaml";

fn yaml(path: &str) -> Value {
    let text = fs::read_to_string(package().join(path)).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

/// All rules, each an alert.
fn rules() -> Vec<Value> {
    let groups = yaml(RULES)["groups"].as_array().unwrap().clone();
    groups.iter().flat_map(|group| group["rules"].as_array().unwrap().clone()).collect()
}

fn text<'a>(value: &'a Value, what: &str) -> &'a str {
    value.as_str().unwrap_or_else(|| panic!("no text for {what}: {value}"))
}

fn scenes() -> Vec<PathBuf> {
    let mut files: Vec<_> =
        fs::read_dir(package().join("tests/alerts")).unwrap().map(|it| it.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

#[test]
fn promtool_accepts_the_rules_and_each_fires_where_it_should() -> Result<()> {
    let promtool = part("promtool")?;
    let run = |command: &mut Command| {
        let output = command.output().context("running promtool")?;
        let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        if output.status.success() { Ok(said) } else { Err(Failure::new(said)) }
    };
    run(Command::new(&promtool).args(["check", "rules", "--lint=all", "--lint-fatal"]).arg(package().join(RULES)))?;
    run(Command::new(&promtool).args(["test", "rules"]).args(scenes()))?;
    Ok(())
}

#[test]
fn each_alert_says_what_is_the_matter_and_leads_to_its_runbook() {
    let runbooks = fs::read_to_string(package().join("docs/runbooks.md")).unwrap();
    let sections: Vec<&str> = runbooks.lines().filter_map(|line| line.strip_prefix("## ")).collect();
    let mut alerts = Vec::new();
    for rule in rules() {
        let name = text(&rule["alert"], "the alert's name").to_owned();
        let severity = text(&rule["labels"]["severity"], &name);
        assert!(["critical", "warning"].contains(&severity), "{name}: {severity}");
        for annotation in ["summary", "description"] {
            assert!(text(&rule["annotations"][annotation], &name).ends_with(['.', ')']), "{name}: {annotation}");
        }
        let url = text(&rule["annotations"]["runbook_url"], &name);
        let (file, anchor) = url.split_once('#').unwrap_or_else(|| panic!("{name}: {url} has no anchor"));
        assert!(file.starts_with("https://") && file.ends_with("/docs/runbooks.md"), "{url}");
        assert_eq!(anchor, name.to_lowercase());
        let (_, section) =
            runbooks.split_once(&format!("\n## {name}\n")).unwrap_or_else(|| panic!("no runbook {name}"));
        assert!(
            section.trim_start().starts_with(&format!("*{severity}.*")),
            "{name}: the runbook says another severity"
        );
        alerts.push(name);
    }
    assert_eq!(sections, alerts, "a section for each alert, in their order, and no other");
}

#[test]
fn each_alert_is_tried_both_ways() {
    let mut quiet: BTreeSet<String> = BTreeSet::new();
    let mut fires: BTreeSet<String> = BTreeSet::new();
    let names: BTreeSet<String> = rules().iter().map(|rule| text(&rule["alert"], "the name").to_owned()).collect();
    let label = Regex::new("alertname=\"(\\w+)\"").unwrap();
    for file in scenes() {
        let scenes: Value = serde_saphyr::from_str(&fs::read_to_string(file).unwrap()).unwrap();
        for scene in scenes["tests"].as_array().unwrap() {
            for test in scene["alert_rule_test"].as_array().unwrap_or(&Vec::new()) {
                let name = text(&test["alertname"], "the test's alert").to_owned();
                if test["exp_alerts"].as_array().unwrap().is_empty() { &mut quiet } else { &mut fires }.insert(name);
            }
            for test in scene["promql_expr_test"].as_array().unwrap_or(&Vec::new()) {
                let expected: BTreeSet<String> = test["exp_samples"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .flat_map(|sample| label.captures_iter(text(&sample["labels"], "labels")))
                    .map(|name| name[1].to_owned())
                    .collect();
                let of_one = label.captures(text(&test["expr"], "expr")).map(|name| name[1].to_owned());
                // A question about all alerts says of those that are not named that they do not fire.
                quiet.extend(
                    of_one.map_or_else(|| names.clone(), |one| BTreeSet::from([one])).difference(&expected).cloned(),
                );
                fires.extend(expected);
            }
        }
    }
    assert_eq!((&quiet, &fires), (&names, &names));
}

#[test]
fn the_rules_ask_for_metrics_and_labels_that_exist() {
    let metrics = documented();
    for rule in rules() {
        let expression = text(&rule["expr"], "expr");
        let asked = asked_for(expression, &metrics);
        assert!(!asked.is_empty(), "{expression}");
    }
}

#[test]
fn the_plain_manifest_has_the_rules_of_the_chart() {
    let manifest = yaml("deploy/prometheus/prometheusrule.yaml");
    assert_eq!(manifest["kind"], "PrometheusRule");
    assert_eq!(manifest["spec"], yaml(RULES));
}

#[test]
fn every_reason_that_an_alert_names_is_one() {
    let quoted = Regex::new("reason[=!]~?\"([^\"]+)\"").unwrap();
    let mut named: BTreeMap<String, usize> = BTreeMap::new();
    for rule in rules() {
        for reasons in quoted.captures_iter(text(&rule["expr"], "expr")) {
            for reason in reasons[1].split('|') {
                assert!(konigle_operator::reason::Reason::of(reason).is_some(), "{reason}");
                *named.entry(reason.to_owned()).or_default() += 1;
            }
        }
    }
    // Each that has an alert of its own is left out of the one for the rest.
    assert!(named.len() > 5 && named.values().all(|times| *times == 2), "{named:?}");
}
