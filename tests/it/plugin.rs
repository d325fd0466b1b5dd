//! `kubectl konigle` as people run it: by the real kubectl, on a real API server, with the operator as it ships. What its
//! screens look like in each terminal stands beside the code (`src/plugin`); its document is followed by `documents.rs`.

mod bad_input;
mod requests;

use std::fs;

use serde_json::Value;

use crate::support::Result;
use crate::support::run_folder::package;

#[test]
fn the_krew_manifest_is_well_formed() -> Result<()> {
    // The bot puts two lines, uri and sha256, where a platform's address stands.
    let template = fs::read_to_string(package().join(".krew.yaml"))?;
    let mut filled = String::new();
    for line in template.lines() {
        let indent = &line[..line.len() - line.trim_start().len()];
        match line.split('"').nth(1).filter(|_| line.contains("addURIAndSha")) {
            Some(url) => {
                let url = url.replace("{{ .TagName }}", "v0.1.0");
                filled.extend([indent, "uri: ", &url, "\n", indent, "sha256: ", &"0".repeat(64), "\n"]);
            }
            None => filled.extend([&line.replace("{{ .TagName }}", "v0.1.0"), "\n"]),
        }
    }
    let manifest: Value = serde_saphyr::from_str(&filled)?;
    assert_eq!(manifest["apiVersion"], "krew.googlecontainertools.github.com/v1alpha2");
    assert_eq!(manifest["kind"], "Plugin");
    assert_eq!(manifest["metadata"]["name"], "konigle", "kubectl finds kubectl-konigle by it");
    let spec = &manifest["spec"];
    assert_eq!(spec["version"], "v0.1.0");
    for field in ["homepage", "shortDescription", "description"] {
        assert!(spec[field].as_str().is_some_and(|text| !text.is_empty()), "{field}");
    }
    // Krew's own limit for a list of plugins that people can read.
    assert!(spec["shortDescription"].as_str().is_some_and(|text| text.len() <= 50 && !text.ends_with('.')));
    let platforms = spec["platforms"].as_array().cloned().unwrap_or_default();
    assert_eq!(platforms.len(), 2);
    for platform in platforms {
        let arch = platform["selector"]["matchLabels"]["arch"].as_str().unwrap_or_default().to_owned();
        let uri = platform["uri"].as_str().unwrap_or_default();
        assert!(uri.starts_with("https://") && uri.ends_with(&format!("linux-{arch}.tar.gz")), "{uri}");
        assert_eq!(platform["bin"], "kubectl-konigle");
        let files: Vec<_> =
            platform["files"].as_array().into_iter().flatten().map(|file| file["from"].clone()).collect();
        assert_eq!(files, ["kubectl-konigle", "kubectl_complete-konigle", "LICENSE"]);
    }
    assert!(package().join("LICENSE").is_file());
    Ok(())
}
