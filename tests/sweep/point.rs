//! Points at which the operator can die, and those that a run passed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use crate::support::{Context, Result};

/// How often one point of a call that changes something is tried: each time another state is behind it.
const MOST_WRITES: u32 = 6;
/// How often one point of any other call is tried, where it is passed more often than that.
const MOST_READS: u32 = 2;
/// How the names of calls begin that change something.
const WRITES: [&str; 9] =
    ["write-", "take-", "note-", "publish-", "submit", "download", "make-a-partial", "keep", "open-store"];

/// A point, when it is passed for the so-manieth time in the life of a process.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Point {
    pub(crate) name: String,
    pub(crate) hit: u32,
}

impl Point {
    /// As [`fmt::Display`] writes it.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (name, hit) = text.rsplit_once(':')?;
        Some(Self { name: name.to_owned(), hit: hit.parse().ok()? })
    }

    /// The call that it belongs to.
    pub(crate) fn call(&self) -> &str {
        self.name.split_once('.').map_or(&self.name, |(call, _)| call)
    }
}

impl fmt::Display for Point {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.name, self.hit)
    }
}

/// The points that one process passed, each as often as it did, in their order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Points(Vec<Point>);

impl Points {
    /// From the file that `KONIGLE_CRASH_LOG` named. There is none where the process died before its first point.
    pub(crate) fn read(log: &Path) -> Result<Self> {
        if !log.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(log).context(format!("reading {}", log.display()))?;
        let mut hits: BTreeMap<&str, u32> = BTreeMap::new();
        let points = text.lines().map(|name| {
            let hit = hits.entry(name).or_default();
            *hit += 1;
            Point { name: name.to_owned(), hit: *hit }
        });
        Ok(Self(points.collect()))
    }

    /// Whether it was passed.
    pub(crate) fn has(&self, point: &Point) -> bool {
        self.0.contains(point)
    }

    /// How many have a name of their own.
    pub(crate) fn len(&self) -> usize {
        self.firsts().len()
    }

    /// Without those that another run did not pass: how often a look is repeated is chance.
    #[must_use]
    pub(crate) fn passed_by_both(&self, other: &Self) -> Self {
        let other: BTreeSet<&Point> = other.0.iter().collect();
        Self(self.0.iter().filter(|point| other.contains(point)).cloned().collect())
    }

    /// Those from the first of this name on.
    #[must_use]
    pub(crate) fn from(&self, name: &str) -> Self {
        Self(self.0.iter().skip_while(|point| point.name != name).cloned().collect())
    }

    /// Each point, as often as it is worth a case.
    pub(crate) fn to_try(&self) -> Vec<Point> {
        let last = self.0.iter().map(|point| (point.name.as_str(), point.hit)).collect::<BTreeMap<_, _>>();
        let is_worth_it = |point: &&Point| {
            if WRITES.iter().any(|write| point.name.starts_with(write)) {
                return point.hit <= MOST_WRITES;
            }
            // The last look of several is often one by chance, and would be waited for in vain.
            point.hit == 1 || (point.hit <= MOST_READS && point.hit < last[point.name.as_str()])
        };
        let mut points: Vec<Point> = self.0.iter().filter(is_worth_it).cloned().collect();
        points.sort();
        points
    }

    /// Each point when it is passed first.
    pub(crate) fn firsts(&self) -> Vec<Point> {
        let mut points: Vec<Point> = self.0.iter().filter(|point| point.hit == 1).cloned().collect();
        points.sort();
        points
    }
}
