//! Puts a list together from its pages, and refuses one of which it is not certain that it is whole.
//!
//! A partial list is worse than none: a Space or a job that is missing from it would count as not existing. So a page
//! that fails, a count that does not fit or changes, and an item that comes twice (the pages moved while they were read)
//! all make the list unusable. How many items a page has is the server's choice.
//!
//! Pure: it is fed with bodies.

use std::collections::HashSet;

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use serde_json::value::RawValue;

use super::job::{JobProblem, JobReader};
use super::model::{Computer, Job, Space, Undecodable, WebApp};
use crate::redact::Redactor;

/// What a list can hold.
pub(super) trait Item: Sized {
    fn decode(json: &str) -> Result<Self, Undecodable>;
    fn id(&self) -> &str;
}

impl Item for Space {
    fn decode(json: &str) -> Result<Self, Undecodable> {
        Self::decode(json)
    }

    fn id(&self) -> &str {
        &self.id
    }
}

impl Item for Computer {
    fn decode(json: &str) -> Result<Self, Undecodable> {
        Self::decode(json)
    }

    fn id(&self) -> &str {
        &self.id
    }
}

impl Item for WebApp {
    fn decode(json: &str) -> Result<Self, Undecodable> {
        Self::decode(json)
    }

    fn id(&self) -> &str {
        &self.id
    }
}

impl Item for Job {
    /// Without its log, of which the markers stay: ten thousand jobs with twenty lines each would be no small thing.
    fn decode(json: &str) -> Result<Self, Undecodable> {
        let mut reader = JobReader::new(false);
        reader.feed(json.as_bytes());
        reader.finish(true, &Redactor::default()).map_err(|problem| match problem {
            JobProblem::TooLarge => Undecodable::new("the job is too large"),
            JobProblem::Undecodable(what) => Undecodable::new(what),
        })
    }

    fn id(&self) -> &str {
        &self.id
    }
}

#[derive(Deserialize)]
struct Page<'a> {
    count: Option<Value>,
    /// The outer `Option` tells absent from null.
    #[serde(default, deserialize_with = "present")]
    next: Option<Value>,
    #[serde(borrow)]
    payload: Option<Vec<&'a RawValue>>,
    #[serde(borrow)]
    results: Option<Vec<&'a RawValue>>,
}

fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(value).map(Some)
}

/// The pages that were read so far.
#[derive(Debug)]
pub(super) struct Paging<T> {
    items: Vec<T>,
    ids: HashSet<String>,
    count: Option<u64>,
}

impl<T: Item> Paging<T> {
    pub(super) fn new() -> Self {
        Self { items: Vec::new(), ids: HashSet::new(), count: None }
    }

    /// Takes the next page; true if another one follows.
    pub(super) fn page(&mut self, json: &str) -> Result<bool, Undecodable> {
        let page: Page<'_> =
            serde_json::from_str(json).map_err(|_| Undecodable::new("the reply is no page of a list"))?;
        let Some(found) = page.payload.or(page.results) else {
            return Err(Undecodable::new("the page has neither `payload` nor `results`"));
        };
        let count = page.count.as_ref().and_then(Value::as_u64);
        if self.count.is_some() && self.count != count {
            return Err(Undecodable::new("the list changed while it was read"));
        }
        self.count = count;
        let empty = found.is_empty();
        for item in found {
            let item = T::decode(item.get())?;
            if !self.ids.insert(item.id().to_owned()) {
                return Err(Undecodable::new("the list changed while it was read: an item came twice"));
            }
            self.items.push(item);
        }
        let seen = u64::try_from(self.items.len()).unwrap_or(u64::MAX);
        let more = match (&page.next, count) {
            (Some(Value::Null), _) => false,
            (Some(Value::String(next)), _) if next.is_empty() => false,
            (Some(_), _) => true,
            // Some servers leave `next` out; then only the count tells.
            (None, Some(count)) => !empty && seen < count,
            (None, None) => return Err(Undecodable::new("the page has neither `count` nor `next`")),
        };
        if empty && more {
            return Err(Undecodable::new("an empty page says that more follow"));
        }
        match count {
            Some(count) if seen > count || (!more && seen < count) => {
                Err(Undecodable::new(format!("the list has {seen} items where it says {count}")))
            }
            _ => Ok(more),
        }
    }

