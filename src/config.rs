//! The flags of `konigle-operator run`; each is an environment variable too.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

/// How the controller runs.
#[derive(Args, Clone, Debug)]
pub struct Config {
    /// The API of Konigle Cloud: https, or http on loopback.
    #[arg(long, env = "KONIGLE_BASE_URL", default_value = "https://tim.konigle.com")]
    pub konigle_base_url: String,

    /// Base URLs that a Secret may name although they stand for an address that is not public; compared exactly.
    #[arg(long, env = "KONIGLE_ALLOWED_BASE_URLS", value_delimiter = ',', value_parser = parse_base_url)]
    pub allowed_base_urls: Vec<String>,

    /// Watch this namespace only. Default: all namespaces.
    #[arg(long, env = "KONIGLE_WATCH_NAMESPACE")]
    pub watch_namespace: Option<String>,

    /// Watch only resources with these labels, such as `team=shop`. Use one Lease name for each selector.
    #[arg(long, env = "KONIGLE_WATCH_LABEL_SELECTOR")]
    pub watch_label_selector: Option<String>,

    /// Where health, readiness and metrics are served: /healthz, /readyz, /metrics.
    #[arg(long, env = "KONIGLE_LISTEN", default_value = ":8080", value_parser = parse_listen)]
    pub listen: SocketAddr,

    /// Where artifacts are kept.
    #[arg(long, env = "KONIGLE_ARTIFACT_DIR", default_value = "/var/cache/konigle-operator")]
    pub artifact_dir: PathBuf,

    /// The largest artifact.
    #[arg(long, env = "KONIGLE_ARTIFACT_MAX_SIZE", default_value = "5GiB", value_parser = parse_size)]
    pub artifact_max_size: u64,

    /// The most entries of an artifact, and the most files and folders in it.
    #[arg(long, env = "KONIGLE_ARTIFACT_MAX_ENTRIES", default_value = "100000", value_parser = clap::value_parser!(u64).range(1..))]
    pub artifact_max_entries: u64,

    /// The most bytes that an artifact may unpack to.
    #[arg(long, env = "KONIGLE_ARTIFACT_MAX_UNPACKED", default_value = "8GiB", value_parser = parse_size)]
    pub artifact_max_unpacked: u64,

    /// How many times its size an artifact may unpack to, where that is more than 64 MiB.
    #[arg(long, env = "KONIGLE_ARTIFACT_MAX_RATIO", default_value = "100", value_parser = clap::value_parser!(u64).range(1..))]
    pub artifact_max_ratio: u64,

    /// The longest path in an artifact, in bytes.
    #[arg(long, env = "KONIGLE_ARTIFACT_MAX_PATH_LENGTH", default_value = "1024", value_parser = clap::value_parser!(u16).range(1..))]
    pub artifact_max_path_length: u16,

    /// How much disk the kept artifacts may take; those used longest ago go first.
    #[arg(long, env = "KONIGLE_ARTIFACT_DIR_SIZE", default_value = "10GiB", value_parser = parse_size)]
    pub artifact_dir_size: u64,

    /// Allow artifacts over http and from addresses that are not public; for tests and the demo.
    #[arg(long, env = "KONIGLE_ALLOW_INSECURE_ARTIFACTS")]
    pub allow_insecure_artifacts: bool,

    /// Hosts of artifacts and registries that may be at addresses that are not public, over https: `host` or `host:port`,
    /// compared exactly.
    #[arg(long, env = "KONIGLE_PRIVATE_ARTIFACT_HOSTS", value_delimiter = ',', value_parser = parse_host)]
    pub private_artifact_hosts: Vec<String>,

