//! Made-up traces in which one thing is wrong, and the property that it breaks.

use konigle_operator::api::Cause;
use konigle_operator::released::Released;

use super::story::{
    self, deployed, lose_receipts, made_anew, made_anew_in_flight, neighbours, promoted, second_attempt,
    second_promotion,
};
use crate::support::stage::SHOP;
use crate::support::trace::Property;
use crate::support::trace::history::{Job, Post, Trace};

/// What is wrong, what a made-up trace is made of, and how it is broken.
type Row = (&'static str, Property, fn() -> Trace, fn(&mut Trace));

pub(super) fn rows() -> Vec<Row> {
    use Property::{
        Bounds, ClaimBeforePost, ConditionsAgree, ConfirmedIsOurs, NoRollback, NothingAfterItsEnd, NumbersGrow,
        OneJobPerAttempt, OneJobPerPair, OneJobPerWish, PromotedIsWhatRuns,
    };
    let mut rows: Vec<Row> = vec![
        ("two jobs of one attempt", OneJobPerAttempt, deployed, |trace| {
            let job = trace.jobs[0].clone();
            trace.jobs.push(Job { id: "again".to_owned(), ..job });
        }),
        ("two POSTs of one attempt", OneJobPerAttempt, deployed, |trace| trace.posts.push(trace.posts[0].clone())),
        ("an attempt that changes its job", OneJobPerAttempt, deployed, |trace| {
            let mut other = trace.versions[2].clone();
            other.status.attempt.as_mut().unwrap().job_id = Some("another".to_owned());
            trace.versions.insert(3, other);
        }),
        ("a promotion that no attempt asked for", OneJobPerAttempt, promoted, |trace| {
            let mut job = trace.jobs[1].clone();
            "again".clone_into(&mut job.id);
            trace.jobs.push(job);
        }),
        ("a digest that is deployed twice", OneJobPerWish, deployed, |trace| second_attempt(trace, "Spec", 1)),
        ("a retry of what succeeded", OneJobPerWish, deployed, |trace| second_attempt(trace, "Retry", 2)),
        ("an older generation that ends last", NoRollback, deployed, |trace| {
            second_attempt(trace, "Spec", 2);
            trace.jobs[0].ended = story::time(100);
        }),
        ("Confirmed by a job that failed", ConfirmedIsOurs, deployed, |trace| {
            trace.jobs[0].outcome = Some("failed".to_owned());
        }),
        ("Confirmed by a job that no ledger has", ConfirmedIsOurs, deployed, |trace| trace.jobs.clear()),
        ("Confirmed with another digest", ConfirmedIsOurs, deployed, |trace| {
            trace.jobs[0].sha256 = Some("other".to_owned());
        }),
        ("Confirmed when a person had deployed", ConfirmedIsOurs, deployed, |trace| {
            let mut job = trace.jobs[0].clone();
            (job.id, job.by_person) = ("person".to_owned(), true);
            (job.ended, job.ended_ms) = (story::time(5), Some(story::ms(5)));
            trace.jobs.push(job);
        }),
        ("a deploy during another", OneJobPerPair, deployed, |trace| {
            second_attempt(trace, "Spec", 2);
            trace.jobs[1].time = story::time(3).unwrap();
        }),
        ("a deploy during a promotion of its pair", OneJobPerPair, promoted, |trace| {
            trace.jobs[1].time = story::time(3).unwrap();
        }),
        ("a POST that was never claimed", ClaimBeforePost, deployed, |trace| {
            trace.versions.iter_mut().for_each(|version| version.status.attempt = None);
        }),
        ("a POST without a nonce", ClaimBeforePost, deployed, |trace| {
            trace.posts[0].display_name = Some("shop".to_owned());
        }),
        ("a POST with another number", ClaimBeforePost, deployed, |trace| {
            trace.versions[1].status.attempt.as_mut().unwrap().number = 2;
        }),
        ("a POST to another Space", ClaimBeforePost, deployed, |trace| "other".clone_into(&mut trace.posts[0].object)),
        ("a claim that is stored with its job", ClaimBeforePost, deployed, |trace| drop(trace.versions.remove(1))),
        ("a claim after its POST", ClaimBeforePost, deployed, |trace| trace.versions[1].stored_ms = story::ms(9)),
        ("a promotion without a claim", ClaimBeforePost, promoted, |trace| {
            trace.versions.retain(|version| version.name == SHOP);
        }),
        ("a POST after the fence", NothingAfterItsEnd, deployed, |trace| trace.posts[0].arrived_ms = story::ms(30)),
        ("a POST of a closed attempt", NothingAfterItsEnd, deployed, |trace| trace.posts[0].arrived_ms = story::ms(14)),
        ("another content is promoted", PromotedIsWhatRuns, promoted, |trace| {
            trace.jobs[1].sha256 = Some("other".to_owned());
        }),
        ("a status that is too long", Bounds, deployed, |trace| trace.versions[2].status_bytes = 40_000),
        ("more attempts than the limit", Bounds, deployed, |trace| {
            trace.jobs[0].outcome = Some("failed".to_owned());
            second_attempt(trace, "Retry", 1);
            trace.versions.iter_mut().for_each(|version| version.retry_limit = 1);
        }),
        ("lastAttempt falls", NumbersGrow, deployed, |trace| trace.versions[3].status.last_attempt = 0),
        ("a number is given out twice", NumbersGrow, deployed, |trace| {
            "kother".clone_into(&mut trace.versions[2].status.attempt.as_mut().unwrap().nonce);
        }),
        ("a number beyond the last", NumbersGrow, deployed, |trace| {
            trace.versions.iter_mut().for_each(|version| version.status.last_attempt = 0);
        }),
        ("Stalled and Reconciling", ConditionsAgree, deployed, |trace| {
            let mut stalled = trace.versions[1].status.conditions[0].clone();
            "Stalled".clone_into(&mut stalled.condition_type);
            trace.versions[1].status.conditions.push(stalled);
        }),
        ("a reset that is answered twice", OneJobPerWish, deployed, |trace| {
            second_attempt(trace, "Reset", 1);
            for version in trace.versions.iter_mut().filter(|version| version.status.attempt.is_some()) {
                version.status.attempt.as_mut().unwrap().cause = Cause::Reset;
                version.requests = vec!["cloud.konigle.com/reset-at=1".to_owned()];
            }
        }),
        ("a request that a busy server refuses", OneJobPerPair, deployed, |trace| {
            let refused = Post { job: None, status: Some(409), arrived_ms: story::ms(3), ..trace.posts[0].clone() };
            trace.posts.push(refused);
        }),
    ];
    rows.extend(rows_of_neighbours());
    rows.extend(rows_of_promotions().into_iter().chain(rows_of_promotions_without_a_receipt()));
    rows.extend(rows_of_what_is_not_read());
    rows
}

/// Other resources for the same Space, whatever their UIDs.
fn rows_of_neighbours() -> Vec<Row> {
    use Property::{OthersGiveWay, WhatRunsIsNotRepeated};
    vec![
        ("a digest that is noted on the resource is deployed", WhatRunsIsNotRepeated, made_anew, |trace| {
            let digest = trace.jobs[0].digest();
            let noted = Released { space_id: story::UAT.to_owned(), digest, last_deployed_at: "2026".to_owned() };
            trace.versions[5].released = Some(noted);
        }),
        ("a digest that is to be taken for granted is deployed", WhatRunsIsNotRepeated, made_anew, |trace| {
            trace.versions[5].assumes_current = true;
        }),
        ("a digest whose job the process followed is deployed", WhatRunsIsNotRepeated, made_anew_in_flight, |_| {}),
        ("a younger resource deploys what an older one did", WhatRunsIsNotRepeated, neighbours, |trace| {
            trace.versions[4..].iter_mut().for_each(|version| version.created_ms = story::ms(16));
        }),
        ("a younger resource deploys beside an older one", OthersGiveWay, neighbours, |trace| {
            trace.versions[4..].iter_mut().for_each(|version| version.created_ms = story::ms(16));
        }),
        ("a deploy while another's attempt is open", OthersGiveWay, neighbours, |trace| drop(trace.versions.remove(3))),
        ("a deploy before a deleted one's may have failed", OthersGiveWay, made_anew_in_flight, |trace| {
            (trace.posts[0].job, trace.posts[0].status) = (None, Some(500));
            trace.posts[1].arrived_ms = story::ms(6);
        }),
    ]
}

fn rows_of_promotions() -> Vec<Row> {
    use Property::{Bounds, NoRollback, NothingAfterItsEnd, OneJobPerWish, SourceIsHeld};
    vec![
        ("a digest that is promoted twice", OneJobPerWish, promoted, |trace| second_promotion(trace, "Spec", 1)),
        ("an older generation whose promotion ends last", NoRollback, promoted, |trace| {
            second_promotion(trace, "Spec", 2);
            trace.jobs[1].ended = story::time(100);
        }),
        ("more promotions than the limit", Bounds, promoted, |trace| {
            second_promotion(trace, "Retry", 1);
            trace.versions.iter_mut().for_each(|version| version.retry_limit = 1);
        }),
        ("a promotion after the fence", NothingAfterItsEnd, promoted, |trace| {
            trace.versions.truncate(7);
            trace.posts[1].arrived_ms = story::ms(40);
        }),
        ("a promotion of a closed attempt", NothingAfterItsEnd, promoted, |trace| {
            trace.posts[1].arrived_ms = story::ms(25);
        }),
        ("a promotion of a closed attempt, which nothing came of", NothingAfterItsEnd, promoted, |trace| {
            trace.versions.iter_mut().filter_map(|version| version.status.attempt.as_mut()).for_each(|attempt| {
                attempt.job_id = None;
            });
            (trace.posts[1].job, trace.posts[1].arrived_ms) = (None, story::ms(25));
        }),
        ("a promotion without a hold", SourceIsHeld, promoted, |trace| drop(trace.versions.remove(5))),
        ("a hold for another attempt", SourceIsHeld, promoted, |trace| {
            "kother".clone_into(&mut trace.versions[5].status.held_by.as_mut().unwrap().nonce);
        }),
        ("a hold on another resource", SourceIsHeld, promoted, |trace| {
            "another".clone_into(&mut trace.versions[5].uid);
        }),
        ("a hold before the claim", SourceIsHeld, promoted, |trace| trace.versions.swap(4, 5)),
        ("a hold after the receipt", SourceIsHeld, promoted, |trace| trace.versions.swap(5, 6)),
        ("a hold that was let go", SourceIsHeld, promoted, |trace| trace.posts[1].arrived_ms = story::ms(26)),
        ("a deploy of what is held", SourceIsHeld, promoted, |trace| {
            trace.versions[5].status.attempt = trace.versions[1].status.attempt.clone();
        }),
    ]
}

fn rows_of_promotions_without_a_receipt() -> Vec<Row> {
    use Property::{Bounds, NoRollback, OneJobPerWish, WhatRunsIsNotRepeated};
    vec![
        ("two promotions of a digest, neither with a receipt", OneJobPerWish, promoted, |trace| {
            second_promotion(trace, "Spec", 1);
            lose_receipts(trace);
        }),
        ("a promotion without a receipt, and one more", OneJobPerWish, promoted, |trace| {
            lose_receipts(trace);
            second_promotion(trace, "Retry", 1);
        }),
        ("a promotion without a receipt after one more", OneJobPerWish, promoted, |trace| {
            second_promotion(trace, "Retry", 1);
            let receipt = trace.versions.iter_mut().rfind(|version| version.status.attempt.is_some()).unwrap();
            receipt.status.attempt.as_mut().unwrap().job_id = None;
        }),
        ("two promotions by one attempt, neither with a receipt", OneJobPerWish, promoted, |trace| {
            lose_receipts(trace);
            let (post, job) = (trace.posts[1].clone(), trace.jobs[1].clone());
            trace.posts.push(Post { job: Some("again".to_owned()), arrived_ms: post.arrived_ms + 900.0, ..post });
            trace.jobs.push(Job { id: "again".to_owned(), ..job });
        }),
        ("two promotions within a second, neither with a receipt", OneJobPerWish, promoted, |trace| {
            second_promotion(trace, "Retry", 1);
            lose_receipts(trace);
            // The first attempt is closed, and the next one made and sent, in the second of its own request.
            trace.posts[1].arrived_ms += 200.0;
            trace.posts[2].arrived_ms = story::ms(13) + 900.0;
            trace.versions[7..].iter_mut().for_each(|version| version.stored_ms = story::ms(13));
            trace.versions[7..].iter_mut().for_each(|version| version.seen_ms = story::ms(13) + 950.0);
        }),
        ("an older generation whose promotion without a receipt ends last", NoRollback, promoted, |trace| {
            second_promotion(trace, "Spec", 2);
            lose_receipts(trace);
            trace.jobs[1].ended = story::time(100);
        }),
        ("more promotions than the limit, none with a receipt", Bounds, promoted, |trace| {
            second_promotion(trace, "Retry", 1);
            lose_receipts(trace);
            trace.versions.iter_mut().for_each(|version| version.retry_limit = 1);
        }),
        ("a promotion that nothing came of exceeds the limit", Bounds, promoted, |trace| {
            second_promotion(trace, "Retry", 1);
            lose_receipts(trace);
            (trace.posts[1].job, trace.posts[1].status) = (None, Some(502));
            trace.jobs.remove(1);
            trace.versions.iter_mut().for_each(|version| version.retry_limit = 1);
        }),
        (
            "a promotion without a receipt of what is to be taken for granted",
            WhatRunsIsNotRepeated,
            promoted,
            |trace| {
                let begun = trace.versions.len();
                second_promotion(trace, "Spec", 1);
                lose_receipts(trace);
                let mut new = trace.versions[begun].clone();
                new.status = konigle_operator::api::KonigleSpaceStatus::default();
                (new.is_new, new.assumes_current) = (true, true);
                trace.versions.insert(begun, new);
                for made in trace.versions[begun..].iter_mut().filter(|version| version.name == "shop-production") {
                    "another uid".clone_into(&mut made.uid);
                    if let Some(attempt) = &mut made.status.attempt {
                        attempt.baseline.last_deployed_at = Some("2026".to_owned());
                    }
                }
            },
        ),
    ]
}

fn rows_of_what_is_not_read() -> Vec<Row> {
    use Property::{NoGap, NobodyDies, TraceIsWhole};
    vec![
        ("a watch that began anew", NoGap, deployed, |trace| trace.gaps.push("here".to_owned())),
        ("a ledger that is not read", TraceIsWhole, deployed, |trace| trace.unread.push("a ledger".to_owned())),
        ("a status that is not read", TraceIsWhole, deployed, |trace| {
            trace.versions[1].unread = Some("no number".to_owned());
        }),
        ("an operator that ended", NobodyDies, deployed, |trace| trace.deaths.push("one".to_owned())),
    ]
}
