//! What the chart refuses: each with the name of the value that is wrong.

use std::collections::BTreeSet;
use std::fs;

use serde_json::Value;

use crate::support::helm::{Helm, chart};
use crate::support::{Context, Result};

/// What is set, and what the refusal must say.
const REFUSED: &[(&[&str], &str)] = &[
    (&["imag=x"], "additional properties 'imag' not allowed"),
    (&["config.concurency=4"], "at '/config': additional properties 'concurency' not allowed"),
    (&["serviceMonitor.enable=true"], "at '/serviceMonitor': additional properties 'enable' not allowed"),
    (&["crds.kept=true"], "at '/crds': additional properties 'kept' not allowed"),
    (&["replicaCount=two"], "at '/replicaCount': got string, want integer"),
    (&["replicaCount=-1"], "at '/replicaCount': minimum"),
    (&["config.concurrency=0"], "at '/config/concurrency': minimum"),
    (&["config.apiRate=0"], "at '/config/apiRate': minimum"),
    (&["config.unknownOutcomeSettle=120"], "at '/config/unknownOutcomeSettle': got number, want string"),
    (&["config.unknownOutcomeSettle=soon"], "at '/config/unknownOutcomeSettle': 'soon' does not match"),
    (&["config.konigleBaseURL=tim.konigle.com"], "at '/config/konigleBaseURL': 'tim.konigle.com' does not match"),
    (
        &["config.konigleBaseURL=http://konigle.internal"],
        "at '/config/konigleBaseURL': 'http://konigle.internal' does not",
    ),
    (
        &["config.konigleBaseURL=http://127.0.0.1.nip.io"],
        "at '/config/konigleBaseURL': 'http://127.0.0.1.nip.io' does not",
    ),
    (&["config.konigleBaseURL=https://me:key@host"], "at '/config/konigleBaseURL': 'https://me:key@host' does not"),
    (&["config.allowedBaseURLs={http://10.0.0.1}"], "at '/config/allowedBaseURLs/0': 'http://10.0.0.1' does not match"),
    (&["config.watchLabelSelector=team in shop"], "at '/config/watchLabelSelector': 'team in shop' does not match"),
    (
        &["config.watchLabelSelector=team=shop;tier=web"],
        "at '/config/watchLabelSelector': 'team=shop;tier=web' does not",
    ),
    (&["config.logLevel=verbose"], "at '/config/logLevel': 'verbose' does not match"),
    (&["config.logLevel=info\\,verbose"], "at '/config/logLevel': 'info,verbose' does not match"),
    (&["config.logLevel=konigle_operator=verbose"], "at '/config/logLevel': 'konigle_operator=verbose' does not match"),
    (&["config.logLevel="], "at '/config/logLevel': '' does not match"),
    (
        &["image.repository=registry.example.com/konigle-operator:0.1.0"],
        "at '/image/repository': 'registry.example.com/",
    ),
    (&["image.repository=https://registry.example.com/konigle-operator"], "at '/image/repository': 'https://registry"),
    (&["resources.limits.memory=lots"], "at '/resources/limits/memory': 'lots' does not match"),
    (&["resources.requests.memory=256MB"], "at '/resources/requests/memory': '256MB' does not match"),
    (&["proxy.httpsProxy=socks5://proxy:1080"], "at '/proxy/httpsProxy': 'socks5://proxy:1080' does not match"),
    (&["proxy.httpProxy=http:/proxy:3128"], "at '/proxy/httpProxy': 'http:/proxy:3128' does not match"),
    (&["config.allowedBaseURLs={ftp://x}"], "at '/config/allowedBaseURLs/0': 'ftp://x' does not match"),
    (&["config.logFormat=xml"], "at '/config/logFormat': value must be one of 'json', 'text'"),
    (&["config.allowInsecureArtifacts=perhaps"], "at '/config/allowInsecureArtifacts': got string, want boolean"),
    (&["config.privateArtifactHosts={https://x}"], "at '/config/privateArtifactHosts/0': 'https://x' does not match"),
    (&["config.fluxArtifactHosts={a/b}"], "at '/config/fluxArtifactHosts/0': 'a/b' does not match"),
    (&["artifacts.maxSize=1GB"], "at '/artifacts/maxSize': '1GB' does not match"),
    (&["artifacts.existingClaim=My Claim"], "at '/artifacts/existingClaim': 'My Claim' does not match"),
    (&["artifacts.dir=cache"], "at '/artifacts/dir': 'cache' does not match"),
    (&["image.digest=9f86d081"], "at '/image/digest': '9f86d081' does not match"),
    (&["image.pullPolicy=Sometimes"], "at '/image/pullPolicy': value must be one of"),
    (&["watchNamespace={a,b}"], "at '/watchNamespace': got array, want string"),
    (&["watchNamespace=Shop"], "at '/watchNamespace': 'Shop' does not match"),
    (&["secretNames=konigle"], "at '/secretNames': got string, want array"),
    (&["secretNames={a,a}"], "at '/secretNames': items at 0 and 1 are equal"),
    (&["service.port=80"], "at '/service/port': minimum"),
    (&["extraArgs={run}"], "at '/extraArgs/0': 'run' does not match"),
    (&["extraEnv[0].value=x"], "at '/extraEnv/0': missing property 'name'"),
    (&["updateStrategy.type=OnDelete"], "at '/updateStrategy/type': value must be one of"),
    (&["livenessProbe.path=/x"], "at '/livenessProbe': additional properties 'path' not allowed"),
    (&["serviceMonitor.renderMode=never"], "at '/serviceMonitor/renderMode': value must be one of"),
    (&["prometheusRule.runbookURL=wiki"], "at '/prometheusRule/runbookURL': 'wiki' does not match"),
    (&["podDisruptionBudget.maxUnavailable=half"], "at '/podDisruptionBudget/maxUnavailable'"),
    // What no schema can say of two values.
    (
        &["replicaCount=2", "leaderElection.enabled=false"],
        "replicaCount: more than one replica needs leaderElection.enabled",
    ),
    (&["replicaCount=2", "artifacts.existingClaim=a"], "artifacts.existingClaim: one replica uses it at a time"),
    (&["extraCA.configMap=a", "extraCA.secret=b"], "extraCA: set either configMap or secret"),
    (&["serviceAccount.create=false"], "serviceAccount.name: name the ServiceAccount to use"),
    (
        &["serviceMonitor.enabled=true", "serviceMonitor.renderMode=failIfMissing"],
        "serviceMonitor.renderMode is failIfMissing, and this cluster does not have monitoring.coreos.com/v1/ServiceMonitor",
    ),
];

