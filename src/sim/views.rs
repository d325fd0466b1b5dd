//! The JSON of the simulated API: objects, pages, timestamps, error bodies. Written from the wire contract and shared
//! with no client, so that client and simulator cannot be wrong in the same way.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use jiff::tz::Offset;
use serde_json::{Value, json};

use super::jobs::Job;
use super::readings::{ErrorShape, ForeignFilter, ListKey, ListOrder, PageError, Timestamps, Unfiltered, YesNo};
use super::releases::Accepted;
use super::state::{Computer, Micros, Owned, Refusal, Space, Stamp, Webapp, World, seconds};

/// The query parameters of a request, and where its pages are linked to.
#[derive(Debug, Default)]
pub(super) struct Query {
    pub(super) parameters: BTreeMap<String, String>,
    /// The list's own address, without a query.
    pub(super) url: String,
}

impl Query {
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.parameters.get(key).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn number(&self, key: &str, default: usize) -> Result<usize, Refusal> {
        let Some(text) = self.get(key) else { return Ok(default) };
        text.parse().ok().filter(|number| *number > 0).ok_or_else(|| Refusal::new(404, "Invalid page."))
    }

    fn link(&self, page: usize) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("page", &page.to_string());
        query.extend_pairs(self.parameters.iter().filter(|(key, _)| *key != "page"));
        format!("{}?{}", self.url, query.finish())
    }
}

impl World {
    /// A time as a client sees it: by the server's clock, which may be wrong.
    pub(super) fn time(&self, micros: Micros) -> String {
        let off = self.readings.clock_offset_seconds.saturating_mul(1_000_000);
        let time = Timestamp::from_microsecond(micros.saturating_add(off)).unwrap_or_default();
        let zoned = |offset: i8| time.to_zoned(Offset::constant(offset).to_time_zone());
        match self.readings.timestamps {
            Timestamps::Microseconds => format!("{time:.6}"),
            Timestamps::Milliseconds => format!("{time:.3}"),
            Timestamps::Seconds => format!("{time:.0}"),
            Timestamps::Offset => zoned(2).strftime("%Y-%m-%dT%H:%M:%S.%6f%:z").to_string(),
            Timestamps::Zoneless => zoned(0).strftime("%Y-%m-%dT%H:%M:%S.%6f").to_string(),
        }
    }

    pub(super) fn computer_view(&self, computer: &Computer) -> Value {
        json!({
            "id": computer.identity.id,
            "name": computer.name,
            "display_name": computer.display_name,
            "size": computer.size,
            "region": computer.region,
            "status": computer.status,
            "emoji": computer.emoji,
            "public_ip": computer.public_ip,
            "created_at": self.time(computer.identity.created),
        })
    }

    pub(super) fn webapp_view(&self, webapp: &Webapp) -> Value {
        json!({
            "id": webapp.identity.id,
            "name": webapp.name,
            "display_name": webapp.display_name,
            "runtime": webapp.runtime,
            "computer": webapp.computer,
            "emoji": webapp.emoji,
            "created_at": self.time(webapp.identity.created),
        })
    }

    /// A Space as a read shows it: as it was `read_lag_seconds` ago.
    pub(super) fn space_view(&self, space: &Space) -> Value {
        let shown = space.shown_at(self.now - seconds(self.readings.read_lag_seconds));
        let last_deployed_at = shown.last_deployed_at.as_ref().map(|stamp| match stamp {
            Stamp::At(time) => self.time(*time),
            Stamp::Text(text) => text.clone(),
        });
        json!({
            "id": space.identity.id,
            "space_type": space.type_word(),
            "status": shown.status,
            "webapp": space.webapp,
            "platform_domain": shown.platform_domain,
            "custom_domain": shown.custom_domain,
            "custom_domain_status": shown.custom_domain_status,
            "last_deployed_at": last_deployed_at,
            "last_deployment_status": shown.last_deployment_status,
            "created_at": self.time(space.identity.created),
        })
    }

    pub(super) fn space_detail(&self, space: &Space) -> Value {
        let mut view = self.space_view(space);
        if self.readings.webapp_in_detail == YesNo::No
            && let Some(fields) = view.as_object_mut()
        {
            fields.remove("webapp");
        }
        view
    }

    pub(super) fn job_view(&self, job: &Job) -> Value {
        let mut view = json!({
            "id": job.identity.id,
            "status": job.status(),
            "task_name": job.task_name(),
            "log": job.log,
            "created_at": self.time(job.identity.created),
            "completed_at": job.completed.map(|time| self.time(time)),
        });
        if let (YesNo::Yes, Some(release)) = (self.readings.job_space_id, job.release()) {
            view["space_id"] = json!(release.space);
            view["deployment_id"] = json!(release.deployment);
        }
        view
    }

    pub(super) fn deployment_view(&self, accepted: &Accepted) -> Value {
        json!({
            "id": accepted.deployment,
            "display_name": accepted.display_name,
            "space_id": accepted.space,
            "job_id": accepted.job,
            "created_at": self.time(accepted.created),
        })
    }

    pub(super) fn list_computers(&self, tenant: &str, query: &Query) -> Result<Value, Refusal> {
        let computers = self.computers.values().filter(|computer| computer.identity.tenant == tenant).collect();
        self.page(computers, query, Self::computer_view)
    }

