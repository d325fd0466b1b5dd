//! How health is read by those who wait for it: kstatus, the library of Flux and others, and Argo CD's Lua machine, each the
//! real one, on every combination that the operator can render.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::support::parts::{answers, part};
use crate::support::rights::manifest;
use crate::support::run_folder::package;
use crate::support::{Context, Failure, Result};

fn customizations() -> PathBuf {
    package().join("deploy/argocd/resource_customizations/cloud.konigle.com/KonigleSpace")
}

fn text(path: &str) -> Result<String> {
    fs::read_to_string(customizations().join(path)).context(format!("reading {path}"))
}

fn yaml(path: &str) -> Result<Value> {
    Ok(serde_saphyr::from_str(&text(path)?)?)
}

/// All kept resources, by the path of their file.
fn resources() -> Result<Vec<(String, Value)>> {
    let mut resources = Vec::new();
    for entry in fs::read_dir(customizations().join("testdata")).context("reading the folder")? {
        let path = format!("testdata/{}", entry?.file_name().to_string_lossy());
        let resource = yaml(&path)?;
        resources.push((path, resource));
    }
    resources.sort_by(|one, other| one.0.cmp(&other.0));
    if resources.len() < 70 {
        return Err(Failure::new(format!("there are only {} resources", resources.len())));
    }
    Ok(resources)
}

/// Those that the API server may show: it shows none without status, which has the default of the schema.
fn resources_as_served() -> Result<Vec<(String, Value)>> {
    let mut resources = resources()?;
    resources.retain(|(path, _)| path != "testdata/status-missing.yaml");
    Ok(resources)
}

/// What kstatus is to say, as ARCHITECTURE has it: it goes by observedGeneration, Stalled, Reconciling and Ready.
fn expected_of_kstatus(resource: &Value) -> &'static str {
    let status = &resource["status"];
    let is = |kind: &str, word: &str| {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().any(|condition| condition["type"] == kind && condition["status"] == word)
    };
    if status["observedGeneration"] != resource["metadata"]["generation"] {
        "InProgress"
    } else if is("Stalled", "True") {
        "Failed"
    } else if is("Ready", "True") {
        "Current"
    } else {
        "InProgress"
    }
}

