//! The log of the built operator: one line for each decision, with the same names for the same things, and no second one
//! for what is still so. That it is silent while nothing happens stands in `steady.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;

use regex::Regex;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::{Value, json};

use crate::support::namespace::wait_for;
use crate::support::run_folder::package;
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, Stage};
use crate::support::{Context, Result};

/// A line whose fields all differ: of two with one name a reader sees one at most.
#[derive(Debug)]
struct Line(BTreeMap<String, Value>);

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Line;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a line of the log")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Line, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((key, value)) = map.next_entry::<String, Value>()? {
                    if fields.insert(key.clone(), value).is_some() {
                        return Err(serde::de::Error::custom(format!("{key} is there twice")));
                    }
                }
                Ok(Line(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl Line {
    fn text(&self, field: &str) -> &str {
        self.0.get(field).and_then(Value::as_str).unwrap_or_default()
    }
}

fn lines(stage: &Stage) -> Result<Vec<Line>> {
    let text = fs::read_to_string(stage.operator.log())?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).context(format!("reading {line}"))).collect()
}

/// What the lines about a resource say: the message, or the reason where there is one, with the attempt.
fn story(stage: &Stage) -> Result<Vec<String>> {
    let about = |line: &&Line| line.0.contains_key("generation");
    let all = lines(stage)?;
    let told = all.iter().filter(about).map(|line| {
        assert_eq!((line.text("namespace"), line.text("name")), (stage.namespace.name(), SHOP), "{line:?}");
        let what = if line.text("reason").is_empty() { line.text("message") } else { line.text("reason") };
        format!("{what} {}", line.0.get("attempt").unwrap_or(&Value::Null))
    });
    Ok(told.collect())
}

#[tokio::test]
async fn each_decision_is_one_line_with_its_resource_attempt_and_job() -> Result<()> {
    let stage = Stage::open("told").await?;
    stage.simulator.change_space(UAT, &json!({"next_jobs": [{"outcome": "failed", "error": "no"}]})).await?;
    let mut wish = stage.wish("1.0")?;
    wish["retry"] = json!({"limit": 1});
    stage.namespace.apply(SHOP, &wish).await?;
    stage.namespace.wait_for_reason(SHOP, "RetriesExceeded").await?;
    stage.deployed("1.1").await?;
    stage.simulator.fault(&json!({"operation": "deploy", "when": "after", "action": "drop"})).await?;
    let mut wish = stage.wish("1.2")?;
    wish["timeout"] = json!("5s");
    stage.namespace.apply(SHOP, &wish).await?;
    stage
        .namespace
        .wait_for(SHOP, "adopted", |space| {
            space.status.as_ref().is_some_and(|status| status.last_attempt == 3 && status.attempt.is_none())
        })
        .await?;

    let expected = [
        "claimed 1",
        "accepted 1",
        "DeployFailed 1",
        "RetriesExceeded 1",
        "claimed 2",
        "accepted 2",
        "DeploySucceeded 2",
        "claimed 3",
        "no answer that tells the outcome 3",
        "DeploySucceeded 3",
    ];
    wait_for("all is logged", async || Ok((story(&stage)?.len() >= expected.len()).then_some(()))).await?;
    assert_eq!(story(&stage)?, expected);
    let all = lines(&stage)?;
    let jobs: Vec<&Value> =
        all.iter().filter(|line| line.text("message") == "accepted").map(|it| &it.0["job"]).collect();
    let ledger = stage.simulator.ledger(UAT).await?;
    assert_eq!(jobs, [&ledger[0]["job"], &ledger[1]["job"]]);
    let ended = all.iter().find(|line| line.text("reason") == "DeploySucceeded").expect("it is told");
    assert_eq!((&ended.0["job"], ended.text("level")), (&ledger[1]["job"], "INFO"));
    let failed = all.iter().find(|line| line.text("reason") == "DeployFailed").expect("it is told");
    assert_eq!((&failed.0["job"], failed.text("level")), (&ledger[0]["job"], "WARN"));
    let fetched: Vec<&Line> = all.iter().filter(|line| line.text("message") == "artifact fetched").collect();
    assert_eq!(fetched.len(), 3);
    assert!(fetched.iter().all(|line| line.text("name") == SHOP && line.text("digest").starts_with("sha256:")));
    Ok(())
}

