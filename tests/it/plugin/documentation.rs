//! docs/kubectl-konigle.md is run: each command by a shell, as it stands there, and what it prints is compared.
//!
//! Times, ages, ids of jobs and the test's own namespace differ from run to run and are not compared, nor what is told while
//! something is waited for (`◎`). `UPDATE_DOCS=1` writes into the file what the commands print.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use regex::Regex;
use serde_json::json;

use crate::support::control_plane::ControlPlane;
use crate::support::kubectl::Kubectl;
use crate::support::namespace::promotes;
use crate::support::run_folder::{new_folder, package};
use crate::support::simulator::{PRODUCTION, UAT};
use crate::support::stage::{SHOP, Stage};
use crate::support::{Context, Failure, Result};

const DOCUMENT: &str = "docs/kubectl-konigle.md";

/// A part of the document that does something.
enum Part {
    /// A state that is brought about.
    Given(String),
    /// A file that is written.
    File(String, String),
    /// A command, and what it prints.
    Run(String, String),
}

#[tokio::test]
async fn every_command_of_the_document_prints_what_it_says() -> Result<()> {
    let path = package().join(DOCUMENT);
    let document = fs::read_to_string(&path)?;
    let reader = Reader::open().await?;
    let (mut written, mut rest) = (String::new(), document.as_str());
    let mut differences = Vec::new();
    for part in parts(&document) {
        match part {
            Part::Given(state) => reader.bring_about(&state).await.context(state)?,
            Part::File(name, text) => fs::write(reader.folder.join(name), text)?,
            Part::Run(command, expected) => {
                let printed = reader.run(&command).await?;
                if normal(&printed) != normal(&expected) {
                    differences.push(format!("$ {command}\n--- in {DOCUMENT}\n{expected}\n--- printed\n{printed}"));
                }
                let block = format!("$ {command}\n{expected}");
                let (before, after) = rest.split_once(&block).unwrap_or((rest, ""));
                let _ = write!(written, "{before}$ {command}\n{}", shortened(&printed));
                rest = after;
            }
        }
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, written + rest)?;
        return Ok(());
    }
    assert!(differences.is_empty(), "UPDATE_DOCS=1 writes what is printed:\n{}", differences.join("\n\n"));
    Ok(())
}

/// What the document does, in its order.
fn parts(document: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut block: Option<(&str, String)> = None;
    for line in document.lines() {
        match (&mut block, line.strip_prefix("```")) {
            (Some((kind, text)), Some(_)) => {
                match *kind {
                    "console" => parts.extend(runs(text)),
                    "yaml" => parts.extend(file(text)),
                    _ => {}
                }
                block = None;
            }
            (Some((_, text)), None) => text.extend([line, "\n"]),
            (None, Some(kind)) => block = Some((kind, String::new())),
            (None, None) => {
                let given = line.strip_prefix("<!-- given: ").and_then(|rest| rest.strip_suffix(" -->"));
                parts.extend(given.map(|state| Part::Given(state.to_owned())));
            }
        }
    }
    parts
}

/// The commands of a block, each with the lines up to the next.
fn runs(block: &str) -> Vec<Part> {
    let mut runs: Vec<(String, String)> = Vec::new();
    for line in block.lines() {
        match (line.strip_prefix("$ "), runs.last_mut()) {
            (Some(command), _) => runs.push((command.to_owned(), String::new())),
            (None, Some((_, output))) => output.extend([line, "\n"]),
            (None, None) => {}
        }
    }
    runs.into_iter().map(|(command, output)| Part::Run(command, output)).collect()
}

/// A file, whose first line is its name.
fn file(block: &str) -> Option<Part> {
    let (name, text) = block.split_once('\n')?;
    Some(Part::File(name.strip_prefix("# ")?.to_owned(), text.to_owned()))
}

/// Whoever reads the document and types what stands there.
struct Reader {
    stage: Stage,
    folder: PathBuf,
    kubectl: Kubectl,
}

impl Reader {
    async fn open() -> Result<Self> {
        let control_plane = ControlPlane::shared().await?;
        let stage = Stage::open("documented").await?;
        let kubeconfig = control_plane.write_admin_kubeconfig(stage.namespace.name())?;
        let kubectl = control_plane.kubectl().with_kubeconfig(kubeconfig);
        Ok(Self { stage, folder: new_folder("documented")?, kubectl })
    }

    /// What a command prints, both outputs together, with the namespace that the document speaks of.
    async fn run(&self, command: &str) -> Result<String> {
        let mut shell = self.kubectl.shell("sh")?;
        shell.args(["-c", &format!("exec 2>&1\n{command}")]).current_dir(&self.folder).stdin(Stdio::null());
        let output = tokio::task::spawn_blocking(move || shell.output()).await?.context(command.to_owned())?;
        Ok(stable(&String::from_utf8_lossy(&output.stdout).replace(self.stage.namespace.name(), "shop")))
    }

