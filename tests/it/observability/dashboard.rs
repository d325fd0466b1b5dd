//! The dashboard: its queries are accepted by the real promtool and ask for what exists; each panel explains itself.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use regex::Regex;
use serde_json::{Value, json};

use super::documents::{asked_for, documented, own};
use crate::support::parts::part;
use crate::support::run_folder::{new_folder, package};
use crate::support::{Context, Failure, Result};

fn dashboard() -> Value {
    let text = fs::read_to_string(package().join("charts/konigle-operator/files/dashboard.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The panels that show something.
fn panels() -> Vec<Value> {
    let panels = dashboard()["panels"].as_array().unwrap().clone();
    let panels: Vec<Value> = panels.into_iter().filter(|panel| panel["type"] != "row").collect();
    assert!(panels.len() > 10);
    panels
}

/// All queries, with a value in place of each variable of Grafana.
fn queries() -> Vec<String> {
    let queries = panels().into_iter().flat_map(|panel| panel["targets"].as_array().unwrap().clone());
    let plain = |target: Value| {
        let expression = target["expr"].as_str().unwrap().replace("$__rate_interval", "5m");
        expression.replace("$namespace", "shop|.*").replace("$job", "konigle-operator")
    };
    queries.map(plain).collect()
}

#[test]
fn the_queries_ask_for_metrics_and_labels_that_exist_and_for_all_of_the_operators() {
    let metrics = documented();
    let asked: BTreeSet<String> = queries().iter().flat_map(|query| asked_for(query, &metrics)).collect();
    let hidden: Vec<String> = own().into_keys().filter(|name| !asked.contains(name)).collect();
    assert_eq!(hidden, ["process_threads"], "metrics that no panel shows");
}

#[test]
fn promtool_can_read_every_query() -> Result<()> {
    let rules: Vec<Value> = queries()
        .iter()
        .enumerate()
        .map(|(number, expr)| json!({"record": format!("query:{number}"), "expr": expr}))
        .collect();
    let file = new_folder("dashboard")?.join("queries.yaml");
    let groups = json!({"groups": [{"name": "queries", "rules": rules}]});
    fs::write(&file, groups.to_string()).context("writing the queries")?;
    let output = Command::new(part("promtool")?).args(["check", "rules"]).arg(&file).output().context("promtool")?;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if output.status.success() { Ok(()) } else { Err(Failure::new(said)) }
}

#[test]
fn each_panel_says_what_it_shows_in_which_unit_and_from_where() {
    let metrics = documented();
    let legend = Regex::new(r"\{\{(\w+)\}\}").unwrap();
    for panel in panels() {
        let title = panel["title"].as_str().unwrap_or_default();
        assert!(!title.is_empty(), "{panel}");
        assert!(panel["description"].as_str().is_some_and(|text| text.len() > 10), "{title} has no description");
        assert!(panel["fieldConfig"]["defaults"]["unit"].as_str().is_some(), "{title} has no unit");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let expression = target["expr"].as_str().unwrap();
            let labels: BTreeSet<&String> =
                asked_for(expression, &metrics).iter().flat_map(|name| &metrics[name].1).collect();
            for label in legend.captures_iter(target["legendFormat"].as_str().unwrap_or_default()) {
                assert!(labels.contains(&label[1].to_owned()), "{title}: the legend names {}", &label[1]);
            }
        }
    }
}

#[test]
fn the_variables_are_the_datasource_namespaces_and_operators() {
    let dashboard = dashboard();
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let named = |name: &str| variables.iter().find(|variable| variable["name"] == name).unwrap();
    assert_eq!(named("datasource")["query"], "prometheus");
    let label_of = Regex::new(r"^label_values\((\w+), (\w+)\)$").unwrap();
    for name in ["namespace", "job"] {
        let query = named(name)["query"]["query"].as_str().unwrap();
        let asked = label_of.captures(query).unwrap();
        assert!(documented().contains_key(&asked[1]) && &asked[2] == name, "{query}");
    }
    let text = dashboard["panels"].to_string();
    let used = Regex::new(r"\$\{?(\w+)").unwrap();
    for variable in used.captures_iter(&text) {
        assert!(["datasource", "namespace", "job", "__rate_interval"].contains(&&variable[1]), "{}", &variable[1]);
    }
}

#[test]
fn no_panel_covers_another() {
    let dashboard = dashboard();
    let mut taken = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for panel in dashboard["panels"].as_array().unwrap() {
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{}", panel["id"]);
        let [x, y, width, height] = ["x", "y", "w", "h"].map(|side| panel["gridPos"][side].as_u64().unwrap());
        assert!(x + width <= 24);
        for place in (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))) {
            assert!(taken.insert(place), "{} covers another panel", panel["title"]);
        }
    }
}
