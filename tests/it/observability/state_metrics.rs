//! The real kube-state-metrics, with the configuration and the rights that are shipped, on resources that the operator wrote:
//! each metric that the documents name is there and says what the status says, and the alerts fire on it.
#![expect(clippy::float_cmp, clippy::cast_precision_loss, reason = "whole numbers, which floats hold exactly")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use konigle_operator::api::{KonigleSpace, KonigleSpaceStatus};
use kube::ResourceExt;
use kube::api::{ObjectMeta, PostParams};
use reqwest::Method;
use serde_json::json;

use super::documents::of_each_space;
use crate::support::control_plane::ControlPlane;
use crate::support::exposition::Exposition;
use crate::support::namespace::{Namespace, deploys, promotes, wait_for};
use crate::support::parts::part;
use crate::support::process::{Process, free_port};
use crate::support::rights::manifests;
use crate::support::run_folder::{new_folder, package};
use crate::support::simulator::{PRODUCTION, UAT};
use crate::support::stage::{SHOP, Stage};
use crate::support::{Context, Failure, Result, http_client};

/// The account of kube-state-metrics, in the namespace, with the rights that are shipped for it; its kubeconfig file.
async fn account(control_plane: &ControlPlane, namespace: &Namespace) -> Result<PathBuf> {
    let name = "kube-state-metrics";
    let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
    let accounts = namespace.api::<ServiceAccount>();
    accounts.create(&PostParams::default(), &ServiceAccount { metadata, ..ServiceAccount::default() }).await?;
    for mut object in manifests("deploy/kube-state-metrics/rbac.yaml")? {
        if object["kind"] == "ClusterRoleBinding" {
            object["subjects"][0]["namespace"] = json!(namespace.name());
        }
        control_plane.kubectl().apply(&object.to_string()).await?;
    }
    let request = accounts.create_token_request(name, &PostParams::default(), &TokenRequest::default()).await?;
    let token = request.status.ok_or_else(|| Failure::new("the API server gave no token"))?.token;
    control_plane.write_kubeconfig("kubeconfig-kube-state-metrics", &token, namespace.name())
}

/// Starts it, and waits until it shows as many resources as there are; the page that it shows then, of this namespace.
async fn page_of_kube_state_metrics(kubeconfig: &Path, namespace: &str, resources: usize) -> Result<Exposition> {
    let folder = new_folder("kube-state-metrics")?;
    let (port, telemetry) = (free_port()?, free_port()?);
    let mut command = Command::new(part("kube-state-metrics")?);
    command
        .arg(format!("--kubeconfig={}", kubeconfig.display()))
        .arg(format!(
            "--custom-resource-state-config-file={}",
            package().join("deploy/kube-state-metrics/config.yaml").display()
        ))
        .arg("--custom-resource-state-only=true")
        .args(["--host=127.0.0.1", "--telemetry-host=127.0.0.1"])
        .args([format!("--port={port}"), format!("--telemetry-port={telemetry}"), format!("--namespaces={namespace}")]);
    let mut process = Process::start("kube-state-metrics", command, &folder.join("kube-state-metrics.log"))?;
    let (url, http) = (format!("http://127.0.0.1:{port}/metrics"), http_client()?);
    wait_for("all resources are shown by kube-state-metrics", async || {
        if let Some(status) = process.ended()? {
            return Err(Failure::new(format!("it ended with {status}; {}", process.see_log())));
        }
        let Ok(reply) = http.get(&url).send().await else { return Ok(None) };
        let page = Exposition::parse(&reply.text().await.context("reading its page")?)?;
        let shown = page.samples.iter().filter(|sample| sample.name == "konigle_space_generation").count();
        Ok((shown == resources).then_some(page))
    })
    .await
}

