//! `status`: one line for each KonigleSpace.

use jiff::Timestamp;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::arguments::{Data, Listing, Output};
use super::connection::Connection;
use super::failure::Failure;
use super::reading::{Pending, ago, called, minded, pending, release, shortened, told};
use super::screen::{Cell, Column, Look, Mark, Screen, table};
use super::wanted;
use crate::api::KonigleSpace;
use crate::clock;

/// Lists them.
pub async fn run(connection: &Connection, screen: &Screen, what: &Listing) -> Result<(), Failure> {
    let spaces = connection.list(&what.selection).await?;
    match what.output {
        Some(Output::Json) => return Screen::print(&data(Data::Json, &list(&spaces)?)?),
        Some(Output::Yaml) => return Screen::print(&data(Data::Yaml, &list(&spaces)?)?),
        Some(Output::Name) => {
            let name = |space: &KonigleSpace| format!("koniglespace.cloud.konigle.com/{}", space.name_any());
            return Screen::print(&spaces.iter().map(name).collect::<Vec<_>>().join("\n"));
        }
        Some(Output::Wide) | None => {}
    }
    if spaces.is_empty() {
        screen.say(Mark::Warning, &format!("no KonigleSpaces {}", connection.place(&what.selection)));
        return Ok(());
    }
    let shape = Shape { wide: what.output == Some(Output::Wide), namespaces: what.selection.all_namespaces };
    Screen::print(&render(&spaces, shape, clock::now(), screen.out))
}

/// Which columns are wanted.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) wide: bool,
    pub(super) namespaces: bool,
}

/// The table.
pub(super) fn render(spaces: &[KonigleSpace], shape: Shape, now: Timestamp, look: Look) -> String {
    const WIDE: &[Column] = &[
        Column { title: "SPACE", from_width: 0 },
        Column { title: "JOB", from_width: 0 },
        Column { title: "ORIGIN", from_width: 0 },
        Column { title: "SOURCE", from_width: 0 },
        Column { title: "UPLOAD", from_width: 0 },
        Column { title: "URL", from_width: 0 },
        Column { title: "AGE", from_width: 0 },
    ];
    let mut columns = vec![
        Column { title: "NAME", from_width: 0 },
        Column { title: "TYPE", from_width: 110 },
        Column { title: "STATE", from_width: 0 },
        Column { title: "RELEASE", from_width: 72 },
        Column { title: "DEPLOYED", from_width: 100 },
    ];
    if shape.namespaces {
        columns.insert(0, Column { title: "NAMESPACE", from_width: 0 });
    }
    if shape.wide {
        columns.extend(WIDE.iter().map(|column| Column { ..*column }));
    }
    columns.push(Column { title: "MESSAGE", from_width: 0 });
    let rows: Vec<Vec<Cell>> = spaces.iter().map(|space| row(space, shape, now)).collect();
    table(look, &columns, &rows)
}

fn row(space: &KonigleSpace, shape: Shape, now: Timestamp) -> Vec<Cell> {
    let status = space.status.clone().unwrap_or_default();
    let remote = status.space.clone().unwrap_or_default();
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let (mark, reason, message) = told(space);
    // A terminal may have no room for the message.
    let mark = minded(space, mark);
    let message = match pending(space) {
        Some(Pending { what, waits_for, .. }) => {
            format!("{what} is asked for, and waits for {waits_for}; as the operator last said: {message}")
        }
        None => message,
    };
    let deployed = status.release.as_ref().and_then(|release| release.deployed_at.as_deref());
    let mut cells = vec![
        Cell::new(space.name_any()),
        Cell::new(or_dash(remote.space_type.clone())),
        Cell::new(format!("{} {reason}", mark.sign())).toned(mark.tone()),
        Cell::new(shortened(&release(&status))),
        Cell::new(ago(now, deployed)),
    ];
    if shape.namespaces {
        cells.insert(0, Cell::new(space.namespace().unwrap_or_default()));
    }
    if shape.wide {
        let job = status.attempt.as_ref().and_then(|attempt| attempt.job_id.clone());
        let short = |digest: Option<&str>| digest.map_or_else(|| "-".to_owned(), |digest| called(None, digest));
        let created = space.creation_timestamp().map(|at| at.0.to_string());
        cells.extend(
            [
                or_dash(remote.id),
                job.unwrap_or_else(|| "-".to_owned()),
                wanted::origin(space).unwrap_or_else(|| "-".to_owned()),
                short(wanted::source_digest(&status)),
                short(wanted::upload_digest(&status)),
                status.url.clone().unwrap_or_else(|| "-".to_owned()),
            ]
            .map(Cell::new),
        );
        cells.push(Cell::new(ago(now, created.as_deref())));
    }
    cells.push(Cell::new(message));
    cells
}

