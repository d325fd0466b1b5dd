//! How progress looks: a block that is redrawn in place, or one plain line for each change.
//!
//! Pure. A job tells no percentage, so none is shown: its status, how long it has run of what it may, and its log. Of a
//! download and an upload bytes are known, and shown as a bar ([`super::transfer`]).

use std::collections::HashMap;

use jiff::Timestamp;
use kube::ResourceExt;

use super::reading::{between, called, full_name, kind, minded, release, told};
use super::screen::{Look, Mark, Tone, in_one_line};
use super::transfer::{Stage, Transfer};
use crate::api::{ArtifactStatus, Attempt, KonigleSpace};
use crate::reason::Reason;
use crate::time;

/// How many lines of a job's log the live view shows.
const LOG_LINES: usize = 5;
/// The signs of something that runs, one a second.
const SPINNER: [&str; 4] = ["◐", "◓", "◑", "◒"];

/// The live view of these, at most so many lines high.
pub fn view(spaces: &[&KonigleSpace], now: Timestamp, look: Look, height: usize) -> Vec<String> {
    let name = |space: &KonigleSpace| space.name_any().chars().count();
    let width = spaces.iter().map(|space| name(space)).max().unwrap_or_default();
    let mut lines: Vec<String> = spaces.iter().flat_map(|space| block(space, width, now, look)).collect();
    if lines.len() > height {
        let left_out = lines.len() + 1 - height;
        lines.truncate(height.saturating_sub(1));
        lines.push(look.paint(Tone::Dim, &format!("… {left_out} more lines: make the terminal higher, or name some")));
    }
    lines
}

fn block(space: &KonigleSpace, name_width: usize, now: Timestamp, look: Look) -> Vec<String> {
    let status = space.status.clone().unwrap_or_default();
    let (mark, reason, message) = told(space);
    let mark = minded(space, mark);
    let name = format!("{:name_width$}", space.name_any());
    let sign = match &status.attempt {
        Some(attempt) if mark == Mark::Waiting => SPINNER[seconds_since(&attempt.started_at, now) % SPINNER.len()],
        _ => mark.sign(),
    };
    let transfer = Transfer::of(&status).filter(|_| mark == Mark::Waiting);
    let text = match (&status.attempt, &status.artifact) {
        (Some(attempt), _) if mark == Mark::Waiting => running(attempt, now),
        // How far it is is told below.
        (None, Some(artifact)) if transfer.is_some() && reason == Reason::Downloading.word() => downloading(artifact),
        _ => message,
    };
    let taken = 2 + name_width + 2 + reason.chars().count() + 2;
    let first = format!(
        "{} {name}  {}  {}",
        look.paint(mark.tone(), sign),
        look.paint(mark.tone(), &reason),
        look.cut(&text, taken)
    );
    let log = status.attempt.as_ref().and_then(|attempt| attempt.log.as_ref());
    let lines = log.map(|log| log.lines.as_slice()).unwrap_or_default();
    let shown = lines.iter().skip(lines.len().saturating_sub(LOG_LINES));
    let shown = shown.map(|line| look.paint(Tone::Dim, &format!("  │ {}", look.cut(line, 4))));
    let bar = transfer.map(|transfer| look.paint(Tone::Busy, &transfer.bar(look)));
    std::iter::once(first).chain(bar).chain(shown).collect()
}

/// What is being downloaded, in one line.
fn downloading(artifact: &ArtifactStatus) -> String {
    let from = artifact.origin.as_ref().map_or_else(String::new, |origin| format!(" from {origin}"));
    format!("downloading {}{from}", called(artifact.revision.as_deref(), &artifact.digest))
}

/// The attempt that is under way, in one line.
fn running(attempt: &Attempt, now: Timestamp) -> String {
    // The id comes last: it is what a narrow terminal can do without.
    let (status, job) = match (&attempt.job_id, &attempt.job_status) {
        (Some(id), word) => (word.as_deref().unwrap_or("begun"), format!(", job {id}")),
        (None, _) => ("no job yet", String::new()),
    };
    let ran = between(Some(&attempt.started_at), Some(&time::text(now)));
    let may = between(Some(&attempt.started_at), Some(&attempt.deadline));
    let what = called(attempt.revision.as_deref(), &attempt.digest);
    format!("{} {} of {what}, {status}, {ran} of at most {may}{job}", kind(attempt.attempt_type), attempt.number)
}

fn seconds_since(from: &str, now: Timestamp) -> usize {
    let since = time::parse(from).map_or(0, |from| now.duration_since(from).as_secs());
    usize::try_from(since).unwrap_or_default()
}

/// Tells each change once, in plain lines.
#[derive(Default)]
pub struct Teller {
    told: HashMap<String, Told>,
}

