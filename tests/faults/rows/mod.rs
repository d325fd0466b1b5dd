//! The rows of the matrix: a file for each group, each with its own list.

mod anew;
mod answers;
mod artifacts;
mod claim;
mod jobs;
mod kubernetes;
mod origins;
mod people;
mod process;
mod promotion;
mod resources;
mod secrets;
mod surroundings;
mod texts;

use crate::matrix::Row;

/// All rows, in the order of their numbers.
pub(crate) fn all() -> Vec<Row> {
    let mut rows: Vec<Row> = [
        claim::rows(),
        answers::rows(),
        kubernetes::rows(),
        jobs::rows(),
        people::rows(),
        promotion::rows(),
        secrets::rows(),
        resources::rows(),
        anew::rows(),
        artifacts::rows(),
        origins::rows(),
        texts::rows(),
        process::rows(),
        surroundings::rows(),
    ]
    .into_iter()
    .flatten()
    .collect();
    rows.sort_by_key(|row| {
        let digits = row.number.trim_end_matches(|letter: char| letter.is_ascii_lowercase());
        (digits.parse::<u32>().unwrap_or_default(), row.number)
    });
    rows
}
