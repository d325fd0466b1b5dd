//! `watch`: a live view, redrawn in place; one plain line for each change where the output is no terminal.

use std::time::Duration;

use console::Term;
use jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::Instant;

use super::arguments::Watching;
use super::connection::Connection;
use super::failure::Failure;
use super::follow::Following;
use super::progress::{Line, Teller, view};
use super::reading::{State, headline, state};
use super::screen::{Mark, Screen, Tone};
use crate::api::KonigleSpace;
use crate::{clock, time};

/// How often the live view is drawn while nothing changes: the seconds of what runs go on.
const TICK: Duration = Duration::from_secs(1);
/// How soon after one drawing the next may follow.
const PAUSE: Duration = Duration::from_millis(200);

/// Watches until it is interrupted, the time is over, or all are settled.
pub async fn run(connection: &Connection, screen: &Screen, what: &Watching) -> Result<(), Failure> {
    // Whoever misspells a name is told so, and does not watch nothing.
    if connection.list(&what.selection).await?.is_empty() {
        screen.say(Mark::Warning, &format!("no KonigleSpaces {} yet", connection.place(&what.selection)));
    }
    let mut following = Following::new(connection, screen, &what.selection);
    let mut display = Display::new(screen);
    let end = what.timeout.map(|timeout| Instant::now() + timeout);
    following.changed().await?;
    loop {
        let spaces: Vec<&KonigleSpace> = following.now().collect();
        display.show(&spaces, clock::now())?;
        if what.until_settled && !spaces.is_empty() && spaces.iter().all(|space| state(space) != State::Moving) {
            return ended(&spaces);
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            return Err(Failure::timed_out("the time is over"));
        }
        let left = end.map_or(TICK, |end| end.saturating_duration_since(Instant::now()).min(TICK));
        if following.changed_within(left).await? && display.is_live() {
            // More changes may come at once; they are drawn together.
            let drawn = Instant::now() + PAUSE;
            while following.changed_within(drawn.saturating_duration_since(Instant::now())).await? {}
        }
    }
}

/// All are settled: is that what was wanted?
fn ended(spaces: &[&KonigleSpace]) -> Result<(), Failure> {
    let unmet: Vec<String> = spaces
        .iter()
        .filter(|space| state(space) != State::Ready)
        .map(|space| format!("{} is not ready ({})", space.name_any(), headline(space).1))
        .collect();
    if unmet.is_empty() { Ok(()) } else { Err(Failure::failed(unmet.join("; "))) }
}

/// Where the view is shown.
enum Display<'a> {
    /// A terminal, and how many lines of it the last drawing took.
    Live(&'a Screen, Term, usize),
    /// Anything else.
    Plain(&'a Screen, Teller),
}

impl<'a> Display<'a> {
    fn new(screen: &'a Screen) -> Self {
        if screen.out.width.is_some() {
            Self::Live(screen, Term::buffered_stdout(), 0)
        } else {
            Self::Plain(screen, Teller::default())
        }
    }

    fn is_live(&self) -> bool {
        matches!(self, Self::Live(..))
    }

    fn show(&mut self, spaces: &[&KonigleSpace], now: Timestamp) -> Result<(), Failure> {
        match self {
            Self::Live(screen, term, drawn) => {
                let (height, width) = term.size();
                let look = super::screen::Look { width: Some(usize::from(width)), ..screen.out };
                let lines = view(spaces, now, look, usize::from(height).saturating_sub(1).max(1));
                // Nothing is hidden or taken over: whoever interrupts finds the terminal as it was.
                let draw = || {
                    term.move_cursor_up(*drawn)?;
                    term.clear_to_end_of_screen()?;
                    for line in &lines {
                        term.write_line(line)?;
                    }
                    term.flush()
                };
                draw().map_err(|_| Failure::failed(""))?;
                *drawn = lines.len();
                Ok(())
            }
            Self::Plain(screen, teller) => {
                let at = time::text(now);
                for space in spaces {
                    for line in teller.news(space) {
                        let name = space.name_any();
                        let text = match line {
                            Line::State(mark, text) => format!("{} {text}", screen.out.paint(mark.tone(), mark.sign())),
                            Line::Log(line) => screen.out.paint(Tone::Dim, &format!("  │ {line}")),
                        };
                        Screen::print(&format!("{at} {name} {text}"))?;
                    }
                }
                Ok(())
            }
        }
    }
}

/// Tells on standard error what changes, while something else is waited for.
pub(super) fn tell(screen: &Screen, teller: &mut Teller, space: &KonigleSpace) {
    for line in teller.news(space) {
        let name = space.name_any();
        match line {
            // Whoever waits says himself how it ended; before it ended, this is what a request is to mend.
            Line::State(Mark::Done | Mark::Failed, _) => {}
            Line::State(mark, text) => screen.say(mark, &format!("{name}: {text}")),
            Line::Log(line) => screen.say(Mark::Waiting, &format!("{name} │ {line}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek};

    use super::*;
    use crate::konigle::model::JobStatus;
    use crate::plugin::outlook::tests::resource;
    use crate::plugin::screen::Look;
    use crate::test_facts::*;

    #[test]
    fn the_view_is_drawn_over_the_one_before() {
        let terminal = tempfile::tempfile().unwrap();
        let look = Look { colour: false, width: Some(79) };
        let screen = Screen { out: look, err: look };
        let term = Term::read_write_pair(terminal.try_clone().unwrap(), terminal.try_clone().unwrap());
        let mut display = Display::Live(&screen, term, 0);
        let running = resource(&Facts::uat().in_flight(A).with_job(JobStatus::Running).next());
        let settled = resource(&Facts::uat().runs(A).next());
        for spaces in [&[&running, &settled][..], &[&settled]] {
            display.show(spaces, now()).unwrap();
        }
        let mut drawn = String::new();
        let mut terminal = terminal;
        terminal.rewind().unwrap();
        terminal.read_to_string(&mut drawn).unwrap();
        insta::assert_snapshot!("drawn", drawn.replace('\u{1b}', "\\e"));
    }
}