    async fn bring_about(&self, given: &str) -> Result<()> {
        let stage = &self.stage;
        let wish = |version: &str| {
            let mut wish = stage.wish(version)?;
            wish["source"]["http"]["revision"] = json!(format!("v{version}"));
            Ok::<_, Failure>(wish)
        };
        match given {
            "shop-uat runs v1.4.2, and nothing is approved" => {
                stage.namespace.apply(SHOP, &wish("1.4.2")?).await?;
                stage.namespace.wait_for_reason(SHOP, "Succeeded").await?;
                stage.namespace.apply("shop-production", &promotes(PRODUCTION, SHOP)).await?;
                stage.namespace.wait_for_reason("shop-production", "AwaitingApproval").await?;
            }
            "v1.5.0 is written into the spec of shop-uat" => {
                let change = json!({"spec": wish("1.5.0")?});
                let kubectl = stage.kubectl.clone();
                let patch =
                    ["-n", stage.namespace.name(), "patch", "kspace", SHOP, "--type=merge", "-p", &change.to_string()];
                kubectl.run(&patch).await?;
                stage.namespace.wait_for_reason(SHOP, "Suspended").await?;
            }
            "somebody deploys to the uat Space by hand" => {
                stage.simulator.control(reqwest::Method::POST, "clock", &json!({"advance_seconds": 60})).await?;
                stage.simulator.change_space(UAT, &json!({"human_deploy": {"job": {"seconds": 0}}})).await?;
                stage.look_now(SHOP).await?;
                stage.namespace.wait_for_reason(SHOP, "Drifted").await?;
            }
            "a job of shop-uat runs, and has logged two lines" => {
                stage.simulator.change_space(UAT, &json!({"job": {"seconds": 600, "lines": 0}})).await?;
                let before = stage.simulator.ledger(UAT).await?.len();
                stage.namespace.apply(SHOP, &wish("1.6.0")?).await?;
                let ledger = stage.wait_for_ledger(UAT, before + 1).await?;
                for message in ["Unpacking app.zip", "Running the release commands"] {
                    let line = json!({"append_log": [{"level": "info", "message": message}]});
                    stage.simulator.change_job(&ledger[before]["job"], &line).await?;
                }
                let logged = |space: &konigle_operator::api::KonigleSpace| {
                    let attempt = space.status.as_ref().and_then(|status| status.attempt.as_ref());
                    attempt.and_then(|attempt| attempt.log.as_ref()).is_some_and(|log| log.count == 2)
                };
                stage.namespace.wait_for(SHOP, "two lines logged", logged).await?;
            }
            other => {
                return Err(Failure::new(format!("{DOCUMENT} speaks of a state that the test does not know: {other}")));
            }
        }
        Ok(())
    }
}

/// What differs from run to run is replaced by one example of it.
fn stable(text: &str) -> String {
    let examples = [
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "2026-11-24T09:00:00Z"),
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "b8633508-44c5-455f-a689-5acd35e2233d"),
        (r"https://127\.0\.0\.1:\d+", "https://kubernetes.example.com"),
    ];
    examples.iter().fold(text.to_owned(), |text, (pattern, example)| {
        Regex::new(pattern).expect("a pattern").replace_all(&text, *example).into_owned()
    })
}

/// As it is written into the document: of what is told while something is waited for, the beginning.
fn shortened(printed: &str) -> String {
    let mut waiting = 0;
    let mut text = String::new();
    for line in printed.lines() {
        waiting = if line.starts_with('◎') { waiting + 1 } else { 0 };
        match waiting {
            0..=4 => text.extend([line, "\n"]),
            5 => text += "◎ …\n",
            _ => {}
        }
    }
    text
}

/// What is compared: without ages, the room that they take, and what is told while something is waited for.
fn normal(text: &str) -> String {
    let ages = Regex::new(r"\b\d+[smhd](\d+[sm])?\b").expect("a pattern");
    let spaces = Regex::new(r" +").expect("a pattern");
    let lines = text.lines().filter(|line| !line.starts_with('◎')).map(str::trim_end);
    let text = lines.collect::<Vec<_>>().join("\n");
    spaces.replace_all(&ages.replace_all(&text, "AGE"), " ").into_owned()
}

#[test]
fn the_document_is_read_as_a_reader_would() {
    let text = "text\n<!-- given: a state -->\n```console\n$ one\nout\n$ two\n```\n```yaml\n# a.yaml\nkey: 1\n```\n```sh\nnot run\n```\n";
    let told: Vec<String> = parts(text)
        .into_iter()
        .map(|part| match part {
            Part::Given(state) => format!("given {state}"),
            Part::File(name, text) => format!("file {name} {text:?}"),
            Part::Run(command, output) => format!("run {command} {output:?}"),
        })
        .collect();
    assert_eq!(told, ["given a state", "run one \"out\\n\"", "run two \"\"", "file a.yaml \"key: 1\\n\""]);
    assert_eq!(normal("a   5s b\n◎ waiting\n1h30m 2m5s"), "a AGE b\nAGE AGE");
}