#[tokio::test]
async fn a_wrong_value_is_refused_with_its_name() -> Result<()> {
    let helm = Helm::offline().await?;
    for (set, words) in REFUSED {
        let arguments: Vec<&str> = set.iter().flat_map(|value| ["--set", value]).collect();
        match helm.template(&chart(), &arguments).await {
            Ok(_) => panic!("{set:?} is taken"),
            Err(refusal) => assert!(refusal.to_string().contains(words), "{set:?}: {refusal}"),
        }
    }
    Ok(())
}

/// What the patterns must leave: what the operator, the API server and the container engine take.
const TAKEN: &[(&str, &[&str])] = &[
    (
        "config.konigleBaseURL",
        &["https://konigle.internal:8443/base/", "http://127.0.0.1:8080", "http://localhost", "http://[::1]:8080/base"],
    ),
    (
        "config.watchLabelSelector",
        &[
            "",
            "team=shop",
            "team==shop, tier != web",
            "team in (shop, web),!example.com/old",
            "tier notin (),team",
            "in in (a)",
            "size>3",
            "team=",
        ],
    ),
    (
        "config.logLevel",
        &["warn", "Info", "OFF", "4", "hyper=off,konigle_operator::watch=debug,info", "x[span]=trace", "[span]"],
    ),
    (
        "image.repository",
        &[
            "konigle-operator",
            "registry:5000/konigle-operator",
            "[fd00::1]:5000/a/b__c",
            "Registry.Example.com/a.b/c--d",
        ],
    ),
    ("resources.limits.memory", &["1Gi", "1.5G", "1e9", "1073741824", ".5Gi"]),
    ("resources.limits.cpu", &["2", "500m"]),
    (
        "proxy.httpsProxy",
        // Without a scheme the client takes it for http.
        &["", "proxy:3128", "http://proxy.example.com:3128/", "http://me:p%40ss@proxy:3128", "https://[fd00::1]:3128"],
    ),
];

