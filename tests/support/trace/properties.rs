//! What must hold in every trace, whatever broke meanwhile. Pure: a trace goes in, findings come out.
//!
//! Where two clocks meet, a property is judged so that a right operator never breaks it: by whole seconds that are
//! rounded towards it, or with the allowance beside it.

use std::collections::BTreeMap;
use std::fmt;

use konigle_operator::api::{Attribution, BaselineSource, Cause, REDEPLOY_AT, RESET_AT, RESOLVE_ATTEMPT};

use super::history::{Claim, Job, Post, Trace, Version, nonce_of, number_of};
use super::{promotions, spaces};

/// The most that a status may have, in bytes.
const STATUS_LIMIT: usize = 32 << 10;
/// From the claim to the request, with an allowance for a slow machine.
pub(super) const FENCE_MS: f64 = 10_000.0 + 5_000.0;
/// How late a watch or a server on a busy machine may show what happened.
pub(super) const LATE_MS: f64 = 3_000.0;

/// A promise that a trace can break.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Property {
    /// S1: an attempt has one POST and one job.
    OneJobPerAttempt,
    /// S1d: a digest has one job that did not fail for each generation and cause.
    OneJobPerWish,
    /// S1d over all resources: what is known to run in a Space is not deployed there again by another resource.
    WhatRunsIsNotRepeated,
    /// S2: what an older generation asked for never ends after what a newer one asked for.
    NoRollback,
    /// S3: what is Confirmed was then the Space's last success, by our own job, with that digest.
    ConfirmedIsOurs,
    /// S4: one job of ours at a time in the two Spaces of a web app, and no request while it runs.
    OneJobPerPair,
    /// S4 before there is a job: resources for one pair of Spaces give way to each other.
    OthersGiveWay,
    /// S5: number and nonce of a POST were stored before it.
    ClaimBeforePost,
    /// S6: nothing is sent after the fence, nor after the attempt was closed.
    NothingAfterItsEnd,
    /// S6 on the other side: a promotion is sent only while uat is held for it.
    SourceIsHeld,
    /// S7: what is said to be promoted runs.
    PromotedIsWhatRuns,
    /// S8: secrets stay where they belong.
    SecretsStay,
    /// S9: a status is at most 32 KiB, and a wish has at most `retry.limit` attempts.
    Bounds,
    /// `lastAttempt` never falls, and a number is given out once.
    NumbersGrow,
    /// Stalled and Reconciling are never both present.
    ConditionsAgree,
    /// All versions were recorded: no watch began anew when something may have been missed.
    NoGap,
    /// The trace is whole: all versions, requests and ledgers that are judged could be read.
    TraceIsWhole,
    /// An operator ends where the test ends it or looks at its end, and nowhere else.
    NobodyDies,
    /// S8, whose silence proves nothing: everything that is searched for secrets could be read.
    AllIsSearched,
}

/// A broken property, and where.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) property: Property,
    pub(crate) text: String,
    /// The resource that it is about, where it is about one alone.
    pub(crate) resource: Option<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}: {}", self.property, self.text)
    }
}

/// Collects findings of one property.
pub(super) struct Report<'a>(&'a mut Vec<Finding>, Property);

impl Report<'_> {
    pub(super) fn say(&mut self, text: impl Into<String>) {
        self.0.push(Finding { property: self.1, text: text.into(), resource: None });
    }

    /// Says it of one resource.
    fn say_of(&mut self, resource: &str, text: impl Into<String>) {
        self.0.push(Finding { property: self.1, text: text.into(), resource: Some(resource.to_owned()) });
    }
}

