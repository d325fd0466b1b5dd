//! How things look: marks and colours, tables that fit the terminal, and lines that are wrapped.
//!
//! What a command is for goes to standard output, what it tells of its own doing to standard error: so a pipe gets the
//! former alone. Where the output is no terminal nothing is coloured, cut or wrapped.

use std::io::{self, Write};

use console::{Style, Term, measure_text_width, truncate_str};

use super::failure::Failure;

/// What a line on standard error tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Something is begun.
    Doing,
    /// Something is waited for.
    Waiting,
    /// Something is done.
    Done,
    /// Something failed.
    Failed,
    /// Something is to be minded.
    Warning,
}

impl Mark {
    /// The sign, as Flux writes it.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Doing => "►",
            Self::Waiting => "◎",
            Self::Done => "✔",
            Self::Failed => "✗",
            Self::Warning => "⚠",
        }
    }

    /// Its colour.
    pub fn tone(self) -> Tone {
        match self {
            Self::Doing | Self::Waiting => Tone::Busy,
            Self::Done => Tone::Good,
            Self::Failed => Tone::Bad,
            Self::Warning => Tone::Warning,
        }
    }
}

/// How a text is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As it is.
    Plain,
    /// Less important.
    Dim,
    /// A heading.
    Bold,
    /// As it should be.
    Good,
    /// Under way.
    Busy,
    /// To be minded.
    Warning,
    /// Wrong.
    Bad,
}

/// What an output can show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// Whether it shows colours.
    pub colour: bool,
    /// How many columns it has; `None` where it is no terminal.
    pub width: Option<usize>,
}

impl Look {
    /// The text in this tone.
    pub fn paint(self, tone: Tone, text: &str) -> String {
        let style = match tone {
            Tone::Plain => return text.to_owned(),
            Tone::Dim => Style::new().dim(),
            Tone::Bold => Style::new().bold(),
            Tone::Good => Style::new().green(),
            Tone::Busy => Style::new().cyan(),
            Tone::Warning => Style::new().yellow(),
            Tone::Bad => Style::new().red(),
        };
        style.force_styling(self.colour).apply_to(text).to_string()
    }

    /// The text in one line, cut to what is left beside `taken` columns.
    pub fn cut(self, text: &str, taken: usize) -> String {
        let text = in_one_line(text);
        match self.width {
            Some(width) => truncate_str(&text, width.saturating_sub(taken), "…").into_owned(),
            None => text,
        }
    }

    /// The text in lines that fit, all but the first of them indented by `indent` columns.
    pub fn wrap(self, text: &str, indent: usize) -> String {
        let text = in_one_line(text);
        let Some(width) = self.width else { return text };
        let room = width.saturating_sub(indent).max(20);
        let mut lines: Vec<String> = vec![String::new()];
        for word in text.split_whitespace() {
            let line = lines.last().map_or(0, |line| measure_text_width(line));
            if line > 0 && line + 1 + measure_text_width(word) > room {
                lines.push(word.to_owned());
            } else if let Some(last) = lines.last_mut() {
                if line > 0 {
                    last.push(' ');
                }
                last.push_str(word);
            }
        }
        lines.join(&format!("\n{}", " ".repeat(indent)))
    }
}

/// The text without control characters: whoever may write a status must not steer the terminal of whoever reads it.
pub fn in_one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// The two outputs of this process.
pub struct Screen {
    /// Standard output.
    pub out: Look,
    /// Standard error.
    pub err: Look,
}

impl Screen {
    /// What the two can show; colours only where they are wanted.
    pub fn new(no_color: bool) -> Self {
        let wanted = !no_color && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        let width = |term: Term| term.size_checked().map(|(_, columns)| usize::from(columns));
        Self {
            out: Look { colour: wanted && console::colors_enabled(), width: width(Term::stdout()) },
            err: Look { colour: wanted && console::colors_enabled_stderr(), width: width(Term::stderr()) },
        }
    }

    /// Tells on standard error what is going on.
    pub fn say(&self, mark: Mark, text: &str) {
        let sign = self.err.paint(mark.tone(), mark.sign());
        let text = text.lines().map(in_one_line).collect::<Vec<_>>().join("\n");
        // Whoever closed it does not want to hear.
        let _ = writeln!(io::stderr(), "{sign} {text}");
    }

    /// Prints to standard output.
    pub fn print(text: &str) -> Result<(), Failure> {
        let mut out = io::stdout().lock();
        // The reader of the pipe has gone, such as `head`: there is nothing to say and nobody to say it to.
        writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()).map_err(|_| Failure::failed(""))
    }
}

