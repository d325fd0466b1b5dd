//! The Konigle client against the simulator: whole ways, under the readings that change what goes over the wire.

use konigle_operator::konigle::model::{Pair, SpaceType};
use konigle_operator::sim::{Options, Seed, Simulator};
use serde_json::json;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::{
    Account, Answer, Arc, Client, Duration, JobStatus, Limits, Metrics, NamedTempFile, ReadError, Rejection, Upload,
    Url, clients, limits, parse_token, sending, stamp,
};

const TOKEN: &str = "demo-token";
const WEBAPP: &str = "7301962442809343002";
const UAT: &str = "7301962442809343003";
const PRODUCTION: &str = "7301962442809343004";

async fn simulator() -> (Simulator, Arc<Client>) {
    simulator_with(Seed::demo()).await
}

async fn simulator_with(seed: Seed) -> (Simulator, Arc<Client>) {
    let simulator = Simulator::start(Options { seed, job_seconds: Some(30.0), ..Options::default() }).await.unwrap();
    let client = client(&simulator, TOKEN, limits());
    (simulator, client)
}

fn client(simulator: &Simulator, token: &str, limits: Limits) -> Arc<Client> {
    let url = Url::parse(&simulator.base_url).unwrap();
    let account = Account::new(url, parse_token(token.as_bytes()).unwrap());
    clients(&simulator.base_url, limits, &Arc::new(Metrics::new())).client(&account).unwrap()
}

fn artifact() -> (NamedTempFile, Upload) {
    let file = NamedTempFile::new().unwrap();
    let mut archive = ZipWriter::new(file.reopen().unwrap());
    for (name, content) in
        [("Dockerfile", "FROM scratch\n"), ("bentocloud.toml", "[processes.web]\ncommand = \"serve\"\n")]
    {
        archive.start_file(name, SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut archive, content.as_bytes()).unwrap();
    }
    archive.finish().unwrap();
    let upload = Upload {
        display_name: "shop/uat #1 ü [k3f2a9c1d]".to_owned(),
        file: file.path().to_owned(),
        stamp: stamp(file.path()),
        sent: Arc::default(),
    };
    (file, upload)
}

