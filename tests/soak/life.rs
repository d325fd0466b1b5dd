//! Signs of life: when each resource was last looked at or moved, and how much memory the operator takes.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;
use std::time::{Duration, Instant};

use konigle_operator::api::KonigleSpace;
use kube::api::ListParams;
use serde_json::Value;

use crate::bed::Bed;
use crate::support::{Context, Result};

/// How often all resources and the log are read.
const PERIOD: Duration = Duration::from_secs(3);
/// What the operator logs at the end of each pass over a resource: what comes next, or that it failed. A look that nobody
/// answered is such an end too; a pass that hangs, and a resource that has no turn, have none.
const ENDS: [&str; 2] = ["planned", "the pass failed; it is tried again"];

/// What was seen of a resource.
struct Seen {
    version: String,
    moved: Instant,
}

/// What was seen of all.
pub(crate) struct Life {
    seen: HashMap<String, Seen>,
    newest: Option<Instant>,
    /// How much of the log was read.
    read: u64,
    /// The longest time that one was left alone though nothing says that it should be, and which.
    pub(crate) longest_silence: (Duration, String),
    /// Resident memory in KiB, by the time since the operator's last start; without its restarts.
    pub(crate) memory: Vec<(Duration, u64)>,
    /// The process whose memory that is, and since when.
    process: (u32, Instant),
}

impl Life {
    pub(crate) fn new() -> Self {
        Self {
            seen: HashMap::new(),
            newest: None,
            read: 0,
            longest_silence: (Duration::ZERO, String::new()),
            memory: Vec::new(),
            process: (0, Instant::now()),
        }
    }

    /// Looks at everything; the memory counts once there are no more restarts.
    pub(crate) async fn look(&mut self, bed: &mut Bed, restarts: bool) -> Result<()> {
        let process = bed.operator.process().id();
        if restarts || process != self.process.0 {
            self.process = (process, Instant::now());
            self.memory.clear();
        } else if let Some(memory) = resident(process) {
            self.memory.push((self.process.1.elapsed(), memory));
        }
        if self.newest.is_some_and(|newest| newest.elapsed() < PERIOD) {
            return Ok(());
        }
        let spaces = bed.namespace.spaces().list(&ListParams::default()).await?;
        let ended = self.passes(bed.operator.log())?;
        let now = Instant::now();
        self.newest = Some(now);
        for space in &spaces {
            let name = space.metadata.name.clone().unwrap_or_default();
            let passed = ended.contains(&format!("{}/{name}", bed.namespace.name()));
            self.note(now, &name, space, passed);
        }
        Ok(())
    }

    /// Over which resources passes came to an end since the last time, by namespace and name.
    fn passes(&mut self, log: &Path) -> Result<HashSet<String>> {
        let mut file = File::open(log).context("opening the log")?;
        file.seek(SeekFrom::Start(self.read)).context("reading the log")?;
        let mut new = Vec::new();
        file.read_to_end(&mut new).context("reading the log")?;
        // A line that is being written is read the next time.
        let whole = new.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.read += whole as u64;
        let mut passes = HashSet::new();
        for line in new[..whole].split(|byte| *byte == b'\n') {
            let Ok(line) = serde_json::from_slice::<Value>(line) else { continue };
            let is_end = line["message"].as_str().is_some_and(|message| ENDS.contains(&message));
            if let (true, Some(namespace), Some(name)) = (is_end, line["namespace"].as_str(), line["name"].as_str()) {
                passes.insert(format!("{namespace}/{name}"));
            }
        }
        Ok(passes)
    }

    fn note(&mut self, now: Instant, name: &str, space: &KonigleSpace, passed: bool) {
        let version = space.metadata.resource_version.clone().unwrap_or_default();
        let seen = self.seen.entry(name.to_owned());
        let seen = seen.or_insert_with(|| Seen { version: version.clone(), moved: now });
        // Where it says that a person or a time is waited for, it is not left alone.
        let rests = space.status.as_ref().is_some_and(|status| {
            status.is_true("Stalled") || status.next_retry_time.as_ref().is_some_and(|time| is_to_come(time))
        });
        if seen.version != version || passed || rests {
            *seen = Seen { version, moved: now };
        }
        let silence = now.duration_since(seen.moved);
        if silence > self.longest_silence.0 {
            self.longest_silence = (silence, name.to_owned());
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "what the status says is compared with the time")]
fn is_to_come(time: &str) -> bool {
    time.parse::<jiff::Timestamp>().is_ok_and(|time| time > jiff::Timestamp::now())
}

fn resident(process: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
