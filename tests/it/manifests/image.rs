//! What the image says of itself; what is in it, and that it runs, is `make e2e-image`.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use regex::Regex;
use serde_json::Value;

use crate::support::run_folder::{new_folder, package};
use crate::support::{Context, Failure, Result};

const LABELS: &str = "org.opencontainers.image.";

#[test]
fn the_archive_has_the_labels_of_the_dockerfile() -> Result<()> {
    let dockerfile = fs::read_to_string(package().join("deploy/Dockerfile"))?;
    let label = Regex::new(r#"(?m)^(?:LABEL)? +org\.opencontainers\.image\.([a-z]+)="([^"]*)""#)?;
    let mut expected: BTreeMap<&str, &str> =
        label.captures_iter(&dockerfile).map(|label| label.extract::<2>().1).map(|[name, text]| (name, text)).collect();
    assert_eq!(expected.get("version"), Some(&env!("CARGO_PKG_VERSION")), "deploy/Dockerfile");
    assert_eq!(expected.get("licenses"), Some(&env!("CARGO_PKG_LICENSE")), "deploy/Dockerfile");
    assert_eq!(expected.insert("revision", "0123abc"), Some("$REVISION"));
    expected.insert("created", "1970-01-01T00:00:00Z");

    // Any file will do for the program and the authorities: nothing of it is run.
    let (folder, file) = (new_folder("labels")?, package().join("deny.toml"));
    let archive = folder.join("image.tar");
    let mut build = Command::new(package().join("deploy/image/build"));
    build.arg(&archive).env("BINARY", &file).env("SSL_CERT_FILE", &file);
    run(build.env("REVISION", "0123abc").env_remove("SOURCE_DATE_EPOCH"))?;
    run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&folder))?;
    let read = |name: &str| -> Result<Value> { Ok(serde_json::from_slice(&fs::read(folder.join(name))?)?) };
    let blob = |descriptor: &Value| {
        read(&format!("blobs/{}", descriptor["digest"].as_str().unwrap_or_default().replace(':', "/")))
    };
    let manifest = blob(&read("index.json")?["manifests"][0])?;
    for labels in [&manifest["annotations"], &blob(&manifest["config"])?["config"]["Labels"]] {
        let labels = labels.as_object().ok_or_else(|| Failure::new("there are no labels"))?;
        let found: BTreeMap<&str, &str> =
            labels.iter().map(|(name, text)| (name.trim_start_matches(LABELS), text.as_str().unwrap_or(""))).collect();
        assert_eq!(found, expected);
    }
    Ok(())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().context(format!("running {command:?}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(Failure::new(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr))))
}