/// Everything that is wrong with a trace. Secrets are searched for elsewhere.
pub(crate) fn judge(trace: &Trace) -> Vec<Finding> {
    let mut findings = Vec::new();
    let claims = trace.claims();
    one_job_per_attempt(trace, &claims, Report(&mut findings, Property::OneJobPerAttempt));
    one_job_per_wish(trace, &claims, Report(&mut findings, Property::OneJobPerWish));
    spaces::what_runs_is_not_repeated(trace, &claims, Report(&mut findings, Property::WhatRunsIsNotRepeated));
    spaces::others_give_way(trace, &claims, Report(&mut findings, Property::OthersGiveWay));
    no_rollback(trace, &claims, Report(&mut findings, Property::NoRollback));
    one_job_per_pair(trace, Report(&mut findings, Property::OneJobPerPair));
    claim_before_post(trace, &claims, Report(&mut findings, Property::ClaimBeforePost));
    nothing_after_its_end(trace, &claims, Report(&mut findings, Property::NothingAfterItsEnd));
    promotions::nothing_after_its_end(trace, &claims, Report(&mut findings, Property::NothingAfterItsEnd));
    promotions::source_is_held(trace, &claims, Report(&mut findings, Property::SourceIsHeld));
    bounds(trace, &claims, Report(&mut findings, Property::Bounds));
    conditions_agree(trace, Report(&mut findings, Property::ConditionsAgree));
    trace.gaps.iter().for_each(|text| Report(&mut findings, Property::NoGap).say(text));
    trace_is_whole(trace, Report(&mut findings, Property::TraceIsWhole));
    trace.deaths.iter().for_each(|text| Report(&mut findings, Property::NobodyDies).say(text));
    for versions in by_resource(trace).values() {
        confirmed_is_ours(trace, versions, Report(&mut findings, Property::ConfirmedIsOurs));
        promoted_is_what_runs(trace, versions, Report(&mut findings, Property::PromotedIsWhatRuns));
        numbers_grow(versions, Report(&mut findings, Property::NumbersGrow));
    }
    findings
}

/// The versions of each resource by its UID.
fn by_resource(trace: &Trace) -> BTreeMap<&str, Vec<&Version>> {
    let mut resources: BTreeMap<&str, Vec<&Version>> = BTreeMap::new();
    for version in trace.versions.iter().filter(|version| !version.is_deleted()) {
        resources.entry(&version.uid).or_default().push(version);
    }
    resources
}

fn counted<'a>(items: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, usize> {
    let mut counts = BTreeMap::new();
    items.for_each(|item| *counts.entry(item).or_default() += 1);
    counts
}

fn one_job_per_attempt(trace: &Trace, claims: &BTreeMap<String, Claim>, mut report: Report<'_>) {
    let names = trace.jobs.iter().filter(|job| !job.by_person).filter_map(|job| job.display_name.as_deref());
    let posts = trace.posts.iter().filter_map(|post| post.display_name.as_deref());
    for (what, counts) in
        [("jobs", counted(names.filter_map(nonce_of))), ("POSTs", counted(posts.filter_map(nonce_of)))]
    {
        for (nonce, count) in counts.into_iter().filter(|(_, count)| *count > 1) {
            report.say(format!("attempt {nonce} has {count} {what}"));
        }
    }
    for (nonce, claim) in claims.iter().filter(|(_, claim)| claim.jobs.len() > 1) {
        report.say(format!("attempt {nonce} of {} had these job ids: {:?}", claim.name, claim.jobs));
    }
    // Promotions carry no name: they are counted by the Space that changes.
    let ours = |job: &&Job| job.kind == "promote" && !job.by_person;
    for (space, jobs) in counted(trace.jobs.iter().filter(ours).map(|job| job.space.as_str())) {
        let of_space = |claim: &&Claim| claim.is_promotion() && claim.attempt.sent_to.space_id == space;
        let attempts = claims.values().filter(of_space).count();
        if jobs > attempts && !trace.has_gaps() {
            report.say(format!("{jobs} promotions to Space {space} by {attempts} attempts"));
        }
    }
}

/// The attempts of each wish: a first one, whatever its cause, and the retries after it.
fn wishes(claims: &BTreeMap<String, Claim>) -> Vec<Vec<&Claim>> {
    let mut in_order: Vec<&Claim> = claims.values().collect();
    in_order.sort_by(|one, other| (&one.uid, one.attempt.number).cmp(&(&other.uid, other.attempt.number)));
    let mut wishes: Vec<Vec<&Claim>> = Vec::new();
    for claim in in_order {
        let first_of = |wish: &&mut Vec<&Claim>| {
            let first = wish[0];
            let retries = claim.attempt.cause == Cause::Retry && first.attempt.digest == claim.attempt.digest;
            retries || same_wish(first, claim)
        };
        match wishes.iter_mut().rev().take_while(|wish| wish[0].uid == claim.uid).find(first_of) {
            Some(wish) => wish.push(claim),
            None => wishes.push(vec![claim]),
        }
    }
    wishes
}