fn job_of(answer: &Answer) -> &str {
    match answer {
        Answer::Accepted(deployment) => &deployment.job_id,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_release_goes_from_uat_to_production() {
    let (simulator, client) = simulator().await;
    let before = client.space(UAT).await.unwrap();
    assert_eq!((before.space_type, before.pair), (SpaceType::Uat, Pair::default()));

    let (_file, upload) = artifact();
    let deployed = client.deploy(UAT, upload.clone(), &sending()).await;
    let job = client.job(job_of(&deployed)).await.unwrap();
    assert!(!job.status.ended() && job.created_at.is_some() && job.completed_at.is_none(), "{job:?}");
    simulator.advance(60.0);
    let job = client.job(job_of(&deployed)).await.unwrap();
    assert_eq!(job.status, JobStatus::Success);
    assert!(!job.log_tail.is_empty() && job.completed_at.is_some(), "{job:?}");
    let uat = client.space(UAT).await.unwrap();
    assert_eq!(uat.pair.last_deployment_status.as_deref(), Some("success"));
    assert!(uat.pair.last_deployed_at.is_some() && uat.url().is_some_and(|url| url.starts_with("https://")), "{uat:?}");

    let promoted = client.promote(UAT, &sending()).await;
    simulator.advance(60.0);
    assert_eq!(client.job(job_of(&promoted)).await.unwrap().status, JobStatus::Success);
    let production = client.space(PRODUCTION).await.unwrap();
    assert_eq!(production.pair.last_deployment_status.as_deref(), Some("success"));

    let ledger = simulator.ledger();
    assert_eq!(ledger.len(), 2, "{ledger:?}");
    assert_eq!(ledger[0]["display_name"], json!(upload.display_name));
}

#[tokio::test]
async fn names_lead_to_ids_over_all_pages() {
    let webapps: Vec<_> = (0..7).map(|number| json!({"name": format!("app-{number}")})).collect();
    let mut computers: Vec<_> = (0..5).map(|number| json!({"name": format!("web-{number}")})).collect();
    computers[3]["webapps"] = json!(webapps);
    let seed = json!({"tenants": [{"name": "demo", "tokens": [TOKEN], "computers": computers}]});
    let (simulator, client) = simulator_with(Seed::parse(&seed.to_string()).unwrap()).await;
    // The server's own page size, below what is asked for, in every shape of a page.
    for (key, number_of_pages) in [("payload", "yes"), ("results", "no")] {
        simulator.set_reading("page_size_cap", 2).unwrap();
        simulator.set_reading("list_key", key).unwrap();
        simulator.set_reading("num_pages", number_of_pages).unwrap();
        let computers = client.computers().await.unwrap();
        assert_eq!(computers.len(), 5);
        let computer = computers.iter().find(|computer| computer.name == "web-3").unwrap();
        let webapps = client.webapps(&computer.id).await.unwrap();
        assert_eq!(webapps.len(), 7);
        let webapp = webapps.iter().find(|webapp| webapp.name == "app-6").unwrap();
        assert_eq!(webapp.computer.as_deref(), Some(computer.id.as_str()));
        let spaces = client.spaces(&webapp.id).await.unwrap();
        assert_eq!(spaces.len(), 2);
        assert!(spaces.iter().all(|space| space.webapp.as_deref() == Some(webapp.id.as_str())), "{spaces:?}");
    }
    // Pages that overlap and miss things are never taken for a list: it is whole, or an error.
    simulator.set_reading("list_order", "shuffled").unwrap();
    for _ in 0..10 {
        match client.computers().await {
            Ok(computers) => assert_eq!(computers.len(), 5),
            Err(error) => assert!(matches!(error, ReadError::Undecodable { .. }), "{error:?}"),
        }
    }
}

#[tokio::test]
async fn a_space_may_come_without_its_webapp_and_with_any_word() {
    let (simulator, client) = simulator().await;
    simulator.set_reading("webapp_in_detail", "no").unwrap();
    assert_eq!(client.space(UAT).await.unwrap().webapp, None);
    let pair = client.spaces(WEBAPP).await.unwrap();
    assert_eq!(pair.iter().map(|space| space.id.as_str()).collect::<Vec<_>>(), [UAT, PRODUCTION]);
    simulator
        .fault(json!({"operation": "get_space", "action": {"set": {"space_type": "staging", "last_deployed_at": 5}}}))
        .unwrap();
    let space = client.space(UAT).await.unwrap();
    assert_eq!(space.space_type, SpaceType::Unknown("staging".to_owned()));
    assert_eq!(space.pair.last_deployed_at.as_deref(), Some("5"));
    simulator
        .fault(json!({"operation": "get_space", "action": {"remove": ["status", "custom_domain", "created_at"]}}))
        .unwrap();
    assert_eq!(client.space(UAT).await.unwrap().status, "");
}

#[tokio::test]
async fn the_job_list_finds_a_lost_deploy_by_its_nonce() {
    let (simulator, client) = simulator().await;
    assert_eq!(client.jobs().await, Ok(None));
    simulator.set_reading("job_list", "served").unwrap();
    simulator.set_reading("display_name_in_log", "yes").unwrap();
    assert_eq!(client.jobs().await, Ok(Some(vec![])));
    simulator.fault(json!({"operation": "deploy", "when": "after", "action": "drop"})).unwrap();
    let (_file, upload) = artifact();
    assert!(matches!(client.deploy(UAT, upload, &sending()).await, Answer::Unknown(_)));
    simulator.advance(60.0);
    let jobs = client.jobs().await.unwrap().unwrap();
    assert!(jobs.len() == 1 && jobs[0].mentions("k3f2a9c1d"), "{jobs:?}");
    assert_eq!(simulator.ledger().len(), 1);
}

#[tokio::test]
async fn faults_of_a_write_come_to_their_class() {
    let (simulator, client) = simulator().await;
    let (_file, upload) = artifact();
    for (fault, unknown) in [
        (json!({"when": "after", "action": "drop"}), true),
        (json!({"when": "after", "action": "reset"}), true),
        (json!({"when": "before", "action": "drop"}), true),
        (json!({"when": "after", "action": {"status": 504}}), true),
        (json!({"action": "truncate"}), true),
        (json!({"action": {"remove": ["job_id"]}}), true),
        (json!({"when": "after", "action": "html"}), true),
        (json!({"when": "after", "action": "garbage"}), true),
        (json!({"action": {"remove": ["id", "display_name", "space_id", "created_at"]}}), false),
        (json!({"action": {"set": {"job_id": 42}}}), false),
    ] {
        let mut fault = fault;
        fault["operation"] = json!("deploy");
        simulator.fault(fault.clone()).unwrap();
        let answer = client.deploy(UAT, upload.clone(), &sending()).await;
        assert_eq!(matches!(answer, Answer::Unknown(_)), unknown, "{fault}: {answer:?}");
        assert_eq!(matches!(answer, Answer::Accepted(_)), !unknown, "{fault}: {answer:?}");
    }
    assert_eq!(simulator.ledger().len(), 9, "one for each that took effect");
}

#[tokio::test]
async fn refusals_come_with_the_servers_words_in_every_shape() {
    for shape in ["detail", "message", "list", "fields"] {
        let (simulator, client) = simulator().await;
        simulator.set_reading("error_shape", shape).unwrap();
        let wrong = self::client(&simulator, "wrong-token", limits());
        assert!(matches!(wrong.space(UAT).await, Err(ReadError::Unauthorized { detail: Some(_) })), "{shape}");
        assert!(matches!(wrong.promote(UAT, &sending()).await, Answer::Rejected(Rejection::Unauthorized { .. })));
        assert!(matches!(client.space("404").await, Err(ReadError::NotFound { detail: Some(_) })), "{shape}");
        // Nothing runs on uat yet.
        let answer = client.promote(UAT, &sending()).await;
        assert!(
            matches!(&answer, Answer::Rejected(Rejection::Request { code: 400, detail }) if detail.is_some() == (shape != "fields"))
        );
        // No ZIP.
        let (_file, upload) = super::upload(1000);
        let answer = client.deploy(UAT, upload, &sending()).await;
        assert!(matches!(&answer, Answer::Rejected(Rejection::Artifact { code: 400, .. })), "{answer:?}");
        simulator.set_reading("busy_policy", "refuse_409").unwrap();
        let (_file, upload) = artifact();
        job_of(&client.deploy(UAT, upload.clone(), &sending()).await);
        let answer = client.deploy(UAT, upload, &sending()).await;
        assert!(matches!(&answer, Answer::Rejected(Rejection::Busy { code: 409, .. })), "{answer:?}");
        assert_eq!(simulator.ledger().len(), 1);
    }
}

#[tokio::test]
async fn a_large_upload_is_refused_by_its_code() {
    let (simulator, client) = simulator().await;
    simulator.set_reading("zip_limit_bytes", 100_000).unwrap();
    let (_file, upload) = super::upload(8 << 20);
    let answer = client.deploy(UAT, upload, &sending()).await;
    assert!(matches!(&answer, Answer::Rejected(Rejection::Artifact { code: 413, .. })), "{answer:?}");
}

#[tokio::test]
async fn a_429_tells_the_wait_in_body_or_header() {
    for place in ["body", "header", "both", "nowhere"] {
        let (simulator, client) = simulator().await;
        simulator.set_reading("rate_limit_per_minute", 1).unwrap();
        simulator.set_reading("retry_after_in", place).unwrap();
        simulator.set_reading("retry_after_seconds", 40).unwrap();
        client.space(UAT).await.unwrap();
        let retry_after = Duration::from_secs(if place == "nowhere" { 10 } else { 40 });
        assert_eq!(client.space(UAT).await, Err(ReadError::RateLimited { retry_after }), "{place}");
    }
}
