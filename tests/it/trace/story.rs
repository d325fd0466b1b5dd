//! Made-up traces in which all is right: a deploy, a promotion after it, one more attempt, and one more resource.

use std::time::Duration;

use jiff::Timestamp;
use konigle_operator::api::AttemptType;
use serde_json::{Value, json};

use crate::support::trace::history::{Job, Life, Post, Shown, Trace, Version};

pub(super) const UAT: &str = "1001";
const PRODUCTION: &str = "1002";
const SHA256: &str = "9f86d081884c";

/// That many seconds after the beginning.
pub(super) fn time(seconds: i64) -> Option<Timestamp> {
    Timestamp::from_second(1_790_000_000 + seconds).ok()
}

/// The same in milliseconds.
pub(super) fn ms(seconds: i32) -> f64 {
    1_790_000_000_000.0 + f64::from(seconds) * 1e3
}

fn version(name: &str, generation: i64, second: i32, status: &Value) -> Version {
    let stored = time(second.into()).map(|time| time.to_string());
    let object = json!({
        "metadata": {
            "name": name, "uid": format!("uid of {name}"), "resourceVersion": format!("{name}-{second}"),
            "namespace": "shop", "creationTimestamp": time(0).map(|time| time.to_string()),
            "generation": generation, "managedFields": [{"time": stored}],
        },
        "spec": {"retry": {"limit": 3}},
        "status": status,
    });
    Version::read(&object, ms(second) + 300.0, Shown::Watched)
}

fn attempt(number: i64, cause: &str, job: Option<&str>) -> Value {
    let conditions = json!([{"type": "Reconciling", "status": "True", "reason": "DeployRunning"}]);
    json!({"observedGeneration": 1, "lastAttempt": number, "conditions": conditions, "attempt": {
        "number": number, "type": "Deploy", "digest": format!("sha256:{SHA256}"), "nonce": format!("k{number}"),
        "cause": cause, "sentTo": {"baseURL": "https://konigle.example", "spaceID": UAT}, "jobID": job,
    }})
}

fn released(number: i64, space: &str, job: &str) -> Value {
    json!({"observedGeneration": 1, "lastAttempt": number, "space": {"id": space}, "release": {
        "digest": format!("sha256:{SHA256}"), "jobID": job, "attribution": "Confirmed",
    }})
}

fn job(kind: &str, id: &str, space: &str, display_name: &str, second: i32) -> Job {
    Job {
        run: 1,
        id: id.to_owned(),
        kind: kind.to_owned(),
        by_person: false,
        space: space.to_owned(),
        sha256: Some(SHA256.to_owned()),
        display_name: Some(display_name.to_owned()),
        time: time(second.into()).unwrap(),
        ended: time(i64::from(second) + 2),
        ended_ms: Some(ms(second + 2)),
        outcome: Some("success".to_owned()),
    }
}

fn post(operation: &str, display_name: Option<String>, job: &str, second: i32) -> Post {
    Post {
        run: 1,
        operation: operation.to_owned(),
        object: UAT.to_owned(),
        arrived_ms: ms(second),
        display_name,
        job: Some(job.to_owned()),
        status: Some(201),
    }
}

/// One deploy, from the manifest to Confirmed ten seconds later.
pub(super) fn deployed() -> Trace {
    let name = "shop/shop-uat #1 sha256:9f86d081884c [k1]".to_owned();
    Trace {
        versions: vec![
            version("shop-uat", 1, 0, &json!({"observedGeneration": -1})),
            version("shop-uat", 1, 1, &attempt(1, "Spec", None)),
            version("shop-uat", 1, 2, &attempt(1, "Spec", Some("job-1"))),
            version("shop-uat", 1, 10, &released(1, UAT, "job-1")),
        ],
        posts: vec![post("deploy", Some(name.clone()), "job-1", 2)],
        jobs: vec![job("deploy", "job-1", UAT, &name, 2)],
        webapps: [UAT, PRODUCTION].map(|space| ((1, space.to_owned()), "shop".to_owned())).into(),
        lives: vec![Life { begun_ms: ms(-2), ready_ms: Some(ms(-1)), ended_ms: None, settle: Duration::from_secs(5) }],
        gaps: Vec::new(),
        unread: Vec::new(),
        deaths: Vec::new(),
        read_lag_ms: 0.0,
    }
}

/// A deploy, and its promotion.
pub(super) fn promoted() -> Trace {
    let mut trace = deployed();
    promote(&mut trace, 12, (1, "Spec", 1), "job-p");
    let verified = trace.versions.iter_mut().rfind(|version| version.name == "shop-production").unwrap();
    let condition = json!({"type": "ContentVerified", "status": "True", "reason": "SourceUnchanged"});
    verified.status.conditions = vec![serde_json::from_value(condition).unwrap()];
    trace
}

