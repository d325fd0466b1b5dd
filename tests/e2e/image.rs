//! The image that `make image` makes without a container engine: what is in it, and that it runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::digest::{SHA256, digest};
use serde_json::Value;

use crate::say;
use crate::support::failure::check;
use crate::support::run_folder::{new_folder, package};
use crate::support::stage::{JOB_SECONDS, SHOP, Stage};
use crate::support::{Context, Failure, Result};

/// The largest archive, in bytes.
const LARGEST: u64 = 20_000_000;

/// The archive is a valid OCI image, its blobs are what their names say, and the operator in it does its work.
pub(crate) async fn runs() -> Result<()> {
    let archive = archive()?;
    let size = fs::metadata(&archive)?.len();
    say(&format!("{}: {size} bytes", archive.file_name().unwrap_or_default().to_string_lossy()));
    check(size <= LARGEST, || format!("it may have {LARGEST} bytes at most"))?;
    let folder = new_folder("image")?;
    run(Command::new("tar").arg("-xf").arg(&archive).arg("-C").arg(&folder))?;

    let layout = json(&folder.join("oci-layout"))?;
    check(layout["imageLayoutVersion"] == "1.0.0", || layout.to_string())?;
    let index = json(&folder.join("index.json"))?;
    let manifest = json(&blob(&folder, &index["manifests"][0])?)?;
    let config = json(&blob(&folder, &manifest["config"])?)?;
    let layer = blob(&folder, &manifest["layers"][0])?;
    check(config["config"]["User"] == "65532:65532", || "it runs as root".to_owned())?;
    check(config["config"]["Entrypoint"] == serde_json::json!(["/konigle-operator"]), || config.to_string())?;
    let label = &config["config"]["Labels"]["org.opencontainers.image.version"];
    check(label == env!("CARGO_PKG_VERSION"), || format!("the label says version {label}"))?;

    let root = folder.join("root");
    fs::create_dir(&root)?;
    let plain = folder.join("layer.tar");
    let unzipped = run(Command::new("gzip").arg("-dc").arg(&layer))?;
    fs::write(&plain, &unzipped)?;
    check(config["rootfs"]["diff_ids"][0] == name_of(&unzipped), || {
        "the layer is not what it is said to be".to_owned()
    })?;
    run(Command::new("tar").arg("-xf").arg(&plain).arg("-C").arg(&root))?;
    let listed = String::from_utf8_lossy(&run(Command::new("tar").arg("-tf").arg(&plain))?).into_owned();
    let files: Vec<&str> = listed.lines().filter(|path| !path.ends_with('/')).collect();
    say(&format!("files: {}", files.join(", ")));
    check(files == ["./etc/ssl/certs/ca-certificates.crt", "./konigle-operator"], || format!("it holds {files:?}"))?;

    let program = root.join("konigle-operator");
    // A static program names no loader.
    let loader = run(Command::new("sh").args(["-c", "LC_ALL=C grep -c /lib64/ld-linux \"$0\" || true"]).arg(&program))?;
    check(loader == b"0\n", || "it is not static".to_owned())?;
    let version = run(Command::new(&program).arg("--version"))?;
    say(String::from_utf8_lossy(&version).trim());
    let crd = run(Command::new(&program).arg("crd"))?;
    let kept = fs::read(package().join("crds/koniglespaces.cloud.konigle.com.yaml"))?;
    check(crd == kept, || "its CRD is another one than that of this folder: run `make image` again".to_owned())?;

    let stage = Stage::open_with("image", JOB_SECONDS, |mut options| {
        options.program = Some(program);
        options
    })
    .await?;
    let space = stage.deployed("1.0").await?;
    say(&format!("it deployed {}", space.status.and_then(|status| status.release).unwrap_or_default().digest));
    stage.namespace.spaces().delete(SHOP, &kube::api::DeleteParams::default()).await?;
    Ok(())
}

/// Where `make image` puts it.
fn archive() -> Result<PathBuf> {
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => return Err(Failure::new(format!("there is no image for {other}"))),
    };
    let name = format!("konigle-operator-{}-{architecture}.tar", env!("CARGO_PKG_VERSION"));
    let path = package().join("target/image").join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::new(format!("{} is missing: `make image` makes it", path.display())))
}

/// The file of a descriptor, checked.
fn blob(folder: &Path, descriptor: &Value) -> Result<PathBuf> {
    let name = descriptor["digest"].as_str().unwrap_or_default();
    let path = folder.join("blobs/sha256").join(name.trim_start_matches("sha256:"));
    let bytes = fs::read(&path).context(format!("reading blob {name}"))?;
    check(name_of(&bytes) == name, || format!("blob {name} holds something else"))?;
    check(descriptor["size"] == bytes.len(), || {
        format!("blob {name} has {} bytes, not {}", bytes.len(), descriptor["size"])
    })?;
    Ok(path)
}

fn name_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(digest(&SHA256, bytes)))
}

fn json(path: &Path) -> Result<Value> {
    Ok(serde_json::from_slice(&fs::read(path).context(format!("reading {}", path.display()))?)?)
}

fn run(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.output().context(format!("running {command:?}"))?;
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(Failure::new(format!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr))))
}