/// Whether two attempts that are no retries were asked for by the same thing.
fn same_wish(one: &Claim, other: &Claim) -> bool {
    let is_same = (&one.uid, &one.attempt.digest, one.generation, one.attempt.cause)
        == (&other.uid, &other.attempt.digest, other.generation, other.attempt.cause);
    is_same
        && match one.attempt.cause {
            // What asks is the annotation, the moved pair, or a new release of uat.
            Cause::Reset => asks(one, RESET_AT) == asks(other, RESET_AT),
            Cause::Person => [REDEPLOY_AT, RESOLVE_ATTEMPT].iter().all(|key| asks(one, key) == asks(other, key)),
            Cause::Drift => one.attempt.baseline.pair() == other.attempt.baseline.pair(),
            Cause::Spec => {
                let source = |claim: &Claim| claim.attempt.baseline.source.as_ref().map(BaselineSource::pair);
                source(one) == source(other)
            }
            Cause::Retry | Cause::Other => true,
        }
}

/// What this annotation asked for when the attempt was made.
fn asks<'a>(claim: &'a Claim, key: &str) -> Option<&'a str> {
    claim.requests.iter().find_map(|request| request.strip_prefix(key)?.strip_prefix('='))
}

fn one_job_per_wish(trace: &Trace, claims: &BTreeMap<String, Claim>, mut report: Report<'_>) {
    let jobs = trace.claimed_jobs(claims);
    for wish in wishes(claims) {
        let nonces: Vec<&str> = wish.iter().map(|claim| claim.attempt.nonce.as_str()).collect();
        let not_failed = |(claim, job): &&(&Claim, &Job)| {
            nonces.contains(&claim.attempt.nonce.as_str()) && job.outcome.as_deref() != Some("failed")
        };
        let ids: Vec<&str> = jobs.iter().filter(not_failed).map(|(_, job)| job.id.as_str()).collect();
        if ids.len() > 1 {
            let first = wish[0];
            report.say(format!(
                "{} has the jobs {ids:?} for {} of generation {}, cause {:?}",
                first.name, first.attempt.digest, first.generation, first.attempt.cause
            ));
        }
    }
}

fn no_rollback(trace: &Trace, claims: &BTreeMap<String, Claim>, mut report: Report<'_>) {
    let jobs = trace.claimed_jobs(claims);
    for (older, older_job) in &jobs {
        for (newer, newer_job) in &jobs {
            let overtaken = older.uid == newer.uid
                && older.generation < newer.generation
                && newer_job.ended.is_some_and(|newer| older_job.ended.is_some_and(|older| older > newer));
            if overtaken {
                report.say(format!(
                    "{}: job {} of generation {} ended after job {} of generation {}",
                    older.name, older_job.id, older.generation, newer_job.id, newer.generation
                ));
            }
        }
    }
}

fn one_job_per_pair(trace: &Trace, mut report: Report<'_>) {
    let ours: Vec<&Job> = trace.jobs.iter().filter(|job| !job.by_person).collect();
    for (place, one) in ours.iter().enumerate() {
        for other in &ours[place + 1..] {
            let (first, second) = if one.time <= other.time { (one, other) } else { (other, one) };
            let together = first.ended.is_none_or(|ended| ended > second.time);
            if together && trace.pair_of(one.run, &one.space) == trace.pair_of(other.run, &other.space) {
                report.say(format!("job {} began while job {} ran", second.id, first.id));
            }
        }
    }
    // A server that is busy takes on no second one; to ask for it was wrong all the same.
    for job in ours {
        let is_own = |post: &&Post| post.run == job.run && post.job.as_ref() == Some(&job.id);
        let Some(begun) = trace.posts.iter().find(is_own) else { continue };
        for post in trace.posts.iter().filter(|post| !is_own(post)) {
            let is_within =
                begun.arrived_ms < post.arrived_ms && job.ended_ms.is_none_or(|ended| post.arrived_ms < ended);
            if is_within && trace.pair_of(post.run, &post.object) == trace.pair_of(job.run, &job.space) {
                report.say(format!("{} of {} was asked for while job {} ran", post.operation, post.object, job.id));
            }
        }
    }
}

