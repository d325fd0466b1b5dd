//! What a page of metrics says, in the text form that Prometheus reads.

use std::collections::{BTreeMap, BTreeSet};

use super::{Failure, Result};

/// A page of metrics.
#[derive(Debug, Default)]
pub(crate) struct Exposition {
    /// By the name that stands in the page.
    pub(crate) families: BTreeMap<String, Family>,
    pub(crate) samples: Vec<Sample>,
}

/// What is said of all series of one metric.
#[derive(Debug, Default)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) help: String,
}

/// One series and its value.
#[derive(Debug)]
pub(crate) struct Sample {
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) value: f64,
}

impl Exposition {
    /// Reads a page.
    pub(crate) fn parse(text: &str) -> Result<Self> {
        let mut page = Self::default();
        for line in text.lines() {
            let strange = || Failure::new(format!("no line of metrics: {line}"));
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (word, name, rest) = (words.next(), words.next().unwrap_or_default(), words.next());
                let family = page.families.entry(name.to_owned());
                match word {
                    Some("TYPE") => rest.ok_or_else(strange)?.clone_into(&mut family.or_default().kind),
                    Some("HELP") => rest.unwrap_or_default().clone_into(&mut family.or_default().help),
                    _ => {}
                }
            } else if !line.is_empty() {
                page.samples.push(sample(line).ok_or_else(strange)?);
            }
        }
        page.families.retain(|_, family| !family.kind.is_empty());
        Ok(page)
    }

    /// The metrics as `PromQL` names them, with their type and the names of their labels.
    pub(crate) fn metrics(&self) -> BTreeMap<String, (String, BTreeSet<String>)> {
        let named = |(name, family): (&String, &Family)| {
            let suffix = match family.kind.as_str() {
                "counter" if !name.ends_with("_total") => "_total",
                "info" if !name.ends_with("_info") => "_info",
                _ => "",
            };
            let labels = self.of_family(name).flat_map(|sample| sample.labels.keys().cloned());
            let labels = labels.filter(|label| family.kind != "histogram" || label != "le").collect();
            (format!("{name}{suffix}"), (family.kind.clone(), labels))
        };
        self.families.iter().map(named).collect()
    }

    /// The value of one series; a failure where it is not there.
    pub(crate) fn value(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64> {
        let is = |sample: &&Sample| {
            sample.name == name
                && sample.labels.len() == labels.len()
                && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|it| it == value))
        };
        let found = self.samples.iter().find(is).map(|sample| sample.value);
        found.ok_or_else(|| Failure::new(format!("there is no series {name} {labels:?}")))
    }

    /// The sum over all series of this name that have these labels, among others.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(label, value)| sample.labels.get(*label).is_some_and(|it| it == value))
        };
        // Not `sum`, which makes minus zero of nothing.
        self.samples.iter().filter(has).fold(0.0, |sum, sample| sum + sample.value)
    }

    /// All series, without their values.
    pub(crate) fn series(&self) -> BTreeSet<String> {
        self.samples.iter().map(|sample| format!("{} {:?}", sample.name, sample.labels)).collect()
    }

    fn of_family<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Sample> {
        let suffixes = ["", "_total", "_info", "_bucket", "_sum", "_count"];
        self.samples
            .iter()
            .filter(move |sample| sample.name.strip_prefix(name).is_some_and(|suffix| suffixes.contains(&suffix)))
    }
}

fn sample(line: &str) -> Option<Sample> {
    let (name, rest) = line.split_at(line.find(['{', ' '])?);
    let (labels, rest) = if let Some(rest) = rest.strip_prefix('{') { labels(rest)? } else { (BTreeMap::new(), rest) };
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Sample { name: name.to_owned(), labels, value })
}

/// The labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        rest = rest.trim_start_matches(',');
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, quoted) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut letters = quoted.char_indices();
        loop {
            match letters.next()?.1 {
                '"' => break,
                '\\' => value.push(match letters.next()?.1 {
                    'n' => '\n',
                    other => other,
                }),
                letter => value.push(letter),
            }
        }
        rest = letters.as_str();
        labels.insert(name.to_owned(), value);
    }
}

#[test]
fn a_page_is_read() -> Result<()> {
    let page = "# HELP a_jobs Jobs, by result.\n# TYPE a_jobs counter\na_jobs_total{r=\"x,\\\"y\\\"}\",s=\"\"} 2\n\
        # TYPE a_time histogram\na_time_bucket{le=\"+Inf\",r=\"x\"} 1\na_time_sum{r=\"x\"} 0.5\n# EOF\n";
    let page = Exposition::parse(page)?;
    assert!(page.value("a_jobs_total", &[("r", "x,\"y\"}"), ("s", "")])? > 1.5);
    let metrics = page.metrics();
    let is = |name: &str, kind: &str, labels: &[&str]| {
        let labels = labels.iter().map(|label| (*label).to_owned()).collect();
        assert_eq!(metrics.get(name), Some(&(kind.to_owned(), labels)), "{metrics:?}");
    };
    is("a_jobs_total", "counter", &["r", "s"]);
    is("a_time", "histogram", &["r"]);
    assert_eq!((page.families["a_jobs"].help.as_str(), page.series().len()), ("Jobs, by result.", 3));
    assert!(Exposition::parse("a_jobs{r=\"x\" 2").is_err());
    Ok(())
}
