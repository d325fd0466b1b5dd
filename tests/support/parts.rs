//! Real programs beside the control plane, built by `tests/parts/build` at the first run on a machine.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::run_folder::package;
use super::{Context, Failure, Result};

/// Where this program is. Builds it where it is not there yet: seconds to some minutes, and what it takes is told.
pub(crate) fn part(name: &str) -> Result<PathBuf> {
    built_by("tests/parts/build", &[name])
}

/// What a script of this package builds: the path that it prints last. What it tells of its progress is shown.
pub(crate) fn built_by(script: &str, arguments: &[&str]) -> Result<PathBuf> {
    let build = package().join(script);
    let output = Command::new(&build)
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .context(format!("running {}", build.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.lines().last() {
        Some(path) if output.status.success() => Ok(PathBuf::from(path)),
        _ => Err(Failure::new(format!("{script} {} failed ({})", arguments.join(" "), output.status))),
    }
}

/// Gives a program lines on its standard input, and returns those of its standard output, one for each.
pub(crate) fn answers(program: &PathBuf, lines: &[String]) -> Result<Vec<String>> {
    use std::io::Write as _;

    let mut child = Command::new(program)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .context(format!("running {}", program.display()))?;
    let mut input = child.stdin.take().ok_or_else(|| Failure::new("there is no standard input"))?;
    let text = lines.join("\n") + "\n";
    // It answers while it reads: both at once, or each would wait for the other.
    let writer = std::thread::spawn(move || input.write_all(text.as_bytes()));
    let output = child.wait_with_output().context("reading what it says")?;
    // Where it ended early, its own words say more than the pipe that broke.
    let written = writer.join().map_err(|_| Failure::new("writing panicked"))?;
    let answers: Vec<String> = String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    if !output.status.success() || answers.len() != lines.len() {
        return Err(Failure::new(format!(
            "{} ended with {} after {} of {} answers",
            program.display(),
            output.status,
            answers.len(),
            lines.len()
        )));
    }
    written.context("writing to it")?;
    Ok(answers)
}
