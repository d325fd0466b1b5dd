//! The manifests of `deploy/examples/`, with what only a real user knows filled in: token, URL and digest.

use std::fs;
use std::path::PathBuf;

use konigle_operator::api::KonigleSpace;

use crate::support::artifacts::{application, digest_of};
use crate::support::namespace::ready_reason;
use crate::support::run_folder::{new_folder, package};
use crate::support::{Context, Failure, Result, simulator};

/// The namespace of the examples.
pub(crate) const NAMESPACE: &str = "shop";
/// The token that the simulator knows.
pub(crate) const TOKEN: &str = simulator::TOKEN;
/// The version that the examples deploy.
pub(crate) const VERSION: &str = "1.4.2";

/// What the demo deploys, and a folder for the manifests that say so.
pub(crate) struct Release {
    url: String,
    /// The digest of the artifact.
    pub(crate) digest: String,
    folder: PathBuf,
}

impl Release {
    /// The release that the artifact server at this address holds.
    pub(crate) fn new(artifacts_url: &str) -> Result<Self> {
        let digest = digest_of(&application(VERSION)?);
        Ok(Self { url: artifact_url(artifacts_url), digest, folder: new_folder("manifests")? })
    }

    /// Writes a copy of an example in which the placeholders are filled in; the path of the copy.
    pub(crate) fn fill_in(&self, name: &str) -> Result<String> {
        let example = package().join("deploy/examples").join(name);
        let mut text = fs::read_to_string(&example).context(format!("reading {}", example.display()))?;
        let no_digest = format!("sha256:{}", "0".repeat(64));
        let placeholders: &[(&str, &str)] = match name {
            "secret.yaml" => &[("PUT-YOUR-KONIGLE-API-KEY-HERE", TOKEN)],
            "uat.yaml" => &[("https://ci.example.com/shop-1.4.2.zip", &self.url), (&no_digest, &self.digest)],
            _ => &[],
        };
        for (placeholder, value) in placeholders {
            if !text.contains(placeholder) {
                return Err(Failure::new(format!("{} does not contain {placeholder}", example.display())));
            }
            text = text.replace(placeholder, value);
        }
        let copy = self.folder.join(name);
        fs::write(&copy, text).context(format!("writing {}", copy.display()))?;
        Ok(copy.display().to_string())
    }
}

/// Where the artifact server has the artifact.
pub(crate) fn artifact_url(artifacts_url: &str) -> String {
    format!("{artifacts_url}/shop-{VERSION}.zip")
}

/// Whether a KonigleSpace is known to run this digest, and wants nothing else.
pub(crate) fn runs(space: &KonigleSpace, digest: &str) -> bool {
    let release = space.status.as_ref().and_then(|status| status.release.as_ref());
    ready_reason(space) == Some("Succeeded") && release.is_some_and(|release| release.digest == digest)
}
