//! Every combination of what health is read from that can be rendered, each kept as a file: what kstatus and Argo CD make of
//! them is tested on these (`tests/it/health.rs`). And Argo CD's settings, of the scripts beside them. `make generate` writes
//! them, and the tests compare.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{env, fs};

use serde_json::{Value, json};

use super::*;
use crate::desired::{Approval, Wish};
use crate::origin::{OciOrigin, OciReference, Origin};
use crate::plan::tests::all_rows;
use crate::test_facts::*;

/// As argo-cd keeps what it knows of a kind.
const FOLDER: &str = "deploy/argocd/resource_customizations/cloud.konigle.com/KonigleSpace";
const GENERATION: i64 = 3;

fn manifest(facts: &Facts, status: Option<&KonigleSpaceStatus>) -> Value {
    let (name, kind) = if facts.desired.promotes() { ("shop-production", "production") } else { ("shop-uat", "uat") };
    let mut resource = json!({
        "apiVersion": "cloud.konigle.com/v1alpha1",
        "kind": "KonigleSpace",
        "metadata": {"name": name, "namespace": "shop", "generation": GENERATION},
        "spec": {
            "space": {"computer": "web-1", "webapp": "shop", "type": kind},
            "credentials": {"secretRef": {"name": "konigle"}},
            "suspend": facts.desired.suspended,
        },
    });
    match &facts.desired.wish {
        Wish::Deploy(Origin::Http(http)) => {
            resource["spec"]["source"] = json!({"http": {"url": http.url.as_str(), "digest": http.digest.to_string()}});
        }
        Wish::Deploy(Origin::Oci(OciOrigin { repository, reference: OciReference::Tag(tag), .. })) => {
            resource["spec"]["source"] = json!({"oci": {"repository": repository.to_string(), "tag": tag}});
        }
        Wish::Deploy(origin) => panic!("{origin} is not among the facts"),
        Wish::Promote { from, approval } => {
            let mut promotion = json!({"from": {"name": from}});
            match approval {
                Approval::Automatic => promotion["policy"] = json!("Automatic"),
                Approval::Manual(Some(digest)) => promotion["approvedDigest"] = json!(digest.to_string()),
                Approval::Manual(None) => {}
            }
            resource["spec"]["promotion"] = promotion;
        }
    }
    if let Some(status) = status {
        resource["status"] = json!(KonigleSpaceStatus { observed_generation: GENERATION, ..status.clone() });
        for condition in resource["status"]["conditions"].as_array_mut().into_iter().flatten() {
            condition["observedGeneration"] = json!(GENERATION);
        }
    }
    resource
}

/// What both readers of health go by.
fn name(facts: &Facts, status: &KonigleSpaceStatus) -> String {
    let kind = if facts.desired.promotes() { "promotion" } else { "source" };
    let suspended = if facts.desired.suspended { "-suspended" } else { "" };
    format!("{kind}{suspended}-{}", what_people_see(status).to_lowercase().replace(' ', "-"))
}

/// What Argo CD is to say, as docs/gitops.md and the health script have it.
fn health(resource: &Value) -> (&'static str, String) {
    let status = &resource["status"];
    let condition = |kind: &str| {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        conditions.into_iter().find(|condition| condition["type"] == kind)
    };
    let message = |kind: &str| {
        let text = |key: &str| condition(kind).and_then(|condition| condition[key].as_str()).unwrap_or_default();
        format!("{}: {}", text("reason"), text("message"))
    };
    let is_true = |kind: &str| condition(kind).is_some_and(|condition| condition["status"] == "True");
    let (observed, generation) = (&status["observedGeneration"], &resource["metadata"]["generation"]);
    if observed != generation || condition("Ready").is_none() {
        return ("Progressing", "waiting for konigle-operator to look at this version".to_owned());
    }
    if is_true("Stalled") {
        return ("Degraded", message("Stalled"));
    }
    let ready = is_true("Ready");
    if resource["spec"]["suspend"] == true && !ready {
        return ("Suspended", message("Ready"));
    }
    (if ready { "Healthy" } else { "Progressing" }, message("Ready"))
}

/// Every resource by the name of its file.
fn resources() -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut add = |facts: &Facts, status: &KonigleSpaceStatus| {
        found.entry(name(facts, status)).or_insert_with(|| manifest(facts, Some(status)));
    };
    for (facts, ..) in all_rows() {
        // In the pass that finds it, in the next, and both where it is suspended.
        for facts in [facts.clone(), facts.clone().suspended()] {
            add(&facts, &facts.render());
            let next = facts.next();
            add(&next, &next.render());
        }
    }
    let facts = Facts::uat();
    let too_old = Problem { reason: Reason::CRDOutdated, message: "the installed CRD is older".to_owned() };
    add(&facts, &stalled(&facts.status, GENERATION, &too_old, now()));
    // Before the first pass, without the default of the schema, and after an edit.
    let settled = Facts::uat().runs(A).next();
    let mut edited = manifest(&settled, Some(&settled.render()));
    edited["metadata"]["generation"] = json!(GENERATION + 1);
    edited["status"]["observedGeneration"] = json!(GENERATION);
    let mut new = manifest(&facts, None);
    found.insert("status-missing".to_owned(), new.clone());
    new["status"] = json!({"observedGeneration": -1});
    found.insert("status-by-default".to_owned(), new);
    found.insert("status-of-an-older-generation".to_owned(), edited);
    found
}

