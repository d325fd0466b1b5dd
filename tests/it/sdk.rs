//! The contract test: the official Python SDK and its CLI drive the simulator (`tests/sdk/contract.py`).
//!
//! Needs Python 3.12 or newer, and at the first run the package index. Where it cannot run it says so in one line; with
//! `CI=true` that is a failure.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use aws_lc_rs::digest::{SHA256, digest};
use konigle_operator::sim::{Options, Simulator};

#[tokio::test(flavor = "multi_thread")]
async fn the_official_sdk_and_cli_work_with_the_simulator() {
    let python = match tokio::task::spawn_blocking(sdk_python).await.expect("the search for Python does not panic") {
        Ok(python) => python,
        Err(reason) => {
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "the contract test cannot run: {reason}");
            // Past the capture of test output: a test that did not run must not look like one that passed.
            writeln!(std::io::stderr(), "the contract test did not run: {reason}").expect("stderr is open");
            return;
        }
    };
    let simulator = Simulator::start(Options::default()).await.expect("the simulator starts");
    let mut contract = Command::new(python);
    contract.arg(sdk_folder().join("contract.py")).arg(&simulator.base_url);
    let output = tokio::task::spawn_blocking(move || contract.output()).await.expect("it does not panic");
    let output = output.expect("Python starts");
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "contract.py failed:\n{text}");
}

fn sdk_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk")
}

/// The interpreter of an environment that holds the SDK; made once for each requirements.txt and version of Python.
fn sdk_python() -> Result<PathBuf, String> {
    let (python, version) = find_python().ok_or("there is no Python 3.12 or newer; PYTHON may name one")?;
    let requirements = sdk_folder().join("requirements.txt");
    let text = fs::read(&requirements).map_err(|error| error.to_string())?;
    let cache = match (std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME")) {
        (Some(cache), _) => PathBuf::from(cache),
        (None, Some(home)) => Path::new(&home).join(".cache"),
        (None, None) => return Err("there is no HOME for the cache".to_owned()),
    };
    let key = hex::encode(digest(&SHA256, &text));
    let folder = cache.join("konigle-operator/sdk").join(format!("{}-python{version}", &key[..16]));
    let interpreter = folder.join("bin/python");
    let complete = folder.join("complete");
    fs::create_dir_all(folder.parent().unwrap_or(&folder)).map_err(|error| error.to_string())?;
    // Two test runs at once: the second waits, and finds it complete.
    let lock = File::create(cache.join("konigle-operator/sdk/lock")).map_err(|error| error.to_string())?;
    lock.lock().map_err(|error| error.to_string())?;
    if !complete.exists() {
        run(Command::new(&python).args(["-m", "venv", "--clear"]).arg(&folder))?;
        let mut install = Command::new(&interpreter);
        install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", "-r"]);
        run(install.arg(&requirements))?;
        File::create(&complete).map_err(|error| error.to_string())?;
    }
    Ok(interpreter)
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no output");
    Err(format!("{command:?} failed: {last}"))
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