/// Promotes from this second on, with this number, cause and generation.
fn promote(trace: &mut Trace, second: i32, (number, cause, generation): (i64, &str, i64), job_id: &str) {
    let nonce = format!("kp{number}");
    let mut claim = attempt(number, cause, None);
    claim["attempt"]["type"] = json!("Promote");
    claim["attempt"]["sentTo"]["spaceID"] = json!(PRODUCTION);
    claim["attempt"]["nonce"] = json!(nonce);
    claim["attempt"]["baseline"]["source"] = json!({"name": "shop-uat", "uid": "uid of shop-uat", "spaceID": UAT});
    trace.versions.push(version("shop-production", generation, second, &claim));
    let mut held = released(1, UAT, "job-1");
    held["heldBy"] =
        json!({"name": "shop-production", "uid": "uid of shop-production", "attempt": number, "nonce": nonce});
    trace.versions.push(version("shop-uat", 1, second, &held));
    claim["attempt"]["jobID"] = json!(job_id);
    trace.versions.push(version("shop-production", generation, second + 1, &claim));
    trace.versions.push(version("shop-production", generation, second + 8, &released(number, PRODUCTION, job_id)));
    trace.versions.push(version("shop-uat", 1, second + 9, &released(1, UAT, "job-1")));
    trace.posts.push(post("promote", None, job_id, second + 1));
    trace.jobs.push(job("promote", job_id, PRODUCTION, "Promotion 7", second + 1));
}

/// One more promotion of the same digest, by this generation and for this cause, which succeeds.
pub(super) fn second_promotion(trace: &mut Trace, cause: &str, generation: i64) {
    promote(trace, 30, (2, cause, generation), "job-q");
}

/// Of no promotion was it stored which job it has.
pub(super) fn lose_receipts(trace: &mut Trace) {
    let attempts = trace.versions.iter_mut().filter_map(|version| version.status.attempt.as_mut());
    attempts.filter(|attempt| attempt.attempt_type == AttemptType::Promote).for_each(|attempt| attempt.job_id = None);
}

/// One more attempt of the same digest, by this generation and for this cause, which succeeds.
pub(super) fn second_attempt(trace: &mut Trace, cause: &str, generation: i64) {
    let name = "shop/shop-uat #2 sha256:9f86d081884c [k2]".to_owned();
    trace.versions.push(version("shop-uat", generation, 20, &attempt(2, cause, None)));
    trace.versions.push(version("shop-uat", generation, 21, &attempt(2, cause, Some("job-2"))));
    trace.versions.push(version("shop-uat", generation, 30, &released(2, UAT, "job-2")));
    trace.posts.push(post("deploy", Some(name.clone()), "job-2", 21));
    trace.jobs.push(job("deploy", "job-2", UAT, &name, 21));
}

/// The deploy, after which the resource is deleted, and one of the same name is made that deploys the same.
pub(super) fn made_anew() -> Trace {
    let mut trace = deployed();
    delete(&mut trace, 15);
    trace.versions.push(version("shop-uat", 1, 16, &json!({"observedGeneration": -1})));
    second_attempt(&mut trace, "Spec", 1);
    let begun = trace.versions.len() - 4;
    for made in &mut trace.versions[begun..] {
        "another uid".clone_into(&mut made.uid);
        made.created_ms = ms(16);
        if let Some(attempt) = &mut made.status.attempt {
            attempt.baseline.last_deployed_at = Some("2026".to_owned());
        }
    }
    trace
}

/// As [`made_anew`], where the attempt of the deleted resource was open when it was deleted.
pub(super) fn made_anew_in_flight() -> Trace {
    let mut trace = made_anew();
    trace.versions.remove(3);
    trace
}

/// Two resources for one Space, made in this order, each with a deploy, one after the other.
pub(super) fn neighbours() -> Trace {
    let mut trace = made_anew();
    trace.versions.retain(|version| !version.is_deleted());
    // The older one was the slower one.
    let begun = trace.versions.len() - 4;
    trace.versions[begun..].iter_mut().for_each(|version| version.created_ms = ms(-9));
    trace
}

/// The resource is deleted as it is.
fn delete(trace: &mut Trace, second: i32) {
    let last = trace.versions[trace.versions.len() - 1].clone();
    trace.versions.push(Version { shown: Shown::Deleted, stored_ms: ms(second), seen_ms: ms(second), ..last });
}
