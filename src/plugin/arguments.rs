//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::api::GROUP;

/// Shows and moves KonigleSpaces: what runs on Konigle Cloud, what is under way, and what comes next.
///
/// Exit codes: 0 done or ready; 1 failed (reconcile: the look at the tag or source, too), refused or Stalled; 2 wrong command line or invalid manifest; 3 timed out;
/// 4 no cluster, no CRD, no rights or no such resource.
#[derive(Parser)]
#[command(name = "kubectl konigle", bin_name = "kubectl konigle", version)]
pub struct Arguments {
    /// For every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Args, Default)]
pub struct Global {
    /// The namespace. Default: that of the context.
    #[arg(short, long, global = true, help_heading = "Global")]
    pub namespace: Option<String>,
    /// The context of the kubeconfig. Default: the current one.
    #[arg(long, global = true, help_heading = "Global")]
    pub context: Option<String>,
    /// The kubeconfig file. Default: $KUBECONFIG, then ~/.kube/config.
    #[arg(long, global = true, help_heading = "Global")]
    pub kubeconfig: Option<PathBuf>,
    /// Ask as this user.
    #[arg(long = "as", value_name = "USER", global = true, help_heading = "Global")]
    pub impersonate: Option<String>,
    /// Ask as of this group; may be repeated.
    #[arg(long = "as-group", value_name = "GROUP", requires = "impersonate", global = true, help_heading = "Global")]
    pub impersonate_groups: Vec<String>,
    /// No colours. They are left out, too, where `NO_COLOR` is set or the output is no terminal.
    #[arg(long, global = true, help_heading = "Global")]
    pub no_color: bool,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// One line for each KonigleSpace: its state, and what runs.
    Status(Listing),
    /// Why a KonigleSpace is in its state, and what happens next and when.
    Explain(Explaining),
    /// The log of the job that is under way, as far as the status keeps it.
    Logs(Logging),
    /// A live view with the progress of running jobs.
    Watch(Watching),
    /// Waits until KonigleSpaces are ready, or one is Stalled.
    Wait(Waiting),
    /// Has the operator look now, at the Space and at what a tag names; fails where that look fails.
    Reconcile(Requesting),
    /// Clears failures, and deploys again where what runs is not known for certain.
    Reset(Requesting),
    /// Stops all writes to Konigle; a running job is followed on.
    Suspend(Naming),
    /// Allows writes to Konigle again.
    Resume(Requesting),
    /// Approves for production what uat runs now, after showing what changes.
    Approve(Approving),
    /// The ended attempts, newest first.
    History(Remembering),
    /// Checks manifests without a cluster, by the schema and the rules of the CRD.
    Validate(Validating),
    /// Prints a completion script.
    Completion {
        /// The shell.
        shell: Shell,
    },
}

/// The shells for which there is a completion script.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Shell {
    /// GNU Bash.
    Bash,
    /// Zsh.
    Zsh,
    /// Fish.
    Fish,
}

/// Which KonigleSpaces.
#[derive(Args, Default)]
pub struct Selection {
    /// Their names. Default: all.
    #[arg(value_name = "NAME", value_parser = parse_name)]
    pub names: Vec<String>,
    /// Those of all namespaces.
    #[arg(short = 'A', long, conflicts_with_all = ["names", "namespace"])]
    pub all_namespaces: bool,
    /// Those with these labels, such as team=shop.
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "names")]
    pub selector: Option<String>,
}

/// What `status` takes.
#[derive(Args)]
pub struct Listing {
    /// Which.
    #[command(flatten)]
    pub selection: Selection,
    /// Another form of output.
    #[arg(short, long)]
    pub output: Option<Output>,
}

/// Another form of output.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// More columns.
    Wide,
    /// As JSON.
    Json,
    /// As YAML.
    Yaml,
    /// Names only.
    Name,
}

/// What `explain` takes.
#[derive(Args)]
pub struct Explaining {
    /// The KonigleSpace.
    #[arg(value_parser = parse_name)]
    pub name: String,
    /// The operator's own --unknown-outcome-settle, where it is not the default.
    #[arg(long, value_name = "DURATION", default_value = "120s", value_parser = parse_duration)]
    pub unknown_outcome_settle: Duration,
}

/// What `logs` takes.
#[derive(Args)]
pub struct Logging {
    /// The KonigleSpace.
    #[arg(value_parser = parse_name)]
    pub name: String,
    /// Go on until the job has ended.
    #[arg(short, long)]
    pub follow: bool,
    /// The longest time to follow.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse_duration)]
    pub timeout: Duration,
}

/// What `watch` takes.
#[derive(Args)]
pub struct Watching {
    /// Which.
    #[command(flatten)]
    pub selection: Selection,
    /// End when all are settled: with 0 where all are ready, with 1 where one is not.
    #[arg(long)]
    pub until_settled: bool,
    /// End after this time.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub timeout: Option<Duration>,
}

