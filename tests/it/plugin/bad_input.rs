//! What is said, in one line and with which exit code, where the plugin cannot do what is asked.

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::PostParams;
use serde_json::json;

use crate::support::Result;
use crate::support::control_plane::ControlPlane;
use crate::support::kubectl::{Ended, Kubectl};
use crate::support::namespace::{Namespace, deploys};
use crate::support::process::free_port;
use crate::support::run_folder::new_folder;

const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// One line that says what and what to do, this exit code, and nothing on the standard output.
fn assert_refused(ended: &Ended, code: i32, words: &[&str]) {
    let line = ended.errors.trim_end();
    assert_eq!(ended.code, Some(code), "{ended:?}");
    assert!(line.starts_with("✗ ") && !line.contains('\n'), "one line: {line}");
    // kubectl says itself where a plugin ended with another code than 0.
    for word in words {
        assert!(line.contains(word), "{word}: {line}");
    }
    assert_eq!(ended.output, "");
}

#[tokio::test]
async fn without_a_cluster_or_a_kubeconfig() -> Result<()> {
    let control_plane = ControlPlane::shared().await?;
    let folder = new_folder("no-cluster")?;
    let nobody = free_port()?;
    let address = format!("https://127.0.0.1:{nobody}");
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "gone",
        "clusters": [{"name": "gone", "cluster": {"server": address}}],
        "users": [{"name": "me", "user": {"token": "none"}}],
        "contexts": [{"name": "gone", "context": {"cluster": "gone", "user": "me"}}],
    });
    let file = folder.join("kubeconfig");
    std::fs::write(&file, config.to_string())?;
    let kubectl = control_plane.kubectl().with_kubeconfig(file);
    for arguments in [&["status"][..], &["explain", "shop"], &["wait", "shop"], &["watch"], &["reconcile", "shop"]] {
        let ended = kubectl.konigle(arguments, "").await?;
        assert_refused(&ended, 4, &["no answer from the API server at", &address, "--context"]);
    }
    assert_refused(
        &kubectl.konigle(&["status", "--context", "other"], "").await?,
        4,
        &["no context other", "get-contexts"],
    );
    let missing = kubectl.konigle(&["status", "--kubeconfig", "no/such/file"], "").await?;
    assert_refused(&missing, 4, &["no/such/file"]);
    let broken = folder.join("broken");
    std::fs::write(&broken, "{ not: [yaml")?;
    let broken = kubectl.with_kubeconfig(broken).konigle(&["status"], "").await?;
    assert_refused(&broken, 4, &["kubeconfig"]);
    Ok(())
}

#[tokio::test]
async fn without_the_crd() -> Result<()> {
    let control_plane = ControlPlane::start().await?;
    let kubectl = control_plane.kubectl();
    for arguments in [&["status"][..], &["wait", "shop"], &["approve", "shop", "--yes"]] {
        let ended = kubectl.konigle(arguments, "").await?;
        assert_refused(&ended, 4, &["does not know KonigleSpaces", "install the operator's CRD"]);
    }
    Ok(())
}

#[tokio::test]
async fn without_rights() -> Result<()> {
    let control_plane = ControlPlane::shared().await?;
    let namespace = Namespace::create(control_plane, "norights").await?;
    namespace.apply("shop-uat", &deploys("7", "https://ci.example.com/shop.zip", DIGEST)).await?;
    let nobody = kubectl_of_nobody(control_plane, &namespace).await?;
    for arguments in [&["status"][..], &["explain", "shop-uat"], &["suspend", "shop-uat"]] {
        let ended = nobody.konigle(arguments, "").await?;
        assert_refused(&ended, 4, &["you lack a right", "cannot list resource", "ask for a role"]);
    }
    Ok(())
}

