//! `konigle-sim` as a process.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use reqwest::Client;
use reqwest::header::AUTHORIZATION;
use reqwest::multipart::{Form, Part};
use serde_json::json;

use super::UAT;

/// The program, stopped at the end of the test whatever happens.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Program {
    fn start(arguments: &[&str]) -> (Self, BufReader<ChildStdout>) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_konigle-sim"));
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().expect("the program starts");
        let stdout = BufReader::new(child.stdout.take().expect("its output"));
        (Self(child), stdout)
    }
}

#[tokio::test]
async fn the_program_prints_its_address_takes_a_large_upload_in_little_memory_and_stops_on_sigterm() {
    let (mut program, mut stdout) = Program::start(&["--listen", "127.0.0.1:0", "--job-seconds", "0"]);
    let mut line = String::new();
    stdout.read_line(&mut line).expect("its first line");
    let base = line.trim().strip_prefix("konigle-sim listening on ").expect("the address").to_owned();
    let client = Client::builder().no_proxy().build().expect("a client");
    let url = format!("{base}/_sim/readings");
    client.patch(url).json(&json!({"zip_check": "accept"})).send().await.expect("an answer");
    let pieces = futures::stream::iter((0..96).map(|_| Ok::<_, std::io::Error>(vec![7_u8; 1 << 20])));
    let file = Part::stream_with_length(reqwest::Body::wrap_stream(pieces), 96 << 20).file_name("app.zip");
    let request = client.post(format!("{base}/cloud/api/v1/spaces/{UAT}/deploy"));
    let request = request.header(AUTHORIZATION, "Token demo-token").multipart(Form::new().part("zip_file", file));
    assert_eq!(request.send().await.expect("an answer").status(), 201);
    if let Ok(status) = std::fs::read_to_string(format!("/proc/{}/status", program.0.id())) {
        let peak =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")).expect("a peak");
        assert!(peak.parse::<u64>().expect("a number") < 64 << 10, "{peak} kB at the most");
    }
    let terminated = Command::new("kill").arg(program.0.id().to_string()).status().expect("kill runs");
    assert!(terminated.success());
    let ended = tokio::task::spawn_blocking(move || program.0.wait().expect("it ends").success());
    assert!(tokio::time::timeout(Duration::from_secs(20), ended).await.expect("in time").expect("no panic"));
}

#[test]
fn the_program_does_not_listen_to_other_machines_unasked() {
    let (mut program, _) = Program::start(&["--listen", "0.0.0.0:0"]);
    assert!(!program.0.wait().expect("it ends").success());
}
