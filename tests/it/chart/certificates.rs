//! `extraCA`: what the chart mounts and sets makes the operator trust a company's own authority.

use k8s_openapi::api::core::v1::Container;
use konigle_operator::api::KonigleSpace;

use crate::support::Result;
use crate::support::control_plane::ControlPlane;
use crate::support::helm::{Helm, chart};
use crate::support::namespace::deploys;
use crate::support::run_folder::new_folder;
use crate::support::simulator::UAT;
use crate::support::stage::{JOB_SECONDS, SHOP, Stage};

const DIGEST: &str = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

#[tokio::test]
async fn an_extra_authority_is_trusted_beside_the_public_ones() -> Result<()> {
    // A server on loopback whose certificate no public authority signed, and which knows no such file.
    let control_plane = ControlPlane::shared().await?;
    let url = format!("{}/shop.zip", control_plane.address());

    let objects = Helm::offline().await?.template(&chart(), &["--set", "extraCA.configMap=company-ca"]).await?;
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let pod = &deployment["spec"]["template"]["spec"];
    let container: Container = serde_json::from_value(pod["containers"][0].clone())?;
    let variable = |name: &str| {
        let variable = container.env.iter().flatten().find(|variable| variable.name == name);
        variable.and_then(|variable| variable.value.clone()).unwrap()
    };
    // Where the image has them: deploy/Dockerfile.
    assert_eq!(variable("SSL_CERT_FILE"), "/etc/ssl/certs/ca-certificates.crt");
    let mount = container.volume_mounts.iter().flatten().find(|mount| mount.name == "extra-ca").unwrap();
    assert_eq!(variable("SSL_CERT_DIR"), mount.mount_path);

    // As the kubelet mounts a ConfigMap: a file for each key, behind a link.
    let folder = new_folder("ca")?;
    let data = folder.join("..data");
    std::fs::create_dir(&data)?;
    std::fs::copy(control_plane.certificate(), data.join("company.crt"))?;
    std::os::unix::fs::symlink("..data/company.crt", folder.join("company.crt"))?;
    let trusting = vec![
        ("SSL_CERT_FILE".to_owned(), variable("SSL_CERT_FILE")),
        ("SSL_CERT_DIR".to_owned(), folder.display().to_string()),
    ];

    let mut stage = Stage::open_with("extra-ca", JOB_SECONDS, |options| options).await?;
    stage.namespace.apply(SHOP, &deploys(UAT, &url, DIGEST)).await?;
    let told = async |stage: &Stage, words: &str| {
        let says = |space: &KonigleSpace| {
            let ready = space.status.as_ref().and_then(|status| status.condition("Ready"));
            ready.is_some_and(|ready| ready.message.contains(words))
        };
        stage.namespace.wait_for(SHOP, words, says).await.map(drop)
    };
    told(&stage, "its certificate is not trusted").await?;
    stage.operator.restart_with(trusting)?;
    stage.operator.until_ready().await?;
    // It came to an answer, so it trusted the server.
    told(&stage, "403").await
}