/// What `wait` takes.
#[derive(Args)]
pub struct Waiting {
    /// Which.
    #[command(flatten)]
    pub selection: Selection,
    /// Wait until this digest, sha256:…, is known to run there.
    #[arg(long, value_name = "DIGEST")]
    pub digest: Option<String>,
    /// The longest time to wait.
    #[arg(long, value_name = "DURATION", default_value = "20m", value_parser = parse_duration)]
    pub timeout: Duration,
}

/// What `suspend` takes.
#[derive(Args)]
pub struct Naming {
    /// The KonigleSpaces.
    #[arg(required = true, value_name = "NAME", value_parser = parse_name)]
    pub names: Vec<String>,
}

/// What `reconcile`, `reset` and `resume` take.
#[derive(Args)]
pub struct Requesting {
    /// The KonigleSpaces.
    #[arg(required = true, value_name = "NAME", value_parser = parse_name)]
    pub names: Vec<String>,
    /// Do not wait for what comes of it.
    #[arg(long)]
    pub no_wait: bool,
    /// The longest time to wait.
    #[arg(long, value_name = "DURATION", default_value = "20m", value_parser = parse_duration)]
    pub timeout: Duration,
}

/// What `approve` takes.
#[derive(Args)]
pub struct Approving {
    /// The KonigleSpace of the production Space.
    #[arg(value_parser = parse_name)]
    pub name: String,
    /// Do not ask.
    #[arg(short, long)]
    pub yes: bool,
    /// Do not wait for the promotion.
    #[arg(long)]
    pub no_wait: bool,
    /// The longest time to wait.
    #[arg(long, value_name = "DURATION", default_value = "20m", value_parser = parse_duration)]
    pub timeout: Duration,
}

/// What `history` takes.
#[derive(Args)]
pub struct Remembering {
    /// The KonigleSpace.
    #[arg(value_parser = parse_name)]
    pub name: String,
    /// Another form of output.
    #[arg(short, long)]
    pub output: Option<Data>,
}

/// Output for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Data {
    /// As JSON.
    Json,
    /// As YAML.
    Yaml,
}

/// What `validate` takes.
#[derive(Args)]
pub struct Validating {
    /// Files of manifests; `-` is standard input.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// A name as people and `-o name` write it: alone, or behind one of the words for the resource.
fn parse_name(text: &str) -> Result<String, String> {
    let Some((resource, name)) = text.split_once('/') else { return Ok(text.to_owned()) };
    let word = resource.strip_suffix(&format!(".{GROUP}")).unwrap_or(resource);
    match word {
        "kspace" | "koniglespace" | "koniglespaces" if !name.is_empty() && !name.contains('/') => Ok(name.to_owned()),
        _ => Err("write the name of a KonigleSpace, or kspace/NAME".to_owned()),
    }
}

/// `90s`, `20m`, `1h30m`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration: jiff::SignedDuration =
        text.parse().map_err(|_| "write a duration such as 90s, 20m or 1h30m".to_owned())?;
    Duration::try_from(duration).map_err(|_| "write a duration that is not negative".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_in_order() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn names_are_read_as_people_and_kubectl_write_them() {
        for prefix in [
            "",
            "kspace/",
            "koniglespace/",
            "koniglespaces/",
            "koniglespace.cloud.konigle.com/",
            "koniglespaces.cloud.konigle.com/",
        ] {
            assert_eq!(parse_name(&format!("{prefix}shop-uat")), Ok("shop-uat".to_owned()), "{prefix}");
        }
        for text in ["pod/shop-uat", "kspace/", "shop/shop-uat", "kspace/shop/uat"] {
            assert!(parse_name(text).is_err(), "{text} was accepted");
        }
        let words =
            ["kubectl konigle", "reset", "kspace/shop-uat", "--as", "ann", "--as-group", "a", "--as-group", "b"];
        let arguments = Arguments::parse_from(words);
        assert_eq!(arguments.global.impersonate.as_deref(), Some("ann"));
        assert_eq!(arguments.global.impersonate_groups, ["a", "b"]);
        let Command::Reset(what) = arguments.command else { panic!("another command") };
        assert_eq!(what.names, ["shop-uat"]);
        let without = ["kubectl konigle", "status", "--as-group", "a"];
        assert!(Arguments::try_parse_from(without).is_err(), "a group of nobody");
    }

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, seconds) in [("90s", 90), ("20m", 1200), ("1h30m", 5400), ("0s", 0)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in ["", "5", "soon", "-2m"] {
            assert!(parse_duration(text).is_err(), "{text} was accepted");
        }
    }
}
