//! Which pairs of crashes are tried: a sample that moves with the commit, or all (`make sweep PAIRS=all`). Where one never
//! comes to its second crash, the next is drawn in its place.

use std::env;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::process::Command;

use crate::case::Case;
use crate::support::run_folder::package;
use crate::support::{Context, Failure, Result};

/// How many pairs are tried where `PAIRS` says nothing.
const SAMPLE: usize = 100;

/// The pairs in the order in which they are drawn, and how many are to be tried. Each has a number of its own under the
/// seed, and the smallest come first: so one pair more or less in the universe, which chance may add, changes little of the
/// sample.
pub(crate) fn drawn(mut universe: Vec<Case>) -> Result<(Vec<Case>, usize)> {
    let sample = match env::var("PAIRS").ok().filter(|text| !text.is_empty()).as_deref() {
        Some("all") => universe.len(),
        Some(number) => number.parse().context("reading PAIRS, a number or `all`")?,
        None => SAMPLE,
    };
    let sample = sample.min(universe.len());
    let seed = seed()?;
    println!("\npairs: {sample} of {}, seed {seed}", universe.len());
    universe.sort_by_cached_key(|case| {
        let mut hasher = DefaultHasher::new();
        (&seed, case.name()).hash(&mut hasher);
        hasher.finish()
    });
    Ok((universe, sample))
}

/// `SEED`, or the commit.
fn seed() -> Result<String> {
    if let Some(seed) = env::var("SEED").ok().filter(|text| !text.is_empty()) {
        return Ok(seed);
    }
    let output = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(package()).output();
    let output = output.context("asking git for the commit; SEED can be set instead")?;
    let commit = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if commit.is_empty() { Err(Failure::new("git tells no commit: set SEED")) } else { Ok(commit) }
}
