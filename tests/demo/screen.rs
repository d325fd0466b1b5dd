//! What the demo prints of itself: one line for each thing that it does, and one now and then while it waits.
//!
//! Plain lines without colours or cursor movements, the same in a terminal and in a log.

use std::io::{self, Write};
use std::time::{Duration, Instant};

/// The longest time without a line.
const SILENCE: Duration = Duration::from_secs(4);

/// Standard output, with the time since the start of the demo.
pub(crate) struct Screen {
    began: Instant,
}

impl Screen {
    /// The time starts now.
    pub(crate) fn new() -> Self {
        Self { began: Instant::now() }
    }

    /// One line of one part.
    pub(crate) fn say(&self, part: &str, text: &str) {
        // A reader that has gone away must not keep the parts from being stopped in order.
        let _ = writeln!(io::stdout(), "{:6.1}s  {part:<16} {text}", self.began.elapsed().as_secs_f64());
    }

    /// Says now and then that a part is still being waited for.
    pub(crate) async fn while_waiting<T>(&self, part: &str, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            match tokio::time::timeout(SILENCE, &mut work).await {
                Ok(value) => return value,
                Err(_) => self.say(part, "not ready yet"),
            }
        }
    }
}

/// Prints what a command printed, as it is.
pub(crate) fn print(output: &str) {
    let _ = writeln!(io::stdout(), "{}", output.trim_end());
}
