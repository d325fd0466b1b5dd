//! Holds a deploy where a row wants it, so that the moment of a fault rests on no clock.

use reqwest::Method;
use serde_json::{Value, json};

use crate::oracles::{LONGEST_OUTCOME, quick};
use crate::support::Result;
use crate::support::proxy::{Gate, Matcher, Proxy, claims};
use crate::support::simulator::UAT;
use crate::support::stage::Stage;

/// Where a deploy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    /// Its artifact is asked for.
    Fetching,
    /// Its claim is stored, and the operator does not know it yet.
    Claiming,
    /// Its request is on its way to Konigle.
    Requesting,
    /// Konigle has taken it on.
    Following,
}

/// Proxies before all that a deploy asks.
pub(crate) struct Halts {
    artifacts: Proxy,
    api_server: Proxy,
    konigle: Proxy,
}

impl Halts {
    /// Puts them there; the operator starts anew.
    pub(crate) async fn put(stage: &mut Stage) -> Result<Self> {
        Ok(Self {
            artifacts: Proxy::start(stage.artifacts.url("").trim_end_matches('/'), None).await?,
            api_server: stage.put_proxy_before_the_api_server().await?,
            konigle: stage.put_proxy_before_konigle().await?,
        })
    }

    /// As [`quick`], with an artifact that is asked for through these.
    pub(crate) fn quick(&self, stage: &Stage, version: &str) -> Result<Value> {
        let mut wish = quick(stage, version)?;
        let url = wish["source"]["http"]["url"].as_str().unwrap_or_default();
        wish["source"]["http"]["url"] = json!(url.replace(&stage.artifacts.url(""), &self.artifacts.base_url()));
        Ok(wish)
    }

    /// From now on deploys halt there, until the gate is opened. At the last moment nothing needs to be held.
    pub(crate) fn halt(&self, moment: Moment) -> Option<Gate> {
        match moment {
            Moment::Fetching => Some(self.artifacts.hold(Matcher::new(Method::GET, "/shop"))),
            Moment::Claiming => Some(self.api_server.hold_answer(claims())),
            Moment::Requesting => Some(self.konigle.hold(Matcher::new(Method::POST, "/deploy"))),
            Moment::Following => None,
        }
    }
}

/// Waits until the first deploy is where it halts.
pub(crate) async fn arrived(stage: &Stage, gate: Option<&Gate>) -> Result<()> {
    match gate {
        Some(gate) => gate.arrived().await,
        // Where the one before was killed, what became of its claim is waited for first.
        None => stage.wait_longer_for_ledger(UAT, 1, LONGEST_OUTCOME).await.map(drop),
    }
}
