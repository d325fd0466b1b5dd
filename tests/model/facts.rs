//! The facts that a pass is given, and the records without what no decision reads.

use std::sync::OnceLock;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use konigle_operator::api::{AttemptResult, KonigleSpace, KonigleSpaceStatus, PairStatus, SpaceReference, SpaceStatus};
use konigle_operator::artifact::Digest;
use konigle_operator::desired::{Approval, Desired, Requests, Wish};
use konigle_operator::observation::{AccountFacts, ArtifactFacts, NamedBy, Observation, SpaceFacts};
use konigle_operator::origin::{HttpOrigin, Origin};
use konigle_operator::released::Released;
use konigle_operator::time;

use crate::server::Content;
use crate::setting::Setting;

/// So long is a tick: longer than everything that the model takes as nothing, such as a request or the pause before a
/// retry.
pub const TICK: Duration = Duration::from_hours(1);

/// The uat resource, and the uat Space.
pub const UAT: u8 = 0;
/// The production resource, and the production Space.
pub const PRODUCTION: u8 = 1;
/// The resource beside the uat one, whichever it is.
pub const SECOND: u8 = 1;

/// So many attempts are made for one wish before a person is asked.
pub const RETRY_LIMIT: i64 = 4;

const BEGIN: &str = "2026-11-24T09:00:00Z";
/// The same in seconds since 1970.
const BEGIN_SECOND: i64 = 1_795_510_800;
/// When the server's clock begins.
const FIRST_SECOND: i64 = BEGIN_SECOND - 20 * 24 * 3600;

/// The time at which the model stands still: records move into the past instead.
pub fn begin() -> Timestamp {
    Timestamp::from_second(BEGIN_SECOND).expect("it is a time")
}

/// So many ticks after another time.
pub fn ticks_after(time: Timestamp, ticks: i64) -> Timestamp {
    let tick = SignedDuration::try_from(TICK).expect("a tick is short");
    time.checked_add(tick * i32::try_from(ticks).expect("few ticks")).expect("ticks are few")
}

pub fn ticks(count: u8) -> Duration {
    TICK * u32::from(count)
}

/// A time of the server's clock.
pub fn rank_text(rank: u8) -> String {
    time::text(Timestamp::from_second(FIRST_SECOND + 60 * i64::from(rank)).expect("few ranks"))
}

pub fn digest(content: Content) -> String {
    format!("sha256:{}", content.to_string().repeat(64))
}

pub fn name(slot: u8) -> &'static str {
    ["shop-uat", "shop-production"][usize::from(slot)]
}

pub fn space_id(slot: u8) -> &'static str {
    ["7301", "7302"][usize::from(slot)]
}

pub fn uid_text(slot: u8, uid: u8) -> String {
    format!("{}-{uid}", name(slot))
}

/// What a resource asks for.
pub fn desired(setting: &Setting, slot: u8, generation: u8, resets: u8, released: Option<Released>) -> Desired {
    let promotes = setting.promotes(slot);
    let content = digest(setting.wanted(generation)).parse().expect("it is a digest");
    let wish = if promotes {
        let approval = if setting.automatic { Approval::Automatic } else { Approval::Manual(Some(content)) };
        Wish::Promote { from: name(UAT).to_owned(), approval }
    } else {
        let url = "https://ci.example.com/shop.zip".parse().expect("it is a URL");
        Wish::Deploy(Origin::Http(HttpOrigin { url, digest: content, revision: None, secret: None }))
    };
    Desired {
        generation: i64::from(generation),
        space: SpaceReference { id: Some(space_id(setting.space_of(slot)).to_owned()), ..SpaceReference::default() },
        secret: "konigle".to_owned(),
        wish,
        interval: TICK,
        timeout: ticks(setting.timeout_of(generation)),
        retry_limit: RETRY_LIMIT,
        drift_policy: setting.drift,
        adoption_policy: setting.adoption,
        unknown_outcome_policy: setting.unknown_outcome,
        suspended: false,
        history_limit: 3,
        requests: Requests { reset_at: (resets > 0).then(|| resets.to_string()), ..Requests::default() },
        released,
    }
}