/// kubectl with an account that may do nothing.
async fn kubectl_of_nobody(control_plane: &ControlPlane, namespace: &Namespace) -> Result<Kubectl> {
    let accounts = namespace.api::<ServiceAccount>();
    let account = serde_json::from_value(json!({"metadata": {"name": "nobody"}}))?;
    accounts.create(&PostParams::default(), &account).await?;
    let granted = accounts.create_token_request("nobody", &PostParams::default(), &TokenRequest::default()).await?;
    let token = granted.status.map(|status| status.token).unwrap_or_default();
    let file = control_plane.write_kubeconfig(&format!("nobody-{}", namespace.name()), &token, namespace.name())?;
    Ok(control_plane.kubectl().with_kubeconfig(file))
}

#[tokio::test]
async fn wrong_names_flags_and_answers() -> Result<()> {
    let control_plane = ControlPlane::shared().await?;
    let namespace = Namespace::create(control_plane, "misspelt").await?;
    namespace.apply("shop-uat", &deploys("7", "https://ci.example.com/shop.zip", DIGEST)).await?;
    let place = ["-n", namespace.name()];
    let run = async |arguments: &[&str]| control_plane.kubectl().konigle(&[arguments, &place[..]].concat(), "").await;
    for command in
        ["status", "explain", "history", "logs", "wait", "watch", "reconcile", "reset", "suspend", "resume", "approve"]
    {
        let ended = run(&[command, "shop-uta"]).await?;
        assert_refused(&ended, 4, &["no KonigleSpace shop-uta in namespace", "did you mean shop-uat?"]);
    }
    assert_refused(
        &run(&["approve", "shop-uat", "--yes"]).await?,
        1,
        &["deploys an artifact, which needs no approval"],
    );
    assert_refused(&run(&["wait", "shop-uat", "--digest", "9f86"]).await?, 2, &["write --digest as sha256:"]);
    // No operator watches here: what is waited for does not come.
    let ended = run(&["wait", "shop-uat", "--timeout", "0s"]).await?;
    assert_eq!(ended.code, Some(3), "{ended:?}");
    assert!(ended.errors.contains("shop-uat is not ready after 0s"), "{ended:?}");
    for command in ["reconcile", "reset"] {
        let ended = run(&[command, "shop-uat", "--timeout", "1s"]).await?;
        assert_eq!(ended.code, Some(3), "{ended:?}");
        assert!(ended.errors.contains("the operator, which has not answered: does it run"), "{ended:?}");
        assert!(ended.errors.contains("the request stays, and is acted on later"), "{ended:?}");
    }
    for wrong in [
        &["stauts"][..],
        &["status", "--colour"],
        &["wait", "--timeout", "soon"],
        &["completion", "tcsh"],
        &["validate"],
    ] {
        let ended = run(wrong).await?;
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.errors.starts_with("error: "), "{ended:?}");
    }
    let empty = Namespace::create(control_plane, "empty").await?;
    let ended = control_plane.kubectl().konigle(&["status", "-n", empty.name()], "").await?;
    assert_eq!((ended.code, ended.output.as_str()), (Some(0), ""));
    assert_eq!(ended.errors, format!("⚠ no KonigleSpaces in namespace {}\n", empty.name()));
    let ended = control_plane.kubectl().konigle(&["status", "-A", "-l", "team=nobody"], "").await?;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(ended.errors, "⚠ no KonigleSpaces with the labels team=nobody in the cluster\n");
    for command in [&["status"][..], &["explain", "shop-uat"], &["wait"]] {
        let ended = control_plane.kubectl().konigle(&[command, &["-n", "no-such-namespace"]].concat(), "").await?;
        assert_refused(&ended, 4, &["there is no namespace no-such-namespace: see -n and -A"]);
    }
    // By the name as kubectl prints it, and as somebody who may do nothing.
    let ended = run(&["status", "koniglespaces.cloud.konigle.com/shop-uat", "-o", "name"]).await?;
    assert_eq!(ended.output, "koniglespace.cloud.konigle.com/shop-uat\n", "{ended:?}");
    let ended = run(&["status", "--as", "nobody", "--as-group", "nobodies"]).await?;
    assert_refused(&ended, 4, &["User \"nobody\" cannot list"]);
    Ok(())
}
