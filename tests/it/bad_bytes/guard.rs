//! The guard of URLs in action: what a tenant writes makes the operator connect to nothing that is not public, whether as
//! an artifact's URL, as the `baseURL` of a Secret, or along a redirect; and the token goes to no artifact host.
//!
//! Canaries listen on loopback. That a name is judged by the very addresses that are connected to is shown with a resolver
//! that changes its mind, at the place where the system's own resolver stands.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use konigle_operator::address::{PublicResolver, find_cause};
use konigle_operator::artifact::{
    self, ArtifactCredentials, Digest, FetchError, Key, Part, Place, Scope, Source, SourceField, Store,
};
use konigle_operator::konigle::{Account, Clients, Guard, Limits, ReadError, Settings, parse_token};
use konigle_operator::metrics::Metrics;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use url::{Host, Url};

use crate::support::Result;
use crate::support::simulator::TOKEN;
use crate::support::stage::{SHOP, Stage};

/// Listeners that must see nobody.
struct Canaries {
    port: u16,
    listeners: Vec<TcpListener>,
}

impl Canaries {
    fn start() -> Self {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        // Where the machine has no IPv6 there is nothing to connect to either.
        let others = ["127.8.9.1", "::1"].into_iter();
        let others = others.filter_map(|ip| TcpListener::bind((ip.parse::<IpAddr>().unwrap(), port)).ok());
        let listeners: Vec<_> = std::iter::once(first).chain(others).collect();
        for listener in &listeners {
            listener.set_nonblocking(true).unwrap();
        }
        Self { port, listeners }
    }

    /// How many connected since the last time.
    fn connections(&self) -> usize {
        self.listeners.iter().map(|listener| std::iter::from_fn(|| listener.accept().ok()).count()).sum()
    }
}

/// An IPv4 address in every spelling that some parser takes.
fn spellings(ip: Ipv4Addr) -> Vec<String> {
    let [a, b, c, d] = ip.octets();
    let number = u32::from(ip);
    let (high, low) = (number >> 16, number & 0xffff);
    let full_width = |text: String| -> String {
        text.chars()
            .map(|letter| letter.to_digit(10).and_then(|digit| char::from_u32(0xff10 + digit)).unwrap_or('。'))
            .collect()
    };
    vec![
        ip.to_string(),
        format!("{ip}."),
        format!("{number}"),
        format!("0x{number:x}"),
        format!("0X{number:X}"),
        format!("0{number:o}"),
        format!("{a}.{}", number & 0x00ff_ffff),
        format!("{a}.{b}.{low}"),
        format!("0x{a:x}.0x{b:x}.0x{c:x}.0x{d:x}"),
        format!("0{a:o}.0{b:o}.0{c:o}.0{d:o}"),
        format!("000{a:o}.{b}.0x{low:x}"),
        full_width(ip.to_string()),
        ip.to_string().replace('.', "%2e"),
        ip.to_string().replace('.', "。"),
        format!("[::ffff:{ip}]"),
        format!("[::ffff:{high:x}:{low:x}]"),
        format!("[0:0:0:0:0:ffff:{ip}]"),
        format!("[::{ip}]"),
        format!("[64:ff9b::{ip}]"),
        format!("[64:ff9b:1::{ip}]"),
        format!("[2002:{high:x}:{low:x}::1]"),
        format!("[::ffff:0:{ip}]"),
    ]
}

/// What a tenant may write to make the operator call something that is not public. All lead to loopback, where the canaries
/// are, to a metadata service, to a private network, or nowhere.
fn hostile_urls(port: u16) -> BTreeSet<String> {
    let mut hosts = Vec::new();
    for ip in [[127, 0, 0, 1], [127, 8, 9, 1], [0, 0, 0, 0], [169, 254, 169, 254], [10, 0, 0, 1], [100, 64, 0, 1]] {
        hosts.extend(spellings(Ipv4Addr::from(ip)));
    }
    hosts.extend(
        [
            "[::1]",
            "[::]",
            "[0:0:0:0:0:0:0:1]",
            "[fe80::1]",
            "[fd00:ec2::254]",
            "[fec0::1]",
            "[ff02::1]",
            "[2001::1]",
            "[2001:db8::1]",
        ]
        .map(str::to_owned),
    );
    hosts.extend(
        ["localhost", "LOCALHOST", "ⓛocalhost", "local\thost", "127.1", "127.0.1", "0", "0x0"].map(str::to_owned),
    );
    let mut urls = BTreeSet::new();
    for host in &hosts {
        urls.insert(format!("https://{host}:{port}/shop.zip"));
        urls.insert(format!("http://{host}:{port}/shop.zip"));
    }
    for host in ["127.0.0.1", "2130706433", "[::1]", "localhost", "[::ffff:127.0.0.1]"] {
        for url in [
            format!("https://example.com@{host}:{port}/"),
            format!("https://example.com:443@{host}:{port}/"),
            format!("https://example.com%40{host}:{port}/"),
            format!("https:{host}:{port}/"),
            format!("https:\\\\{host}:{port}\\"),
            format!("https:///{host}:{port}/"),
            format!(" \thttps://\n{host}:{port}/"),
            format!("https://{host}:{port}#@example.com/"),
            format!("https://{host}:{port}?@example.com/"),
            format!("https://{host}:{port}/..//example.com/"),
            format!("HTTPS://{host}:0{port}/"),
            format!("//{host}:{port}/"),
            format!("ftp://{host}:{port}/"),
            format!("ws://{host}:{port}/"),
            format!("gopher://{host}:{port}/_GET%20/"),
        ] {
            urls.insert(url);
        }
    }
    urls.extend(
        ["file:///etc/passwd", "data:,x", "javascript:0", "unix:/run/x.sock", "https://", ""].map(str::to_owned),
    );
    urls
}

