//! What a document says to its reader: which states, files and commands, in which order.

use std::ops::Range;
use std::path::Path;

use super::{Failure, Result};

/// Languages of blocks that hold commands.
const SHELLS: [&str; 2] = ["sh", "console"];
/// Languages of blocks that nothing is done with but to show them.
const SHOWN: [&str; 2] = ["text", "json"];

/// A part of a document that does something.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// A state that is brought about.
    Given(String),
    /// A file that is written.
    File { name: String, text: String },
    /// A change of files.
    Change(String),
    /// Commands that must succeed.
    Script(String),
    /// A command, what it prints, and where in the document that stands.
    Command { command: String, printed: String, place: Range<usize> },
}

/// A block in the making.
struct Block<'a> {
    language: &'a str,
    indent: &'a str,
    /// Why it is not run.
    excuse: Option<&'a str>,
    /// Its lines, each with its place in the document.
    lines: Vec<(Range<usize>, &'a str)>,
}

/// What the document does, in its order.
pub(crate) fn parts(document: &str) -> Result<Vec<Part>> {
    let mut parts = Vec::new();
    let mut block: Option<Block<'_>> = None;
    let mut excuse: Option<&str> = None;
    let mut place = 0;
    for line in document.split_inclusive('\n') {
        let range = place..place + line.len();
        place = range.end;
        let text = line.trim_end();
        let fence = text.trim_start().strip_prefix("```");
        match (&mut block, fence) {
            (Some(open), Some(_)) => {
                parts.extend(open.parts()?);
                block = None;
            }
            (Some(open), None) => open.lines.push((range, text.strip_prefix(open.indent).unwrap_or(text))),
            (None, Some(language)) => {
                let indent = &text[..text.len() - text.trim_start().len()];
                block = Some(Block { language, indent, excuse: excuse.take(), lines: Vec::new() });
            }
            (None, None) if text.is_empty() => {}
            (None, None) => {
                if let Some(excuse) = excuse {
                    return Err(Failure::new(format!("`not run: {excuse}` stands before no block: {text}")));
                }
                excuse = comment(text, "not run:");
                parts.extend(comment(text, "given:").map(|state| Part::Given(state.to_owned())));
            }
        }
    }
    match (block, excuse) {
        (Some(open), _) => Err(Failure::new(format!("a block `{}` has no end", open.language))),
        (None, Some(excuse)) => Err(Failure::new(format!("`not run: {excuse}` stands before no block"))),
        (None, None) => Ok(parts),
    }
}

/// Whether the document has blocks with commands, run or not.
pub(crate) fn has_commands(document: &str) -> bool {
    let fences = document.lines().filter_map(|line| line.trim_start().strip_prefix("```"));
    fences.into_iter().any(|language| SHELLS.contains(&language.trim_end()))
}

/// What a comment of this kind says.
fn comment<'a>(line: &'a str, kind: &str) -> Option<&'a str> {
    let said = line.trim_start().strip_prefix("<!-- ")?.strip_prefix(kind)?.strip_suffix("-->")?;
    Some(said.trim()).filter(|said| !said.is_empty())
}

