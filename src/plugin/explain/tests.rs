//! Whole screens, as people read them.

use crate::konigle::model::JobStatus;
use crate::observation::ArtifactFacts;
use crate::plugin::outlook::tests::{namespace, outlook_of};
use crate::plugin::screen::Look;
use crate::test_facts::*;

use super::*;

fn screen(facts: &Facts, look: Look) -> String {
    render(&namespace(facts)[0], &outlook_of(facts), facts.seen.now, look).replace('\u{1b}', "\\e")
}

#[test]
fn explanations() {
    let plain = Look { colour: false, width: None };
    let rests = Facts::uat().runs(A).next();
    let drifted = Facts::uat().runs(A).shows(ELSEWHEN, "success").next();
    let unknown = Facts::uat().in_flight(A).next();
    let downloading = Facts::uat().but(|facts| facts.seen.artifact = ArtifactFacts::Downloading).next();
    let running = Facts::uat().runs(A).wants(B).in_flight(B).with_job(JobStatus::Running).next();
    let failed = Facts::uat().runs(A).wants(B).in_flight(B).job_failed().next();
    let awaiting =
        Facts::production().but(|facts| facts.desired.wish = promotes(crate::desired::Approval::Manual(None))).next();
    for (name, facts, look) in [
        ("rests", &rests, plain),
        ("rests_in_colour", &rests, Look { colour: true, width: Some(100) }),
        ("drifted", &drifted, plain),
        ("drifted_narrow", &drifted, Look { width: Some(60), ..plain }),
        ("unknown_outcome", &unknown, plain),
        ("downloading", &downloading, plain),
        ("running", &running, plain),
        ("failed", &failed, plain),
        ("suspended", &Facts::uat().suspended().next(), plain),
        ("awaiting_approval", &awaiting, plain),
        ("not_looked_at_yet", &Facts::uat(), plain),
    ] {
        insta::assert_snapshot!(name, screen(facts, look));
    }
}