fn claim_before_post(trace: &Trace, claims: &BTreeMap<String, Claim>, mut report: Report<'_>) {
    for post in &trace.posts {
        let Some(name) = post.display_name.as_deref().filter(|_| post.operation == "deploy") else { continue };
        let Some(nonce) = nonce_of(name) else {
            report.say(format!("a POST to {} without a nonce: {name:?}", post.object));
            continue;
        };
        let Some(claim) = claims.get(nonce) else {
            if !trace.has_gaps() {
                report.say(format!("no version holds the attempt of the POST {name:?}"));
            }
            continue;
        };
        if number_of(name) != Some(claim.attempt.number) || post.object != claim.target() {
            let stored = (claim.attempt.number, claim.target());
            report.say(format!("the POST {name:?} to {} is not what was stored: {stored:?}", post.object));
        }
        if !claim.was_open && !trace.has_gaps() {
            report.say(format!("the attempt of the POST {name:?} was stored with its job, not before"));
        }
        if claim.stored_ms > post.arrived_ms && !claim.after_gap {
            report.say(format!("the attempt of the POST {name:?} was stored after it"));
        }
    }
    // Those whose name nobody read, promotions among them, by their number: the n-th has n claims before it.
    let mut targets: Vec<_> = trace.posts.iter().map(|post| (post.operation.as_str(), post.object.as_str())).collect();
    targets.sort_unstable();
    targets.dedup();
    for (operation, object) in targets {
        let is_of = |claim: &&Claim| claim.target() == object && claim.is_promotion() == (operation == "promote");
        let mut stored: Vec<f64> = claims.values().filter(is_of).map(|claim| claim.stored_ms).collect();
        let mut arrived: Vec<f64> = trace
            .posts
            .iter()
            .filter(|post| post.operation == operation && post.object == object)
            .map(|post| post.arrived_ms)
            .collect();
        stored.sort_by(f64::total_cmp);
        arrived.sort_by(f64::total_cmp);
        for (place, arrived) in arrived.iter().enumerate() {
            if stored.get(place).is_none_or(|stored| stored > arrived) && !trace.has_gaps() {
                report.say(format!(
                    "{operation} number {} to Space {object} had no claim of its own before it",
                    place + 1
                ));
            }
        }
    }
}

fn nothing_after_its_end(trace: &Trace, claims: &BTreeMap<String, Claim>, mut report: Report<'_>) {
    for post in &trace.posts {
        let Some(name) = post.display_name.as_deref() else { continue };
        let Some(claim) = nonce_of(name).and_then(|nonce| claims.get(nonce)) else { continue };
        if post.arrived_ms > claim.seen_ms + FENCE_MS {
            report.say(format!("the POST {name:?} came {:.0} ms after its claim", post.arrived_ms - claim.seen_ms));
        }
        if let Some(closed) = claim.closed_ms.filter(|closed| post.arrived_ms > closed + LATE_MS) {
            report
                .say(format!("the POST {name:?} came {:.0} ms after its attempt was closed", post.arrived_ms - closed));
        }
    }
}

/// Calls `look` for each version that newly says Confirmed.
fn newly_confirmed<'a>(versions: &[&'a Version], mut look: impl FnMut(&'a Version, &'a str, Option<&'a str>)) {
    let mut before = None;
    for version in versions {
        let confirmed = version.status.release.as_ref().filter(|release| release.attribution == Attribution::Confirmed);
        let now = confirmed.map(|release| (release.digest.as_str(), release.job_id.as_deref()));
        if let Some((digest, job)) = now.filter(|_| now != before) {
            look(version, digest, job);
        }
        before = now;
    }
}

