//! The real registry, with what the real programs push to it.

use konigle_operator::artifact::{ArtifactCredentials, Chunk, Layer, Registries, Repository};

use super::*;
use crate::support::Result;
use crate::support::namespace::wait_for;
use crate::support::registry::files::Files;
use crate::support::registry::{PASSWORD, Registry, RegistryOptions, USERNAME};

const TAR: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// The operator's side of a repository.
struct Reader {
    registries: Registries,
    repository: Repository,
    credentials: ArtifactCredentials,
}

impl Reader {
    fn new(registry: &Registry, limits: &Limits, credentials: ArtifactCredentials) -> Self {
        let repository = Repository::parse(&registry.reference("team/shop")).unwrap();
        Self { registries: Registries::new(limits), repository, credentials }
    }

    async fn resolve(&self, tag: &str) -> std::result::Result<Digest, FetchError> {
        self.registries.resolve(&self.repository, tag, &self.credentials).await
    }

    async fn layer(&self, manifest: &str, media_type: Option<&str>) -> std::result::Result<Layer, FetchError> {
        let manifest = Digest::parse(manifest).unwrap();
        self.registries.layer(&self.repository, &manifest, media_type, &self.credentials).await
    }

    /// The bytes of a layer, which hash to its digest.
    async fn blob(&self, layer: &Layer) -> Vec<u8> {
        let mut body = self.registries.blob(&self.repository, layer, &self.credentials).await.unwrap();
        assert_eq!(body.length(), Some(layer.size));
        let mut read = Vec::new();
        while let Some(Chunk::Bytes(bytes)) = body.next().await.unwrap() {
            read.extend_from_slice(&bytes);
        }
        assert_eq!(Digest::of(&read), layer.digest);
        read
    }
}

#[tokio::test]
async fn what_each_program_pushes_is_found_and_read() -> Result<()> {
    let registry = Registry::start().await?;
    let files = Files::new()?;
    let reader = Reader::new(&registry, &limits(), ArtifactCredentials::default());
    let error = reader.resolve("v1").await.unwrap_err();
    assert!(matches!(error, FetchError::NoTag { .. }) && error.to_string().contains("answered 404"), "{error:?}");

    let folder = registry.push_folder(&files.folder, "team/shop:folder").await?;
    assert_eq!(reader.resolve("folder").await?.to_string(), folder);
    let layer = reader.layer(&folder, None).await?;
    assert_eq!((layer.media_type.as_str(), layer.folder.as_deref()), (TAR, Some("app")));
    let names = tar_names(&reader.blob(&layer).await)?;
    assert!(
        names.iter().all(|name| name.starts_with("app")) && names.contains(&"app/Dockerfile".to_owned()),
        "{names:?}"
    );

    let zip = registry.push_zip(&files.zip, "team/shop:zip").await?;
    let layer = reader.layer(&zip, None).await?;
    assert_eq!((layer.media_type.as_str(), layer.folder.as_deref()), ("application/zip", None));
    assert_eq!(reader.blob(&layer).await, std::fs::read(&files.zip)?);

    let flux = registry.push_flux(&files.folder, "team/shop:flux", "main@sha1:0123abc").await?;
    let layer = reader.layer(&flux, None).await?;
    assert_eq!(layer.media_type, "application/vnd.cncf.flux.content.v1.tar+gzip");
    assert_eq!(layer.folder, None);
    let names = tar_names(&reader.blob(&layer).await)?;
    assert!(names.contains(&"Dockerfile".to_owned()), "{names:?}");

    let image = registry.push_image(&files.layer, "team/shop:image").await?;
    let layer = reader.layer(&image, Some(TAR)).await?;
    assert_eq!((layer.media_type.as_str(), layer.folder.as_deref()), (TAR, None));
    assert_eq!(reader.blob(&layer).await, std::fs::read(&files.layer)?);

    let reference = registry.reference("team/shop");
    let index = ["index", "append", "-m", &format!("{reference}@{image}"), "-t", &format!("{reference}:index")];
    registry.crane(&index).await?;
    let index = reader.resolve("index").await?;
    assert_ne!(index.to_string(), image, "what the tag names is recorded, which is the index");
    assert_eq!(reader.layer(&index.to_string(), None).await?.digest, layer.digest);

    let error = reader.layer(&image, Some("text/plain")).await.unwrap_err();
    assert!(matches!(&error, FetchError::Rejected { reason } if reason.contains(TAR)), "{error:?}");
    let error = reader.layer(&Digest::of(b"").to_string(), None).await.unwrap_err();
    assert_unavailable(&error, "answered 404 (MANIFEST_UNKNOWN); it may not be pushed yet, or have been deleted");
    Ok(())
}

#[tokio::test]
async fn a_private_registry_is_asked_by_tls_and_with_its_password() -> Result<()> {
    let registry = Registry::start_with(RegistryOptions::default().with_password().with_tls()).await?;
    let files = Files::new()?;
    let zip = registry.push_zip(&files.zip, "team/shop:v1").await?;
    let ca = registry.authority().unwrap().pem()?.into_bytes();
    // As an operator in a cluster, with one flag for the registry inside.
    let limits = Limits { private_hosts: vec![registry.host()], ..Limits::default() };
    let auth =
        |password: &str| Some(Auth::Basic { username: USERNAME.to_owned(), password: password.to_owned().into() });
    let reader = Reader::new(&registry, &limits, ArtifactCredentials { auth: auth(PASSWORD), ca: Some(ca.clone()) });
    assert_eq!(reader.resolve("v1").await?.to_string(), zip);

    let by_operator = || -> Result<Vec<String>> {
        let answered =
            registry.answered()?.into_iter().filter(|answered| answered.agent.starts_with("konigle-operator/"));
        Ok(answered.map(|answered| format!("{} {} {}", answered.method, answered.path, answered.status)).collect())
    };
    let head = |status: u16| format!("HEAD /v2/team/shop/manifests/v1 {status}");
    wait_for("logged", async || Ok((by_operator()?.len() == 2).then_some(()))).await?;
    assert_eq!(by_operator()?, [head(401), head(200)], "the first look asks how it is to be asked");
    for _ in 0..3 {
        reader.resolve("v1").await?;
    }
    wait_for("logged", async || Ok((by_operator()?.len() == 5).then_some(()))).await?;
    assert_eq!(by_operator()?[2..], vec![head(200); 3], "each later look is one HEAD");

    let layer = reader.layer(&zip, None).await?;
    assert_eq!(reader.blob(&layer).await, std::fs::read(&files.zip)?);

    for (limits, credentials, expected) in [
        (&limits, ArtifactCredentials { auth: None, ca: Some(ca.clone()) }, "answered 401 to a request without"),
        (&limits, ArtifactCredentials { auth: auth("wrong"), ca: Some(ca.clone()) }, "answered 401 to the credentials"),
        (
            &limits,
            ArtifactCredentials { auth: auth(PASSWORD), ca: None },
            "put that into `ca.crt` of the Secret that spec.source.oci.secretRef names",
        ),
        (&Limits::default(), ArtifactCredentials { auth: auth(PASSWORD), ca: Some(ca) }, "--private-artifact-hosts"),
    ] {
        let error = Reader::new(&registry, limits, credentials).resolve("v1").await.unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
        assert!(!error.to_string().contains(PASSWORD), "{error}");
    }
    Ok(())
}

/// The paths in a tar.gz.
fn tar_names(bytes: &[u8]) -> Result<Vec<String>> {
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes));
    let mut names = Vec::new();
    for entry in archive.entries()? {
        names.push(entry?.path()?.display().to_string());
    }
    Ok(names)
}
