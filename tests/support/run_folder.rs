//! Where things are: the folder of the built programs, and one folder for the logs and data of this run.
//!
//! The run folder stays after the run, for the logs are what a failure is understood from; the next run removes it.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Context, Failure, Result};

/// In a run folder: the ids of processes that were left running and use it.
const PROCESSES: &str = "processes";

/// The folder that cargo put this profile's programs into.
pub(crate) fn programs() -> Result<PathBuf> {
    let own = env::current_exe().context("finding this program's own path")?;
    own.ancestors()
        .find(|folder| folder.file_name().is_some_and(|name| name == "deps" || name == "examples"))
        .and_then(Path::parent)
        .map(Path::to_path_buf)
        .ok_or_else(|| Failure::new(format!("{} does not lie in a target folder of cargo", own.display())))
}

/// A program of this package, built by cargo beside this one.
pub(crate) fn program(name: &str) -> Result<PathBuf> {
    let path = programs()?.join(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::new(format!("{} is missing: `cargo build --all-features --bins` makes it", path.display())))
}

/// The root of the package's files.
pub(crate) fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The folder of this run. Made at first use, when the folders of runs that have ended are removed.
pub(crate) fn run_folder() -> Result<&'static Path> {
    static FOLDER: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    match FOLDER.get_or_init(|| make_run_folder().map_err(|failure| failure.to_string())) {
        Ok(folder) => Ok(folder),
        Err(text) => Err(Failure::new(text)),
    }
}

/// A new folder in the run folder, named `<name>-<n>`.
pub(crate) fn new_folder(name: &str) -> Result<PathBuf> {
    static COUNT: AtomicUsize = AtomicUsize::new(1);
    let folder = run_folder()?.join(format!("{name}-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
    fs::create_dir_all(&folder).context(format!("making {}", folder.display()))?;
    Ok(folder)
}

/// Keeps the run folder as long as one of these processes runs.
pub(crate) fn keep(processes: &[u32]) -> Result<()> {
    let file = run_folder()?.join(PROCESSES);
    let processes: Vec<String> = processes.iter().map(u32::to_string).collect();
    fs::write(&file, processes.join("\n")).context(format!("writing {}", file.display()))
}

fn make_run_folder() -> Result<PathBuf> {
    let profile = programs()?;
    let parent = profile.parent().unwrap_or(&profile).join("tmp").join("test-bed");
    if let Ok(entries) = fs::read_dir(&parent) {
        for folder in entries.flatten().map(|entry| entry.path()).filter(|folder| !is_in_use(folder)) {
            // Another run may be removing it at the same time; what stays is removed next time.
            let _ = fs::remove_dir_all(folder);
        }
    }
    let own = parent.join(std::process::id().to_string());
    fs::create_dir_all(&own).context(format!("making {}", own.display()))?;
    Ok(own)
}

/// Whether the process that made a run folder, by whose id it is named, or one that it left, is running.
fn is_in_use(folder: &Path) -> bool {
    let maker = folder.file_name().map(|name| name.to_string_lossy().into_owned());
    let left = fs::read_to_string(folder.join(PROCESSES)).unwrap_or_default();
    maker.iter().map(String::as_str).chain(left.lines()).any(is_running)
}

fn is_running(process_id: &str) -> bool {
    Command::new("sh")
        .args(["-c", "kill -0 \"$1\"", "sh", process_id])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Copies what is in a folder, all the way down, into another one, which is made.
pub(crate) fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).context(format!("making {}", to.display()))?;
    for entry in std::fs::read_dir(from).context(format!("reading {}", from.display()))? {
        let entry = entry?;
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if path.is_dir() {
            copy_folder(&path, &target)?;
        } else {
            std::fs::copy(&path, &target).context(format!("copying {}", path.display()))?;
        }
    }
    Ok(())
}