fn no_source(url: &Url) -> Source {
    let key = Key { scope: Scope::Public, digest: Digest::of(b"none"), part: Part::Whole };
    let place = Place::Url(url.clone(), SourceField::Http);
    Source { key, place, credentials: ArtifactCredentials::default() }
}

#[tokio::test]
async fn no_hostile_artifact_url_reaches_a_canary() {
    let canaries = Canaries::start();
    let urls = hostile_urls(canaries.port);
    assert!(urls.len() >= 200, "{}", urls.len());
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path(), artifact::Limits::default(), Arc::default()).unwrap();
    let mut asked = 0;
    for text in &urls {
        let Ok(url) = Url::parse(text) else { continue };
        let error = store.fetch(&no_source(&url), &CancellationToken::new()).await.unwrap_err();
        assert!(matches!(error, FetchError::Refused { .. }), "{text}: {error:?}");
        asked += 1;
    }
    assert!(asked >= 200, "{asked} are URLs");
    assert_eq!(canaries.connections(), 0, "nobody connects");

    let insecure = Store::open(
        folder.path(),
        artifact::Limits { allow_insecure: true, ..artifact::Limits::default() },
        Arc::default(),
    )
    .unwrap();
    let url = Url::parse(&format!("http://2130706433:{}/", canaries.port)).unwrap();
    let source = no_source(&url);
    let knocking = CancellationToken::new();
    tokio::join!(insecure.fetch(&source, &knocking), async {
        while canaries.connections() == 0 {
            tokio::task::yield_now().await;
        }
        knocking.cancel();
    })
    .0
    .unwrap_err();
}

/// A redirect is one more URL that a stranger chose.
#[test]
fn no_redirect_leads_to_a_hostile_url() {
    let from = Url::parse("https://ci.example.com/a/shop.zip").unwrap();
    let mut followed = BTreeSet::new();
    for text in hostile_urls(4443) {
        for status in [301, 302, 303, 307, 308] {
            let Ok(value) = HeaderValue::from_bytes(text.as_bytes()) else { continue };
            let answer =
                axum::http::Response::builder().status(status).header(header::LOCATION, value).body("").unwrap();
            if let Some(next) = artifact::fuzzing::next_hop(&answer.into(), &from) {
                assert!(matches!(next.host(), Some(Host::Domain(_))), "{text}: {next}");
                followed.extend(next.host_str().map(str::to_owned));
            }
        }
    }
    // Names are judged when they are resolved, which the test above does.
    let expected = ["ci.example.com", "localhost"].map(str::to_owned);
    assert_eq!(followed, BTreeSet::from(expected));
}

#[tokio::test]
async fn no_hostile_base_url_gets_a_token() {
    let canaries = Canaries::start();
    let operator = Url::parse("https://tim.konigle.com").unwrap();
    let guard = Guard::new(&operator, &[]);
    let many = NonZeroU32::new(1000).unwrap();
    let settings = Settings { rate: many, burst: many, guard: guard.clone(), limits: Limits::default() };
    let clients = Clients::new(settings, Arc::new(Metrics::new()));
    let mut named = 0;
    for text in hostile_urls(canaries.port) {
        let Ok(url) = guard.parse_secret(text.as_bytes()) else { continue };
        assert!(matches!(url.host(), Some(Host::Domain(_))), "{text}");
        let client = clients.client(&Account::new(url, parse_token(TOKEN.as_bytes()).unwrap())).unwrap();
        let error = client.space("1").await.unwrap_err();
        assert!(matches!(error, ReadError::Address(_)), "{text}: {error:?}");
        named += 1;
    }
    assert!(named > 0, "`localhost` is a name like others until it is resolved");
    assert_eq!(canaries.connections(), 0, "nobody connects");
}

/// Says another address each time.
#[derive(Clone, Default)]
struct Rebinding {
    answers: Arc<[Vec<SocketAddr>]>,
    asked: Arc<AtomicUsize>,
}

impl Rebinding {
    fn new(answers: &[&[&str]]) -> Self {
        let address = |ip: &&str| SocketAddr::new(ip.parse().unwrap(), 0);
        let answers = answers.iter().map(|ips| ips.iter().map(address).collect()).collect();
        Self { answers, asked: Arc::default() }
    }
}

