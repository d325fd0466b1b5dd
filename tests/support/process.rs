//! Child processes that never outlive the program that started them, and ports for them to listen on.
//!
//! A `Drop` does not run when a test binary ends or is killed, so each child has a guardian beside it: a shell that waits
//! on a pipe from this program and kills the child when the pipe closes, which the kernel sees to. Both are in process
//! groups of their own, so that Ctrl-C in a terminal reaches this program alone, and the order of the end is its own.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::{Context, Failure, Result};

/// How long a part of the test bed may take to be ready. Generous: only a broken part reaches it.
pub(crate) const READY_LIMIT: Duration = Duration::from_secs(90);
/// The pause between two looks at something that is waited for.
pub(crate) const POLL: Duration = Duration::from_millis(50);

/// A running child process.
pub(crate) struct Process {
    name: String,
    log: PathBuf,
    child: Child,
    guardian: Child,
    ended: Option<ExitStatus>,
}

impl Process {
    /// Starts `command` with both of its outputs appended to `log`, which keeps what an earlier start wrote.
    pub(crate) fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let starting = || format!("starting {name}");
        let output = open_log(log).context(starting())?;
        let errors = output.try_clone().context(starting())?;
        command.stdout(output).stderr(errors);
        Self::guarded(name, command, log)
    }

    /// Starts `command` with the outputs of this program.
    pub(crate) fn start_on_screen(name: &str, command: Command) -> Result<Self> {
        Self::guarded(name, command, super::run_folder::run_folder()?)
    }

    fn guarded(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let starting = || format!("starting {name}");
        let mut child = command.stdin(Stdio::null()).process_group(0).spawn().context(starting())?;
        let guardian = Command::new("sh")
            .args(["-c", "read -r released || kill -KILL \"$1\"", "guardian", &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        match guardian {
            Ok(guardian) => Ok(Self { name: name.to_owned(), log: log.to_owned(), child, guardian, ended: None }),
            Err(error) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(error).context(format!("starting the guardian of {name}"))
            }
        }
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The file that both outputs go to.
    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// How it ended, or nothing while it runs.
    pub(crate) fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().context(format!("looking at {}", self.name))?;
            if self.ended.is_some() {
                self.release_guardian();
            }
        }
        Ok(self.ended)
    }

    /// How it ended, where that was not seen yet.
    pub(crate) fn ended_unseen(&mut self) -> Result<Option<ExitStatus>> {
        if self.ended.is_some() { Ok(None) } else { self.ended() }
    }

    /// Whether a signal made it stand still.
    pub(crate) fn is_stopped(&self) -> bool {
        let status = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap_or_default();
        // The name before the state may hold anything, a bracket too.
        status.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
    }

    /// Sends a signal by its name, such as `TERM`, `STOP` or `CONT`. Nothing happens when it has ended.
    pub(crate) fn signal(&mut self, signal: &str) -> Result<()> {
        if self.ended()?.is_some() {
            return Ok(());
        }
        let status = Command::new("sh")
            .args(["-c", "kill -s \"$1\" \"$2\"", "sh", signal, &self.id().to_string()])
            .status()
            .context(format!("sending {signal} to {}", self.name))?;
        if status.success() { Ok(()) } else { Err(Failure::new(format!("sending {signal} to {} failed", self.name))) }
    }

    /// Takes back what a shell's `ulimit -S -f` allowed it to write into one file.
    pub(crate) fn may_write_large_files(&self) -> Result<()> {
        let taking_back = || format!("letting {} write large files", self.name);
        let id = i32::try_from(self.id()).ok().and_then(rustix::process::Pid::from_raw);
        let own = rustix::process::getrlimit(rustix::process::Resource::Fsize);
        rustix::process::prlimit(id, rustix::process::Resource::Fsize, own).context(taking_back()).map(drop)
    }

    /// Ends it at once, as `kill -9` does, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        if self.ended.is_some() {
            return;
        }
        let _ = self.child.kill();
        // The guardian goes first: once the child is waited for, its id may be another's.
        self.release_guardian();
        self.ended = self.child.wait().ok();
    }

    /// Asks it to end, as Kubernetes does, and waits; a failure when it has not ended within `limit`.
    pub(crate) async fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal("TERM")?;
        self.wait(limit).await
    }

    /// Waits until it has ended by itself.
    pub(crate) async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if began.elapsed() > limit {
                return Err(Failure::new(format!("{} had not ended after {limit:?}; {}", self.name, self.see_log())));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until `probe` is true; a failure at once when the process ends before.
    pub(crate) async fn until_ready(&mut self, what: &str, mut probe: impl AsyncFnMut() -> bool) -> Result<()> {
        let began = Instant::now();
        loop {
            if probe().await {
                return Ok(());
            }
            if let Some(status) = self.ended()? {
                return Err(Failure::new(format!("{} ended ({status}) before {what}; {}", self.name, self.see_log())));
            }
            if began.elapsed() > READY_LIMIT {
                let name = &self.name;
                return Err(Failure::new(format!("{name}: not {what} after {READY_LIMIT:?}; {}", self.see_log())));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Lets it run on after this program has ended.
    pub(crate) fn leave_running(&mut self) -> u32 {
        self.release_guardian();
        // Taken as ended, so that the drop does not kill it.
        self.ended = Some(ExitStatus::default());
        self.id()
    }

    /// Does to the guardian what the end of this program does: its pipe closes.
    pub(crate) fn lose_its_maker(&mut self) {
        drop(self.guardian.stdin.take());
    }

    /// Where the log is, and its end.
    pub(crate) fn see_log(&self) -> String {
        format!("its log is {}, which ends with:\n{}", self.log.display(), tail(&self.log))
    }

    fn release_guardian(&mut self) {
        if let Some(mut pipe) = self.guardian.stdin.take() {
            let _ = pipe.write_all(b"released\n");
        }
        let _ = self.guardian.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a log, or why it cannot be read.
pub(crate) fn tail(log: &Path) -> String {
    const LINES: usize = 15;
    match fs::read(log) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            let lines: Vec<&str> = text.lines().collect();
            lines[lines.len().saturating_sub(LINES)..].join("\n")
        }
        Err(error) => format!("({error})"),
    }
}

/// A loopback port that belongs to its owner alone, also while nothing listens on it: no other part of this test bed, in
/// this process or another, is given it. It is free again when this is dropped.
pub(crate) struct Port {
    number: u16,
    /// Locked as long as it is open.
    _owned: File,
}

impl fmt::Display for Port {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.number.fmt(formatter)
    }
}

/// A port that nothing listens on.
///
/// Below the range from which systems take the ports of outgoing connections, so that none of those takes it before
/// its process listens.
pub(crate) fn free_port() -> Result<Port> {
    let folder = cache()?.join("ports");
    fs::create_dir_all(&folder).context(format!("making {}", folder.display()))?;
    for _ in 0..1000 {
        let random = RandomState::new().build_hasher().finish();
        let number = 20_000 + u16::try_from(random % 12_000).unwrap_or_default();
        let owned = File::create(folder.join(number.to_string())).context("marking a port as taken")?;
        if owned.try_lock().is_ok() && TcpListener::bind((Ipv4Addr::LOCALHOST, number)).is_ok() {
            return Ok(Port { number, _owned: owned });
        }
    }
    Err(Failure::new("found no free port on loopback between 20000 and 32000"))
}

/// The folder of what outlives a clone of this repository, shared by all clones.
pub(crate) fn cache() -> Result<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    Ok(cache.ok_or_else(|| Failure::new("neither XDG_CACHE_HOME nor HOME is set"))?.join("konigle-operator"))
}

fn open_log(log: &Path) -> std::io::Result<File> {
    OpenOptions::new().create(true).append(true).open(log)
}