fn confirmed_is_ours(trace: &Trace, versions: &[&Version], mut report: Report<'_>) {
    newly_confirmed(versions, |version, digest, job| {
        let says = format!("{} said that {digest} is Confirmed by job {job:?}", version.name);
        let Some(job) = job.and_then(|id| trace.job(id)) else {
            report.say_of(&version.name, format!("{says}, which no ledger has"));
            return;
        };
        let space = version.status.space.as_ref().map(|space| space.id.as_str());
        let is_right = !job.by_person && job.succeeded() && space.is_none_or(|space| space == job.space);
        if !is_right || (job.kind == "deploy" && !trace.sent(job, digest)) {
            report.say_of(&version.name, format!("{says}, which was {job:?}"));
        }
        let late = LATE_MS + trace.read_lag_ms;
        let is_between = |other: &&Job| {
            (other.run, &other.space) == (job.run, &job.space)
                && other.succeeded()
                && other.ended > job.ended
                && other.ended_ms.is_some_and(|ended| ended + late < version.seen_ms)
        };
        if let Some(other) = trace.jobs.iter().find(is_between) {
            report.say_of(&version.name, format!("{says}, when job {} had succeeded after it", other.id));
        }
    });
}

fn promoted_is_what_runs(trace: &Trace, versions: &[&Version], mut report: Report<'_>) {
    let mut told = None;
    for version in versions.iter().filter(|version| version.status.is_true("ContentVerified")) {
        let Some(release) = &version.status.release else { continue };
        let job = release.job_id.as_deref().and_then(|id| trace.job(id)).filter(|job| job.kind == "promote");
        if let Some(job) = job.filter(|job| !trace.sent(job, &release.digest) && told != Some(job.id.as_str())) {
            told = Some(job.id.as_str());
            report.say(format!("{} says that {} runs; it is {}", version.name, release.digest, job.digest()));
        }
    }
}

fn numbers_grow(versions: &[&Version], mut report: Report<'_>) {
    let (mut last, mut nonces) = (0, BTreeMap::new());
    for version in versions {
        let (name, status) = (&version.name, &version.status);
        if status.last_attempt < last {
            report.say(format!("lastAttempt of {name} fell from {last} to {}", status.last_attempt));
        }
        if let Some(attempt) = &status.attempt {
            let known = nonces.entry(attempt.number).or_insert_with(|| attempt.nonce.clone());
            if *known != attempt.nonce {
                report.say(format!("number {} of {name} was given out twice", attempt.number));
            }
            if attempt.number > status.last_attempt {
                report
                    .say(format!("number {} of {name} is beyond lastAttempt {}", attempt.number, status.last_attempt));
            }
        }
        last = status.last_attempt;
    }
}

fn bounds(trace: &Trace, claims: &BTreeMap<String, Claim>, mut report: Report<'_>) {
    if let Some(version) = trace.versions.iter().find(|version| version.status_bytes > STATUS_LIMIT) {
        report.say(format!("a status of {} has {} bytes", version.name, version.status_bytes));
    }
    for wish in wishes(claims) {
        // A reset forgets the failures of before, and the attempts after it are counted anew.
        for attempts in wish.chunk_by(|one, next| asks(one, RESET_AT) == asks(next, RESET_AT)) {
            let sent = |claim: &&&Claim| trace.posts_of(claim).any(Post::counts);
            let sent = attempts.iter().filter(sent).count();
            let limit = attempts.iter().map(|claim| claim.retry_limit).max();
            if limit.is_some_and(|limit| i64::try_from(sent).is_ok_and(|sent| sent > limit)) {
                report.say(format!("{sent} attempts of {} by {}", wish[0].attempt.digest, wish[0].name));
            }
        }
    }
}

fn conditions_agree(trace: &Trace, mut report: Report<'_>) {
    let both = |version: &&Version| {
        version.status.condition("Stalled").is_some() && version.status.condition("Reconciling").is_some()
    };
    if let Some(version) = trace.versions.iter().find(both) {
        report.say(format!("version {} of {} is Stalled and Reconciling", version.stored_as, version.name));
    }
}

fn trace_is_whole(trace: &Trace, mut report: Report<'_>) {
    trace.unread.iter().for_each(|text| report.say(text));
    for version in &trace.versions {
        if let Some(why) = &version.unread {
            report.say(format!("the status of version {} of {} is not read: {why}", version.stored_as, version.name));
        }
    }
}