    /// Hosts of Flux that hand out its sources' artifacts, also over http and inside the cluster; for `sourceRef` alone.
    #[arg(
        long,
        env = "KONIGLE_FLUX_ARTIFACT_HOSTS",
        value_delimiter = ',',
        value_parser = parse_flux_host,
        default_value = "source-controller.flux-system.svc.cluster.local,source-watcher.flux-system.svc.cluster.local"
    )]
    pub flux_artifact_hosts: Vec<String>,

    /// Work only while holding a Lease. Default: true where the namespace for the Lease is known.
    #[arg(long, env = "KONIGLE_LEADER_ELECT", num_args = 0..=1, default_missing_value = "true", require_equals = true)]
    pub leader_elect: Option<bool>,

    /// The namespace of the Lease. Default: the pod's own.
    #[arg(long, env = "KONIGLE_LEASE_NAMESPACE")]
    pub lease_namespace: Option<String>,

    /// The name of the Lease.
    #[arg(long, env = "KONIGLE_LEASE_NAME", default_value = "konigle-operator")]
    pub lease_name: String,

    /// How long a submitted request may still take effect after its connection ended.
    #[arg(long, env = "KONIGLE_UNKNOWN_OUTCOME_SETTLE", default_value = "120s", value_parser = parse_duration)]
    pub unknown_outcome_settle: Duration,

    /// How many resources are worked on at once.
    #[arg(long, env = "KONIGLE_CONCURRENCY", default_value = "16", value_parser = clap::value_parser!(u16).range(1..))]
    pub concurrency: u16,

    /// Requests a second to one base URL with one token.
    #[arg(long, env = "KONIGLE_API_RATE", default_value = "5")]
    pub api_rate: NonZeroU32,

    /// Requests at once to one base URL with one token, before the rate counts.
    #[arg(long, env = "KONIGLE_API_BURST", default_value = "20")]
    pub api_burst: NonZeroU32,

    /// How often what the watch told is compared with the API server's own list; shorter in tests only.
    #[arg(long, hide = true, default_value = "5m", value_parser = parse_duration)]
    pub watch_check_interval: Duration,

    /// How logs are written.
    #[arg(long, env = "KONIGLE_LOG_FORMAT", default_value = "json", value_parser = ["json", "text"])]
    pub log_format: String,

    /// What is logged, such as `info` or `info,konigle_operator=debug`.
    #[arg(long, env = "RUST_LOG", default_value = "info", value_parser = parse_log_level)]
    pub log_level: String,
}

/// `:8080`, `127.0.0.1:8080` or `[::]:8080`.
fn parse_listen(text: &str) -> Result<SocketAddr, String> {
    let address = if let Some(port) = text.strip_prefix(':') { format!("[::]:{port}") } else { text.to_owned() };
    address.parse().map_err(|_| "write an address and port, such as :8080 or 127.0.0.1:8080".to_owned())
}

/// `https://konigle.internal`, as a Secret may name it; kept as it was written.
fn parse_base_url(text: &str) -> Result<String, String> {
    let wrong = "write an absolute URL such as https://konigle.internal, with no user, query or fragment";
    let url = url::Url::parse(text).map_err(|_| wrong.to_owned())?;
    let bare =
        url.username().is_empty() && url.password().is_none() && url.query().is_none() && url.fragment().is_none();
    if url.scheme() == "https" && url.has_host() && bare { Ok(text.to_owned()) } else { Err(wrong.to_owned()) }
}

/// `registry.internal` or `registry.internal:5000`, as a URL has it: lower-case.
fn parse_host(text: &str) -> Result<String, String> {
    let wrong = || "write a host such as registry.internal, or with its port registry.internal:5000".to_owned();
    let url = |scheme| url::Url::parse(&format!("{scheme}://{text}")).map_err(|_| wrong());
    let (https, http) = (url("https")?, url("http")?);
    let bare = https.path() == "/" && https.query().is_none() && https.fragment().is_none();
    let Some(host) = https.host_str().filter(|_| bare && !text.contains(['/', '\\', '@', '?', '#'])) else {
        return Err(wrong());
    };
    // Each scheme hides its own port.
    Ok(https.port().or(http.port()).map_or_else(|| host.to_owned(), |port| format!("{host}:{port}")))
}

/// As [`parse_host`]; its port and a last dot, which Flux writes too, do not count.
fn parse_flux_host(text: &str) -> Result<String, String> {
    let host = parse_host(text)?;
    let host = host.rsplit_once(':').filter(|_| !host.ends_with(']')).map_or(host.as_str(), |(host, _)| host);
    Ok(host.trim_end_matches('.').to_owned())
}