    /// All items, after the last page.
    pub(super) fn finish(self) -> Vec<T> {
        self.items
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pages: &[&str]) -> Result<Vec<String>, String> {
        let mut paging = Paging::<Computer>::new();
        for (number, page) in pages.iter().enumerate() {
            let more = paging.page(page).map_err(|problem| problem.what)?;
            assert_eq!(more, number + 1 < pages.len(), "page {number} of {pages:?}");
        }
        Ok(paging.finish().into_iter().map(|computer| computer.id).collect())
    }

    #[test]
    fn joins_pages_of_every_shape() {
        for pages in [
            &[r#"{"count": 2, "next": null, "num_pages": 1, "payload": [{"id": "a"}, {"id": "b"}]}"#][..],
            &[r#"{"count": 2, "next": null, "results": [{"id": "a"}, {"id": "b"}]}"#],
            &[r#"{"count": 2, "next": null, "payload": null, "results": [{"id": "a"}, {"id": "b"}]}"#],
            &[r#"{"count": 2, "payload": [{"id": "a"}, {"id": "b"}]}"#],
            &[r#"{"count": 2, "next": "", "payload": [{"id": "a"}, {"id": "b"}]}"#],
            &[r#"{"count": null, "next": null, "payload": [{"id": "a"}, {"id": "b"}]}"#],
            &[
                r#"{"count": 2, "next": "x", "payload": [{"id": "a"}]}"#,
                r#"{"count": 2, "next": null, "payload": [{"id": "b"}]}"#,
            ],
            &[r#"{"count": 2, "payload": [{"id": "a"}]}"#, r#"{"count": 2, "payload": [{"id": "b"}]}"#],
        ] {
            assert_eq!(read(pages), Ok(vec!["a".to_owned(), "b".to_owned()]), "{pages:?}");
        }
        assert_eq!(read(&[r#"{"count": 0, "next": null, "payload": []}"#]), Ok(vec![]));
    }

    #[test]
    fn refuses_a_list_that_may_not_be_whole() {
        for pages in [
            &[r#"{"count": 3, "next": null, "payload": [{"id": "a"}, {"id": "b"}]}"#][..],
            &[r#"{"count": 1, "next": null, "payload": [{"id": "a"}, {"id": "b"}]}"#],
            &[r#"{"count": 2, "next": null, "payload": [{"id": "a"}, {"id": "a"}]}"#],
            &[r#"{"count": 1, "next": null, "payload": [{"id": 5}]}"#],
            &[r#"{"count": 1, "next": null}"#],
            &[r#"{"payload": [{"id": "a"}]}"#],
            &[r#"{"count": 3, "payload": []}"#],
            &[r#"{"count": 3, "next": "x", "payload": []}"#],
            &[r#"[{"id": "a"}]"#],
            &["<html>"],
            &[""],
            &[
                r#"{"count": 2, "next": "x", "payload": [{"id": "a"}]}"#,
                r#"{"count": 3, "next": null, "payload": [{"id": "b"}]}"#,
            ],
            &[
                r#"{"count": 2, "next": "x", "payload": [{"id": "a"}]}"#,
                r#"{"count": 2, "next": null, "payload": [{"id": "a"}]}"#,
            ],
        ] {
            assert!(read(pages).is_err(), "{pages:?}");
        }
    }

    #[test]
    fn a_listed_job_has_markers_and_no_log() {
        let job =
            <Job as Item>::decode(r#"{"id": "j", "status": "running", "log": [{"message": "shop #7 [k3f2a9c1d]"}]}"#)
                .unwrap();
        assert!(job.log_tail.is_empty() && job.log_count == 1 && job.mentions("k3f2a9c1d"));
    }
}
