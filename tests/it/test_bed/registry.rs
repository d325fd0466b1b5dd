//! The real registry, and the programs that push to it: what each makes of the same application.

use std::fs;

use reqwest::StatusCode;
use serde_json::Value;

use crate::support::artifacts::digest_of;
use crate::support::namespace::wait_for;
use crate::support::registry::files::Files;
use crate::support::registry::{Registry, RegistryOptions};
use crate::support::{Result, http_client};

const TAR: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

#[tokio::test]
async fn each_pusher_has_a_form_of_its_own() -> Result<()> {
    let registry = Registry::start().await?;
    let files = Files::new()?;

    let pushed = registry.push_folder(&files.folder, "shop:folder").await?;
    let layer = only_layer(&registry, "shop:folder", &pushed).await?;
    assert_eq!(layer["mediaType"], TAR);
    assert_eq!(layer["annotations"]["org.opencontainers.image.title"], "app");
    assert_eq!(layer["annotations"]["io.deis.oras.content.unpack"], "true");

    let pushed = registry.push_zip(&files.zip, "shop:zip").await?;
    let layer = only_layer(&registry, "shop:zip", &pushed).await?;
    assert_eq!(layer["mediaType"], "application/zip");
    let digest = layer["digest"].as_str().unwrap();
    assert_eq!(digest, digest_of(&fs::read(&files.zip)?), "the ZIP as it is");

    let pushed = registry.push_flux(&files.folder, "shop:flux", "main@sha1:0123abc").await?;
    let layer = only_layer(&registry, "shop:flux", &pushed).await?;
    assert_eq!(layer["mediaType"], "application/vnd.cncf.flux.content.v1.tar+gzip");
    let manifest = registry.manifest("shop:flux").await?.content;
    assert_eq!(manifest["annotations"]["org.opencontainers.image.revision"], "main@sha1:0123abc");

    let pushed = registry.push_image(&files.layer, "shop:image").await?;
    let layer = only_layer(&registry, &format!("shop@{pushed}"), &pushed).await?;
    assert_eq!(layer["mediaType"], TAR);
    let digest = layer["digest"].as_str().unwrap();
    assert_eq!(digest, digest_of(&fs::read(&files.layer)?), "the tar.gz as it is");
    Ok(())
}

#[tokio::test]
async fn a_private_registry_answers_its_account_alone() -> Result<()> {
    let files = Files::new()?;
    let open = RegistryOptions::default();
    let all = [open.with_password(), open.with_tokens(), open.with_tls(), open.with_password().with_tls()];
    for options in all {
        let registry = Registry::start_with(options).await?;
        let pushed = registry.push_folder(&files.folder, "shop:folder").await?;
        assert_eq!(registry.manifest("shop:folder").await?.digest, pushed);
        registry.push_zip(&files.zip, "shop:zip").await?;
        registry.push_flux(&files.folder, "shop:flux", "main").await?;
        registry.push_image(&files.layer, "shop:image").await?;
        let refused = registry.answered()?.iter().any(|answered| answered.status == 401);
        assert_eq!(refused, options.is_private(), "whether somebody without the account was refused");
    }
    Ok(())
}

#[tokio::test]
async fn tokens_are_for_what_was_asked() -> Result<()> {
    let registry = Registry::start_with(RegistryOptions::default().with_tokens()).await?;
    let files = Files::new()?;
    for repository in ["shop", "public/shop"] {
        registry.push_zip(&files.zip, &format!("{repository}:v1")).await?;
    }
    let given = registry.tokens_given();
    assert!(given > 0 && registry.scopes_asked().contains(&"repository:shop:pull,push".to_owned()));

    // As a client without an account reads from public registries.
    let read = async |repository: &str| -> Result<StatusCode> {
        let http = http_client()?;
        let url = format!("http://{}/v2/{repository}/manifests/v1", registry.host());
        let refused = http.head(&url).send().await?;
        assert_eq!(refused.status(), StatusCode::UNAUTHORIZED);
        let challenge = refused.headers()["www-authenticate"].to_str()?.to_owned();
        let realm = challenge.split('"').nth(1).unwrap().to_owned();
        let scope = format!("repository:{repository}:pull");
        let query = [("service", "test-bed"), ("scope", &scope)];
        let answer: Value = http.get(realm).query(&query).send().await?.json().await?;
        let accept = "application/vnd.oci.image.manifest.v1+json";
        let request = http.head(&url).bearer_auth(answer["token"].as_str().unwrap()).header("accept", accept);
        Ok(request.send().await?.status())
    };
    assert_eq!(read("public/shop").await?, StatusCode::OK);
    assert_eq!(read("shop").await?, StatusCode::UNAUTHORIZED, "its token is for nothing");
    assert_eq!(registry.tokens_given(), given + 2);
    Ok(())
}

#[tokio::test]
async fn the_registry_tells_what_it_was_asked_for() -> Result<()> {
    let registry = Registry::start().await?;
    let files = Files::new()?;
    registry.push_zip(&files.zip, "shop:zip").await?;
    let before = registry.count("HEAD", "/v2/shop/manifests/zip")?;
    registry.crane(&["digest", &registry.reference("shop:zip")]).await?;
    registry.crane(&["manifest", &registry.reference("shop:zip")]).await?;
    // The last request is in the log by its answer, and so are those before it.
    wait_for("logged", async || Ok((registry.count("GET", "/v2/shop/manifests/zip")? == 1).then_some(()))).await?;
    assert_eq!(registry.count("HEAD", "/v2/shop/manifests/zip")?, before + 1);
    let answered = registry.answered()?;
    let head = answered.iter().rfind(|answered| answered.method == "HEAD").unwrap();
    assert!(head.agent.contains("crane/") && head.status == 200, "{head:?}");
    Ok(())
}

/// The only layer of the manifest that has this digest.
async fn only_layer(registry: &Registry, reference: &str, digest: &str) -> Result<Value> {
    let manifest = registry.manifest(reference).await?;
    assert_eq!(manifest.digest, digest, "what the program says that it pushed");
    let layers = manifest.content["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1, "{}", manifest.content);
    Ok(layers[0].clone())
}