/// What a page says of this resource is what its status says.
fn agrees(page: &Exposition, space: &KonigleSpace) -> Result<()> {
    let (name, namespace) = (space.name_any(), space.namespace().unwrap_or_default());
    let common = [
        ("customresource_group", "cloud.konigle.com"),
        ("customresource_kind", "KonigleSpace"),
        ("customresource_version", "v1alpha1"),
        ("namespace", namespace.as_str()),
        ("name", name.as_str()),
    ];
    let value = |metric: &str, labels: &[(&str, &str)]| {
        page.value(&format!("konigle_space_{metric}"), &[&common[..], labels].concat())
    };
    let shown = |metric: &str| {
        let metric = format!("konigle_space_{metric}");
        page.samples.iter().filter(|sample| sample.name == metric && sample.labels.get("name") == Some(&name)).count()
    };
    let seconds = |text: &str| text.parse::<jiff::Timestamp>().map(|time| time.as_second() as f64);
    let status: KonigleSpaceStatus = space.status.clone().unwrap_or_default();
    for condition in &status.conditions {
        let labels =
            [("type", &condition.condition_type), ("status", &condition.status), ("reason", &condition.reason)];
        let labels = labels.map(|(label, value)| (label, value.as_str()));
        assert_eq!(value("condition", &labels)?, f64::from(u8::from(condition.status == "True")), "{labels:?}");
    }
    assert_eq!(shown("condition"), status.conditions.len());
    assert_eq!(value("suspended", &[])?, f64::from(u8::from(space.spec.suspend)));
    assert_eq!(value("failures", &[])?, status.failures as f64);
    assert_eq!(value("generation", &[])?, space.metadata.generation.unwrap_or_default() as f64);
    assert_eq!(value("observed_generation", &[])?, status.observed_generation as f64);
    if let Some(it) = &status.space {
        assert_eq!(value("info", &[("space_id", &it.id), ("type", &it.space_type)])?, 1.0);
    }
    if let Some(release) = &status.release {
        let attribution = format!("{:?}", release.attribution);
        let mut labels = vec![("digest", release.short_digest.as_str()), ("attribution", attribution.as_str())];
        labels.extend(release.revision.as_deref().map(|revision| ("revision", revision)));
        assert_eq!(value("release_info", &labels)?, 1.0);
        assert_eq!(
            value("release_timestamp_seconds", &[])?,
            seconds(release.deployed_at.as_deref().unwrap_or_default())?
        );
    }
    if let Some(entry) = status.history.first() {
        let (number, cause) = (entry.number.to_string(), format!("{:?}", entry.cause));
        let labels = [
            ("number", number.as_str()),
            ("type", entry.attempt_type.word()),
            ("cause", cause.as_str()),
            ("result", entry.result.word()),
        ];
        assert_eq!(value("last_attempt_info", &labels)?, 1.0);
        assert_eq!(value("last_attempt_timestamp_seconds", &[])?, seconds(&entry.completed_at)?);
    }
    if let Some(attempt) = &status.attempt {
        assert_eq!(value("attempt_started_timestamp_seconds", &[])?, seconds(&attempt.started_at)?);
        assert_eq!(value("attempt_deadline_timestamp_seconds", &[])?, seconds(&attempt.deadline)?);
    }
    let present = [
        ("info", status.space.is_some()),
        ("release_info", status.release.is_some()),
        ("last_attempt_info", !status.history.is_empty()),
        ("last_attempt_timestamp_seconds", !status.history.is_empty()),
        ("attempt_started_timestamp_seconds", status.attempt.is_some()),
    ];
    for (metric, is_there) in present {
        assert_eq!(shown(metric), usize::from(is_there), "{name}: {metric}");
    }
    Ok(())
}