#[tokio::test]
async fn what_is_still_so_is_not_told_again() -> Result<()> {
    let stage = Stage::open_with("told-once", 0.5, |options| options).await?;
    stage.deployed("1.0").await?;
    stage.simulator.change_space(UAT, &json!({"status": "hibernating"})).await?;
    for _ in 0..3 {
        stage.look_now(SHOP).await?;
    }
    stage.namespace.write_token("another-token").await?;
    for _ in 0..3 {
        stage.look_now(SHOP).await?;
    }
    let told = |part: &str| -> Result<usize> {
        Ok(lines(&stage)?.iter().filter(|line| line.text("message").contains(part)).count())
    };
    assert_eq!((told("status that is not known")?, told("answered 401")?), (1, 1));
    Ok(())
}

#[tokio::test]
async fn the_text_for_people_names_the_resource_and_has_no_colours_in_a_file() -> Result<()> {
    let stage = Stage::open_with("readable", 0.5, |options| options.flag("--log-format=text")).await?;
    stage.deployed("1.0").await?;
    let text = fs::read_to_string(stage.operator.log())?;
    let around = format!("reconcile{{namespace=\"{}\" generation=1 name=\"{SHOP}\"}}", stage.namespace.name());
    let line = text.lines().find(|line| line.contains("accepted")).unwrap_or_else(|| panic!("{text}"));
    assert!(line.contains(&around) && line.contains("attempt=1 job="), "{line}");
    assert!(!text.contains('\u{1b}'), "{text}");
    Ok(())
}

#[tokio::test]
async fn at_a_higher_level_a_line_still_names_its_resource() -> Result<()> {
    let stage = Stage::open_with("warned-only", 0.5, |options| options.flag("--log-level=warn")).await?;
    stage.simulator.change_space(UAT, &json!({"next_jobs": [{"outcome": "failed", "error": "no"}]})).await?;
    let mut wish = stage.wish("1.0")?;
    wish["retry"] = json!({"limit": 1});
    stage.namespace.apply(SHOP, &wish).await?;
    stage.namespace.wait_for_reason(SHOP, "RetriesExceeded").await?;
    wait_for("all is logged", async || Ok((story(&stage)?.len() >= 2).then_some(()))).await?;
    assert_eq!(story(&stage)?, ["DeployFailed 1", "RetriesExceeded 1"]);
    assert!(lines(&stage)?.iter().all(|line| line.text("level") == "WARN"));
    Ok(())
}

/// The names of the fields in the code are those of the document, each for one thing.
#[test]
fn fields_have_the_names_of_the_document() {
    let document = fs::read_to_string(package().join("docs/logs-and-traces.md")).unwrap();
    let row = Regex::new(r"(?m)^\| `(\w+)` \|").unwrap();
    let known: BTreeSet<String> = row.captures_iter(&document).map(|name| name[1].to_owned()).collect();
    let call = Regex::new(r#"\b(?:info|warn|error)!\(([^"]*)""#).unwrap();
    let span = Regex::new(r#"_span!\((?:parent: None, )?"\w+", ([^)]*)\)"#).unwrap();
    let strings = Regex::new(r#""(?:[^"\\]|\\.)*""#).unwrap();
    let (mut used, mut folders) = (BTreeSet::new(), vec![package().join("src")]);
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() && !path.ends_with("sim") && !path.ends_with("bin") {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                let spans = span.captures_iter(&text).map(|found| strings.replace_all(&found[1], "").into_owned());
                for fields in call.captures_iter(&text).map(|found| found[1].to_owned()).chain(spans) {
                    let names = fields.split(',').map(|field| field.split('=').next().unwrap_or_default());
                    let name = |name: &str| name.trim().trim_start_matches(['?', '%']).to_owned();
                    used.extend(names.map(name).filter(|name| !name.is_empty()));
                }
            }
        }
    }
    used.retain(|name| !name.starts_with("otel."));
    assert!(used.len() > 10, "{used:?}");
    assert_eq!(used, known, "fields in the code, and those of docs/logs-and-traces.md");
}
