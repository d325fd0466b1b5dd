//! The test bed itself: what other tests rely on and would not notice missing.

mod flux_sources;
mod registry;

use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace as KubeNamespace};
use kube::api::{Api, DeleteParams};
use serde_json::json;

use crate::support::control_plane::ControlPlane;
use crate::support::namespace::{Namespace, deploys, wait_for};
use crate::support::process::Process;
use crate::support::rights::operator_account;
use crate::support::run_folder::new_folder;
use crate::support::simulator::{Simulator, TOKEN, UAT};
use crate::support::trace::Property;
use crate::support::{Result, control_plane};

#[tokio::test]
async fn parts_stop_and_start_again_on_the_same_data() -> Result<()> {
    let mut control_plane = ControlPlane::start().await?;
    control_plane.install_crd().await?;
    let namespace = Namespace::create(&control_plane, "restart").await?;
    namespace
        .tolerate(Property::NoGap, "the API server is stopped at once, and the watch may not have shown the write yet");
    let spec = deploys("7", "https://ci.example.com/shop.zip", &format!("sha256:{}", "0".repeat(64)));
    namespace.apply("shop-uat", &spec).await?;

    control_plane.stop_api_server();
    assert!(namespace.spaces().get("shop-uat").await.is_err(), "the API server still answers");
    control_plane.stop_etcd();
    control_plane.start_etcd().await?;
    control_plane.start_api_server().await?;

    assert_eq!(namespace.spaces().get("shop-uat").await?.spec.interval, "5m");
    Ok(())
}

#[tokio::test]
async fn with_the_controller_manager_a_namespace_can_be_deleted() -> Result<()> {
    let mut control_plane = ControlPlane::start().await?;
    if !control_plane.has_controller_manager() {
        assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "the given binaries lack kube-controller-manager");
        // Past the capture of test output: a test that did not run must not look like one that passed.
        writeln!(std::io::stderr(), "not run: the given binaries lack kube-controller-manager")?;
        return Ok(());
    }
    control_plane.start_controller_manager()?;
    let client = control_plane.client().await?;
    let namespace = Namespace::create(&control_plane, "deleted").await?;
    namespace.write_token(TOKEN).await?;
    let namespaces: Api<KubeNamespace> = Api::all(client);
    namespaces.delete(namespace.name(), &DeleteParams::default()).await?;
    wait_for("gone", async || Ok(namespaces.get_opt(namespace.name()).await?.is_none().then_some(()))).await
}

#[tokio::test]
async fn the_operators_account_has_its_rights_in_one_namespace_only() -> Result<()> {
    let shared = ControlPlane::shared().await?;
    let (own, other) = (Namespace::create(shared, "own").await?, Namespace::create(shared, "other").await?);
    own.write_token(TOKEN).await?;
    other.write_token(TOKEN).await?;
    let operator = control_plane::client(&operator_account(shared, &own).await?).await?;
    let secrets = |namespace: &Namespace| {
        Api::<k8s_openapi::api::core::v1::Secret>::namespaced(operator.clone(), namespace.name())
    };
    // The authoriser hears of new roles a moment later.
    wait_for("granted", async || Ok(secrets(&own).get("konigle").await.ok())).await?;
    assert!(secrets(&other).get("konigle").await.is_err(), "it reads another namespace's Secrets");
    let config_maps: Api<ConfigMap> = Api::namespaced(operator.clone(), own.name());
    assert!(config_maps.list(&kube::api::ListParams::default()).await.is_err(), "it reads what it does not need");
    Ok(())
}

#[tokio::test]
async fn the_simulator_is_controlled_and_starts_again_at_the_same_address() -> Result<()> {
    let mut simulator = Simulator::start(1.0).await?;
    simulator.deploy_by_a_person(UAT).await?;
    assert_eq!(simulator.ledger(UAT).await?.len(), 1);
    simulator.reading("list_key", "results").await?;
    assert!(simulator.reading("no_such_question", "yes").await.is_err(), "an unknown reading is an error");
    simulator.fault(&json!({"operation": "get_space", "action": {"status": 503}})).await?;
    let address = simulator.base_url();
    simulator.start_again().await?;
    assert_eq!(simulator.base_url(), address);
    assert!(simulator.ledger(UAT).await?.is_empty(), "a new start knows the seed only");
    Ok(())
}

#[tokio::test]
async fn a_child_ends_with_the_program_that_started_it() -> Result<()> {
    let log = new_folder("guardian")?.join("log");
    let mut command = Command::new("sh");
    command.args(["-c", "echo started; exec sleep 600"]);
    let mut child = Process::start("a child", command, &log)?;
    child.until_ready("started", async || std::fs::read_to_string(&log).is_ok_and(|text| text == "started\n")).await?;
    child.lose_its_maker();
    let status = child.wait(Duration::from_secs(30)).await?;
    assert!(!status.success(), "it was killed: {status}");
    Ok(())
}
