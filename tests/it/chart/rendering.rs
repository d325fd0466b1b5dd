//! Which objects the chart makes of which values, and what stands in them.

use std::fs;

use serde_json::{Value, json};

use crate::support::helm::{Helm, chart, copy_of_chart};
use crate::support::{Context, Result};

/// Values, and what comes of them.
struct Case {
    /// A file in `ci/`.
    values: &'static str,
    /// All objects, as `Kind namespace/name`.
    objects: &'static [&'static str],
    /// Of an object: where, and what stands there; null for nothing.
    fields: Vec<(&'static str, &'static str, Value)>,
}

const POD: &str = "/spec/template/spec";
const CRD: &str = "CustomResourceDefinition koniglespaces.cloud.konigle.com";
const DEPLOYMENT: &str = "Deployment konigle-system/konigle-operator";

/// What is made without values.
const BY_DEFAULT: &[&str] = &[
    "ClusterRole konigle-operator",
    "ClusterRole konigle-operator-edit",
    "ClusterRole konigle-operator-view",
    "ClusterRoleBinding konigle-operator",
    CRD,
    DEPLOYMENT,
    "NetworkPolicy konigle-system/konigle-operator",
    "Role konigle-system/konigle-operator-leader-election",
    "RoleBinding konigle-system/konigle-operator-leader-election",
    "Service konigle-system/konigle-operator-metrics",
    "ServiceAccount konigle-system/konigle-operator",
];

/// The rule for Flux's sources.
fn flux_sources() -> Value {
    json!({
        "apiGroups": ["source.toolkit.fluxcd.io"],
        "resources": ["gitrepositories", "ocirepositories", "buckets", "externalartifacts"],
        "verbs": ["list", "watch"],
    })
}

fn cases() -> Vec<Case> {
    vec![
        Case {
            values: "default-values.yaml",
            objects: BY_DEFAULT,
            fields: vec![
                (CRD, "/metadata/annotations", json!({"helm.sh/resource-policy": "keep"})),
                (
                    "ClusterRole konigle-operator",
                    "/rules/2",
                    json!({"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}),
                ),
                ("ClusterRole konigle-operator", "/rules/4", flux_sources()),
                ("NetworkPolicy konigle-system/konigle-operator", "/spec/policyTypes", json!(["Ingress"])),
                (DEPLOYMENT, "/spec/replicas", json!(1)),
                (DEPLOYMENT, "/spec/strategy", Value::Null),
                (DEPLOYMENT, "/spec/template/spec/terminationGracePeriodSeconds", json!(90)),
                (DEPLOYMENT, "/spec/template/spec/containers/0/image", json!("konigle-operator:0.1.0")),
                (DEPLOYMENT, "/spec/template/spec/volumes/0/emptyDir/sizeLimit", json!("8192Mi")),
                (
                    DEPLOYMENT,
                    "/spec/template/spec/containers/0/securityContext",
                    json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}}),
                ),
            ],
        },
        Case {
            values: "namespaced-values.yaml",
            objects: &[
                DEPLOYMENT,
                "NetworkPolicy konigle-system/konigle-operator",
                "Role konigle-system/konigle-operator-leader-election",
                "Role shop/konigle-operator",
                "RoleBinding konigle-system/konigle-operator-leader-election",
                "RoleBinding shop/konigle-operator",
                "Service konigle-system/konigle-operator-metrics",
                "ServiceAccount konigle-system/konigle-operator",
            ],
            fields: vec![
                ("Role shop/konigle-operator", "/rules/2/resourceNames", json!(["konigle"])),
                ("Role shop/konigle-operator", "/rules/4", flux_sources()),
                ("RoleBinding shop/konigle-operator", "/subjects/0/namespace", json!("konigle-system")),
                ("RoleBinding shop/konigle-operator", "/roleRef/kind", json!("Role")),
                (DEPLOYMENT, "/spec/strategy", json!({"type": "Recreate"})),
                (
                    DEPLOYMENT,
                    "/spec/template/spec/volumes/0",
                    json!({"name": "artifacts", "persistentVolumeClaim": {"claimName": "artifacts"}}),
                ),
            ],
        },
        Case {
            values: "secret-names-values.yaml",
            objects: BY_DEFAULT,
            fields: vec![("ClusterRole konigle-operator", "/rules/2/resourceNames", json!(["konigle", "ci"]))],
        },
        Case {
            values: "high-availability-values.yaml",
            objects: &[
                "ClusterRole konigle-operator",
                "ClusterRole konigle-operator-edit",
                "ClusterRole konigle-operator-view",
                "ClusterRoleBinding konigle-operator",
                CRD,
                DEPLOYMENT,
                "NetworkPolicy konigle-system/konigle-operator",
                "PodDisruptionBudget konigle-system/konigle-operator",
                "Role konigle-system/konigle-operator-leader-election",
                "RoleBinding konigle-system/konigle-operator-leader-election",
                "Service konigle-system/konigle-operator-metrics",
                "ServiceAccount konigle-system/konigle-operator",
            ],
            fields: vec![
                (DEPLOYMENT, "/spec/replicas", json!(2)),
                ("PodDisruptionBudget konigle-system/konigle-operator", "/spec/maxUnavailable", json!(1)),
                (DEPLOYMENT, "/spec/template/spec/topologySpreadConstraints/0/maxSkew", json!(1)),
            ],
        },
        everything(),
    ]
}