/// `info`, `info,konigle_operator=debug`; kept as it was written. For a bare word that is no level, tracing would log all of a
/// target of that name, and so not a line of this program: it is a misspelt level.
fn parse_log_level(text: &str) -> Result<String, String> {
    let levels = "error, warn, info, debug, trace or off";
    let is_level = |directive: &str| directive.contains(['=', '[']) || directive.parse::<LevelFilter>().is_ok();
    if let Some(word) = text.split(',').find(|directive| !is_level(directive)) {
        return Err(format!("{word:?} is no level: write {levels}, or TARGET=LEVEL such as konigle_operator=debug"));
    }
    match EnvFilter::try_new(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(format!("{error}: write {levels}, or a list such as info,konigle_operator=debug")),
    }
}

/// `120s`, `2m`, `1h`.
fn parse_duration(text: &str) -> Result<Duration, String> {
    let duration: jiff::SignedDuration =
        text.parse().map_err(|_| "write a duration such as 90s, 2m or 1h".to_owned())?;
    Duration::try_from(duration).map_err(|_| "write a duration that is not negative".to_owned())
}

/// `512MiB`, `5GiB`, or bytes.
fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|character: char| character.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "" | "B" => 1,
        "Ki" | "KiB" => 1 << 10,
        "Mi" | "MiB" => 1 << 20,
        "Gi" | "GiB" => 1 << 30,
        _ => return Err("write a size such as 512MiB, 5GiB or 1073741824".to_owned()),
    };
    let number: u64 = digits.trim().parse().map_err(|_| "write a size such as 512MiB or 5GiB".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "this size is too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_durations_and_sizes_are_read_as_people_write_them() {
        assert_eq!(parse_listen(":8080").map(|address| address.port()), Ok(8080));
        assert_eq!(parse_listen("127.0.0.1:9").map(|address| address.to_string()), Ok("127.0.0.1:9".to_owned()));
        assert!(parse_listen("localhost").is_err());
        let url = "https://konigle.internal/base";
        assert_eq!(parse_base_url(url), Ok(url.to_owned()));
        for wrong in ["foo", "konigle.internal", "http://127.0.0.1", "https://user:pass@host", "https://host?x", ""] {
            assert!(parse_base_url(wrong).is_err_and(|text| text.contains("https://")), "{wrong}");
        }
        for (text, host, flux) in [
            ("registry.internal", "registry.internal", "registry.internal"),
            ("Registry.internal:443", "registry.internal:443", "registry.internal"),
            ("registry.internal:80", "registry.internal:80", "registry.internal"),
            ("10.0.0.5:5000", "10.0.0.5:5000", "10.0.0.5"),
            ("[fd00::1]:5000", "[fd00::1]:5000", "[fd00::1]"),
            ("[fd00::1]", "[fd00::1]", "[fd00::1]"),
            (
                "source-controller.flux-system.svc.cluster.local.",
                "source-controller.flux-system.svc.cluster.local.",
                "source-controller.flux-system.svc.cluster.local",
            ),
        ] {
            assert_eq!(parse_host(text).as_deref(), Ok(host));
            assert_eq!(parse_flux_host(text).as_deref(), Ok(flux));
        }
        for wrong in ["https://registry.internal", "registry.internal/team", "user@registry.internal", "a b", "a:b", ""]
        {
            assert!(parse_host(wrong).is_err_and(|text| text.contains("registry.internal:5000")), "{wrong}");
        }
        assert_eq!(parse_duration("120s"), Ok(Duration::from_mins(2)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_mins(2)));
        assert!(parse_duration("-2m").is_err());
        for level in ["info", "WARN", "off", "", "info,konigle_operator=debug", "hyper=off,2", "[reconcile]=debug,info"]
        {
            assert_eq!(parse_log_level(level), Ok(level.to_owned()));
        }
        for wrong in ["verbose", "konigle_operator", "info,verbose", "info, debug", "konigle_operator=verbose", "=info"]
        {
            assert!(parse_log_level(wrong).is_err_and(|text| text.contains("write error, warn, info")), "{wrong}");
        }
        assert_eq!(parse_size("5GiB"), Ok(5 << 30));
        assert_eq!(parse_size("1024"), Ok(1024));
        assert!(parse_size("five").is_err());
    }
}