    pub(super) fn list_webapps(&self, tenant: &str, query: &Query) -> Result<Value, Refusal> {
        let computer = query.get("computer_id");
        if let Some(computer) = computer {
            self.check_filter("computer_id", self.own(&self.computers, tenant, computer).is_ok())?;
        }
        let webapps = self.webapps.values().filter(|webapp| {
            webapp.identity.tenant == tenant && computer.is_none_or(|computer| webapp.computer == computer)
        });
        self.page(webapps.collect(), query, Self::webapp_view)
    }

    pub(super) fn list_spaces(&self, tenant: &str, query: &Query) -> Result<Value, Refusal> {
        let webapp = query.get("webapp_id");
        match (webapp, self.readings.spaces_list_unfiltered) {
            (Some(webapp), _) => self.check_filter("webapp_id", self.own(&self.webapps, tenant, webapp).is_ok())?,
            (None, Unfiltered::Served) => {}
            (None, Unfiltered::Empty) => return self.page(Vec::new(), query, Self::space_view),
            (None, Unfiltered::Refuse) => return Err(Refusal::new(400, "webapp_id: This parameter is required.")),
        }
        let spaces = self
            .spaces
            .values()
            .filter(|space| space.identity.tenant == tenant && webapp.is_none_or(|webapp| space.webapp == webapp));
        self.page(spaces.collect(), query, Self::space_view)
    }

    pub(super) fn list_jobs(&self, tenant: &str, query: &Query) -> Result<Value, Refusal> {
        let born = self.now - seconds(self.readings.read_lag_seconds);
        let jobs = self.jobs.values().filter(|job| {
            job.identity.tenant == tenant && job.in_effect && job.identity.created <= born && self.is_readable(job)
        });
        self.page(jobs.collect(), query, Self::job_view)
    }

    /// Whether a job is still kept.
    pub(super) fn is_readable(&self, job: &Job) -> bool {
        let kept = seconds(self.readings.job_retention_seconds);
        !job.hidden && (kept == 0 || job.completed.is_none_or(|time| self.now < time + kept))
    }

    fn check_filter(&self, key: &str, known: bool) -> Result<(), Refusal> {
        if known || self.readings.foreign_filter == ForeignFilter::Empty {
            return Ok(());
        }
        Err(Refusal::new(400, format!("{key}: Select a valid choice.")))
    }

    fn page<T: Owned>(
        &self,
        mut objects: Vec<&T>,
        query: &Query,
        view: impl Fn(&Self, &T) -> Value,
    ) -> Result<Value, Refusal> {
        let page = query.number("page", 1)?;
        let size = query.number("page_size", 20)?.min(self.readings.page_size_cap);
        let count = objects.len();
        let pages = count.div_ceil(size).max(1);
        if page > pages && self.readings.page_past_end == PageError::NotFound {
            return Err(Refusal::new(404, "Invalid page."));
        }
        match self.readings.list_order {
            ListOrder::Created => objects.sort_by_key(|object| object.identity().number),
            ListOrder::Newest => objects.sort_by_key(|object| std::cmp::Reverse(object.identity().number)),
            ListOrder::Shuffled => objects.sort_by_cached_key(|object| {
                digest(&SHA256, format!("{} {}", self.requests.total(), object.identity().id).as_bytes())
                    .as_ref()
                    .to_vec()
            }),
        }
        let start = (page - 1).saturating_mul(size);
        let items: Vec<_> = objects.iter().skip(start).take(size).map(|object| view(self, object)).collect();
        let key = match self.readings.list_key {
            ListKey::Payload => "payload",
            ListKey::Results => "results",
        };
        let mut reply = json!({
            "count": count,
            "next": (page < pages).then(|| query.link(page + 1)),
            "previous": (page > 1).then(|| query.link(page - 1)),
            key: items,
        });
        if self.readings.num_pages == YesNo::Yes {
            reply["num_pages"] = json!(pages);
        }
        Ok(reply)
    }

    /// The body of an error, with `retry_after` where it is given.
    pub(super) fn error_body(&self, status: u16, message: &str, retry_after: Option<&Value>) -> Value {
        let mut body = match self.readings.error_shape {
            ErrorShape::Message | ErrorShape::List => json!({"message": message}),
            ErrorShape::Fields if status == 400 => json!({"non_field_errors": [message]}),
            ErrorShape::Detail | ErrorShape::Fields => json!({"detail": message}),
        };
        if let Some(retry_after) = retry_after {
            body["retry_after"] = retry_after.clone();
        }
        // The SDK takes a 429's `retry_after` from an object only, and fails on a list.
        if self.readings.error_shape == ErrorShape::List && status != 429 { json!([body]) } else { body }
    }
}

/// The text of a body, a job's log last: so that a reader with a bound on its size sees the status in any case.
pub(super) fn render(mut body: Value) -> String {
    match body.as_object_mut().and_then(|fields| fields.remove("log")) {
        Some(log) => {
            let mut text = body.to_string();
            text.pop();
            let comma = if text.len() > 1 { "," } else { "" };
            format!("{text}{comma}\"log\":{log}}}")
        }
        None => body.to_string(),
    }
}