/// Every switch on, and every value another than its default.
fn everything() -> Case {
    const ALL: &str = "Deployment konigle-system/konigle-all";
    Case {
        values: "all-values.yaml",
        objects: &[
            CRD,
            ALL,
            "NetworkPolicy konigle-system/konigle-all",
            "PodDisruptionBudget konigle-system/konigle-all",
            "Role leases/konigle-all-leader-election",
            "Role shop/konigle-all",
            "RoleBinding leases/konigle-all-leader-election",
            "RoleBinding shop/konigle-all",
            "Service konigle-system/konigle-all-metrics",
            "ServiceAccount konigle-system/deployer",
            "ServiceMonitor monitoring/konigle-all",
        ],
        fields: vec![
            (CRD, "/metadata/annotations", json!({"example.com/owner": "platform"})),
            (CRD, "/metadata/labels", json!({"team": "platform"})),
            ("Role leases/konigle-all-leader-election", "/rules/1/resourceNames", json!(["shard-1"])),
            ("Role shop/konigle-all", "/rules/3/resources", json!(["events"])),
            ("Role shop/konigle-all", "/rules/4", Value::Null), // rbac.fluxSources is false
            ("RoleBinding shop/konigle-all", "/subjects/0/name", json!("deployer")),
            (
                "ServiceAccount konigle-system/deployer",
                "/metadata/annotations",
                json!({"example.com/role": "deployer"}),
            ),
            ("ServiceMonitor monitoring/konigle-all", "/metadata/labels/release", json!("prometheus")),
            ("ServiceMonitor monitoring/konigle-all", "/spec/namespaceSelector/matchNames", json!(["konigle-system"])),
            ("ServiceMonitor monitoring/konigle-all", "/spec/endpoints/0/interval", json!("15s")),
            ("NetworkPolicy konigle-system/konigle-all", "/spec/policyTypes", json!(["Ingress", "Egress"])),
            ("PodDisruptionBudget konigle-system/konigle-all", "/spec/maxUnavailable", json!("50%")),
            ("Service konigle-system/konigle-all-metrics", "/spec/ports/0/port", json!(9090)),
            (ALL, "/metadata/annotations", json!({"example.com/deployment": "yes"})),
            (ALL, "/spec/strategy/rollingUpdate/maxUnavailable", json!(0)),
            (ALL, "/spec/template/metadata/annotations/example.com~1pod", json!("yes")),
            (ALL, "/spec/template/metadata/labels/example.com~1pod-label", json!("yes")),
            (ALL, "/spec/template/spec/priorityClassName", json!("system-cluster-critical")),
            (ALL, "/spec/template/spec/nodeSelector", json!({"kubernetes.io/os": "linux"})),
            (ALL, "/spec/template/spec/tolerations/0/key", json!("dedicated")),
            (ALL, "/spec/template/spec/imagePullSecrets", json!([{"name": "registry"}])),
            (ALL, "/spec/template/spec/securityContext/runAsUser", json!(10001)),
            (ALL, "/spec/template/spec/volumes/0/emptyDir/sizeLimit", json!("5120Mi")),
            (
                ALL,
                "/spec/template/spec/containers/0/image",
                json!(
                    "registry.example.com/konigle-operator:v9.9.9@sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
                ),
            ),
            (ALL, "/spec/template/spec/containers/0/ports/0/containerPort", json!(9090)),
            (ALL, "/spec/template/spec/containers/0/env/2/value", json!("http://proxy.example.com:3128")),
            (ALL, "/spec/template/spec/containers/0/env/6/name", json!("SSL_CERT_DIR")),
            (ALL, "/spec/template/spec/containers/0/env/7/name", json!("OTEL_EXPORTER_OTLP_ENDPOINT")),
            (ALL, "/spec/template/spec/containers/0/envFrom/0/secretRef/name", json!("more")),
            (ALL, "/spec/template/spec/containers/0/volumeMounts/2/mountPath", json!("/etc/konigle-operator/ca")),
            (ALL, "/spec/template/spec/containers/0/volumeMounts/3/name", json!("more")),
            (ALL, "/spec/template/spec/containers/0/resources/limits/memory", json!("512Mi")),
            (ALL, "/spec/template/spec/containers/0/livenessProbe/timeoutSeconds", json!(2)),
        ],
    }
}

