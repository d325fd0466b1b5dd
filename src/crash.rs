//! Named points beside every external call, at which the crash sweep (`make sweep`) kills the process.
//!
//! Only with the feature `crash-points`, which no shipped program has: without it these functions are empty. With it,
//! `KONIGLE_CRASH_AT=write-the-claim.after:1` kills the process with SIGKILL when it passes that point for the first
//! time, and `KONIGLE_CRASH_LOG` names a file to which each point that is passed is appended, one a line. Absent:
//! errors, delays and panics; a point does nothing but pass or kill.

#[cfg(feature = "crash-points")]
pub use armed::{around, point, to_the_end};

#[cfg(not(feature = "crash-points"))]
pub use absent::{around, point, to_the_end};

#[cfg(not(feature = "crash-points"))]
mod absent {
    use std::future::Future;

    /// Makes an external call between its points `before` and `after`.
    #[inline]
    pub fn around<F: Future>(_call: &str, future: F) -> F {
        future
    }

    /// Passes a point in the middle of an external call.
    #[inline]
    pub const fn point(_call: &str, _moment: &str) {}

    /// Passes a point when the stream has ended.
    #[inline]
    pub fn to_the_end<S>(_call: &str, _moment: &str, stream: S) -> S {
        stream
    }
}

#[cfg(feature = "crash-points")]
mod armed {
    use std::collections::HashMap;
    use std::fs::{File, OpenOptions};
    use std::future::Future;
    use std::io::Write as _;
    use std::sync::{LazyLock, Mutex, PoisonError};

    use futures::{Stream, StreamExt as _, stream};
    use rustix::process::{Signal, getpid, kill_process};

    /// `None` where the environment asks for nothing: then a point costs nothing.
    static POINTS: LazyLock<Option<Mutex<Points>>> = LazyLock::new(|| Points::from_environment().map(Mutex::new));

    /// What was passed, and where to die.
    struct Points {
        passed: HashMap<String, u32>,
        fatal: Option<(String, u32)>,
        log: Option<File>,
    }

    impl Points {
        fn from_environment() -> Option<Self> {
            let fatal = std::env::var("KONIGLE_CRASH_AT").ok();
            let fatal = fatal.as_deref().and_then(|text| text.rsplit_once(':'));
            let fatal = fatal.and_then(|(name, hit)| Some((name.to_owned(), hit.parse().ok()?)));
            let log = std::env::var_os("KONIGLE_CRASH_LOG");
            let log = log.and_then(|path| OpenOptions::new().create(true).append(true).open(path).ok());
            (fatal.is_some() || log.is_some()).then(|| Self { passed: HashMap::new(), fatal, log })
        }

        fn pass(&mut self, name: String) {
            if let Some(log) = &mut self.log {
                // What is written stays when the process is killed.
                let _ = writeln!(log, "{name}");
            }
            let hits = self.passed.entry(name.clone()).or_default();
            *hits += 1;
            if self.fatal == Some((name, *hits)) {
                let _ = kill_process(getpid(), Signal::KILL);
            }
        }
    }

    /// Makes an external call between its points `before` and `after`.
    pub fn around<F: Future>(call: &'static str, future: F) -> impl Future<Output = F::Output> + use<F> {
        // Boxed, so that futures with points are no larger than those without.
        let future = Box::pin(future);
        async move {
            point(call, "before");
            let output = future.await;
            point(call, "after");
            output
        }
    }

    /// Passes a point when the stream has ended.
    pub fn to_the_end<S: Stream>(
        call: &'static str,
        moment: &'static str,
        stream: S,
    ) -> impl Stream<Item = S::Item> + use<S> {
        stream.chain(stream::poll_fn(move |_| {
            point(call, moment);
            std::task::Poll::Ready(None)
        }))
    }

    /// Passes a point in the middle of an external call.
    pub fn point(call: &str, moment: &str) {
        let Some(points) = &*POINTS else { return };
        let call = call.to_lowercase().replace(|character: char| !character.is_ascii_alphanumeric(), "-");
        points.lock().unwrap_or_else(PoisonError::into_inner).pass(format!("{call}.{moment}"));
    }
}
