//! The command line that the chart renders, read by the very parser of the operator.

use std::collections::BTreeSet;

use clap::builder::Resettable;
use clap::{Args as _, Command, FromArgMatches as _};
use konigle_operator::config::Config;
use serde_json::Value;

use crate::support::Result;
use crate::support::helm::{Helm, chart};

/// The parser of `konigle-operator run`, which the environment of this test does not reach.
fn run() -> Command {
    let run = Config::augment_args(Command::new("run")).args_override_self(true);
    run.mut_args(|flag| flag.env(Resettable::Reset))
}

fn parse(arguments: &[String]) -> Config {
    let matches = run().try_get_matches_from(arguments).unwrap_or_else(|error| panic!("{error}"));
    Config::from_arg_matches(&matches).unwrap()
}

async fn rendered(values: &str) -> Result<Vec<String>> {
    let values = chart().join("ci").join(values).display().to_string();
    let objects = Helm::offline().await?.template(&chart(), &["--values", &values]).await?;
    let deployment = objects.iter().find(|object| object["kind"] == "Deployment").unwrap();
    let arguments = &deployment["spec"]["template"]["spec"]["containers"][0]["args"];
    Ok(arguments.as_array().unwrap().iter().map(|argument| argument.as_str().unwrap().to_owned()).collect())
}

fn name(argument: &str) -> Option<&str> {
    argument.strip_prefix("--").map(|flag| flag.split_once('=').map_or(flag, |(name, _)| name))
}

#[tokio::test]
async fn every_flag_has_a_value() -> Result<()> {
    let arguments = rendered("all-values.yaml").await?;
    assert_eq!(arguments[0], "run");
    let reached: BTreeSet<&str> = arguments.iter().filter_map(|argument| name(argument)).collect();
    let command = run();
    // What is hidden is for tests.
    let visible = command.get_arguments().filter(|flag| !flag.is_hide_set());
    let flags: BTreeSet<&str> = visible.filter_map(clap::Arg::get_long).filter(|flag| *flag != "help").collect();
    assert_eq!(reached, flags, "left: what the chart sets with ci/all-values.yaml; right: the operator's flags");

    // Where a value went into the wrong flag, or was dropped, its flag would be as it is by default.
    let (set, default) = (parse(&arguments), parse(&["run".to_owned()]));
    let same: Vec<&str> = flags.iter().copied().filter(|flag| field(&set, flag) == field(&default, flag)).collect();
    assert_eq!(same, [""; 0], "ci/all-values.yaml sets these to what they are anyway");
    assert_eq!(set.api_rate.get(), 8, "extraArgs come last and count");
    Ok(())
}

#[tokio::test]
async fn without_values_the_operator_runs_with_its_own_defaults() -> Result<()> {
    let set = parse(&rendered("default-values.yaml").await?);
    let mut expected = parse(&["run".to_owned()]);
    // For most fleets, and for the emptyDir of a node.
    (expected.artifact_max_size, expected.artifact_dir_size) = (1 << 30, 4 << 30);
    // What the operator would find out by itself.
    expected.leader_elect = Some(true);
    expected.lease_namespace = Some("konigle-system".to_owned());
    assert_eq!(format!("{set:#?}"), format!("{expected:#?}"));
    Ok(())
}

#[tokio::test]
async fn every_set_of_values_gives_a_command_line_that_is_read() -> Result<()> {
    for values in ["namespaced-values.yaml", "secret-names-values.yaml", "high-availability-values.yaml"] {
        parse(&rendered(values).await?);
    }
    let namespaced = parse(&rendered("namespaced-values.yaml").await?);
    assert_eq!(namespaced.watch_namespace.as_deref(), Some("shop"));
    assert_eq!(namespaced.lease_namespace.as_deref(), Some("konigle-system"));
    Ok(())
}

/// What the parsed flag is, as text.
fn field(config: &Config, flag: &str) -> Value {
    let text = format!("{config:#?}");
    let field = format!("    {}: ", flag.replace('-', "_"));
    let begin = text.find(&field).unwrap_or_else(|| panic!("Config has no field for --{flag}"));
    let rest = &text[begin + field.len()..];
    // To the next field of the same depth.
    let end = rest.match_indices("\n    ").find(|(at, _)| !rest[at + 5..].starts_with([' ', ')', ']', '}']));
    Value::String(rest[..end.map_or(rest.len(), |(at, _)| at)].to_owned())
}
