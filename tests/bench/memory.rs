//! What a process has in memory, by the kernel's count.

use std::fmt;
use std::fs;

use crate::report::short;
use crate::support::process::Process;
use crate::support::{Context, Failure, Result};

/// A process's memory, in MiB.
pub(crate) struct Memory {
    /// Now.
    pub(crate) resident: f64,
    /// The most so far.
    pub(crate) highest: f64,
}

impl Memory {
    /// As it is now.
    pub(crate) fn of(process: &Process) -> Result<Self> {
        let path = format!("/proc/{}/status", process.id());
        let status = fs::read_to_string(&path).context("reading a process's memory")?;
        let mebibytes = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number =
                line.and_then(|line| line.trim_start_matches(':').split_whitespace().next()?.parse::<f64>().ok());
            number
                .map(|kibibytes| kibibytes / 1024.0)
                .ok_or_else(|| Failure::new(format!("the kernel tells no {name}")))
        };
        Ok(Self { resident: mebibytes("VmRSS")?, highest: mebibytes("VmHWM")? })
    }

    /// As it is now, from which on the kernel counts the most anew.
    pub(crate) fn begin(process: &Process) -> Result<Self> {
        fs::write(format!("/proc/{}/clear_refs", process.id()), "5").context("resetting a process's highest memory")?;
        Self::of(process)
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} and {} MiB", short(self.resident), short(self.highest))
    }
}
