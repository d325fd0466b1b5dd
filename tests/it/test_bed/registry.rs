//! The real registry, and the programs that push to it: what each makes of the same application.

use std::fs;
use std::path::PathBuf;

use serde_json::Value;

use crate::support::Result;
use crate::support::artifacts::{application, digest_of, tar_gz};
use crate::support::namespace::wait_for;
use crate::support::registry::{Registry, RegistryOptions};
use crate::support::run_folder::new_folder;

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
    assert_eq!(registry.blob("shop", digest).await?, fs::read(&files.zip)?);

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
    let (password, both) =
        (RegistryOptions::default().with_password(), RegistryOptions::default().with_password().with_tls());
    for options in [password, RegistryOptions::default().with_tls(), both] {
        let is_private = options.is_private();
        let registry = Registry::start_with(options).await?;
        let pushed = registry.push_folder(&files.folder, "shop:folder").await?;
        assert_eq!(registry.manifest("shop:folder").await?.digest, pushed);
        registry.push_zip(&files.zip, "shop:zip").await?;
        registry.push_flux(&files.folder, "shop:flux", "main").await?;
        registry.push_image(&files.layer, "shop:image").await?;
        let refused = registry.answered()?.iter().any(|answered| answered.status == 401);
        assert_eq!(refused, is_private, "whether somebody without the password was refused");
    }
    Ok(())
}

#[tokio::test]
async fn the_registry_tells_what_it_was_asked_for() -> Result<()> {
    let registry = Registry::start().await?;
    let files = Files::new()?;
    registry.push_zip(&files.zip, "shop:zip").await?;
    let before = registry.count("HEAD", "/v2/shop/manifests/zip")?;
    registry.crane(&["digest", &registry.reference("shop:zip")]).await?;
    registry.manifest("shop:zip").await?;
    // The last request is in the log by its answer, and so are those before it.
    wait_for("logged", async || Ok((registry.count("GET", "/v2/shop/manifests/zip")? == 1).then_some(()))).await?;
    assert_eq!(registry.count("HEAD", "/v2/shop/manifests/zip")?, before + 1);
    let answered = registry.answered()?;
    let head = answered.iter().rfind(|answered| answered.method == "HEAD").unwrap();
    assert!(head.agent.contains("crane/") && head.status == 200, "{head:?}");
    Ok(())
}

/// An application as a folder, as a ZIP and as a tar.gz.
struct Files {
    folder: PathBuf,
    zip: PathBuf,
    layer: PathBuf,
}

impl Files {
    fn new() -> Result<Self> {
        let parent = new_folder("pushed")?;
        let files =
            Self { folder: parent.join("app"), zip: parent.join("shop.zip"), layer: parent.join("shop.tar.gz") };
        let contents = [
            ("Dockerfile", "FROM scratch\n"),
            ("bentocloud.toml", "[processes.web]\ncommand = \"serve\"\n"),
            ("src/main.py", "print('shop')\n"),
        ];
        fs::create_dir_all(files.folder.join("src"))?;
        for (name, text) in contents {
            fs::write(files.folder.join(name), text)?;
        }
        fs::write(&files.zip, application("1")?)?;
        fs::write(&files.layer, tar_gz(&contents)?)?;
        Ok(files)
    }
}

/// The only layer of the manifest that has this digest.
async fn only_layer(registry: &Registry, reference: &str, digest: &str) -> Result<Value> {
    let manifest = registry.manifest(reference).await?;
    assert_eq!(manifest.digest, digest, "what the program says that it pushed");
    let layers = manifest.content["layers"].as_array().unwrap();
    assert_eq!(layers.len(), 1, "{}", manifest.content);
    Ok(layers[0].clone())
}
