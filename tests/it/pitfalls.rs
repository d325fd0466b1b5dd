//! `docs/pitfalls.md` tells the truth: every trap is there, and every test that it names is one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::support::run_folder::package;

/// Traps that must have a regression test of their own.
const TESTED: [u32; 11] = [1, 2, 3, 5, 6, 10, 15, 16, 18, 22, 24];

/// The names of all tests of the package.
fn tests() -> BTreeSet<String> {
    let mut folders = vec![package().join("src"), package().join("tests")];
    let mut names = BTreeSet::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() {
                folders.push(entry);
            } else if entry.extension().is_some_and(|extension| extension == "rs") {
                names.extend(tests_of(&entry));
            }
        }
    }
    names
}

/// The functions of a file that an attribute makes tests, and those that are rows of the fault matrix.
pub(crate) fn tests_of(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let is_test = |before: &str| before.starts_with("#[test]") || before.starts_with("#[tokio::test");
    let is_row = |line: &str| line.starts_with("async fn row_") && line.contains("(case: &Case)");
    let tests = lines.windows(2).filter(|pair| is_test(pair[0]) || is_row(pair[1]));
    tests.filter_map(|pair| Some(pair[1].split_once("fn ")?.1.split_once('(')?.0.to_owned())).collect()
}

#[test]
fn every_named_test_exists() {
    let tests = tests();
    let page = fs::read_to_string(package().join("docs/pitfalls.md")).unwrap();
    let rows: Vec<Vec<&str>> = page
        .lines()
        .filter(|line| line.starts_with("| K"))
        .map(|line| line.split('|').map(str::trim).collect())
        .collect();
    let numbers: Vec<String> = rows.iter().map(|row| row[1].to_owned()).collect();
    assert_eq!(numbers, (1..=24).map(|number| format!("K{number}")).collect::<Vec<_>>());
    for row in rows {
        let named: Vec<&str> = row[4].split('`').skip(1).step_by(2).filter(|name| !name.contains(' ')).collect();
        for name in &named {
            assert!(tests.contains(*name), "{}: there is no test {name}", row[1]);
        }
        let number: u32 = row[1].trim_start_matches('K').parse().unwrap();
        let own = format!("k{number}_");
        let has_its_own = named.iter().any(|name| name.starts_with(&own));
        assert!(has_its_own || !TESTED.contains(&number), "{} has no test of its own", row[1]);
        let says_why = row[4].starts_with("cannot happen") || row[4].starts_with("no trap");
        assert!(!named.is_empty() || says_why, "{} has neither a test nor a reason", row[1]);
    }
}