impl Resolve for Rebinding {
    fn resolve(&self, _: Name) -> Resolving {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst);
        let addresses = self.answers[turn % self.answers.len()].clone();
        Box::pin(async move { Ok(Box::new(addresses.into_iter()) as Addrs) })
    }
}

/// A public address when it is judged and a private one when it is connected to: there is one look-up for both.
#[tokio::test]
async fn a_name_that_changes_its_address_gains_nothing() {
    let canaries = Canaries::start();
    let url = format!("https://rebind.example.com:{}/", canaries.port);
    // From loopback no packet leaves for a public address, so that connecting to one fails at once and in here.
    let client = |builder: reqwest::ClientBuilder| {
        builder.no_proxy().local_address(IpAddr::V4(Ipv4Addr::LOCALHOST)).build().unwrap()
    };
    let names = Rebinding::new(&[
        &["8.8.8.8"],
        &["127.0.0.1"],
        &["8.8.8.8", "127.0.0.1"],
        &["127.0.0.1", "8.8.8.8"],
        &["::ffff:127.0.0.1"],
        &[],
    ]);
    let guarded = client(reqwest::Client::builder().dns_resolver(PublicResolver::over(names.clone())));
    let mut refused = Vec::new();
    for _ in 0..6 {
        let error = guarded.get(&url).send().await.unwrap_err();
        refused.push(find_cause(&error).is_some());
    }
    assert_eq!(names.asked.load(Ordering::SeqCst), 6, "one look-up for each connection");
    assert_eq!(refused, [false, true, true, true, true, true]);
    assert_eq!(canaries.connections(), 0, "nobody connects");

    // Without the guard the second answer is where the client goes.
    let names = Rebinding::new(&[&["8.8.8.8"], &["127.0.0.1"]]);
    let unguarded =
        client(reqwest::Client::builder().dns_resolver(names).connect_timeout(std::time::Duration::from_secs(2)));
    for _ in 0..2 {
        tokio::time::timeout(std::time::Duration::from_secs(2), unguarded.get(&url).send()).await.ok();
    }
    assert_eq!(canaries.connections(), 1, "the canary hears");
}

/// A proxy would resolve names itself, out of sight of the guard.
#[test]
fn proxies_of_the_environment_are_not_used_for_what_tenants_name() {
    let proxy = Canaries::start();
    let address = format!("http://127.0.0.1:{}", proxy.port);
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "bad_bytes::guard::proxy_probe", "--ignored", "--nocapture"]);
    for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"] {
        command.env(name, &address);
    }
    let output = command.env("NO_PROXY", "").env("no_proxy", "").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(proxy.connections(), 1, "only the client of the control asks the proxy");
}

#[tokio::test]
#[ignore = "run by proxies_of_the_environment_are_not_used_for_what_tenants_name, with proxies in its environment"]
async fn proxy_probe() {
    let url = Url::parse("https://localhost:4443/").unwrap();
    let folder = TempDir::new().unwrap();
    let store = Store::open(folder.path(), artifact::Limits::default(), Arc::default()).unwrap();
    let error = store.fetch(&no_source(&url), &CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, FetchError::Refused { .. }), "{error:?}");
    let guard = Guard::new(&Url::parse("https://tim.konigle.com").unwrap(), &[]);
    let many = NonZeroU32::new(1000).unwrap();
    let settings = Settings { rate: many, burst: many, guard, limits: Limits::default() };
    let clients = Clients::new(settings, Arc::new(Metrics::new()));
    let client = clients.client(&Account::new(url.clone(), parse_token(TOKEN.as_bytes()).unwrap())).unwrap();
    assert!(matches!(client.space("1").await, Err(ReadError::Address(_))));
    // The control: a client that takes its proxies from the environment.
    let short = std::time::Duration::from_secs(2);
    reqwest::Client::builder().timeout(short).build().unwrap().get(url).send().await.unwrap_err();
}

/// The whole way, with a redirect between two hosts.
#[tokio::test]
async fn the_token_goes_to_no_artifact_host() -> Result<()> {
    let stage = Stage::open("token-and-hosts").await?;
    let other = crate::support::artifacts::Artifacts::start().await?;
    let target = other.serve_application("1")?;
    let wish = stage.wish("1")?;
    let path = Url::parse(wish["source"]["http"]["url"].as_str().unwrap())?.path().to_owned();
    let headers = HeaderMap::from_iter([(header::LOCATION, HeaderValue::from_str(&target.url)?)]);
    stage.artifacts.answer_with(&path, StatusCode::FOUND, headers, Vec::new());
    stage.namespace.apply(SHOP, &wish).await?;
    stage.wait_for_ledger(crate::support::simulator::UAT, 1).await?;
    for (host, path) in [(&stage.artifacts, path.as_str()), (&other, Url::parse(&target.url)?.path())] {
        let headers = host.last_headers(path).expect("the operator asked");
        let told = headers.values().any(|value| String::from_utf8_lossy(value.as_bytes()).contains(TOKEN));
        assert!(!told && !headers.contains_key(header::AUTHORIZATION), "{headers:?}");
    }
    Ok(())
}
