//! What nobody knows of the real API, as switches of the simulator, and a covering array of them: few combinations in
//! which every two values of two different switches come together.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use crate::SEEDS;
use crate::matrix::{How, Row};
use crate::support::{Failure, Result};

/// The switches that a release depends on, those that matter most first. Lags stay within the time that the operator is
/// told to settle for.
const READINGS: &[(&str, &[&str])] = &[
    (MOVES, &["accept", "end", "success", "both"]),
    (JOB_LIST, &["served", "not_served"]),
    ("status_while_running", &["previous", "word", "null"]),
    ("busy_policy", &["parallel", "queue", "refuse_409"]),
    ("read_lag_seconds", &["0", "0.3", "0.8"]),
    ("timestamps", &["microseconds", "seconds", "offset"]),
    ("status_lag_seconds", &["0", "0.5"]),
    ("effect_lag_seconds", &["0", "0.3"]),
    ("display_name_in_log", &["no", "yes"]),
    ("job_space_id", &["no", "yes"]),
    ("post_success_code", &["201", "200"]),
];

const MOVES: &str = "last_deployed_at_moves";
const JOB_LIST: &str = "job_list";

/// Readings that a row fixes, each with the values that its seeds take in turn.
pub(crate) type Fixed = &'static [(&'static str, &'static [&'static str])];

/// One value for each reading, by its place.
type Combination = Vec<usize>;
/// Two values of two readings: the places of the readings, and of the values.
type Pair = (usize, usize, usize, usize);

/// The combination of a row's case, as the control API of the simulator takes it, with the readings that the row fixes.
pub(crate) fn of_case(row: usize, seed: u64, fixed: Fixed) -> Map<String, Value> {
    let texts = texts_of_case(&covering_array(), row, seed, fixed);
    texts.into_iter().map(|(name, text)| (name.to_owned(), json_of(text))).collect()
}

fn texts_of_case(array: &[Combination], row: usize, seed: u64, fixed: Fixed) -> BTreeMap<&'static str, &'static str> {
    let turn = |length: usize| usize::try_from(seed).unwrap_or_default() % length;
    let combination = &array[order_of(array, row)[turn(array.len())]];
    let texts = READINGS.iter().zip(combination).map(|((name, values), value)| (*name, values[*value]));
    texts.chain(fixed.iter().map(|(name, values)| (*name, values[turn(values.len())]))).collect()
}

/// The order in which the seeds of a row take the combinations. Each row begins with another one. Those of CI's seeds
/// that follow are the ones that bring most that is new, so that three seeds try what matters most in all its values.
fn order_of(array: &[Combination], row: usize) -> Vec<usize> {
    let mut left: Vec<usize> = (0..array.len()).map(|step| (row + step) % array.len()).collect();
    let mut order = vec![left.remove(0)];
    for _ in 1..SEEDS {
        // Of equals the one that comes next in turn.
        let Some(best) = (0..left.len()).rev().max_by_key(|at| news(array, &order, left[*at])) else { break };
        order.push(left.remove(best));
    }
    order.extend(left);
    order
}

/// Of which readings the combination at this place has a value that those before it have not. Such lists compare by the
/// reading that matters most.
fn news(array: &[Combination], before: &[usize], place: usize) -> Vec<bool> {
    let class = |place: usize, reading: usize| class(reading, array[place][reading]);
    let is_new = |reading: usize| before.iter().all(|other| class(*other, reading) != class(place, reading));
    (0..READINGS.len()).map(is_new).collect()
}

/// Values of a reading that stand for each other in CI: with `both` the time moves at acceptance too.
fn class(reading: usize, value: usize) -> &'static str {
    match READINGS[reading].1[value] {
        "both" => "accept",
        text => text,
    }
}

/// A number where it is one.
fn json_of(text: &str) -> Value {
    text.parse::<serde_json::Number>().map_or_else(|_| Value::from(text), Value::from)
}

/// Greedy: each combination begins with a pair that is missing, and takes of every other reading the value that brings
/// the most missing pairs.
fn covering_array() -> Vec<Combination> {
    let mut missing = all_pairs();
    let mut array: Vec<Combination> = Vec::new();
    while let Some(&(one, other, value, other_value)) = missing.first() {
        let mut chosen: Vec<Option<usize>> = vec![None; READINGS.len()];
        (chosen[one], chosen[other]) = (Some(value), Some(other_value));
        for reading in 0..READINGS.len() {
            if chosen[reading].is_none() {
                let brings = |value: usize| {
                    let pairs = pairs_with(reading, value, &chosen);
                    pairs.filter(|pair| missing.contains(pair)).count()
                };
                // Of equals the one that comes next in turn, so that no value is in most combinations.
                let count = READINGS[reading].1.len();
                let turn = (0..count).map(|step| (array.len() + step) % count).rev();
                chosen[reading] = turn.max_by_key(|value| brings(*value));
            }
        }
        let combination: Combination = chosen.into_iter().flatten().collect();
        for pair in pairs_of(&combination) {
            missing.remove(&pair);
        }
        array.push(combination);
    }
    array
}

