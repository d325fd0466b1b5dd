//! `validate`: manifests checked without a cluster, for a pull request's check.

use std::io::Read;
use std::path::Path;

use serde_json::Value;
use serde_saphyr::UserMessageFormatter;

use super::arguments::Validating;
use super::failure::Failure;
use super::schema::{Fault, faults, is_ours};
use super::screen::{Mark, Screen};
use crate::redact::Redactor;

/// Checks them all, and says of each what it is.
pub fn run(screen: &Screen, what: &Validating) -> Result<(), Failure> {
    let (mut checked, mut wrong, mut empty) = (0, 0, 0);
    for file in &what.files {
        let name = if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() };
        let text = read(file).map_err(|error| Failure::usage(format!("{name} cannot be read: {error}")))?;
        let verdicts =
            check(&text).map_err(|error| Failure::usage(format!("{name} is no YAML that can be used: {error}")))?;
        if verdicts.is_empty() {
            empty += 1;
            screen.say(Mark::Failed, &format!("{name} is empty: nothing was validated"));
        }
        for verdict in verdicts {
            match verdict {
                Verdict::Skipped(object) => {
                    screen.say(Mark::Doing, &format!("{name}: {object} skipped: only KonigleSpaces are checked"));
                }
                Verdict::Valid(object) => {
                    checked += 1;
                    screen.say(Mark::Done, &format!("{name}: {object} is valid"));
                }
                Verdict::Invalid(object, faults) => {
                    (checked, wrong) = (checked + 1, wrong + 1);
                    for fault in faults {
                        screen.say(Mark::Failed, &format!("{name}: {object} is invalid: {fault}"));
                    }
                }
            }
        }
    }
    if wrong > 0 {
        return Err(Failure::usage(format!("{wrong} of {checked} KonigleSpaces are invalid")));
    }
    if empty > 0 {
        return Err(Failure::usage(format!("files that are empty: {empty} of {}", what.files.len())));
    }
    if checked == 0 {
        screen.say(Mark::Warning, "there is no KonigleSpace in what was given");
    }
    Ok(())
}

fn read(file: &Path) -> std::io::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        return std::io::stdin().read_to_string(&mut text).map(|_| text);
    }
    std::fs::read_to_string(file)
}

/// What is to be said of one object.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is of another kind.
    Skipped(String),
    /// It would be accepted.
    Valid(String),
    /// It would not, for these reasons.
    Invalid(String, Vec<String>),
}

/// Judges all documents of a text, and the items of lists. The error is of one line.
fn check(text: &str) -> Result<Vec<Verdict>, String> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text)
        .map_err(|error| first_line(&error.render_with_formatter(&UserMessageFormatter)))?;
    Ok(documents.into_iter().flat_map(objects).map(|object| judge(&object)).collect())
}

/// The line that says what is wrong; a picture of the place follows it.
fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// The objects of a document: none of an empty one, the items of a list.
fn objects(document: Value) -> Vec<Value> {
    match &document["items"] {
        Value::Array(items) if document["kind"] == "List" || document["kind"] == "KonigleSpaceList" => items.clone(),
        _ if document.is_null() => Vec::new(),
        _ => vec![document],
    }
}

fn judge(object: &Value) -> Verdict {
    let word = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let namespace =
        object["metadata"]["namespace"].as_str().map(|namespace| format!("{namespace}/")).unwrap_or_default();
    let name = format!("{} {namespace}{}", word(&object["kind"]), word(&object["metadata"]["name"]));
    if !is_ours(object) {
        return Verdict::Skipped(name);
    }
    let faults: Vec<String> = faults(object).iter().map(shown).collect();
    if faults.is_empty() { Verdict::Valid(name) } else { Verdict::Invalid(name, faults) }
}