/// What was last told of one KonigleSpace.
#[derive(Default)]
struct Told {
    step: String,
    message: String,
    attempt: i64,
    log_lines: i64,
    /// The digest of the wanted artifact.
    wanted: String,
    stage: Option<Stage>,
}

/// One thing to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Its state changed.
    State(Mark, String),
    /// Its job logged a line.
    Log(String),
}

impl Teller {
    /// What is new.
    pub fn news(&mut self, space: &KonigleSpace) -> Vec<Line> {
        let status = space.status.clone().unwrap_or_default();
        let (mark, reason, message) = told(space);
        let told = self.told.entry(full_name(space)).or_default();
        let mut lines = Vec::new();
        if let Some(attempt) = &status.attempt {
            if told.attempt != attempt.number {
                told.attempt = attempt.number;
                told.log_lines = 0;
            }
            lines.extend(new_log_lines(attempt, &mut told.log_lines).into_iter().map(Line::Log));
        }
        let job = status.attempt.as_ref().and_then(|attempt| attempt.job_status.as_ref());
        let job = job.map(|word| format!(" (job {})", in_one_line(word))).unwrap_or_default();
        let step = format!("{reason}{job}");
        let transfer = Transfer::of(&status);
        let stage = transfer.as_ref().map(Transfer::stage);
        let wanted = status.artifact.as_ref().map(|artifact| artifact.digest.clone()).unwrap_or_default();
        let is_download = reason == Reason::Downloading.word();
        let goes_on = told.step == step && told.wanted == wanted && (stage.is_some() || is_download);
        let is_told = if goes_on {
            // The message of a download tells each percent: a tenth is enough for a line. One without is no news after it.
            stage.map_or_else(|| told.message.starts_with(&message), |stage| Some(stage) == told.stage)
        } else {
            // That of a running job ends with the newest line of its log, which stands above already.
            told.step == step && (told.message == message || !lines.is_empty())
        };
        if !is_told {
            let runs = if mark == Mark::Done { format!(" [{}]", release(&status)) } else { String::new() };
            let far = match transfer {
                Some(upload) if upload.is_upload() => format!(": {}", upload.words()),
                Some(download) if !is_download => format!("; once more: {}", download.words()),
                Some(_) | None => String::new(),
            };
            lines.push(Line::State(mark, format!("{step}{runs}: {message}{far}")));
        }
        *told = Told { step, message, wanted, stage: stage.or(told.stage), ..*told };
        lines
    }
}

