//! What may be approved, and what is shown of it.

use crate::api::Attribution;
use crate::desired::Approval as Approved;
use crate::plugin::failure::Code;
use crate::plugin::outlook::tests::namespace;
use crate::test_facts::*;

use super::*;

fn unapproved() -> Facts {
    Facts::production().but(|facts| facts.desired.wish = promotes(Approved::Manual(None))).next()
}

fn judged(facts: &Facts) -> Result<Approval, Failure> {
    let all = namespace(facts);
    approval(&all[0], &all)
}

#[test]
fn what_the_gate_refuses_is_refused_with_its_words() {
    let uat = |change: fn(&mut crate::api::KonigleSpaceStatus)| {
        unapproved().but(|facts| change(&mut facts.seen.source.as_mut().unwrap().status))
    };
    let refuses = |words: &str, facts: Facts| {
        let failure = judged(&facts).unwrap_err();
        assert!(failure.message.contains(words), "{words}: {}", failure.message);
        assert_eq!(failure.code, Code::Failed);
    };
    let drift = |status: &mut crate::api::KonigleSpaceStatus| {
        let mut drifted = status.conditions.first().cloned().unwrap_or_default();
        "Drifted".clone_into(&mut drifted.condition_type);
        "True".clone_into(&mut drifted.status);
        status.conditions.push(drifted);
    };
    let reset =
        r#": kubectl annotate kspace shop-uat --namespace shop --overwrite cloud.konigle.com/reset-at="$(date +%s)""#;
    refuses(reset, uat(|status| status.release.as_mut().unwrap().attribution = Attribution::Inferred));
    refuses(reset, uat(drift));
    refuses("SourceNotConfirmed", uat(|status| status.release.as_mut().unwrap().attribution = Attribution::Inferred));
    refuses("SourceBusy", uat(|status| status.attempt = Some(crate::api::Attempt::default())));
    refuses("AwaitingSource", uat(|status| status.release = None));
    refuses("SourceDrifted", uat(drift));
    refuses("SourceNotFound", unapproved().but(|facts| facts.seen.source.as_mut().unwrap().exists = false));
    refuses("deploys an artifact", Facts::uat().runs(A).next());
    let automatic = |facts: &mut Facts| facts.desired.wish = promotes(Approved::Automatic);
    refuses("policy Automatic", Facts::production().but(automatic).next());
}

#[test]
fn what_changes_is_shown_before() {
    let shown = |facts: &Facts| judged(facts).unwrap().shown(&namespace(facts)[0], now());
    insta::assert_snapshot!("the_first_promotion", shown(&unapproved()));
    let folder = unapproved().but(|facts| {
        let artifact = facts.seen.source.as_mut().unwrap().status.artifact.as_mut().unwrap();
        artifact.source_digest = Some(B.to_owned());
        artifact.path = Some("apps/shop".to_owned());
    });
    insta::assert_snapshot!("a_folder", shown(&folder));
    let later = Facts::production().runs(B).but(|facts| facts.desired.wish = promotes(approved(B))).next();
    insta::assert_snapshot!("a_later_promotion", shown(&later));
    assert!(!judged(&later).unwrap().is_written);
    assert!(judged(&Facts::production().next()).unwrap().is_written, "exactly this is approved already");
}