impl Block<'_> {
    fn parts(&self) -> Result<Vec<Part>> {
        let text: String = self.lines.iter().flat_map(|(_, line)| [line, "\n"]).collect();
        match (self.language, self.excuse) {
            (language, Some(_)) if SHELLS.contains(&language) => Ok(Vec::new()),
            (language, Some(excuse)) => {
                Err(Failure::new(format!("`not run: {excuse}` stands before a block `{language}`, which nobody runs")))
            }
            ("sh", None) => Ok(vec![Part::Script(text)]),
            ("console", None) => self.commands(),
            ("yaml", None) => Ok(file(&text).into_iter().collect()),
            ("diff", None) => Ok(vec![Part::Change(text)]),
            (language, None) if SHOWN.contains(&language) => Ok(Vec::new()),
            (language, None) => Err(Failure::new(format!(
                "nobody knows what to do with a block `{language}`: write sh, console, yaml, diff, {}:\n{text}",
                SHOWN.join(" or ")
            ))),
        }
    }

    /// The commands of a block `console`, each with the lines up to the next.
    fn commands(&self) -> Result<Vec<Part>> {
        if !self.indent.is_empty() {
            return Err(Failure::new("a block `console` begins at the left margin, so that it can be written anew"));
        }
        let mut parts: Vec<Part> = Vec::new();
        let mut is_continued = false;
        for (range, line) in &self.lines {
            match (line.strip_prefix("$ "), parts.last_mut()) {
                (_, Some(Part::Command { command, place, .. })) if is_continued => {
                    command.extend(["\n", line]);
                    *place = range.end..range.end;
                    is_continued = line.ends_with('\\');
                }
                (Some(command), _) => {
                    is_continued = command.ends_with('\\');
                    let (command, place) = (command.to_owned(), range.end..range.end);
                    parts.push(Part::Command { command, printed: String::new(), place });
                }
                (None, Some(Part::Command { printed, place, .. })) => {
                    printed.extend([line, "\n"]);
                    place.end = range.end;
                }
                _ => return Err(Failure::new(format!("a block `console` begins with `$ ` and a command: {line}"))),
            }
        }
        Ok(parts)
    }
}

/// The file that a block is, where its first line names it.
fn file(text: &str) -> Option<Part> {
    let name = text.lines().next()?.strip_prefix("# ")?;
    let is_name = Path::new(name).extension().is_some_and(|extension| extension == "yaml");
    let is_name = is_name && !name.contains(' ') && !name.starts_with('/');
    is_name.then(|| Part::File { name: name.to_owned(), text: text.to_owned() })
}

#[test]
fn a_document_is_read_as_a_reader_would() {
    let document = "text\n<!-- given: a state -->\n```console\n$ one\nout\n$ two \\\n  more\n```\n\
                    ```yaml\n# a.yaml\nkey: 1\n```\n```yaml\nkey: 2\n```\n- in a list:\n\n  ```sh\n  three\n  ```\n\
                    <!-- not run: there is no registry -->\n```sh\nfour\n```\n```diff\n-a\n```\n";
    let out = document.find("out\n").unwrap_or_default();
    let none = document.find("```\n```yaml").unwrap_or_default();
    let command = |command: &str, printed: &str, place| Part::Command {
        command: command.to_owned(),
        printed: printed.to_owned(),
        place,
    };
    assert_eq!(
        parts(document).unwrap(),
        [
            Part::Given("a state".to_owned()),
            command("one", "out\n", out..out + 4),
            command("two \\\n  more", "", none..none),
            Part::File { name: "a.yaml".to_owned(), text: "# a.yaml\nkey: 1\n".to_owned() },
            Part::Script("three\n".to_owned()),
            Part::Change("-a\n".to_owned()),
        ]
    );
    assert!(has_commands(document));
    assert!(!has_commands("```yaml\n```\n"));
}

#[test]
fn what_would_be_passed_over_is_refused() {
    let refused = [
        ("```\nkubectl get kspace\n```\n", "nobody knows what to do with a block ``"),
        ("```bash\nkubectl get kspace\n```\n", "nobody knows what to do with a block `bash`"),
        ("```console\nkubectl get kspace\n```\n", "begins with `$ `"),
        ("  ```console\n  $ kubectl get kspace\n  ```\n", "the left margin"),
        ("<!-- not run: why -->\n```yaml\na: 1\n```\n", "which nobody runs"),
        ("<!-- not run: why -->\ntext\n```sh\nls\n```\n", "stands before no block"),
        ("<!-- not run: why -->\n", "stands before no block"),
        ("```sh\nls\n", "has no end"),
    ];
    for (document, why) in refused {
        let refusal = parts(document).unwrap_err().to_string();
        assert!(refusal.contains(why), "{document}: {refusal}");
    }
    // Without a reason it is no mark.
    assert_eq!(parts("<!-- not run: -->\n```sh\nls\n```\n").unwrap(), [Part::Script("ls\n".to_owned())]);
}