/// The lines of an attempt's log that were not told yet, as far as the status keeps them.
pub fn new_log_lines(attempt: &Attempt, told: &mut i64) -> Vec<String> {
    let Some(log) = &attempt.log else { return Vec::new() };
    let held = i64::try_from(log.lines.len()).unwrap_or_default();
    let new = usize::try_from(log.count.saturating_sub(*told).clamp(0, held)).unwrap_or_default();
    *told = log.count;
    log.lines[log.lines.len() - new..].iter().map(|line| in_one_line(line)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::{LogTail, TransferStatus};
    use crate::konigle::model::JobStatus;
    use crate::observation::{ArtifactFacts, DownloadFacts};
    use crate::plugin::outlook::tests::resource;
    use crate::test_facts::*;

    fn running_with(lines: &[&str], count: i64) -> KonigleSpace {
        let mut space = resource(&Facts::uat().in_flight(A).with_job(JobStatus::Running).next());
        let attempt = space.status.as_mut().unwrap().attempt.as_mut().unwrap();
        attempt.log = Some(LogTail { lines: lines.iter().map(|line| (*line).to_owned()).collect(), count });
        space
    }

    #[test]
    fn the_live_view_in_every_look() {
        let many: Vec<String> = (1..=9).map(|number| format!("step {number} of a build that says much")).collect();
        let uat = running_with(&many.iter().map(String::as_str).collect::<Vec<_>>(), 9);
        let production = resource(&Facts::production().next());
        let drifted = resource(&Facts::uat().runs(A).shows(ELSEWHEN, "success").next());
        let spaces = [&uat, &production, &drifted];
        let look = |colour, width| Look { colour, width: Some(width) };
        for (name, look, height) in [
            ("live", look(false, 120), 40),
            ("live_in_colour", look(true, 120), 40),
            ("live_narrow", look(false, 50), 40),
            ("live_low", look(false, 80), 5),
        ] {
            let lines = view(&spaces, now(), look, height);
            assert!(lines.len() <= height, "{name}");
            insta::assert_snapshot!(name, lines.join("\n").replace('\u{1b}', "\\e"));
        }
    }

    /// A uat resource whose download is so far, in MiB.
    fn downloading_with(bytes: u64, total: Option<u64>) -> KonigleSpace {
        let facts = Facts::uat().but(|facts| {
            facts.seen.artifact = ArtifactFacts::Downloading;
            facts.seen.download = Some(DownloadFacts {
                progress: TransferStatus::of(bytes << 20, total.map(|total| total << 20)),
                running_for: Duration::from_secs(3),
            });
        });
        resource(&facts.next())
    }

    /// One whose upload is so far, in MiB.
    fn uploading_with(bytes: u64) -> KonigleSpace {
        let mut space = resource(&Facts::uat().next());
        let attempt = space.status.as_mut().unwrap().attempt.as_mut().unwrap();
        attempt.upload = Some(TransferStatus::of(bytes << 20, Some(100 << 20)));
        space
    }

    #[test]
    fn transfers_have_a_bar() {
        let mut tagged = downloading_with(430, Some(1024));
        let artifact = tagged.status.as_mut().unwrap().artifact.as_mut().unwrap();
        artifact.origin = Some("registry.example.com/team/shop:v1".to_owned());
        let spaces = [&tagged, &downloading_with(430, None), &uploading_with(25)];
        let shown = |colour, width| {
            let lines = view(&spaces, now(), Look { colour, width: Some(width) }, 40);
            lines.join("\n").replace('\u{1b}', "\\e")
        };
        insta::assert_snapshot!("transfers", shown(false, 100));
        insta::assert_snapshot!("transfers_in_colour", shown(true, 100));
        insta::assert_snapshot!("transfers_narrow", shown(false, 30));
    }

    #[test]
    fn a_transfer_is_told_now_and_then() {
        let mut teller = Teller::default();
        let mut told = |space: &KonigleSpace| match &teller.news(space)[..] {
            [] => String::new(),
            [Line::State(mark, text)] => format!("{} {text}", mark.sign()),
            other => panic!("{other:?}"),
        };
        let at = |bytes| downloading_with(bytes, Some(200));
        assert_eq!(told(&at(1)), "◎ Downloading: downloading sha256:aaaaaaaaaaaa: 0 %, 1.0 MiB of 200 MiB");
        assert_eq!(told(&at(19)), "", "the same tenth");
        assert_eq!(told(&at(20)), "◎ Downloading: downloading sha256:aaaaaaaaaaaa: 10 %, 20 MiB of 200 MiB");
        let without_bytes = |artifact| resource(&Facts::uat().but(|facts| facts.seen.artifact = artifact).next());
        assert_eq!(told(&without_bytes(ArtifactFacts::Downloading)), "", "it has come, and is checked");
        let packing = "◎ Downloading: packing sha256:aaaaaaaaaaaa into a ZIP";
        assert_eq!(told(&without_bytes(ArtifactFacts::Packing)), packing);
        assert_eq!(told(&without_bytes(ArtifactFacts::Packing)), "");
        let upload = "◎ DeployRunning: attempt 1 of sha256:aaaaaaaaaaaa is on its way to Konigle";
        assert_eq!(told(&resource(&Facts::uat().next())), upload);
        assert_eq!(told(&uploading_with(25)), format!("{upload}: 25 %, 25 MiB of 100 MiB"));
        assert_eq!(told(&uploading_with(29)), "");
        assert_eq!(told(&uploading_with(30)), format!("{upload}: 30 %, 30 MiB of 100 MiB"));

        let mut teller = Teller::default();
        let lines = (0..=1000).filter(|bytes| !teller.news(&downloading_with(*bytes, None)).is_empty()).count();
        assert_eq!(lines, 11, "each time that it has doubled");
    }

    #[test]
    fn each_change_is_told_once() {
        let mut teller = Teller::default();
        let mut news = |space: &KonigleSpace| {
            let text = |line| match line {
                Line::State(mark, text) => format!("{} {text}", mark.sign()),
                Line::Log(line) => format!("| {line}"),
            };
            teller.news(space).into_iter().map(text).collect::<Vec<_>>()
        };
        let state = "◎ DeployRunning (job running): attempt 1 of sha256:aaaaaaaaaaaa, job job-1 is running: building";
        assert_eq!(news(&running_with(&["building"], 1)), ["| building", state]);
        assert_eq!(news(&running_with(&["building"], 1)), Vec::<String>::new());
        assert_eq!(news(&running_with(&["building", "migrating"], 2)), ["| migrating"]);
        // Most of what was logged meanwhile is no longer in the status.
        assert_eq!(news(&running_with(&["c", "d"], 90)), ["| c", "| d"]);
        let settled = resource(&Facts::uat().runs(A).next());
        assert_eq!(news(&settled), ["✔ Succeeded [v1 aaaaaaaaaaaa]: sha256:aaaaaaaaaaaa runs"]);
    }
}
