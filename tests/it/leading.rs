//! Two replicas and their Lease: a leader that dies, stands still or cannot renew is followed within 20 seconds, and
//! nothing is posted twice.

use std::time::{Duration, Instant};

use konigle_operator::api::{Attribution, KonigleSpace, RECONCILE_AT};
use reqwest::Method;

use crate::support::Result;
use crate::support::exposition::Exposition;
use crate::support::namespace::{wait_for, wait_longer_for};
use crate::support::operator::{Operator, OperatorOptions};
use crate::support::proxy::Matcher;
use crate::support::simulator::UAT;
use crate::support::stage::{SHOP, STOP_LIMIT, Stage, is_ready};

/// What is promised for the time from the leader's last sign to its successor's first pass.
const FAILOVER: Duration = Duration::from_secs(20);

/// Waits until an operator that stood by has made its first pass.
async fn takes_over(operator: &Operator) -> Result<()> {
    wait_for("a pass of the one that stood by", async || {
        let page = Exposition::parse(&operator.metrics().await?)?;
        let works = page.value("konigle_leader", &[])? > 0.0 && page.sum("konigle_reconcile_total", &[]) > 0.0;
        Ok(works.then_some(()))
    })
    .await
}

/// Waits until the job of the only attempt is recorded: the middle of a deploy.
async fn in_the_middle_of_a_job(stage: &Stage) -> Result<()> {
    stage.namespace.apply(SHOP, &stage.wish("1.0")?).await?;
    let recorded = stage.namespace.wait_for(SHOP, "recorded", |space| {
        space.status.as_ref().and_then(|status| status.attempt.as_ref()).is_some_and(|attempt| attempt.job_id.is_some())
    });
    recorded.await.map(drop)
}

async fn is_deployed_once(stage: &Stage) -> Result<KonigleSpace> {
    let space = stage.namespace.wait_for(SHOP, "deployed", is_ready).await?;
    let attribution =
        space.status.as_ref().and_then(|status| status.release.as_ref()).map(|release| release.attribution);
    assert_eq!(attribution, Some(Attribution::Confirmed));
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 1);
    Ok(space)
}

#[tokio::test]
async fn a_killed_leader_is_followed_within_twenty_seconds() -> Result<()> {
    let mut stage = Stage::open_with("killed", 25.0, OperatorOptions::electing).await?;
    let other = stage.another_operator(|options| options).await?;
    in_the_middle_of_a_job(&stage).await?;
    assert!(other.metrics().await?.contains("konigle_leader 0"), "it stands by");
    let killed = Instant::now();
    stage.operator.kill();
    takes_over(&other).await?;
    let elapsed = killed.elapsed();
    println!("followed {:.1} s after kill -9", elapsed.as_secs_f64());
    assert!(elapsed < FAILOVER, "{elapsed:?}");
    is_deployed_once(&stage).await.map(drop)
}

#[tokio::test]
async fn a_leader_that_stands_still_is_followed_and_ends_once_it_goes_on() -> Result<()> {
    let mut stage = Stage::open_with("still", 25.0, OperatorOptions::electing).await?;
    let other = stage.another_operator(|options| options).await?;
    in_the_middle_of_a_job(&stage).await?;
    let stopped = Instant::now();
    stage.operator.process().signal("STOP")?;
    takes_over(&other).await?;
    let elapsed = stopped.elapsed();
    println!("followed {:.1} s after SIGSTOP", elapsed.as_secs_f64());
    assert!(elapsed < FAILOVER, "{elapsed:?}");
    stage.operator.process().signal("CONT")?;
    let status = stage.operator.process().wait(STOP_LIMIT).await?;
    assert!(!status.success(), "{status}");
    is_deployed_once(&stage).await?;
    // It comes back as the one that stands by, and what is wanted next is posted once all the same.
    stage.operator.start_again().await?;
    stage.deployed("1.1").await?;
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 2);
    assert!(stage.operator.metrics().await?.contains("konigle_leader 0"));
    Ok(())
}

#[tokio::test]
async fn a_leader_that_stops_in_order_is_followed_at_once() -> Result<()> {
    let mut stage = Stage::open_with("orderly", 2.0, OperatorOptions::electing).await?;
    let other = stage.another_operator(|options| options).await?;
    stage.deployed("1.0").await?;
    stage.operator.terminate(STOP_LIMIT).await?;
    let ended = Instant::now();
    takes_over(&other).await?;
    println!("followed {:.1} s after a stop", ended.elapsed().as_secs_f64());
    assert!(ended.elapsed() < Duration::from_secs(10), "the Lease is let go, not left to expire");
    stage.deployed("1.1").await?;
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 2);
    Ok(())
}

/// The API server takes connections and never answers: whoever leads says that it no longer does, and ends.
#[tokio::test]
async fn k17_a_leader_that_cannot_renew_is_not_ready_and_ends() -> Result<()> {
    let mut stage = Stage::open_with("silenced", 2.0, OperatorOptions::electing).await?;
    let proxy = stage.put_proxy_before_the_api_server().await?;
    stage.deployed("1.0").await?;
    let silenced = Instant::now();
    for method in [Method::GET, Method::PUT, Method::PATCH, Method::POST] {
        proxy.hold(Matcher::new(method, "/"));
    }
    // A pass that has something to write is in flight when the lead is lost.
    stage.namespace.annotate(SHOP, RECONCILE_AT, "while-silent").await?;
    let lost = wait_longer_for("not ready", FAILOVER, async || {
        let answer = stage.operator.readiness().await;
        Ok(answer.filter(|(status, text)| *status == 503 && text.contains("the Lease is lost")))
    });
    lost.await?;
    println!("not ready {:.1} s after the last answer", silenced.elapsed().as_secs_f64());
    let status = stage.operator.process().wait(Duration::from_mins(1)).await?;
    println!("ended {:.1} s after the last answer", silenced.elapsed().as_secs_f64());
    assert!(!status.success(), "{status}");
    proxy.clear();
    stage.operator.start_again().await?;
    stage.deployed("1.1").await?;
    assert_eq!(stage.simulator.ledger(UAT).await?.len(), 2);
    Ok(())
}
