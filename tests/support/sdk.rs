//! Konigle's official Python SDK, with its CLI: an environment that holds it, made once per machine.
//!
//! Needs Python 3.12 or newer, and at the first run the package index.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::digest::{SHA256, digest};

use super::process::cache;
use super::run_folder::package;
use super::{Context, Failure, Result};

/// The folder of what is run in that environment.
pub(crate) fn folder() -> PathBuf {
    package().join("tests/sdk")
}

/// The interpreter of an environment that holds the SDK; made once for each requirements.txt and version of Python.
pub(crate) fn python() -> Result<PathBuf> {
    let found = find_python().ok_or_else(|| Failure::new("there is no Python 3.12 or newer; PYTHON may name one"));
    let (python, version) = found?;
    let requirements = folder().join("requirements.txt");
    let text = fs::read(&requirements).context("reading what the SDK requires")?;
    let key = hex::encode(digest(&SHA256, &text));
    let environments = cache()?.join("sdk");
    let environment = environments.join(format!("{}-python{version}", &key[..16]));
    let interpreter = environment.join("bin/python");
    let complete = environment.join("complete");
    fs::create_dir_all(&environments).context(format!("making {}", environments.display()))?;
    // Two test runs at once: the second waits, and finds it complete.
    let lock = File::create(environments.join("lock")).context("making the SDK's lock")?;
    lock.lock().context("waiting for another run that makes the SDK's environment")?;
    if !complete.exists() {
        run(Command::new(&python).args(["-m", "venv", "--clear"]).arg(&environment))?;
        let mut install = Command::new(&interpreter);
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"]);
        run(install.arg(&requirements))?;
        File::create(&complete).context("marking the SDK's environment as complete")?;
    }
    Ok(interpreter)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().context(format!("{command:?}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no output");
    Err(Failure::new(format!("{command:?} failed: {last}")))
}

/// The first Python that is new enough, with its version.
fn find_python() -> Option<(PathBuf, String)> {
    let named = std::env::var_os("PYTHON").map(PathBuf::from);
    let on_path = ["python3.13", "python3.12", "python3"].map(PathBuf::from);
    named.into_iter().chain(on_path).chain(pyenv_pythons()).find_map(|python| Some((python.clone(), version(&python)?)))
}

fn pyenv_pythons() -> Vec<PathBuf> {
    let Ok(output) = Command::new("pyenv").arg("root").output() else { return Vec::new() };
    let root = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    let Ok(versions) = fs::read_dir(root.join("versions")) else { return Vec::new() };
    versions.flatten().map(|version| version.path().join("bin/python3")).collect()
}

/// The version as `3.12`, where it is 3.12 or newer and can make environments.
fn version(python: &Path) -> Option<String> {
    let program =
        "import sys, venv, ensurepip; assert sys.version_info >= (3, 12); print('%d.%d' % sys.version_info[:2])";
    let output = Command::new(python).args(["-c", program]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
