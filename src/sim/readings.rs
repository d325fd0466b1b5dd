//! The readings: one switch per question that the official SDK leaves open, with every answer the simulator can give.
//!
//! The doc comments of the fields and values are what `GET /_sim/readings` shows. Absent: what a reading does; that
//! stands where its effect is, in `state`, `jobs`, `views` and `api`.

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// Enums whose values, with their meaning, the control API lists.
macro_rules! answers {
    ($($name:ident { $($(#[$attribute:meta])+ $value:ident,)+ })+) => {$(
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
        #[serde(rename_all = "snake_case")]
        pub(super) enum $name { $($(#[$attribute])+ $value,)+ }
    )+};
}

answers! {
    Moves {
        /// When the request is accepted.
        Accept,
        /// When the job ends, whatever its result.
        End,
        /// When the job ends with success.
        Success,
        /// When the request is accepted, and once more when the job ends.
        Both,
    }
    WordMeanwhile {
        /// The previous outcome stays until the job ends.
        Previous,
        /// The word of the reading `running_word`.
        Word,
        /// Null.
        Null,
    }
    JobList {
        /// `GET /jobs` answers with a page.
        Served,
        /// `GET /jobs` answers 404.
        NotServed,
    }
    Unfiltered {
        /// All of the tenant's Spaces.
        Served,
        /// An empty page.
        Empty,
        /// 400: the filter `webapp_id` is required.
        Refuse,
    }
    ForeignFilter {
        /// An empty page.
        Empty,
        /// 400.
        Refuse,
    }
    YesNo {
        /// Yes.
        Yes,
        /// No.
        No,
    }
    BusyPolicy {
        /// Accepted; both jobs run at the same time.
        Parallel,
        /// Accepted; the job starts when those before it have ended.
        Queue,
        /// 409, nothing is accepted.
        #[serde(rename = "refuse_409")]
        Refuse409,
        /// 423, nothing is accepted.
        #[serde(rename = "refuse_423")]
        Refuse423,
    }
    BusyScope {
        /// A Space; a promotion occupies both of its Spaces.
        Space,
        /// Both Spaces of a web app.
        Webapp,
        /// All Spaces of a computer.
        Computer,
    }
    Verdict {
        /// Accepted.
        Accept,
        /// 400, nothing is accepted.
        #[serde(rename = "refuse_400")]
        Refuse400,
        /// 409, nothing is accepted.
        #[serde(rename = "refuse_409")]
        Refuse409,
    }
    PromoteNeeds {
        /// 400 unless the uat Space runs something.
        Content,
        /// Accepted always; with nothing to promote the job fails.
        Nothing,
    }
    ReadsImage {
        /// When the request is accepted.
        Accept,
        /// When the job ends.
        End,
    }
    SpaceType {
        /// The uat Space.
        Uat,
        /// The production Space.
        Production,
    }
    ListOrder {
        /// Oldest first.
        Created,
        /// Newest first.
        Newest,
        /// Another order at every request, so that pages overlap and miss objects.
        Shuffled,
    }
    PageError {
        /// An empty page.
        Empty,
        /// 404.
        NotFound,
    }
    ListKey {
        /// `payload`.
        Payload,
        /// `results`.
        Results,
    }
    ErrorShape {
        /// `{"detail": text}`.
        Detail,
        /// `{"message": text}`.
        Message,
        /// `[{"message": text}]`.
        List,
        /// 400 as `{"non_field_errors": [text]}`, the others as `{"detail": text}`.
        Fields,
    }
    RetryAfterIn {
        /// As `retry_after` in the body.
        Body,
        /// In the header `Retry-After`.
        Header,
        /// In both.
        Both,
        /// Nowhere.
        Nowhere,
    }
    ZipCheck {
        /// 400 at once.
        Refuse,
        /// Accepted; the job fails.
        Job,
        /// Anything is accepted and runs.
        Accept,
    }
    OversizeAnswer {
        /// 413 when the whole body was read.
        AfterBody,
        /// 413 as soon as it is known; the connection is closed.
        AtOnce,
    }
    Dedupe {
        /// Every upload is a deployment of its own.
        No,
        /// Content equal to that of the Space's newest deployment, unless that failed, answers with that deployment.
        Newest,
    }
    FailedDeployStatus {
        /// `status` stays as it was.
        Unchanged,
        /// `status` becomes `error`.
        Error,
    }
    WebappsPerComputer {
        /// As many as asked for.
        Many,
        /// 409 for the second one.
        One,
    }
    Timestamps {
        /// `2026-11-24T08:29:00.123456Z`.
        Microseconds,
        /// `2026-11-24T08:29:00.123Z`.
        Milliseconds,
        /// `2026-11-24T08:29:00Z`: two deployments in one second look the same.
        Seconds,
        /// `2026-11-24T10:29:00.123456+02:00`.
        Offset,
        /// `2026-11-24T08:29:00.123456`.
        Zoneless,
    }
}

/// All readings. The defaults are what the documentation hints at, and otherwise the plainest server.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Readings {
    /// Question 1: the word of `last_deployment_status` after a success.
    pub(super) success_word: String,
    /// Question 1: the word of `last_deployment_status` after a failure.
    pub(super) failed_word: String,
    /// Question 1: the word while a job runs, where `status_while_running` is `word`.
    pub(super) running_word: String,
    /// Question 2: when `last_deployed_at` moves.
    pub(super) last_deployed_at_moves: Moves,
    /// Question 2: what `last_deployment_status` shows while a job runs.
    pub(super) status_while_running: WordMeanwhile,
    /// Question 3: reads of Spaces and of the job list show the state of that many seconds ago.
    pub(super) read_lag_seconds: f64,
    /// Question 3: `last_deployment_status` follows `last_deployed_at` that many seconds later at a job's end.
    pub(super) status_lag_seconds: f64,
    /// Question 3: an accepted request takes effect that many seconds after its answer.
    pub(super) effect_lag_seconds: f64,
    /// Question 4: a deploy straight to a production Space.
    pub(super) deploy_on_production: Verdict,
    /// Question 5: a second write while a job runs.
    pub(super) busy_policy: BusyPolicy,
    /// Question 5 and 20: what a running job occupies.
    pub(super) busy_scope: BusyScope,
    /// Question 5: when a promotion reads what uat runs.
    pub(super) promote_reads_image: ReadsImage,
    /// Question 6: a promotion when uat never ran anything.
    pub(super) promote_needs: PromoteNeeds,
    /// Question 6: a promotion when uat runs something, but its last deployment failed.
    pub(super) promote_when_uat_failed: Verdict,
    /// Question 6: a promotion that names the production Space; accepted, it promotes from the uat Space beside it.
    pub(super) promote_on_production: Verdict,
    /// Question 7: which Space's id a promotion's answer carries.
    pub(super) promote_space_id: SpaceType,
    /// Question 8: the list of Spaces without a filter.
    pub(super) spaces_list_unfiltered: Unfiltered,
    /// Question 8: a filter that names a foreign or unknown parent.
    pub(super) foreign_filter: ForeignFilter,
    /// Question 9: the order of lists.
    pub(super) list_order: ListOrder,
    /// Question 9: a page after the last one.
    pub(super) page_past_end: PageError,
    /// Question 9: a greater `page_size` is taken as this one.
    pub(super) page_size_cap: usize,
    /// Question 10: the key of a page's objects.
    pub(super) list_key: ListKey,
    /// Question 10: whether pages carry `num_pages`.
    pub(super) num_pages: YesNo,
    /// Question 11: whether a job carries `space_id` and `deployment_id`.
    pub(super) job_space_id: YesNo,
    /// Question 11: whether jobs can be listed.
    pub(super) job_list: JobList,
    /// Question 11: seconds after its end that a job can be read; 0 is for ever.
    pub(super) job_retention_seconds: f64,
    /// Question 11 and 16: whether the log of a deploy names the `display_name`.
    pub(super) display_name_in_log: YesNo,
    /// Question 12: the code for another tenant's object, 403 or 404.
    pub(super) foreign_object: u16,
    /// Question 13: the code of accepted POSTs, 200, 201 or 202.
    pub(super) post_success_code: u16,
    /// Question 13: the body of an error.
    pub(super) error_shape: ErrorShape,
    /// Question 14: requests of one token a minute of real time before a 429; 0 is no limit.
    pub(super) rate_limit_per_minute: u64,
    /// Question 14: where a 429 tells how long to wait.
    pub(super) retry_after_in: RetryAfterIn,
    /// Question 14: how long a 429 tells to wait.
    pub(super) retry_after_seconds: u64,
    /// Question 15: a ZIP that is unreadable, or lacks a root `Dockerfile` or a `bentocloud.toml` with processes.
    pub(super) zip_check: ZipCheck,
    /// Question 15: the size of the largest ZIP accepted, in bytes.
    pub(super) zip_limit_bytes: u64,
    /// Question 15: when a larger ZIP is refused.
    pub(super) oversize_answer: OversizeAnswer,
    /// Question 15: an upload equal to the one before.
    pub(super) dedupe: Dedupe,
    /// Question 16: the most characters of a `display_name`; more are a 400.
    pub(super) display_name_limit: usize,
    /// Question 17: a deploy or promotion to a Space that is `provisioning`, `stopped` or `error`.
    pub(super) deploy_on_unready: Verdict,
    /// Question 17: what a failed job does to the Space's `status`.
    pub(super) failed_deploy_status: FailedDeployStatus,
    /// Question 18: whether a single Space's answer carries `webapp`; lists always do.
    pub(super) webapp_in_detail: YesNo,
    /// Question 19: seconds after which the server fails a job that does not end; 0 is never.
    pub(super) job_timeout_seconds: f64,
    /// Question 20: web apps on one computer.
    pub(super) webapps_per_computer: WebappsPerComputer,
    /// Question 21: the form of timestamps.
    pub(super) timestamps: Timestamps,
    /// Question 21: by how many whole seconds the server's clock is off, in all times that a client sees.
    pub(super) clock_offset_seconds: i64,
}

impl Default for Readings {
    fn default() -> Self {
        Self {
            success_word: "success".to_owned(),
            failed_word: "failed".to_owned(),
            running_word: "running".to_owned(),
            last_deployed_at_moves: Moves::End,
            status_while_running: WordMeanwhile::Previous,
            read_lag_seconds: 0.0,
            status_lag_seconds: 0.0,
            effect_lag_seconds: 0.0,
            deploy_on_production: Verdict::Accept,
            busy_policy: BusyPolicy::Parallel,
            busy_scope: BusyScope::Space,
            promote_reads_image: ReadsImage::Accept,
            promote_needs: PromoteNeeds::Content,
            promote_when_uat_failed: Verdict::Accept,
            promote_on_production: Verdict::Refuse400,
            promote_space_id: SpaceType::Production,
            spaces_list_unfiltered: Unfiltered::Served,
            foreign_filter: ForeignFilter::Empty,
            list_order: ListOrder::Created,
            page_past_end: PageError::NotFound,
            page_size_cap: 200,
            list_key: ListKey::Payload,
            num_pages: YesNo::Yes,
            job_space_id: YesNo::No,
            job_list: JobList::NotServed,
            job_retention_seconds: 0.0,
            display_name_in_log: YesNo::No,
            foreign_object: 404,
            post_success_code: 201,
            error_shape: ErrorShape::Detail,
            rate_limit_per_minute: 0,
            retry_after_in: RetryAfterIn::Body,
            retry_after_seconds: 5,
            zip_check: ZipCheck::Refuse,
            zip_limit_bytes: 10 << 30,
            oversize_answer: OversizeAnswer::AfterBody,
            dedupe: Dedupe::No,
            display_name_limit: 255,
            deploy_on_unready: Verdict::Accept,
            failed_deploy_status: FailedDeployStatus::Unchanged,
            webapp_in_detail: YesNo::Yes,
            job_timeout_seconds: 0.0,
            webapps_per_computer: WebappsPerComputer::Many,
            timestamps: Timestamps::Microseconds,
            clock_offset_seconds: 0,
        }
    }
}

impl Readings {
    /// Takes over the given keys, all or none. The error names the key and lists what is allowed.
    pub(super) fn change(&mut self, wishes: Map<String, Value>) -> Result<(), String> {
        let mut changed = self.clone();
        for (key, value) in wishes {
            let mut all = json!(changed);
            all[&key] = value;
            changed = serde_json::from_value(all).map_err(|error| format!("reading `{key}`: {error}"))?;
        }
        changed.check()?;
        *self = changed;
        Ok(())
    }

    fn check(&self) -> Result<(), String> {
        if ![403, 404].contains(&self.foreign_object) {
            return Err("reading `foreign_object`: expected 403 or 404".to_owned());
        }
        if ![200, 201, 202].contains(&self.post_success_code) {
            return Err("reading `post_success_code`: expected 200, 201 or 202".to_owned());
        }
        if self.page_size_cap == 0 {
            return Err("reading `page_size_cap`: expected 1 or more".to_owned());
        }
        let seconds = [
            ("read_lag_seconds", self.read_lag_seconds),
            ("status_lag_seconds", self.status_lag_seconds),
            ("effect_lag_seconds", self.effect_lag_seconds),
            ("job_retention_seconds", self.job_retention_seconds),
            ("job_timeout_seconds", self.job_timeout_seconds),
        ];
        match seconds.iter().find(|(_, value)| value.is_sign_negative()) {
            Some((key, _)) => Err(format!("reading `{key}`: expected 0 or more")),
            None => Ok(()),
        }
    }

    /// What the control API shows: the current values, and per key its default, its meaning and what is allowed.
    pub(super) fn describe(&self) -> Value {
        let schema = SchemaSettings::default()
            .with(|settings| settings.inline_subschemas = true)
            .into_generator()
            .into_root_schema_for::<Self>();
        let defaults = json!(Self::default());
        let mut allowed = Map::new();
        for (key, property) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let values = match property.get("oneOf").and_then(Value::as_array) {
                Some(answers) => answers
                    .iter()
                    .filter_map(|answer| Some((answer["const"].as_str()?.to_owned(), answer["description"].clone())))
                    .collect::<Map<_, _>>()
                    .into(),
                None => property["type"].clone(),
            };
            let entry = json!({"about": property["description"], "default": defaults[key], "values": values});
            allowed.insert(key.clone(), entry);
        }
        json!({"readings": self, "allowed": allowed})
    }
}
