//! Every external call passes a named point at which the crash sweep can kill the operator, and every name is known to the
//! sweep (`tests/sweep/points.txt`), which in turn fails where a point is never passed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use regex::Regex;

use super::{is_apart, sources};
use crate::support::run_folder::package;

/// Calls to the outside world other than to the API server: what they look like in the code.
const EXTERNAL: &str = r"\bfs::(?:File::)?\w+\(|\bFile::\w+\(|\bOpenOptions::new\(|\bNamedTempFile::\w+\(|\btempfile::\w+\(|\.persist\(|\.sync_(?:all|data)\(|\.write_all\(|\.set_(?:len|modified|permissions)\(|\.metadata\(\)|\b(?:Tcp|Udp|Unix)\w+::\w+\(|\blookup_host\(|\bCommand::new\(|\bConfig::infer\(|\.send\(\)|\.chunk\(\)";

/// Those of them that change nothing anywhere, by their last word, and why a death beside them is like one elsewhere.
const EXEMPT: &[(&str, &str)] = &[
    ("read_dir", "lists a folder on the local disk; what is done with the list has points"),
    ("metadata", "asks the local disk for a file's size; the file's use has points"),
    ("from_std", "opens nothing: takes a file that is open"),
    ("lookup_host", "a question; the request that it is asked for has points"),
    ("bind", "listens on a port, which goes with the process"),
    ("infer", "reads files and the environment when the process starts"),
    ("read_to_string", "reads the stepped clock of tests, which nothing that ships does"),
];

/// Modules whose calls look like some of them, and write into memory only.
const IN_MEMORY: [&str; 1] = ["artifact::nested"];

fn regex(pattern: &str) -> Regex {
    Regex::new(pattern).unwrap()
}