/// The whole resource, for the functions that take one.
pub fn resource(setting: &Setting, slot: u8, uid: u8, status: &KonigleSpaceStatus) -> KonigleSpace {
    static PLAIN: [OnceLock<KonigleSpace>; 2] = [OnceLock::new(), OnceLock::new()];
    let promotes = setting.promotes(slot);
    let plain = PLAIN[usize::from(promotes)].get_or_init(|| plain(setting.space_of(slot), promotes));
    let mut resource = plain.clone();
    resource.metadata.name = Some(name(slot).to_owned());
    resource.metadata.uid = Some(uid_text(slot, uid));
    // The first one is the older, unless it was made anew.
    let made = ticks_after(begin(), i64::from(2 * uid + slot));
    resource.metadata.creation_timestamp = Some(Time(made));
    resource.status = Some(status.clone());
    resource
}

fn plain(space: u8, promotes: bool) -> KonigleSpace {
    let mut manifest = serde_json::json!({
        "apiVersion": "cloud.konigle.com/v1alpha1", "kind": "KonigleSpace",
        "metadata": {"name": "", "namespace": "shop"},
        "spec": {"space": {"id": space_id(space)}, "credentials": {"secretRef": {"name": "konigle"}}},
    });
    if promotes {
        manifest["spec"]["promotion"] = serde_json::json!({"from": {"name": name(UAT)}});
    }
    serde_json::from_value(manifest).expect("it is a KonigleSpace")
}

/// What a pass knows before it looks at anything.
pub fn blank(setting: &Setting, slot: u8, uid: u8, now: Timestamp) -> Observation {
    let unlooked = Observation::unlooked(
        name(slot).to_owned(),
        "shop".to_owned(),
        uid_text(slot, uid),
        (now, ticks(setting.settle)),
    );
    Observation {
        account: Ok(AccountFacts { base_url: "https://tim.konigle.com".to_owned(), named_by: NamedBy::Flag }),
        artifact: if setting.promotes(slot) {
            ArtifactFacts::Absent
        } else {
            ArtifactFacts::OnDisk { upload: Digest::of(b"zip"), size: 10 }
        },
        ..unlooked
    }
}

pub fn space_facts(space: u8, pair: PairStatus) -> SpaceFacts {
    SpaceFacts {
        url: None,
        status: SpaceStatus {
            id: space_id(space).to_owned(),
            space_type: ["uat", "production"][usize::from(space)].to_owned(),
            webapp: "9".to_owned(),
            status: "running".to_owned(),
            last_deployed_at: pair.last_deployed_at,
            last_deployment_status: pair.last_deployment_status,
            ..SpaceStatus::default()
        },
    }
}

/// The record without what no decision reads, and with its times as seen from `now`, which becomes [`begin`]. That it
/// changes no decision is shown by the random schedules, which run with whole records beside it.
pub fn canonical(mut status: KonigleSpaceStatus, now: Timestamp, setting: &Setting) -> KonigleSpaceStatus {
    let constant = || BEGIN.to_owned();
    let ahead = |text: &str| {
        let left = time::parse(text).map_or(-1, |time| time.duration_since(now).as_secs());
        let tick = i64::try_from(TICK.as_secs()).expect("a tick is short");
        left.div_euclid(tick) + i64::from(left.rem_euclid(tick) > 0)
    };
    for condition in &mut status.conditions {
        condition.message.clear();
        condition.last_transition_time.clear();
        condition.observed_generation = 0;
    }
    if let Some(release) = &mut status.release {
        release.deployed_at = None;
    }
    if let Some(attempt) = &mut status.attempt {
        let given = ahead(&attempt.deadline) - ahead(&attempt.started_at);
        let deadline = ahead(&attempt.deadline).max(-1);
        attempt.started_at = time::text(ticks_after(begin(), deadline - given));
        attempt.deadline = time::text(ticks_after(begin(), deadline));
        attempt.log = None;
    }
    let retry = status.next_retry_time.take();
    status.next_retry_time = retry.filter(|text| ahead(text) > 0).map(|_| time::text(ticks_after(begin(), 1)));
    for quarantined in &mut status.quarantined {
        quarantined.time = constant();
    }
    let last_sent = status.history.iter().position(|entry| entry.result != AttemptResult::NotSent);
    let last_job = status.history.iter().position(|entry| entry.job_id.is_some());
    for (index, entry) in status.history.iter_mut().enumerate() {
        entry.started_at = constant();
        let age = ahead(&entry.completed_at).max(-2 * i64::from(setting.settle) - 1);
        let age = if [last_sent, last_job].contains(&Some(index)) { age } else { 0 };
        entry.completed_at = time::text(ticks_after(begin(), age));
    }
    status
}