#[tokio::test]
async fn values_make_these_objects() -> Result<()> {
    let helm = Helm::offline().await?;
    for case in cases() {
        let file = chart().join("ci").join(case.values).display().to_string();
        let objects = helm.template(&chart(), &["--values", &file]).await.context(case.values)?;
        // Those of files that the chart may have; `what_prometheus_and_grafana_read` has them.
        let mut names: Vec<String> = objects.iter().map(name).collect();
        names.retain(|name| !name.starts_with("PrometheusRule ") && !name.starts_with("ConfigMap "));
        names.sort();
        assert_eq!(names, case.objects, "{}", case.values);
        for (object, field, expected) in &case.fields {
            let found = objects.iter().find(|found| name(found) == *object).unwrap();
            assert_eq!(found.pointer(field).unwrap_or(&Value::Null), expected, "{}: {object}{field}", case.values);
        }
        for object in &objects {
            check_rules(case.values, object);
            if object["kind"] == "Deployment" {
                check_pod(case.values, object.pointer(POD).unwrap());
            }
        }
        helm.run(&["lint", "--strict", "--kube-version", "1.30", &chart().display().to_string(), "--values", &file])
            .await
            .context(case.values)?;
    }
    Ok(())
}

/// Under any values: no Secret is listed or watched, nothing is granted by a wildcard, and nobody writes a status but the
/// operator.
fn check_rules(values: &str, object: &Value) {
    for rule in object["rules"].as_array().into_iter().flatten() {
        let text = rule.to_string();
        assert!(!text.contains('*'), "{values}: {}: {text}", name(object));
        if rule["resources"] == json!(["secrets"]) {
            assert_eq!(rule["verbs"], json!(["get"]), "{values}: {}: {text}", name(object));
        }
        let is_for_people = name(object).ends_with("-edit") || name(object).ends_with("-view");
        assert!(!is_for_people || !text.contains("status"), "{values}: {}: {text}", name(object));
    }
}

/// Under any values: the pod is as `restricted` wants it, and writes to its volumes only.
fn check_pod(values: &str, pod: &Value) {
    let container = &pod["containers"][0];
    assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{values}");
    assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{values}");
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true, "{values}");
    assert_eq!(container["securityContext"]["allowPrivilegeEscalation"], false, "{values}");
    assert_eq!(container["securityContext"]["capabilities"]["drop"], json!(["ALL"]), "{values}");
    let artifacts = container["args"]
        .as_array()
        .unwrap()
        .iter()
        .find_map(|argument| argument.as_str().unwrap().strip_prefix("--artifact-dir=").map(str::to_owned));
    assert_eq!(container["volumeMounts"][0]["mountPath"].as_str(), artifacts.as_deref(), "{values}");
}

#[tokio::test]
async fn kinds_of_others_are_made_where_the_cluster_has_them() -> Result<()> {
    let helm = Helm::offline().await?;
    let kind = "monitoring.coreos.com/v1/ServiceMonitor";
    let count = async |arguments: &[&str]| {
        let objects = helm.template(&chart(), arguments).await?;
        Ok::<_, crate::support::Failure>(objects.iter().filter(|object| object["kind"] == "ServiceMonitor").count())
    };
    let on = ["--set", "serviceMonitor.enabled=true"];
    let fail = ["--set", "serviceMonitor.renderMode=failIfMissing"];
    assert_eq!(count(&["--api-versions", kind]).await?, 0, "it was not asked for");
    assert_eq!(count(&on).await?, 0, "the cluster does not have it");
    assert_eq!(count(&[&on[..], &["--api-versions", kind]].concat()).await?, 1);
    assert_eq!(count(&[&on[..], &fail, &["--api-versions", kind]].concat()).await?, 1);
    assert_eq!(count(&[&on[..], &["--set", "serviceMonitor.renderMode=alwaysRender"]].concat()).await?, 1);
    Ok(())
}