#[tokio::test]
async fn what_is_valid_is_taken() -> Result<()> {
    let helm = Helm::offline().await?;
    for (name, values) in TAKEN {
        for value in *values {
            let set = format!("{name}={}", value.replace(',', "\\,"));
            let objects = helm.template(&chart(), &["--set-string", &set]).await.context(set)?;
            let text = serde_json::to_string(&objects)?;
            assert!(text.contains(*value), "{name}={value} is not rendered");
        }
    }
    // As a number, and taken away.
    helm.template(&chart(), &["--set", "resources.limits.cpu=2,resources.limits.memory=null"]).await?;
    Ok(())
}

#[test]
fn the_schema_knows_every_value_and_no_other() -> Result<()> {
    let read = |name: &str| fs::read_to_string(chart().join(name)).context(name.to_owned());
    let values: Value = serde_saphyr::from_str(&read("values.yaml")?)?;
    let schema: Value = serde_json::from_str(&read("values.schema.json")?)?;
    let (mut given, mut known) = (BTreeSet::new(), BTreeSet::new());
    collect_values("", &values, &schema, &mut given);
    collect_known("", &schema, &mut known);
    known.remove("global");
    assert_eq!(given, known, "left: values.yaml, right: values.schema.json");

    // An object that is open takes any misspelling: these are Kubernetes' own, which the API server judges.
    let mut open = BTreeSet::new();
    collect_open("", &schema, &mut open);
    let expected = ["affinity", "global", "podSecurityContext"];
    let expected: BTreeSet<String> =
        expected.into_iter().chain(["securityContext", "updateStrategy.rollingUpdate"]).map(str::to_owned).collect();
    assert_eq!(open, expected);
    Ok(())
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema["properties"].as_object().into_iter().flatten()
}

/// The values, as deep as the schema names them one by one.
fn collect_values(path: &str, values: &Value, schema: &Value, found: &mut BTreeSet<String>) {
    for (name, value) in values.as_object().into_iter().flatten() {
        let (path, schema) = (join(path, name), &schema["properties"][name]);
        if is_of_kubernetes(&path) || schema["properties"].is_null() {
            found.insert(path);
        } else {
            collect_values(&path, value, schema, found);
        }
    }
}

fn collect_known(path: &str, schema: &Value, found: &mut BTreeSet<String>) {
    for (name, schema) in properties(schema) {
        let path = join(path, name);
        if is_of_kubernetes(&path) || schema["properties"].is_null() {
            found.insert(path);
        } else {
            collect_known(&path, schema, found);
        }
    }
}

fn collect_open(path: &str, schema: &Value, found: &mut BTreeSet<String>) {
    for (name, schema) in properties(schema) {
        let path = join(path, name);
        if schema["type"] == "object" && schema["additionalProperties"].is_null() {
            found.insert(path.clone());
        }
        collect_open(&path, schema, found);
    }
}

/// Its fields are Kubernetes' and need no default here.
fn is_of_kubernetes(path: &str) -> bool {
    matches!(path, "resources" | "updateStrategy")
}