/// Has promtool play pages that stay as they are for hours, and compares which alerts fire then.
fn fires(pages: &[&Exposition], expected: &[(&str, &str)]) -> Result<()> {
    let series = |sample: &crate::support::exposition::Sample| {
        let mut text = format!("{}{{", sample.name);
        for (label, value) in &sample.labels {
            let _ = write!(text, "{label}={value:?},");
        }
        json!({"series": text + "}", "values": format!("{}x240", sample.value)})
    };
    let samples = pages.iter().flat_map(|page| &page.samples).filter(|sample| sample.name.starts_with("konigle_"));
    let alert =
        |(alert, name): &(&str, &str)| json!({"labels": format!("{{alertname={alert:?}, name={name:?}}}"), "value": 1});
    let scene = json!({
        "rule_files": [package().join("charts/konigle-operator/files/prometheusrules.yaml")],
        "tests": [{
            "interval": "1m",
            "input_series": samples.map(series).collect::<Vec<_>>(),
            "promql_expr_test": [{
                "expr": "count by (alertname, name) (ALERTS{alertstate=\"firing\"})",
                "eval_time": "3h",
                "exp_samples": expected.iter().map(alert).collect::<Vec<_>>(),
            }],
        }],
    });
    let file = new_folder("alerts")?.join("scene.yaml");
    std::fs::write(&file, scene.to_string()).context("writing the scene")?;
    let output =
        Command::new(part("promtool")?).args(["test", "rules"]).arg(&file).output().context("running promtool")?;
    let said = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    if output.status.success() { Ok(()) } else { Err(Failure::new(said)) }
}

#[tokio::test]
async fn kube_state_metrics_shows_each_status_and_the_alerts_fire_on_it() -> Result<()> {
    let stage = Stage::open("state-metrics").await?;
    let (namespace, simulator) = (&stage.namespace, &stage.simulator);
    let ids = ["73019624428095001", "73019624428095002", "73019624428095003"].map(str::to_owned);
    simulator.add_uat_spaces("web-2", &ids).await?;
    let artifact = stage.artifacts.serve_application("1.0")?;
    let wish = |id: &String| deploys(id, &artifact.url, &artifact.digest);

    // Somebody else deployed.
    let mut drifting = stage.wish("1.0")?;
    drifting["source"]["http"]["revision"] = json!("v1.0 \"quoted\"");
    namespace.apply(SHOP, &drifting).await?;
    namespace.wait_for_reason(SHOP, "Succeeded").await?;
    simulator.control(Method::POST, "clock", &json!({"advance_seconds": 60})).await?;
    simulator.change_space(UAT, &json!({"human_deploy": {"job": {"seconds": 0}}})).await?;
    stage.look_now(SHOP).await?;
    namespace.wait_for_reason(SHOP, "Drifted").await?;
    // Nothing is approved; a Secret lacks; suspended; a job that runs.
    namespace.apply("shop-production", &promotes(PRODUCTION, SHOP)).await?;
    namespace.wait_for_reason("shop-production", "AwaitingApproval").await?;
    let mut broken = wish(&ids[0]);
    broken["credentials"]["secretRef"]["name"] = json!("nowhere");
    namespace.apply("broken", &broken).await?;
    namespace.wait_for_reason("broken", "SecretNotFound").await?;
    let mut suspended = wish(&ids[1]);
    suspended["suspend"] = json!(true);
    namespace.apply("suspended", &suspended).await?;
    namespace.wait_for_reason("suspended", "Suspended").await?;
    simulator.change_space(&ids[2], &json!({"job": {"seconds": 900, "lines": 1}})).await?;
    namespace.apply("running", &wish(&ids[2])).await?;
    namespace.wait_for_reason("running", "DeployRunning").await?;

    let kubeconfig = account(ControlPlane::shared().await?, namespace).await?;
    let page = page_of_kube_state_metrics(&kubeconfig, namespace.name(), 5).await?;
    for name in [SHOP, "shop-production", "broken", "suspended", "running"] {
        let space = namespace.spaces().get(name).await?;
        agrees(&page, &space)?;
    }
    let common = ["customresource_group", "customresource_kind", "customresource_version"].map(str::to_owned);
    let shown = page.metrics();
    for (name, (_, labels)) in of_each_space() {
        let (_, found) = shown.get(&name).unwrap_or_else(|| panic!("{name} is not shown: {shown:?}"));
        assert_eq!(*found, labels.into_iter().chain(common.clone()).collect::<BTreeSet<_>>(), "{name}");
    }
    let operator = Exposition::parse(&stage.operator.metrics().await?)?;
    let expected = [
        ("KonigleSpaceDrifted", SHOP),
        ("KonigleSpaceCredentialsRejected", "broken"),
        ("KonigleSpaceNotReady", "running"),
    ];
    fires(&[&page, &operator], &expected)
}