#[tokio::test]
async fn what_prometheus_and_grafana_read_comes_from_files() -> Result<()> {
    let helm = Helm::offline().await?;
    let chart = copy_of_chart()?;
    let (rules, dashboard) = (chart.join("files/prometheusrules.yaml"), chart.join("files/dashboard.json"));
    let all = chart.join("ci/all-values.yaml").display().to_string();
    let find = async |kind: &str| {
        let objects = helm.template(&chart, &["--values", &all]).await?;
        Ok::<_, crate::support::Failure>(objects.into_iter().find(|object| object["kind"] == kind))
    };
    for file in [&rules, &dashboard] {
        // Whoever packs a chart without them gets one that works.
        let _ = fs::remove_file(file);
    }
    assert_eq!(find("PrometheusRule").await?, None);
    assert_eq!(find("ConfigMap").await?, None);

    fs::create_dir_all(chart.join("files"))?;
    let alert = json!({"alert": "X", "expr": "up == 0", "annotations": {"summary": "{{ $labels.pod }} is down"}});
    let groups = json!({"groups": [{"name": "konigle", "rules": [alert]}]});
    fs::write(&rules, serde_saphyr::to_string(&groups)?)?;
    fs::write(&dashboard, "{\n  \"title\": \"{{ is left as it is }}\"\n}\n")?;
    let rule = find("PrometheusRule").await?.unwrap();
    assert_eq!(rule["spec"], groups, "what looks like a template stays");
    assert_eq!(rule["metadata"]["labels"]["release"], "prometheus");
    let map = find("ConfigMap").await?.unwrap();
    let text = map["data"]["konigle-operator.json"].as_str().unwrap();
    assert_eq!(serde_json::from_str::<Value>(text)?, json!({"title": "{{ is left as it is }}"}));
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "yes");
    assert_eq!(map["metadata"]["annotations"], json!({"grafana_folder": "Konigle"}));
    Ok(())
}

#[tokio::test]
async fn the_alerts_lead_to_the_runbooks_that_are_named() -> Result<()> {
    let helm = Helm::offline().await?;
    let rendered = async |arguments: &[&str]| {
        let objects = helm.template(&chart(), arguments).await?;
        let rule = objects.into_iter().find(|object| object["kind"] == "PrometheusRule");
        Ok::<_, crate::support::Failure>(rule.unwrap()["spec"].take())
    };
    let file = fs::read_to_string(chart().join("files/prometheusrules.yaml"))?;
    let mut rules: Value = serde_saphyr::from_str(&file)?;
    let on = ["--set", "prometheusRule.enabled=true", "--set", "prometheusRule.renderMode=alwaysRender"];
    assert_eq!(rendered(&on).await?, rules);

    for rule in rules["groups"].as_array_mut().unwrap().iter_mut().flat_map(|it| it["rules"].as_array_mut().unwrap()) {
        let anchor = rule["alert"].as_str().unwrap().to_lowercase();
        rule["annotations"]["runbook_url"] = json!(format!("https://wiki.example.com/konigle#{anchor}"));
    }
    let all = chart().join("ci/all-values.yaml").display().to_string();
    assert_eq!(rendered(&["--values", &all]).await?, rules);
    Ok(())
}

#[tokio::test]
async fn the_crd_can_be_kept_apart() -> Result<()> {
    let helm = Helm::offline().await?;
    let find = async |arguments: &[&str]| {
        let objects = helm.template(&chart(), arguments).await?;
        Ok::<_, crate::support::Failure>(
            objects.into_iter().find(|object| object["kind"] == "CustomResourceDefinition"),
        )
    };
    assert_eq!(find(&["--set", "crds.enabled=false"]).await?, None);
    let removed_with_the_release = find(&["--set", "crds.keep=false"]).await?.unwrap();
    assert_eq!(removed_with_the_release["metadata"]["annotations"], Value::Null);
    assert_eq!(removed_with_the_release["spec"], serde_json::to_value(konigle_operator::api::crd())?["spec"]);
    Ok(())
}

/// As `Kind namespace/name`.
fn name(object: &Value) -> String {
    let (kind, metadata) = (object["kind"].as_str().unwrap(), &object["metadata"]);
    let name = metadata["name"].as_str().unwrap();
    metadata["namespace"].as_str().map_or(format!("{kind} {name}"), |namespace| format!("{kind} {namespace}/{name}"))
}
