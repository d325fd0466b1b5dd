//! The documents for people are followed: every command in them is run by a shell, as it stands there, on a real control
//! plane of the document's own, with the operator installed, and what it prints is compared.
//!
//! What a document says to this test is ordinary Markdown, or a comment:
//!
//! | in the document | what is done with it |
//! |---|---|
//! | a block `console` | each line that begins with `$ ` is run, with the lines that its `\` continues; it must succeed, and print what stands below it; where it must fail it ends with `; echo "exit code $?"` |
//! | a block `sh` | it is run as a whole, each of its commands must succeed; what it prints is not compared |
//! | `<!-- not run: why -->` before such a block | nothing |
//! | a block `yaml` whose first line is `# FILE.yaml` | it is written into that file |
//! | a block `diff` | it is applied to the files |
//! | `<!-- given: a state -->` | the state is brought about (`given.rs`) |
//!
//! All commands of a document share a folder, the files of the releases among them, and what they export or set. Times,
//! ages, ids of jobs and marks of attempts differ from run to run and are not compared, nor what is told while something is
//! waited for (`◎`). `UPDATE_DOCS=1` writes into the document what its commands print.

mod comparison;
mod given;
mod reader;

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use crate::support::Result;
use crate::support::markdown;
use crate::support::run_folder::package;

/// Documents that are followed from their beginning to their end, a test for each.
macro_rules! followed {
    ($($test:ident: $document:literal,)*) => {
        $(
            #[tokio::test]
            async fn $test() -> Result<()> {
                reader::follow($document).await
            }
        )*
        const FOLLOWED: &[&str] = &[$($document),*];
    };
}

followed! {
    artifacts: "docs/artifacts.md",
    backup_and_move: "docs/backup-and-move.md",
    conditions: "docs/conditions.md",
    credentials_and_tenancy: "docs/credentials-and-tenancy.md",
    first_space: "docs/first-space.md",
    gitops: "docs/gitops.md",
    kubectl_konigle: "docs/kubectl-konigle.md",
    live_fleet: "docs/live-fleet.md",
    promotion: "docs/promotion.md",
    readme: "README.md",
    runbooks: "docs/runbooks.md",
}

/// Documents with commands that are not followed, and why.
const NOT_FOLLOWED: [(&str, &str); 3] = [
    ("docs/install.md", "it needs Helm and an empty cluster: make e2e-helm follows it"),
    ("docs/upgrade.md", "it needs Helm and an older installation: make e2e-helm follows it"),
    ("docs/simulator.md", "it starts a server in the foreground; tests/it/simulator asks the same endpoints"),
];

#[test]
fn every_document_with_commands_is_followed() -> Result<()> {
    let mut with_commands = BTreeSet::new();
    let pages: Vec<PathBuf> =
        fs::read_dir(package().join("docs"))?.map(|file| Ok(file?.path())).collect::<Result<_>>()?;
    for page in pages.into_iter().chain([package().join("README.md")]) {
        let is_document = page.extension().is_some_and(|extension| extension == "md");
        if is_document && markdown::has_commands(&fs::read_to_string(&page)?) {
            with_commands.insert(page.strip_prefix(package()).unwrap_or(&page).display().to_string());
        }
    }
    let excused = NOT_FOLLOWED.map(|(document, _)| document);
    let known: BTreeSet<String> = FOLLOWED.iter().chain(&excused).map(|&document| document.to_owned()).collect();
    assert_eq!(known, with_commands, "documents that a test follows or does not, and documents with commands");
    Ok(())
}
