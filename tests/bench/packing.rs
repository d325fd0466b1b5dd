//! Packing a source tree, side by side with the official CLI's directory mode on the same files.

use std::fs::{self, File};
use std::path::Path;
use std::time::Instant;

use konigle_operator::artifact::{Limits, fuzzing};

use crate::content::{Tree, digest_of};
use crate::official::Official;
use crate::report::{Report, Sample, count, short};
use crate::support::artifacts::tar_gz_of;
use crate::support::{Context, Failure, Result};

/// Packings by each, in turn.
const ROUNDS: usize = 3;
/// The least that the operator is faster.
const AIM: f64 = 2.0;

/// From a tar.gz on disk, as a source of Flux hands it out, to a ZIP on disk; the CLI reads the files themselves, and packs
/// into memory.
pub(crate) async fn measure(tree: &Tree, report: &mut Report) -> Result<()> {
    let mebibytes = count(tree.bytes >> 20)?;
    report.section(&format!(
        "Packing {} files of {} MiB, deflated at level 6 ({ROUNDS} rounds in turn, medians)",
        tree.files,
        short(mebibytes)
    ));
    let source = tree.beside("app.tar.gz");
    fs::write(&source, tar_gz_of(&tree.root())?).context("writing the tar.gz")?;
    let official = Official::prepare().await?;
    let (mut speeds, mut theirs, mut digests) = (Vec::new(), Vec::new(), Vec::new());
    let (mut size, mut their_size) = (0, 0);
    for round in 0..ROUNDS {
        let measured = official.package(&tree.root()).await?;
        theirs.push(mebibytes / measured.seconds);
        their_size = measured.size;
        let into = tree.beside(&format!("{round}.zip"));
        let seconds = pack(&source, &into)?;
        speeds.push(mebibytes / seconds);
        size = into.metadata()?.len();
        digests.push(digest_of(&into)?);
    }
    let (ours, theirs) = (Sample::new(speeds)?.median(), Sample::new(theirs)?.median());
    report.row("the official CLI, directory mode", format!("{} MiB/s", short(theirs)));
    report.row("the operator, from a tar.gz", format!("{} MiB/s", short(ours)));
    report.at_least("ratio", (ours / theirs, AIM), " × the CLI");
    let (size, their_size) = (count(size >> 10)?, count(their_size >> 10)?);
    report.row("its ZIP, of the files' size", short(size / 1024.0 / mebibytes));
    report.row("its ZIP beside the CLI's", format!("{} × ", short(size / their_size)));
    digests.dedup();
    match &digests[..] {
        [_] => Ok(()),
        _ => Err(Failure::new(format!("one tree was packed into ZIPs with the digests {}", digests.join(", ")))),
    }
}

/// The seconds that it took.
fn pack(source: &Path, into: &Path) -> Result<f64> {
    let file = File::options().create_new(true).read(true).write(true).open(into).context("making a ZIP")?;
    let source = File::open(source).context("reading the tar.gz")?;
    let began = Instant::now();
    let packed = fuzzing::pack(&source, "", &Limits::default(), &file)?;
    packed.map_err(|reason| Failure::new(format!("the tree is refused: {reason}")))?;
    Ok(began.elapsed().as_secs_f64())
}