fn list(spaces: &[KonigleSpace]) -> Result<Value, Failure> {
    let mut items = Vec::new();
    for space in spaces {
        let mut space = space.clone();
        space.managed_fields_mut().clear();
        items.push(serde_json::to_value(&space).map_err(|error| Failure::failed(error.to_string()))?);
    }
    Ok(json!({"apiVersion": "v1", "kind": "List", "items": items}))
}

/// A value as JSON or YAML.
pub fn data(form: Data, value: &Value) -> Result<String, Failure> {
    match form {
        Data::Json => serde_json::to_string_pretty(value).map_err(|error| Failure::failed(error.to_string())),
        Data::Yaml => serde_saphyr::to_string(value).map_err(|error| Failure::failed(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::konigle::model::JobStatus;
    use crate::observation::{OriginFacts, Problem};
    use crate::plugin::outlook::tests::resource;
    use crate::reason::Reason;
    use crate::test_facts::*;

    /// One of each kind of state.
    fn fleet() -> Vec<KonigleSpace> {
        vec![
            resource(&Facts::uat().runs(A).next()),
            resource(&Facts::uat().runs(A).wants(B).in_flight(B).with_job(JobStatus::Running).next()),
            resource(&Facts::production().next()),
            resource(&Facts::uat().runs(A).shows(ELSEWHEN, "success").next()),
            resource(&Facts::uat().suspended().next()),
            resource(&Facts::uat()),
            resource(&Facts::uat().in_flight(A).next().reset("1")),
            resource(&Facts::uat().runs(A).wants(B).in_flight(B).job_failed().next()),
            resource(&unverified()),
            packed(),
            unread(),
        ]
    }

    /// A promotion during which uat did not stay as it was approved.
    fn unverified() -> Facts {
        let changed = |facts: &mut Facts| {
            let mut condition = facts.status.conditions[0].clone();
            "ContentVerified".clone_into(&mut condition.condition_type);
            "False".clone_into(&mut condition.status);
            facts.status.conditions.push(condition);
        };
        Facts::production().runs(A).attributed(crate::api::Attribution::Inferred).next().but(changed)
    }

    /// One that deploys a folder of what Flux hands out.
    fn packed() -> KonigleSpace {
        let mut space = resource(&Facts::uat().runs(A).next());
        space.spec.source = Some(crate::api::Source {
            source_ref: Some(crate::api::FluxSourceReference {
                kind: crate::api::FluxKind::GitRepository,
                name: "shop".to_owned(),
                path: Some("apps/shop".to_owned()),
            }),
            ..crate::api::Source::default()
        });
        let artifact = space.status.as_mut().unwrap().artifact.as_mut().unwrap();
        artifact.source_digest = Some(B.to_owned());
        space
    }

    /// One that runs what its tag named before the registry went away; its revision is long.
    fn unread() -> KonigleSpace {
        let problem = Problem { reason: Reason::ArtifactUnavailable, message: "the registry answered 503".to_owned() };
        let origin = OriginFacts::Unnamed { problem, last: Some(named_digest(A)), looking: false };
        let mut space = resource(&Facts::uat().runs(A).follows_tag(origin).next());
        let release = space.status.as_mut().unwrap().release.as_mut().unwrap();
        release.revision = Some(format!("main@sha1:{}", "1f3e5a7b".repeat(5)));
        space
    }

    #[test]
    fn the_table_in_every_look() {
        let plain = Shape { wide: false, namespaces: false };
        let look = |colour, width| Look { colour, width };
        let screens = [
            ("plain", render(&fleet(), plain, now(), look(false, None))),
            ("wide", render(&fleet(), Shape { wide: true, namespaces: true }, now(), look(false, None))),
            ("terminal", render(&fleet(), plain, now(), look(true, Some(120)))),
            ("narrow", render(&fleet(), plain, now(), look(false, Some(60)))),
            ("very narrow", render(&fleet(), plain, now(), look(false, Some(40)))),
        ];
        for (name, screen) in screens {
            insta::assert_snapshot!(name.replace(' ', "_"), screen.replace('\u{1b}', "\\e"));
        }
    }
}
