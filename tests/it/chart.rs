//! The Helm chart, rendered and installed by the real Helm: which objects it makes of which values, what it refuses and
//! with which words, and that it reaches every flag. What it does in a cluster is `make e2e-helm`.

mod certificates;
mod flags;
mod install;
mod refusals;
mod rendering;

use k8s_openapi::api::networking::v1::NetworkPolicy;
use konigle_operator::api::KonigleSpace;
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use crate::support::Result;
use crate::support::control_plane::ControlPlane;
use crate::support::helm::{CHART, Helm, chart};
use crate::support::namespace::Namespace;
use crate::support::rights::{INSTALL, manifest};
use crate::support::run_folder::{new_folder, package};

/// What of Helm's own stands in the objects that it installs.
const OF_HELM: [(&str, &str); 3] = [
    ("labels", "helm.sh/chart"),
    ("labels", "app.kubernetes.io/managed-by"),
    ("annotations", "helm.sh/resource-policy"),
];

#[tokio::test]
async fn kustomize_installs_what_the_chart_does() -> Result<()> {
    let rendered = Helm::offline().await?.template(&chart(), &[]).await?;
    // Helm makes the namespace with --create-namespace, without the labels.
    let built = kustomized(INSTALL).await?.into_iter().filter(|object| object["kind"] != "Namespace").collect();
    assert_same(built, rendered);
    Ok(())
}

/// What nobody gets of an operator that watches one namespace.
#[tokio::test]
async fn kustomize_brings_the_rights_of_people_by_themselves() -> Result<()> {
    let is_for_people = |object: &Value| {
        let labels = object["metadata"]["labels"].as_object();
        labels.is_some_and(|labels| labels.keys().any(|key| key.starts_with("rbac.authorization.k8s.io/aggregate-to-")))
    };
    let mut rendered = Helm::offline().await?.template(&chart(), &[]).await?;
    rendered.retain(is_for_people);
    assert_eq!(rendered.len(), 2, "one for those who view, one for those who edit");
    assert_same(kustomized("deploy/roles").await?, rendered);
    Ok(())
}

/// What kustomize makes of a folder of the package.
async fn kustomized(folder: &str) -> Result<Vec<Value>> {
    let kubectl = ControlPlane::shared().await?.kubectl();
    let text = kubectl.run(&["kustomize", &package().join(folder).display().to_string()]).await?;
    Ok(serde_saphyr::from_multiple(&text)?)
}

/// Whether kustomize has the objects that the chart renders, but for what of Helm's own stands in these.
fn assert_same(mut built: Vec<Value>, mut rendered: Vec<Value>) {
    for object in &mut rendered {
        for (field, key) in OF_HELM {
            if let Some(all) = object["metadata"][field].as_object_mut() {
                all.remove(key);
            }
        }
        let metadata = object["metadata"].as_object_mut().unwrap();
        metadata.retain(|_, value| value != &json!({}) && !value.is_null());
    }
    let by_name = |object: &Value| format!("{} {}", object["kind"], object["metadata"]["name"]);
    rendered.sort_by_key(by_name);
    built.sort_by_key(by_name);
    assert_eq!(built.iter().map(by_name).collect::<Vec<_>>(), rendered.iter().map(by_name).collect::<Vec<_>>());
    for (built, rendered) in built.iter().zip(&rendered) {
        let (built, rendered) = (with_one_kind_of_number(built), with_one_kind_of_number(rendered));
        let changes = json_patch::diff(&rendered, &built);
        assert!(changes.0.is_empty(), "{}: run `make generate`; kustomize has it so: {changes}", by_name(&built));
    }
}