/// A column of a table.
pub struct Column {
    /// Its heading.
    pub title: &'static str,
    /// It is left out on terminals that are narrower.
    pub from_width: usize,
}

/// One cell.
pub struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    /// A cell with this text.
    pub fn new(text: impl AsRef<str>) -> Self {
        Self { text: in_one_line(text.as_ref()), tone: Tone::Plain }
    }

    /// The same in this tone.
    pub fn toned(self, tone: Tone) -> Self {
        Self { tone, ..self }
    }
}

/// The least that the last column of a table is worth showing for.
const LEAST: usize = 10;

/// The table as it fits: columns that have no room are left out, and the last one is cut.
pub fn table(look: Look, columns: &[Column], rows: &[Vec<Cell>]) -> String {
    let fits = |column: &Column| look.width.is_none_or(|width| column.from_width <= width);
    let mut shown: Vec<usize> = (0..columns.len()).filter(|index| fits(&columns[*index])).collect();
    let width_of = |index: usize| {
        let cells = rows.iter().map(|row| measure_text_width(&row[index].text));
        cells.chain([columns[index].title.len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = shown.iter().map(|index| width_of(*index)).collect();
    let taken: usize = widths.iter().rev().skip(1).map(|width| width + 2).sum();
    if look.width.is_some_and(|width| width < taken + LEAST.min(widths.last().copied().unwrap_or_default())) {
        shown.pop();
    }
    let line = |cells: Vec<(&str, Tone)>| {
        let mut line = String::new();
        let mut taken = 0;
        for (position, (text, tone)) in cells.iter().enumerate() {
            let is_last = position + 1 == cells.len();
            let text = if is_last { look.cut(text, taken) } else { (*text).to_owned() };
            line.push_str(&look.paint(*tone, &text));
            if !is_last {
                let padding = widths[position].saturating_sub(measure_text_width(&text)) + 2;
                line.push_str(&" ".repeat(padding));
                taken += widths[position] + 2;
            }
        }
        line.trim_end().to_owned()
    };
    let heading = line(shown.iter().map(|index| (columns[*index].title, Tone::Bold)).collect());
    let body =
        rows.iter().map(|row| line(shown.iter().map(|index| (row[*index].text.as_str(), row[*index].tone)).collect()));
    std::iter::once(heading).chain(body).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Look = Look { colour: false, width: None };

    fn narrow(width: usize) -> Look {
        Look { width: Some(width), ..PLAIN }
    }

    #[test]
    fn a_table_fits_the_terminal() {
        let columns = [
            Column { title: "NAME", from_width: 0 },
            Column { title: "AGE", from_width: 40 },
            Column { title: "MESSAGE", from_width: 0 },
        ];
        let rows = [
            vec![Cell::new("shop-uat"), Cell::new("3m"), Cell::new("all is\nwell, and has been for a long time")],
            vec![Cell::new("é"), Cell::new("12d"), Cell::new("")],
        ];
        let lines = |look| table(look, &columns, &rows).lines().map(str::to_owned).collect::<Vec<_>>();
        let whole =
            ["NAME      AGE  MESSAGE", "shop-uat  3m   all is well, and has been for a long time", "é         12d"];
        assert_eq!(lines(PLAIN), whole);
        assert_eq!(lines(narrow(40))[1], "shop-uat  3m   all is well, and has bee…");
        assert_eq!(lines(narrow(39)), ["NAME      MESSAGE", "shop-uat  all is well, and has been fo…", "é"]);
    }

    #[test]
    fn colours_take_no_room() {
        let colour = Look { colour: true, width: None };
        let rows = [vec![Cell::new("a").toned(Tone::Good), Cell::new("b")]];
        let columns = [Column { title: "ONE", from_width: 0 }, Column { title: "TWO", from_width: 0 }];
        let text = table(colour, &columns, &rows);
        assert_eq!(text, "\u{1b}[1mONE\u{1b}[0m  \u{1b}[1mTWO\u{1b}[0m\n\u{1b}[32ma\u{1b}[0m    b");
    }

    #[test]
    fn lines_are_wrapped_between_words_and_no_word_is_broken() {
        assert_eq!(PLAIN.wrap("as it is, however long it may be", 4), "as it is, however long it may be");
        assert_eq!(narrow(24).wrap("one two three four five", 4), "one two three four\n    five");
        assert_eq!(narrow(24).wrap("sha256:aaaaaaaaaaaaaaaaaaaaaaaaa b", 4), "sha256:aaaaaaaaaaaaaaaaaaaaaaaaa\n    b");
    }
}