#[test]
fn kstatus_reads_every_status_as_it_is_meant() -> Result<()> {
    let resources = resources_as_served()?;
    let mut wrong = Vec::new();
    for ((path, resource), answer) in resources.iter().zip(kstatus(&resources)?) {
        let expected = expected_of_kstatus(resource);
        if answer != expected {
            wrong.push(format!("{path}: {answer}, not {expected}"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::new(wrong.join("\n"))) }
}

/// What kstatus says of these resources.
fn kstatus(resources: &[(String, Value)]) -> Result<Vec<String>> {
    let lines: Vec<String> = resources.iter().map(|(_, resource)| resource.to_string()).collect();
    let words = |answer: String| answer.split('\t').next().unwrap_or_default().to_owned();
    Ok(answers(&part("kstatus")?, &lines)?.into_iter().map(words).collect())
}

#[test]
fn flux_reads_by_the_snippet_as_by_itself_but_for_suspended_spaces() -> Result<()> {
    let expressions = manifest("deploy/flux/suspended-never-blocks.yaml", "Kustomization", "shop-uat")?;
    let expressions = &expressions["spec"]["healthCheckExprs"][0];
    let resources = resources_as_served()?;
    let line = |(_, resource): &(String, Value)| json!({"expressions": expressions, "object": resource}).to_string();
    let lines: Vec<String> = resources.iter().map(line).collect();
    let by_snippet = answers(&part("flux-health")?, &lines)?;
    let (mut wrong, mut differ) = (Vec::new(), 0);
    for (((path, resource), by_itself), by_snippet) in resources.iter().zip(kstatus(&resources)?).zip(by_snippet) {
        let is_observed = resource["status"]["observedGeneration"] == resource["metadata"]["generation"];
        let never_blocks = resource["spec"]["suspend"] == true && is_observed && by_itself == "InProgress";
        differ += i32::from(never_blocks);
        let expected = if never_blocks { "Current" } else { &by_itself };
        if by_snippet != expected {
            wrong.push(format!("{path}: {by_snippet}, not {expected}"));
        }
    }
    if differ < 3 {
        wrong.push(format!("only {differ} resources are suspended before their wish is met"));
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::new(wrong.join("\n"))) }
}

#[test]
fn flux_waits_longer_than_the_jobs_of_a_commit_may_take() -> Result<()> {
    let crd = serde_json::to_value(konigle_operator::api::crd())?;
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let job = minutes(&schema["properties"]["spec"]["properties"]["timeout"]["default"])?;
    // A promotion may have to wait for the deploy of what is approved.
    for (name, jobs) in [("shop-uat", 1), ("shop-production", 2)] {
        let spec = manifest("deploy/flux/shop.yaml", "Kustomization", name)?["spec"].clone();
        let timeout = minutes(&spec["timeout"])?;
        if timeout <= jobs * job || spec["wait"] != true {
            return Err(Failure::new(format!("{name} waits {timeout} min for {jobs} jobs of {job} min")));
        }
    }
    Ok(())
}

fn minutes(duration: &Value) -> Result<u32> {
    let text = duration.as_str().and_then(|text| text.strip_suffix('m'));
    Ok(text.ok_or_else(|| Failure::new(format!("{duration} are no minutes")))?.parse()?)
}

#[test]
fn argo_cd_reads_every_status_as_it_is_meant() -> Result<()> {
    let script = text("health.lua")?;
    let tests = yaml("health_test.yaml")?;
    let tests = tests["tests"].as_array().cloned().unwrap_or_default();
    let tested: Vec<&str> = tests.iter().filter_map(|test| test["inputPath"].as_str()).collect();
    let kept: Vec<String> = resources()?.into_iter().map(|(path, _)| path).collect();
    if tested != kept {
        return Err(Failure::new("health_test.yaml does not name the files that are there"));
    }
    let mut lines = Vec::new();
    for path in &kept {
        lines.push(json!({"kind": "health", "script": script, "object": yaml(path)?}).to_string());
    }
    let mut wrong = Vec::new();
    for (test, answer) in tests.iter().zip(answers(&part("argocd-lua")?, &lines)?) {
        let answer: Value = serde_json::from_str(&answer)?;
        if answer != test["healthStatus"] {
            wrong.push(format!("{}: {answer}, not {}", test["inputPath"], test["healthStatus"]));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(Failure::new(wrong.join("\n"))) }
}

#[test]
fn argo_cd_offers_and_does_what_people_may_ask_for() -> Result<()> {
    let tests = yaml("actions/action_test.yaml")?;
    let list = |key: &str| tests[key].as_array().cloned().unwrap_or_default();
    let object = |test: &Value, key: &str| yaml(&format!("actions/{}", test[key].as_str().unwrap_or_default()));
    let discovery = text("actions/discovery.lua")?;
    let mut lines = Vec::new();
    let mut expected = Vec::new();
    for test in list("discoveryTests") {
        lines
            .push(json!({"kind": "discovery", "script": discovery, "object": object(&test, "inputPath")?}).to_string());
        expected.push(in_order(test["result"].clone()));
    }
    for test in list("actionTests") {
        let script = text(&format!("actions/{}/action.lua", test["action"].as_str().unwrap_or_default()))?;
        lines.push(json!({"kind": "action", "script": script, "object": object(&test, "inputPath")?}).to_string());
        expected.push(json!([object(&test, "expectedOutputPath")?]));
    }
    if list("actionTests").len() != 4 {
        return Err(Failure::new("each of the four actions is to be tested"));
    }
    for ((answer, expected), line) in answers(&part("argocd-lua")?, &lines)?.iter().zip(expected).zip(&lines) {
        let answer = in_order(serde_json::from_str(answer)?);
        if answer != expected {
            return Err(Failure::new(format!("{line}: {answer}, not {expected}")));
        }
    }
    Ok(())
}

/// Offers by their names, and of each what the tests say: Argo CD keeps them in no order, and with more fields.
fn in_order(offers: Value) -> Value {
    let Value::Array(mut offers) = offers else { return offers };
    if offers.iter().any(|offer| offer.get("name").is_none()) {
        return Value::Array(offers);
    }
    offers.sort_by_key(|offer| offer["name"].to_string());
    let plain = |offer: &Value| json!({"name": offer["name"], "disabled": offer["disabled"] == true});
    Value::Array(offers.iter().map(plain).collect())
}
