//! Signs of life: when each resource was last looked at or moved, and how much memory the operator takes.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use konigle_operator::api::KonigleSpace;
use kube::api::ListParams;

use crate::bed::Bed;
use crate::support::Result;

/// How often all resources and all requests are read.
const PERIOD: Duration = Duration::from_secs(3);

/// What was seen of a resource.
struct Seen {
    version: String,
    looks: u64,
    moved: Instant,
}

/// What was seen of all.
pub(crate) struct Life {
    seen: HashMap<String, Seen>,
    newest: Option<Instant>,
    /// The longest time that one was left alone though nothing says that it should be, and which.
    pub(crate) longest_silence: (Duration, String),
    /// Resident memory in KiB, by the time since the operator's last start; without its restarts.
    pub(crate) memory: Vec<(Duration, u64)>,
    since: Instant,
}

impl Life {
    pub(crate) fn new() -> Self {
        let now = Instant::now();
        Self {
            seen: HashMap::new(),
            newest: None,
            longest_silence: (Duration::ZERO, String::new()),
            memory: Vec::new(),
            since: now,
        }
    }

    /// Looks at everything; the memory counts once there are no more restarts.
    pub(crate) async fn look(&mut self, bed: &mut Bed, restarts: bool) -> Result<()> {
        if restarts {
            self.since = Instant::now();
            self.memory.clear();
        } else if let Some(memory) = resident(bed.operator.process().id()) {
            self.memory.push((self.since.elapsed(), memory));
        }
        if self.newest.is_some_and(|newest| newest.elapsed() < PERIOD) {
            return Ok(());
        }
        let requests = bed.simulator.requests().await?;
        let spaces = bed.namespace.spaces().list(&ListParams::default()).await?;
        let now = Instant::now();
        self.newest = Some(now);
        let by_name: HashMap<&str, &str> =
            bed.resources.iter().map(|resource| (resource.name.as_str(), resource.space.as_str())).collect();
        for space in &spaces {
            let name = space.metadata.name.clone().unwrap_or_default();
            let id = by_name.get(name.as_str()).copied().unwrap_or_default();
            let looks = requests["by_object"][id]["get_space"].as_u64().unwrap_or_default();
            self.note(now, &name, space, looks);
        }
        Ok(())
    }

    fn note(&mut self, now: Instant, name: &str, space: &KonigleSpace, looks: u64) {
        let version = space.metadata.resource_version.clone().unwrap_or_default();
        let seen = self.seen.entry(name.to_owned());
        let seen = seen.or_insert_with(|| Seen { version: version.clone(), looks, moved: now });
        // Where it says that a person or a time is waited for, it is not left alone.
        let rests = space.status.as_ref().is_some_and(|status| {
            status.is_true("Stalled") || status.next_retry_time.as_ref().is_some_and(|time| is_to_come(time))
        });
        if seen.version != version || seen.looks != looks || rests {
            *seen = Seen { version, looks, moved: now };
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