fn all_pairs() -> BTreeSet<Pair> {
    let values = |reading: usize| 0..READINGS[reading].1.len();
    let readings = 0..READINGS.len();
    let two = readings.flat_map(|one| (one + 1..READINGS.len()).map(move |other| (one, other)));
    two.flat_map(|(one, other)| {
        values(one).flat_map(move |value| values(other).map(move |other_value| (one, other, value, other_value)))
    })
    .collect()
}

/// The pairs of this value with those that are chosen already.
fn pairs_with(reading: usize, value: usize, chosen: &[Option<usize>]) -> impl Iterator<Item = Pair> {
    chosen.iter().enumerate().filter_map(move |(other, other_value)| {
        let other_value = (*other_value)?;
        let pair =
            if other < reading { (other, reading, other_value, value) } else { (reading, other, value, other_value) };
        Some(pair)
    })
}

fn pairs_of(combination: &[usize]) -> BTreeSet<Pair> {
    all_pairs()
        .into_iter()
        .filter(|(one, other, value, other_value)| combination[*one] == *value && combination[*other] == *other_value)
        .collect()
}

/// How many combinations there are.
pub(crate) fn count() -> usize {
    covering_array().len()
}

/// The readings with their values, for the table.
pub(crate) fn describe() -> String {
    let texts = READINGS.iter().map(|(name, values)| format!("`{name}` ({})", values.join(", ")));
    texts.collect::<Vec<_>>().join(", ")
}

/// Sees that the array keeps its promise, and is short.
pub(crate) fn every_pair_is_covered() -> Result<()> {
    let array = covering_array();
    let covered: BTreeSet<Pair> = array.iter().flat_map(|combination| pairs_of(combination)).collect();
    if let Some(missing) = all_pairs().difference(&covered).next() {
        return Err(Failure::new(format!("no combination has the pair {missing:?}")));
    }
    if array.len() > 20 {
        return Err(Failure::new(format!("the array has {} combinations", array.len())));
    }
    Ok(())
}

/// Sees that as many seeds of a row as there are combinations try them all.
pub(crate) fn seeds_reach_all() -> Result<()> {
    let array = covering_array();
    for row in 0..array.len() {
        let tried: BTreeSet<usize> = order_of(&array, row).into_iter().collect();
        if tried.len() != array.len() {
            return Err(Failure::new(format!("row {row} tries {} of {} combinations", tried.len(), array.len())));
        }
    }
    Ok(())
}

/// Sees that CI's seeds of each row try what it fixes in all values that it names, and of what it leaves open a time that
/// moves at acceptance, one that moves at any end and one that moves at success only, and both answers about the job
/// list; and that the rows together try every combination.
pub(crate) fn first_seeds_try_what_matters(rows: &[Row]) -> Result<()> {
    let array = covering_array();
    let mut combinations = BTreeSet::new();
    for (index, row) in rows.iter().enumerate() {
        let How::Runs { fixed, .. } = row.how else { continue };
        let cases: Vec<_> = (0..SEEDS).map(|seed| texts_of_case(&array, index, seed, fixed)).collect();
        let open: [(&str, &[&[&str]]); 2] =
            [(MOVES, &[&["accept", "both"], &["end"], &["success"]]), (JOB_LIST, &[&["served"], &["not_served"]])];
        for (name, wanted) in open.iter().filter(|(name, _)| !fixed.iter().any(|(fixed, _)| fixed == name)) {
            for one_of in *wanted {
                if !cases.iter().any(|case| one_of.contains(&case[name])) {
                    return Err(Failure::new(format!("no case of row {} has {name} = {one_of:?}", row.number)));
                }
            }
        }
        for (name, values) in fixed {
            if let Some(missing) = values.iter().find(|value| !cases.iter().any(|case| case[name] == **value)) {
                return Err(Failure::new(format!("no case of row {} has {name} = {missing}", row.number)));
            }
        }
        combinations.extend(order_of(&array, index).into_iter().take(cases.len()));
    }
    if combinations.len() == array.len() {
        Ok(())
    } else {
        Err(Failure::new(format!("the rows try {} of {} combinations", combinations.len(), array.len())))
    }
}