/// A fault, without what a URL in it may hold that nobody should see.
fn shown(fault: &Fault) -> String {
    let told = fault.told();
    if told.contains("://") { Redactor::default().clean(&told) } else { told }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_documents_other_kinds_and_lists() {
        let text = "\
apiVersion: v1
kind: Secret
metadata: {name: konigle}
---
# nothing but a comment
---
apiVersion: v1
kind: List
items:
  - apiVersion: cloud.konigle.com/v1alpha1
    kind: KonigleSpace
    metadata: {name: shop, namespace: team}
    spec: {space: {id: '7'}, credentials: {secretRef: {name: konigle}}, promotion: {from: {name: uat}}}
  - apiVersion: cloud.konigle.com/v1alpha1
    kind: KonigleSpace
    metadata: {name: shop}
    spec: {space: {id: '7'}, credentials: {secretRef: {name: konigle}}, promotion: {from: {nam: uat}}}
";
        let invalid = vec!["unknown field \"spec.promotion.from.nam\": did you mean name?".to_owned()];
        assert_eq!(
            check(text),
            Ok(vec![
                Verdict::Skipped("Secret konigle".to_owned()),
                Verdict::Valid("KonigleSpace team/shop".to_owned()),
                Verdict::Invalid("KonigleSpace shop".to_owned(), invalid),
            ])
        );
        assert_eq!(check(""), Ok(Vec::new()));
        for wrong in ["a: b: c", "{", "kind: a\nkind: b"] {
            let error = check(wrong).unwrap_err();
            assert!(!error.is_empty() && !error.contains('\n'), "{wrong}: {error}");
        }
        let twice = check("metadata: {name: a}\nkind: KonigleSpace\nkind: b").unwrap_err();
        assert!(twice.contains("kind") && twice.contains("line 3"), "{twice}");
        assert!(!twice.contains("Policy") && !twice.contains("Options"), "a library's words: {twice}");
    }

    #[test]
    fn a_misspelt_kind_or_group_is_not_skipped() {
        let faults = |api_version: &str, kind: &str| {
            let text = format!("{{apiVersion: {api_version}, kind: {kind}, metadata: {{name: shop}}}}");
            match check(&text).unwrap().remove(0) {
                Verdict::Invalid(object, faults) => {
                    assert_eq!(object, format!("{kind} shop"));
                    faults
                }
                verdict => panic!("{text}: {verdict:?}"),
            }
        };
        let wrong_kind = ["kind: write KonigleSpace: cloud.konigle.com has no other kind"];
        for kind in ["KonigleSpaces", "koniglespace", "KonigleSpaceList"] {
            assert_eq!(faults("cloud.konigle.com/v1alpha1", kind), wrong_kind);
        }
        let wrong_version = ["apiVersion: write cloud.konigle.com/v1alpha1: no other version is known"];
        for api_version in ["cloud.konigle.io/v1alpha1", "cloud.konigle.com/v1", "v1"] {
            assert_eq!(faults(api_version, "KonigleSpace"), wrong_version);
        }
    }

    #[test]
    fn a_url_is_not_repeated_with_its_password() {
        let text = "{apiVersion: cloud.konigle.com/v1alpha1, kind: KonigleSpace, metadata: {name: shop}, spec: {space: {id: \"1\"}, credentials: {secretRef: {name: konigle}}, source: {http: {url: \"https://ci:hunter2@x.example.com/a.zip?sig=hunter3\", digest: \"sha256:0000000000000000000000000000000000000000000000000000000000000000\"}}}}";
        let Verdict::Invalid(_, faults) = check(text).unwrap().remove(0) else { panic!("it is valid") };
        let told = faults.join("; ");
        assert!(told.contains("x.example.com/a.zip") && told.contains("spec.source.http.secretRef names"), "{told}");
        assert!(!told.contains("hunter"), "{told}");
    }

    #[test]
    fn an_empty_file_is_no_success() {
        let look = crate::plugin::screen::Look { colour: false, width: None };
        let screen = Screen { out: look, err: look };
        let folder = tempfile::tempdir().unwrap();
        let code = |text: &str| {
            let file = folder.path().join("spaces.yaml");
            std::fs::write(&file, text).unwrap();
            run(&screen, &Validating { files: vec![file] }).map_err(|failure| (failure.code, failure.message))
        };
        for empty in ["", "---\n", "# nothing but a comment\n"] {
            let refused = (crate::plugin::failure::Code::Usage, "files that are empty: 1 of 1".to_owned());
            assert_eq!(code(empty), Err(refused), "{empty:?}");
        }
        assert_eq!(code("apiVersion: v1\nkind: Secret\n"), Ok(()), "of other kinds only");
    }
}