#[test]
fn every_call_to_the_api_server_passes_a_point() {
    let sources = sources();
    let makers = makers(sources.iter().map(|source| source.code.as_str()));
    let mut wrong = Vec::new();
    let mut found = 0;
    for source in sources.iter().filter(|source| !is_apart(&source.module)) {
        for (call, has_a_point) in calls_to_the_api_server(&source.code, &makers) {
            found += 1;
            if !has_a_point {
                wrong.push(format!("{}: `{call}` is not made through `within`", source.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "calls without a point:\n{}", wrong.join("\n"));
    assert!(found > 10, "only {found} calls were found: has their form changed?");
}

/// The functions that give an `Api`.
fn makers<'a>(codes: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    let maker = regex(r"fn (\w+)(?:<\w+>)?\([^{;]*?\) -> Api<");
    codes.flat_map(|code| maker.captures_iter(code).map(|it| it[1].to_owned()).collect::<Vec<_>>()).collect()
}

/// The calls, by how they begin, and whether each is made through `within`.
fn calls_to_the_api_server(code: &str, makers: &BTreeSet<String>) -> Vec<(String, bool)> {
    let makers = makers.iter().map(String::as_str).collect::<Vec<_>>().join("|");
    let resources = regex(&format!(
        r"(?:let (?:mut )?(\w+) = (?:Api(?:::<\w+>)?::\w+\(|(?:\w+(?:\.|::))*(?:{makers})\()|(\w+): &?Api<)"
    ));
    let names = resources.captures_iter(code).flat_map(|captures| [captures.get(1), captures.get(2)]);
    let receivers: BTreeSet<&str> = names.flatten().map(|name| name.as_str()).chain(["recorder"]).collect();
    let receivers = receivers.into_iter().collect::<Vec<_>>().join("|");
    let calls = regex(&format!(
        r"\b(?:(?:{receivers})\s*\.\w+\(|(?:{makers})\([&\w, ]+\)\s*\.\w+\(|Api(?:::<\w+>)?::\w+\([^;]*?\)\s*\.(?:get|list|patch|create|delete|replace|watch)\w*\(|client\s*\.request)"
    ));
    let calls = calls.find_iter(code);
    calls.map(|call| (call.as_str().to_owned(), lies_in_call_of(code, call.start(), &["within", "around"]))).collect()
}

#[test]
fn a_call_without_a_point_is_found() {
    let code = "let spaces: Api<KonigleSpace> = api();
        let one = within(\"read it\", spaces.get(&name(b))).await;
        let two = timeout(LIMIT, spaces.list(&all)).await;
        let three = within(\"x\", context.spaces(&it).get(\"y\"));
        tokio::join!(context.spaces(it).patch(a), Api::namespaced(client, \"x\").delete(b));
        let secrets = Api::namespaced(client.clone(), namespace);
        let four = secrets.get(name).await;
        let mut others = context.spaces(&it);
        let five = others.list(&all).await;
        let leases = Api::<Lease>::all(client);
        let six = within(\"read the Lease\", async { log(); leases.get(name).await }).await;
        let seven = leases.get(name).await;";
    let makers = makers(["pub fn spaces(&self, of: &KonigleSpace) -> Api<KonigleSpace> {"].into_iter());
    let found: Vec<bool> = calls_to_the_api_server(code, &makers).into_iter().map(|call| call.1).collect();
    assert_eq!(found, [true, false, true, false, false, false, false, true, false]);
}

#[test]
fn every_other_external_call_passes_a_point() {
    let sources = sources();
    let functions: Vec<Function> = sources
        .iter()
        .filter(|source| !is_apart(&source.module) && source.module != "crash")
        .filter(|source| !IN_MEMORY.contains(&source.module.as_str()))
        .flat_map(|source| functions_of(&source.module, &source.code))
        .collect();
    let wrong = functions_without_a_point(&functions);
    assert!(wrong.is_empty(), "add `crash::around` or `crash::point`:\n{}", wrong.join("\n"));
    let external = regex(EXTERNAL);
    let calls: BTreeSet<&str> = functions
        .iter()
        .flat_map(|function| external.find_iter(&function.body))
        .map(|call| word(call.as_str()))
        .collect();
    assert!(calls.len() > 12, "only {calls:?} were found: has their form changed?");
    let unused: Vec<_> = EXEMPT.iter().filter(|(call, _)| !calls.contains(call)).collect();
    assert!(unused.is_empty(), "nothing calls these any more: {unused:?}");
}

/// The name of a function in what a call begins with.
fn word(call: &str) -> &str {
    let name = call.split('(').next().unwrap_or(call);
    name.rsplit(['.', ':']).next().unwrap_or(name)
}

/// The functions with more calls than points. One without any point passes one where all that call it do.
fn functions_without_a_point(functions: &[Function]) -> Vec<String> {
    let external = regex(EXTERNAL);
    let own = functions.iter().map(|function| {
        let calls = external.find_iter(&function.body);
        let counts = |call: &regex::Match<'_>| !EXEMPT.iter().any(|(exempt, _)| *exempt == word(call.as_str()));
        calls.filter(counts).filter(|call| !lies_in_call_of(&function.body, call.start(), &["around"])).count()
    });
    let mut calls: Vec<usize> = own.collect();
    let point = regex(r"crash::(?:point|to_the_end)\(");
    let points: Vec<usize> = functions.iter().map(|function| point.find_iter(&function.body).count()).collect();
    let mut wrong = Vec::new();
    let mut passed_up = BTreeSet::new();
    // A call of a function that has no point counts as one of its own.
    while let Some(place) =
        (0..functions.len()).find(|place| calls[*place] > 0 && points[*place] == 0 && !passed_up.contains(place))
    {
        passed_up.insert(place);
        let callers = callers(functions, place);
        if callers.is_empty() {
            wrong.push(format!("{}::{} has no point", functions[place].module, functions[place].name));
        }
        for (caller, open) in callers {
            calls[caller] += open;
        }
    }
    let short = (0..functions.len()).filter(|place| points[*place] > 0 && calls[*place] > points[*place]);
    wrong.extend(short.map(|place| {
        let Function { module, name, .. } = &functions[place];
        format!("{module}::{name} has {} calls and {} points", calls[place], points[place])
    }));
    wrong
}

#[test]
fn another_call_without_a_point_is_found() {
    let wrong = |code: &str| functions_without_a_point(&functions_of("store", code));
    assert_eq!(wrong("fn a() {\n    fs::remove_file(path)?;\n}"), ["store::a has no point"]);
    assert_eq!(wrong("async fn a() {\n    http.get(url).send().await?;\n}"), ["store::a has no point"]);
    assert_eq!(wrong("fn a() {\n    fs::read_dir(path)?;\n    lookup_host(name)?;\n}"), [""; 0]);
    assert_eq!(wrong("fn a() {\n    crash::point(\"a\", \"before\");\n    fs::rename(one, other)?;\n}"), [""; 0]);
    // A second call, with one point for both.
    let second =
        "fn a() {\n    crash::point(\"a\", \"before\");\n    fs::rename(one, other)?;\n    file.sync_all()?;\n}";
    assert_eq!(wrong(second), ["store::a has 2 calls and 1 points"]);
    // `around` covers what is made in it, and nothing beside it.
    let around = "fn a() {\n    crash::around(\"a\", blocking(move || {\n        log(path);\n        fs::write(path, text)\n    }));\n}";
    assert_eq!(wrong(around), [""; 0]);
    let beside = "fn a() {\n    crash::around(\"a\", fs::write(path, text));\n    fs::write(path, text);\n}";
    assert_eq!(wrong(beside), ["store::a has no point"]);
    // What a function without a point does, all that call it do.
    let called = "fn a() {\n    fs::rename(one, other)?;\n}\nfn b() {\n    crash::around(\"b\", a());\n}";
    assert_eq!(wrong(called), [""; 0]);
    let called_by_another = format!("{called}\nfn c() {{\n    a();\n}}");
    assert_eq!(wrong(&called_by_another), ["store::c has no point"]);
}

#[test]
fn every_point_is_known_to_the_sweep() {
    let list = fs::read_to_string(package().join("tests/sweep/points.txt")).unwrap();
    let known: BTreeSet<&str> = list.lines().collect();
    let around = [
        r#"\bwithin\(\s*"([^"]+)""#,
        r#"crash::around\(\s*"([^"]+)""#,
        r#"self\s*\.(?:get|object)\("([^"]+)""#,
        r#"operation: "([^"]+)""#,
        r#"(?:write|patch)_status\([^;]*?\("([^"]+)","#,
    ];
    let point = regex(r#"crash::(?:point|to_the_end)\(\s*"([^"]+)",\s*"([^"]+)""#);
    let mut points = BTreeSet::new();
    for source in sources().iter().filter(|source| !is_apart(&source.module)) {
        for call in around.iter().flat_map(|pattern| {
            regex(pattern).captures_iter(&source.code).map(|it| it[1].to_owned()).collect::<Vec<_>>()
        }) {
            points.extend(["before", "after"].map(|moment| format!("{}.{moment}", in_a_name(&call))));
        }
        points.extend(point.captures_iter(&source.code).map(|it| format!("{}.{}", in_a_name(&it[1]), &it[2])));
    }
    let unknown: Vec<&String> = points.iter().filter(|point| !known.contains(point.as_str())).collect();
    assert!(unknown.is_empty(), "add to tests/sweep/points.txt, and see that `make sweep` passes: {unknown:?}");
    assert!(points.len() > 50, "only {} points were found: has their form changed?", points.len());
}

#[test]
fn what_ships_has_no_points() {
    let manifest = fs::read_to_string(package().join("Cargo.toml")).unwrap();
    let manifest: BTreeMap<String, toml::Value> = toml::from_str(&manifest).unwrap();
    assert!(manifest["features"].get("default").is_none(), "no feature is on by default");
    let makefile = fs::read_to_string(package().join("Makefile")).unwrap();
    let release = makefile.lines().find(|line| line.contains("build --release")).unwrap();
    assert!(!release.contains("features"), "{release}");
}

/// As `src/crash.rs` writes the names of calls.
fn in_a_name(call: &str) -> String {
    call.to_lowercase().replace(|character: char| !character.is_ascii_alphanumeric(), "-")
}

/// Whether what stands at this place is an argument, however deep, of a call of one of these functions.
fn lies_in_call_of(code: &str, place: usize, functions: &[&str]) -> bool {
    let mut depth = 0;
    for (position, character) in code[..place].char_indices().rev() {
        match character {
            ')' | '}' => depth += 1,
            '(' | '{' if depth > 0 => depth -= 1,
            '(' if functions.iter().any(|function| code[..position].ends_with(function)) => return true,
            _ => {}
        }
    }
    false
}

struct Function {
    module: String,
    name: String,
    is_async: bool,
    body: String,
}

/// The functions of a file: rustfmt closes each at the indentation at which it begins.
fn functions_of(module: &str, code: &str) -> Vec<Function> {
    let head = regex(r"^( *)(?:pub(?:\([^)]*\))? )?(?:const )?(async )?fn (\w+)");
    let lines: Vec<&str> = code.lines().collect();
    let mut functions = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let Some(captures) = head.captures(line) else { continue };
        let end = format!("{}}}", &captures[1]);
        let length = lines[start..].iter().position(|line| *line == end).unwrap_or(lines.len() - start - 1);
        functions.push(Function {
            module: module.to_owned(),
            name: captures[3].to_owned(),
            is_async: captures.get(2).is_some(),
            body: lines[start + 1..=start + length].join("\n"),
        });
    }
    functions
}

/// The functions that call this one, and how often not in `around`: those of its file, or else those of its part of the
/// program.
fn callers(functions: &[Function], callee: usize) -> Vec<(usize, usize)> {
    let Function { module, name, is_async, .. } = &functions[callee];
    let call = regex(&format!(r"\b{name}\("));
    let in_those = |near: &dyn Fn(&str) -> bool| -> Vec<(usize, usize)> {
        let may_call = |(place, function): &(usize, &Function)| {
            *place != callee
                && near(&function.module)
                && (function.is_async || !is_async)
                && call.is_match(&function.body)
        };
        let open =
            |body: &str| call.find_iter(body).filter(|call| !lies_in_call_of(body, call.start(), &["around"])).count();
        functions.iter().enumerate().filter(may_call).map(|(place, function)| (place, open(&function.body))).collect()
    };
    let own = in_those(&|other| other == module);
    if own.is_empty() { in_those(&|other| super::top(other) == super::top(module)) } else { own }
}
