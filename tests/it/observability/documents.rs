//! What the documents say of the metrics is what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use konigle_operator::metrics::Metrics;
use regex::Regex;
use serde_json::Value;

use crate::support::Result;
use crate::support::exposition::Exposition;
use crate::support::run_folder::package;

/// Metrics by their name, with their type and the names of their labels.
pub(super) type Metric = BTreeMap<String, (String, BTreeSet<String>)>;

/// The labels that Prometheus itself adds, by what it scraped.
const OF_THE_TARGET: [&str; 4] = ["job", "instance", "namespace", "pod"];

/// The metrics in the tables of `docs/metrics.md`.
pub(super) fn documented() -> Metric {
    let text = fs::read_to_string(package().join("docs/metrics.md")).unwrap();
    let words = |cell: &str| -> BTreeSet<String> {
        cell.split(',').map(|word| word.trim().trim_matches('`').to_owned()).filter(|word| !word.is_empty()).collect()
    };
    let row = |line: &str| {
        let cells: Vec<&str> = line.strip_prefix("| `")?.split('|').collect();
        let (name, kind, labels, meaning) = (cells[0].trim(), cells[1].trim(), words(cells[2]), cells[3].trim());
        assert!(!meaning.is_empty(), "{name} has no meaning");
        Some((name.trim_matches('`').to_owned(), (kind.to_owned(), labels)))
    };
    text.lines().filter_map(row).collect()
}

/// The operator's own metrics.
pub(super) fn own() -> Metric {
    Exposition::parse(&Metrics::new().text()).unwrap().metrics()
}

/// The metrics that kube-state-metrics makes by the configuration in `deploy/kube-state-metrics`.
pub(super) fn of_each_space() -> Metric {
    let text = fs::read_to_string(package().join("deploy/kube-state-metrics/config.yaml")).unwrap();
    let config: Value = serde_saphyr::from_str(&text).unwrap();
    let resource = &config["spec"]["resources"][0];
    let names = |labels: &Value| -> Vec<String> {
        labels.as_object().map(|labels| labels.keys().cloned().collect()).unwrap_or_default()
    };
    let metric = |metric: &Value| {
        let each = &metric["each"];
        let (kind, own) = match each["type"].as_str().unwrap() {
            "Gauge" => ("gauge", &each["gauge"]),
            "Info" => ("info", &each["info"]),
            other => panic!("{other} is not known here"),
        };
        let labels = names(&resource["labelsFromPath"]).into_iter().chain(names(&own["labelsFromPath"])).collect();
        let prefix = resource["metricNamePrefix"].as_str().unwrap();
        assert!(metric["help"].as_str().is_some_and(|help| !help.is_empty()), "{metric}");
        (format!("{prefix}_{}", metric["name"].as_str().unwrap()), (kind.to_owned(), labels))
    };
    resource["metrics"].as_array().unwrap().iter().map(metric).collect()
}

/// The metrics that a `PromQL` expression asks for. Panics where one, or a label of it, does not exist.
pub(super) fn asked_for(expression: &str, metrics: &Metric) -> BTreeSet<String> {
    let selector = Regex::new(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(?:\{([^}]*)\})?").unwrap();
    let matcher = Regex::new(r#"([a-zA-Z_]\w*)\s*(?:=~|!~|!=|=)\s*"(?:[^"\\]|\\.)*""#).unwrap();
    let grouping = Regex::new(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)").unwrap();
    let range = Regex::new(r"\[[^\]]*\]|\boffset\s+\w+").unwrap();
    let without = range.replace_all(expression, " ");
    let without = grouping.replace_all(&without, " ");
    let known = |name: &str| {
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
        let family = family.filter(|family| metrics.get(*family).is_some_and(|(kind, _)| kind == "histogram"));
        metrics.get_key_value(family.unwrap_or(name))
    };
    let (mut asked, mut labels) = (BTreeSet::new(), BTreeSet::from(["le".to_owned()]));
    for found in selector.captures_iter(&without) {
        let rest = &without[found.get(0).unwrap().end()..];
        let function = found.get(2).is_none() && rest.starts_with('(');
        let word = ["and", "or", "unless", "bool", "inf"].contains(&&found[1]);
        if function || word {
            continue;
        }
        let (name, (_, own)) = known(&found[1]).unwrap_or_else(|| panic!("no metric {} in {expression}", &found[1]));
        for label in matcher.captures_iter(found.get(2).map_or("", |labels| labels.as_str())) {
            let exists = own.contains(&label[1]) || OF_THE_TARGET.contains(&&label[1]) || &label[1] == "le";
            assert!(exists, "{name} has no label {} in {expression}", &label[1]);
        }
        labels.extend(own.iter().cloned());
        asked.insert(name.clone());
    }
    for group in grouping.captures_iter(expression) {
        for label in group[1].split(',').map(str::trim).filter(|label| !label.is_empty()) {
            let exists = labels.contains(label) || OF_THE_TARGET.contains(&label);
            assert!(exists, "no metric here has the label {label}: {expression}");
        }
    }
    asked
}

#[test]
fn what_does_not_exist_is_found_in_an_expression() {
    let labels = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect::<BTreeSet<_>>();
    let metrics: Metric = [
        ("jobs_total".to_owned(), ("counter".to_owned(), labels(&["type"]))),
        ("time_seconds".to_owned(), ("histogram".to_owned(), labels(&[]))),
    ]
    .into();
    let good = r#"histogram_quantile(0.9, sum by (le) (rate(time_seconds_bucket{namespace="$n"}[5m]))) and on (type) jobs_total{type=~"a|b"} > 0"#;
    assert_eq!(asked_for(good, &metrics), labels(&["jobs_total", "time_seconds"]));
    for wrong in [
        "rate(job_total[5m])",
        "rate(jobs_total_bucket[5m])",
        r#"jobs_total{kind="a"}"#,
        "sum by (kind) (jobs_total)",
        "time_seconds > on (type) time_seconds",
    ] {
        let result = std::panic::catch_unwind(|| asked_for(wrong, &metrics));
        assert!(result.is_err(), "{wrong}");
    }
}

#[test]
fn every_metric_is_documented_and_no_other_is() {
    let (spaces, operator): (Metric, Metric) =
        documented().into_iter().partition(|(name, _)| name.starts_with("konigle_space_"));
    assert_eq!(operator, own());
    assert_eq!(spaces, of_each_space());
}

#[test]
fn every_metric_says_what_it_is_and_is_there_from_the_start() -> Result<()> {
    let page = Exposition::parse(&Metrics::new().text())?;
    assert!(page.families.len() > 15, "{page:?}");
    for (name, family) in &page.families {
        assert!(family.help.len() > 5 && family.help.ends_with('.'), "{name}: {:?}", family.help);
        let shown = page.samples.iter().any(|sample| sample.name.starts_with(name));
        assert!(shown, "{name} has no series before something happens");
    }
    for sample in page.samples.iter().filter(|sample| sample.name.starts_with("konigle_")) {
        let expected = if sample.name == "konigle_build_info" { 1.0 } else { 0.0 };
        assert!((sample.value - expected).abs() < f64::EPSILON, "{sample:?}");
    }
    Ok(())
}
