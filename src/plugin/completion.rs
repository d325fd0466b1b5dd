//! Completion: scripts for shells, and the convention by which kubectl asks a plugin to complete its own command line.
//!
//! kubectl runs `kubectl_complete-konigle` with the words that follow `kubectl konigle`, the last of them unfinished, and
//! reads one candidate a line, with a tab and its description; the last line is a directive.

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{ArgAction, CommandFactory, Parser};
use clap_complete::generate;
use kube::ResourceExt;

use super::arguments::{Arguments, Global, Selection, Shell};
use super::connection::Connection;
use super::failure::Failure;
use super::screen::Screen;

/// Cobra's directive: do not offer files where there is no candidate.
const NO_FILES: &str = ":4";
/// The same, and offer files.
const FILES: &str = ":0";
/// How long a shell may be kept waiting for names.
const PATIENCE: Duration = Duration::from_secs(3);

/// Prints the completion script of a shell, for `kubectl-konigle` itself.
pub fn print(shell: Shell) -> Result<(), Failure> {
    let shell = match shell {
        Shell::Bash => clap_complete::Shell::Bash,
        Shell::Zsh => clap_complete::Shell::Zsh,
        Shell::Fish => clap_complete::Shell::Fish,
    };
    let mut script = Vec::new();
    generate(shell, &mut Arguments::command().bin_name("kubectl-konigle"), "kubectl-konigle", &mut script);
    Screen::print(&String::from_utf8_lossy(&script))
}

/// Completes a command line, as kubectl asks for it.
pub async fn complete(words: &[OsString]) -> ExitCode {
    let words: Vec<String> = words.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (mut candidates, wants) = candidates(&words);
    if wants == Wants::Names {
        let names = tokio::time::timeout(PATIENCE, names(&words)).await;
        candidates.extend(names.unwrap_or_default());
    }
    candidates.push(if wants == Wants::Files { FILES } else { NO_FILES }.to_owned());
    if Screen::print(&candidates.join("\n")).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What is to be offered beside the candidates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wants {
    Nothing,
    /// Names of KonigleSpaces.
    Names,
    /// Files.
    Files,
}

/// The candidates that the command line itself tells.
fn candidates(words: &[String]) -> (Vec<String>, Wants) {
    let root = Arguments::command();
    let (last, before) = words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let named = before.iter().find_map(|word| root.find_subcommand(word));
    let Some(command) = named else {
        let offered = root.get_subcommands().filter(|command| command.get_name().starts_with(last));
        return (offered.map(|command| line(command.get_name(), command.get_about())).collect(), Wants::Nothing);
    };
    let arguments = || command.get_arguments().chain(root.get_arguments());
    let flag = |argument: &clap::Arg| argument.get_long().map(|long| format!("--{long}"));
    // A flag that still lacks its value.
    if let Some(argument) =
        before.last().and_then(|word| arguments().find(|argument| flag(argument).as_ref() == Some(word)))
        && matches!(argument.get_action(), ArgAction::Set)
    {
        let values = argument.get_possible_values();
        let values = values.iter().map(clap::builder::PossibleValue::get_name).filter(|value| value.starts_with(last));
        let wants = if argument.get_id() == "kubeconfig" { Wants::Files } else { Wants::Nothing };
        return (values.map(str::to_owned).collect(), wants);
    }
    if last.starts_with('-') {
        let offered = arguments().filter_map(|argument| Some((flag(argument)?, argument.get_help())));
        let offered = offered.filter(|(flag, _)| flag.starts_with(last));
        return (offered.map(|(flag, help)| line(&flag, help)).collect(), Wants::Nothing);
    }
    let positional = command.get_positionals().next();
    let values = positional.map(clap::Arg::get_possible_values).unwrap_or_default();
    let values = values.iter().map(|value| value.get_name().to_owned()).filter(|value| value.starts_with(last));
    let wants = match positional.map(|argument| argument.get_id().as_str()) {
        Some("name" | "names") => Wants::Names,
        Some("files") => Wants::Files,
        _ => Wants::Nothing,
    };
    (values.collect(), wants)
}

fn line(word: &str, help: Option<&clap::builder::StyledStr>) -> String {
    let help = help.map(ToString::to_string).unwrap_or_default();
    let help = help.lines().next().unwrap_or_default();
    if help.is_empty() { word.to_owned() } else { format!("{word}\t{help}") }
}

/// The names that begin so, of the namespace and context that the line names. None where the cluster does not tell.
async fn names(words: &[String]) -> Vec<String> {
    let (last, before) = words.split_last().map_or(("", &[][..]), |(last, before)| (last.as_str(), before));
    let whole = ["kubectl konigle"].into_iter().chain(before.iter().map(String::as_str)).chain([last]);
    let global = Arguments::try_parse_from(whole).map_or_else(|_| Global::default(), |arguments| arguments.global);
    let Ok(connection) = Connection::open(&global).await else { return Vec::new() };
    let spaces = connection.list(&Selection::default()).await.unwrap_or_default();
    spaces.iter().map(ResourceExt::name_any).filter(|name| name.starts_with(last) && !before.contains(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(line: &str) -> (Vec<String>, Wants) {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let (candidates, wants) = candidates(&words);
        let words = candidates.iter().map(|line| line.split('\t').next().unwrap_or_default().to_owned());
        (words.collect(), wants)
    }

    #[test]
    fn what_is_offered_where() {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        assert_eq!(of("re"), (words(&["reconcile", "reset", "resume"]), Wants::Nothing));
        assert_eq!(of("status --all"), (words(&["--all-namespaces"]), Wants::Nothing));
        assert_eq!(of("status --output "), (words(&["wide", "json", "yaml", "name"]), Wants::Nothing));
        assert_eq!(of("explain shop"), (Vec::new(), Wants::Names));
        assert_eq!(of("-n shop explain "), (Vec::new(), Wants::Names));
        assert_eq!(of("explain --name"), (words(&["--namespace"]), Wants::Nothing));
        assert_eq!(of("validate "), (Vec::new(), Wants::Files));
        assert_eq!(of("explain --kubeconfig "), (Vec::new(), Wants::Files));
        assert_eq!(of("completion b"), (words(&["bash"]), Wants::Nothing));
        let (all, _) = of("");
        assert!(all.contains(&"approve".to_owned()) && all.len() == 13, "{all:?}");
    }

    #[test]
    fn each_shell_has_its_script() {
        for (shell, word) in [
            (clap_complete::Shell::Bash, "complete -F"),
            (clap_complete::Shell::Zsh, "#compdef kubectl-konigle"),
            (clap_complete::Shell::Fish, "complete -c kubectl-konigle"),
        ] {
            let mut script = Vec::new();
            generate(shell, &mut Arguments::command().bin_name("kubectl-konigle"), "kubectl-konigle", &mut script);
            assert!(String::from_utf8(script).unwrap().contains(word), "{shell}");
        }
    }
}