/// All files below the folder, by their path in it.
fn files() -> BTreeMap<PathBuf, String> {
    let mut files = BTreeMap::new();
    let mut tests = Vec::new();
    for (name, resource) in resources() {
        let path = format!("testdata/{name}.yaml");
        let (status, message) = health(&resource);
        tests.push(json!({"healthStatus": {"status": status, "message": message}, "inputPath": path}));
        files.insert(PathBuf::from(path), serde_saphyr::to_string(&resource).unwrap());
    }
    files.insert(PathBuf::from("health_test.yaml"), serde_saphyr::to_string(&json!({"tests": tests})).unwrap());
    files
}

#[test]
fn every_status_is_kept_for_the_readers_of_health() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
    let files = files();
    if env::var_os("GENERATE").is_some() {
        fs::remove_dir_all(folder.join("testdata")).unwrap();
        fs::create_dir_all(folder.join("testdata")).unwrap();
        for (path, text) in &files {
            fs::write(folder.join(path), text).unwrap();
        }
    }
    let kept = fs::read_dir(folder.join("testdata")).unwrap();
    let kept: Vec<PathBuf> = kept.map(|entry| Path::new("testdata").join(entry.unwrap().file_name())).collect();
    let left: Vec<&PathBuf> = kept.iter().filter(|path| !files.contains_key(*path)).collect();
    assert!(left.is_empty(), "nothing renders {left:?}: run `make generate`");
    for (path, text) in &files {
        let kept = fs::read_to_string(folder.join(path)).unwrap_or_default();
        assert_eq!(kept, *text, "{} is not what the code says: run `make generate`", path.display());
    }
}

/// What people lay over Argo CD's own settings: the scripts of the folder, as they stand there.
fn argocd_cm() -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
    let script = |path: &str, depth: usize| -> String {
        let text = fs::read_to_string(folder.join(path)).unwrap();
        let indented = |line: &str| if line.is_empty() { "\n".to_owned() } else { format!("{:depth$}{line}\n", "") };
        text.lines().map(indented).collect()
    };
    let mut text = format!(
        "\
# How Argo CD reads the health of a KonigleSpace, and which actions it offers for one. Laid over the ConfigMap that is
# there, by
#   kubectl -n argocd patch configmap argocd-cm --patch-file deploy/argocd/argocd-cm.yaml
# or as a patch in the kustomization that installs Argo CD. It takes effect at once. Made by `make generate` from
# {FOLDER}.
apiVersion: v1
kind: ConfigMap
metadata: {{name: argocd-cm, namespace: argocd}}
data:
  resource.customizations.health.cloud.konigle.com_KonigleSpace: |
{}  resource.customizations.actions.cloud.konigle.com_KonigleSpace: |
    discovery.lua: |
{}    definitions:
",
        script("health.lua", 4),
        script("actions/discovery.lua", 6),
    );
    for action in ["reconcile", "suspend", "resume", "reset"] {
        let script = script(&format!("actions/{action}/action.lua"), 10);
        text = format!("{text}      - name: {action}\n        action.lua: |\n{script}");
    }
    text
}

#[test]
fn argocd_cm_holds_the_very_scripts() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/argocd/argocd-cm.yaml");
    if env::var_os("GENERATE").is_some() {
        fs::write(&file, argocd_cm()).unwrap();
    }
    let kept = fs::read_to_string(file).unwrap_or_default();
    assert_eq!(kept, argocd_cm(), "argocd-cm.yaml is not what the scripts say: run `make generate`");
    // What is indented by hand is read as it is meant.
    let kept: Value = serde_saphyr::from_str(&kept).unwrap();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(FOLDER);
    let script = |path: &str| fs::read_to_string(folder.join(path)).unwrap();
    let customization =
        |what: &str| kept["data"][format!("resource.customizations.{what}.cloud.konigle.com_KonigleSpace")].clone();
    assert_eq!(customization("health"), script("health.lua"));
    let actions: Value = serde_saphyr::from_str(customization("actions").as_str().unwrap()).unwrap();
    assert_eq!(actions["discovery.lua"], script("actions/discovery.lua"));
    let definitions = actions["definitions"].as_array().unwrap();
    let folders = fs::read_dir(folder.join("actions")).unwrap().filter(|entry| {
        let path = entry.as_ref().unwrap().path();
        path.join("action.lua").is_file()
    });
    assert_eq!(definitions.len(), folders.count(), "an action is missing");
    for action in definitions {
        let name = action["name"].as_str().unwrap();
        assert_eq!(action["action.lua"], script(&format!("actions/{name}/action.lua")));
    }
}

#[test]
fn the_kept_statuses_have_every_reason_that_ready_can_have() {
    let resources = resources();
    let has = |reason: &Reason| {
        let conditions = |resource: &Value| resource["status"]["conditions"].as_array().cloned().unwrap_or_default();
        resources.values().flat_map(conditions).any(|it| it["type"] == "Ready" && it["reason"] == reason.word())
    };
    // What other conditions say of a promotion.
    let elsewhere = |reason: &Reason| {
        use Reason::{
            AdoptedWithoutJob, NotYetConfirmed, SourceBusy, SourceChanged, SourceDrifted, SourceNotConfirmed,
            SourceUnchanged,
        };
        let of_others = [
            SourceNotConfirmed,
            SourceDrifted,
            SourceBusy,
            SourceUnchanged,
            SourceChanged,
            NotYetConfirmed,
            AdoptedWithoutJob,
        ];
        of_others.contains(reason)
    };
    let missing: Vec<&Reason> = Reason::ALL.iter().filter(|reason| !has(reason) && !elsewhere(reason)).collect();
    assert!(missing.is_empty(), "no kept status has {missing:?}");
}