#[tokio::test]
async fn what_artifact_hub_shows_is_of_this_version() -> Result<()> {
    let version = env!("CARGO_PKG_VERSION");
    let text = std::fs::read_to_string(chart().join("Chart.yaml"))?;
    let about: Value = serde_saphyr::from_str(&text)?;
    assert_eq!((about["version"].as_str(), about["appVersion"].as_str()), (Some(version), Some(version)));
    let annotation = |name: &str| about["annotations"][format!("artifacthub.io/{name}")].as_str().unwrap().to_owned();
    let images: Value = serde_saphyr::from_str(&annotation("images"))?;
    assert_eq!(images[0]["image"], format!("konigle-operator:{version}"));
    let crds: Value = serde_saphyr::from_str(&annotation("crds"))?;
    let crd = konigle_operator::api::crd();
    assert_eq!(crds[0]["name"].as_str(), crd.metadata.name.as_deref());
    assert_eq!(crds[0]["version"].as_str(), Some(crd.spec.versions[0].name.as_str()));

    let namespace = Namespace::create(ControlPlane::shared().await?, "artifact-hub").await?;
    let examples: Vec<Value> = serde_saphyr::from_str(&annotation("crdsExamples"))?;
    assert_eq!(examples.len(), 2, "one of each kind of Space");
    for mut example in examples {
        example["metadata"]["namespace"] = json!(namespace.name());
        let example: KonigleSpace = serde_json::from_value(example)?;
        namespace.spaces().create(&PostParams { dry_run: true, ..PostParams::default() }, &example).await?;
    }
    Ok(())
}

/// The NetworkPolicy by which Flux lets the operator in names the very pod that the chart makes.
#[tokio::test]
async fn the_operator_is_let_in_to_fluxs_artifacts() -> Result<()> {
    let policy = manifest("deploy/flux/networkpolicy.yaml", "NetworkPolicy", "allow-konigle-operator")?;
    let from = &policy["spec"]["ingress"][0]["from"][0];
    let objects = Helm::offline().await?.template(&chart(), &[]).await?;
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    for (label, value) in from["podSelector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(&labels[label], value, "{label}");
    }
    let namespace = &from["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"];
    assert_eq!(namespace, &deployment["metadata"]["namespace"]);

    let client = ControlPlane::shared().await?.client().await?;
    let mut policy: NetworkPolicy = serde_json::from_value(policy)?;
    policy.metadata.namespace = Some("default".to_owned());
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    Api::<NetworkPolicy>::namespaced(client, "default").create(&dry_run, &policy).await?;
    Ok(())
}

/// The examples by which Flux and Argo CD install the operator.
#[tokio::test]
async fn examples_that_install_the_chart_give_values_that_it_takes() -> Result<()> {
    let release = manifest("deploy/flux/operator-helmrelease.yaml", "HelmRelease", "konigle-operator")?;
    let application = manifest("deploy/argocd/operator.yaml", "Application", "konigle-operator")?;
    let (chart_of_flux, source) = (&release["spec"]["chart"]["spec"], &application["spec"]["source"]);
    assert_eq!(
        (chart_of_flux["chart"].as_str(), source["path"].as_str()),
        (Some("./charts/konigle-operator"), Some(CHART))
    );
    let version = format!("v{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(source["targetRevision"], version);
    for file in ["deploy/flux/operator.yaml", "deploy/flux/operator-helmrelease.yaml"] {
        assert_eq!(manifest(file, "GitRepository", "konigle-operator")?["spec"]["ref"]["tag"], version, "{file}");
    }
    for values in [&release["spec"]["values"], &source["helm"]["valuesObject"]] {
        let file = new_folder("values")?.join("values.yaml");
        std::fs::write(&file, values.to_string())?;
        let objects = Helm::offline().await?.template(&chart(), &["--values", &file.display().to_string()]).await?;
        let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
        let image = &deployment["spec"]["template"]["spec"]["containers"][0]["image"];
        assert_eq!(image, &format!("registry.example.com/konigle-operator:{}", env!("CARGO_PKG_VERSION")));
        let crd = objects.iter().find(|object| object["kind"] == "CustomResourceDefinition").unwrap();
        assert_eq!(crd["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");
    }
    Ok(())
}

/// One of the two writes 20 where the other writes 20.0.
fn with_one_kind_of_number(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(items) => items.iter().map(with_one_kind_of_number).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), with_one_kind_of_number(value))).collect()
        }
        other => other.clone(),
    }
}
