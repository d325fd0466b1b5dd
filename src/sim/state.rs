//! What the simulated server knows: tenants and their objects, the clock, the ledger, the counts.
//!
//! Every change is a method of [`World`] that is given the time. Absent: HTTP, JSON of the API (`views`), randomness and
//! the machine's clock. What jobs do to this state is in `jobs`.

use std::collections::{BTreeMap, VecDeque};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::faults::Fault;
use super::jobs::{Job, JobSettings, Work};
use super::readings::{Readings, WebappsPerComputer};
use super::releases::Event;
use super::requests::Requests;

/// A time or a span, in microseconds; times count from the epoch, by the simulator's clock.
pub(super) type Micros = i64;

/// The ids start here: beyond 2^53, so that a client that reads them as floating point is caught.
const FIRST_ID: u64 = 7_301_962_442_809_344_000;

/// Whole and broken seconds as microseconds, within what a clock can be moved by.
#[expect(clippy::cast_possible_truncation, reason = "the product is clamped to a range that is exact")]
pub(super) fn seconds(seconds: f64) -> Micros {
    (seconds.clamp(-1e9, 1e9) * 1e6) as Micros
}

/// A request that is not accepted: its HTTP status and the text of the error.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) status: u16,
    pub(super) message: String,
    pub(super) retry_after: Option<u64>,
}

impl Refusal {
    pub(super) fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), retry_after: None }
    }

    pub(super) fn not_found() -> Self {
        Self::new(404, "Not found.")
    }
}

/// The simulator's own clock: real time, shifted or standing still.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Clock {
    shift: Micros,
    frozen: Option<Micros>,
}

impl Clock {
    pub(super) fn at(self, real: Micros) -> Micros {
        self.frozen.unwrap_or(real.saturating_add(self.shift))
    }

    pub(super) fn is_frozen(self) -> bool {
        self.frozen.is_some()
    }

    pub(super) fn advance(&mut self, by: Micros) {
        let by = by.max(0);
        match &mut self.frozen {
            Some(at) => *at = at.saturating_add(by),
            None => self.shift = self.shift.saturating_add(by),
        }
    }

    pub(super) fn freeze(&mut self, real: Micros) {
        self.frozen = Some(self.at(real));
    }

    pub(super) fn resume(&mut self, real: Micros) {
        if let Some(at) = self.frozen.take() {
            self.shift = at.saturating_sub(real);
        }
    }
}

/// What every object of a tenant has.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) id: String,
    pub(super) tenant: String,
    /// Grows with each object: the order of creation.
    pub(super) number: u64,
    pub(super) created: Micros,
}

/// An object that belongs to a tenant.
pub(super) trait Owned {
    fn identity(&self) -> &Identity;
}

#[derive(Debug)]
pub(super) struct Computer {
    pub(super) identity: Identity,
    pub(super) name: String,
    pub(super) display_name: String,
    pub(super) size: String,
    pub(super) region: String,
    pub(super) emoji: String,
    pub(super) status: String,
    pub(super) public_ip: Option<String>,
}

#[derive(Debug)]
pub(super) struct Webapp {
    pub(super) identity: Identity,
    pub(super) computer: String,
    pub(super) name: String,
    pub(super) display_name: String,
    pub(super) runtime: String,
    pub(super) emoji: String,
    pub(super) uat: String,
    pub(super) production: String,
}

/// What runs in a Space, or is to run in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Content {
    pub(super) sha256: String,
    pub(super) size: u64,
    pub(super) display_name: String,
    pub(super) deployment: String,
    pub(super) job: String,
}

/// A value of `last_deployed_at`: a time, or any text that the control API was told to show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stamp {
    At(Micros),
    Text(String),
}

impl Stamp {
    pub(super) fn parse(text: String) -> Self {
        match text.parse::<Timestamp>() {
            Ok(time) => Self::At(time.as_microsecond()),
            Err(_) => Self::Text(text),
        }
    }
}

/// The fields of a Space that change, as a client may see them.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) status: String,
    pub(super) platform_domain: String,
    pub(super) custom_domain: String,
    pub(super) custom_domain_status: String,
    pub(super) last_deployed_at: Option<Stamp>,
    pub(super) last_deployment_status: Option<String>,
}

#[derive(Debug)]
pub(super) struct Space {
    pub(super) identity: Identity,
    pub(super) webapp: String,
    pub(super) production: bool,
    pub(super) shown: Shown,
    /// Earlier values with the time until which they stood, oldest first: what a lagging read shows.
    pub(super) past: Vec<(Micros, Shown)>,
    pub(super) running: Option<Content>,
    /// The newest content that was sent here, and whether its job failed.
    pub(super) newest: Option<(Content, bool)>,
    pub(super) job: JobSettings,
    /// Settings for the next jobs only, one each.
    pub(super) next_jobs: VecDeque<JobSettings>,
}

impl Space {
    pub(super) fn change(&mut self, at: Micros, change: impl FnOnce(&mut Shown)) {
        self.past.push((at, self.shown.clone()));
        change(&mut self.shown);
    }

    pub(super) fn shown_at(&self, time: Micros) -> &Shown {
        let later = self.past.iter().rev().take_while(|(until, _)| *until > time);
        later.last().map_or(&self.shown, |(_, shown)| shown)
    }

    pub(super) fn type_word(&self) -> &'static str {
        if self.production { "production" } else { "uat" }
    }
}

macro_rules! owned {
    ($($object:ty),+) => {$(impl Owned for $object {
        fn identity(&self) -> &Identity {
            &self.identity
        }
    })+};
}
owned!(Computer, Webapp, Space, Job);

/// One accepted write.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct LedgerEntry {
    /// `deploy`, `promote`, `computer` or `webapp`.
    pub(super) kind: &'static str,
    /// `api`, or `person` for an out-of-band deploy of the control API.
    pub(super) by: &'static str,
    pub(super) tenant: String,
    /// The Space that changes; absent for computers and web apps.
    pub(super) space: Option<String>,
    /// The Space that a promotion reads.
    pub(super) source: Option<String>,
    /// The computer or web app that was made.
    pub(super) object: Option<String>,
    pub(super) sha256: Option<String>,
    pub(super) size: Option<u64>,
    pub(super) display_name: Option<String>,
    pub(super) deployment: Option<String>,
    pub(super) job: String,
    pub(super) time: Timestamp,
    /// When it was accepted, in milliseconds since the epoch by the machine's clock.
    pub(super) accepted_ms: f64,
    /// How the job ended: `success` or `failed`; null while it runs.
    pub(super) outcome: Option<&'static str>,
    /// When the job ended, by the simulator's clock.
    pub(super) ended: Option<Timestamp>,
    /// Since when others can see that, by the machine's clock.
    pub(super) ended_ms: Option<f64>,
}

/// The whole state of one simulator.
#[derive(Debug)]
pub(super) struct World {
    pub(super) readings: Readings,
    pub(super) job_defaults: JobSettings,
    pub(super) clock: Clock,
    /// The machine's time of the last [`World::settle`].
    pub(super) real: Micros,
    /// The time of the last [`World::settle`].
    pub(super) now: Micros,
    pub(super) faults: Vec<Fault>,
    /// Tenant by token.
    pub(super) tokens: BTreeMap<String, String>,
    pub(super) computers: BTreeMap<String, Computer>,
    pub(super) webapps: BTreeMap<String, Webapp>,
    pub(super) spaces: BTreeMap<String, Space>,
    pub(super) jobs: BTreeMap<String, Job>,
    pub(super) ledger: Vec<LedgerEntry>,
    pub(super) requests: Requests,
    pub(super) events: BTreeMap<(Micros, u64), Event>,
    salt: [u8; 16],
    sequence: u64,
}

impl World {
    /// An empty world at `real`, the machine's time. `salt` keeps the job ids of two runs apart.
    pub(super) fn new(real: Micros, salt: [u8; 16]) -> Self {
        Self {
            readings: Readings::default(),
            job_defaults: JobSettings::default(),
            clock: Clock::default(),
            real,
            now: real,
            faults: Vec::new(),
            tokens: BTreeMap::new(),
            computers: BTreeMap::new(),
            webapps: BTreeMap::new(),
            spaces: BTreeMap::new(),
            jobs: BTreeMap::new(),
            ledger: Vec::new(),
            requests: Requests::default(),
            events: BTreeMap::new(),
            salt,
            sequence: 0,
        }
    }

    /// Lets everything happen that is due at `real`, the machine's time.
    pub(super) fn settle(&mut self, real: Micros) {
        self.real = real;
        self.now = self.clock.at(real).max(self.now);
        self.run_due_events();
    }

    /// The time of the last [`World::settle`], as the ledger shows it.
    pub(super) fn timestamp(&self) -> Timestamp {
        Timestamp::from_microsecond(self.now).unwrap_or_default()
    }

    /// A number that was not given out before.
    pub(super) fn next_number(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// The identity of a new object, with the given id or one that looks like a Snowflake.
    pub(super) fn identity(&mut self, tenant: &str, id: Option<String>) -> Identity {
        let number = self.next_number();
        let id = id.unwrap_or_else(|| (FIRST_ID + (number << 22)).to_string());
        Identity { id, tenant: tenant.to_owned(), number, created: self.now }
    }

    /// A new UUID (version 4 in form).
    pub(super) fn uuid(&mut self) -> String {
        let mut seed = self.salt.to_vec();
        seed.extend(self.next_number().to_be_bytes());
        let mut text = hex::encode(digest(&SHA256, &seed));
        text.truncate(32);
        text.replace_range(12..13, "4");
        text.replace_range(16..17, "a");
        for position in [20, 16, 12, 8] {
            text.insert(position, '-');
        }
        text
    }

    /// The tenant that the token in an `Authorization: Token …` header belongs to.
    pub(super) fn authenticate(&self, header: Option<&str>) -> Result<String, Refusal> {
        let Some(header) = header else {
            return Err(Refusal::new(401, "Authentication credentials were not provided."));
        };
        let token = header.strip_prefix("Token ").map(str::trim);
        token.and_then(|token| self.tokens.get(token)).cloned().ok_or_else(|| Refusal::new(401, "Invalid token."))
    }

    /// An object of the tenant; a foreign one is refused as the reading `foreign_object` says.
    pub(super) fn own<'a, T: Owned>(
        &self,
        objects: &'a BTreeMap<String, T>,
        tenant: &str,
        id: &str,
    ) -> Result<&'a T, Refusal> {
        match objects.get(id) {
            Some(object) if object.identity().tenant == tenant => Ok(object),
            Some(_) if self.readings.foreign_object == 403 => {
                Err(Refusal::new(403, "You do not have permission to perform this action."))
            }
            Some(_) | None => Err(Refusal::not_found()),
        }
    }

    /// The web app of a Space's, with its computer.
    pub(super) fn webapp_of(&self, space: &Space) -> Option<(&Webapp, &Computer)> {
        let webapp = self.webapps.get(&space.webapp)?;
        Some((webapp, self.computers.get(&webapp.computer)?))
    }

    /// The uat and production Space beside the given one.
    pub(super) fn pair_of(&self, space: &Space) -> Option<(&Space, &Space)> {
        let webapp = self.webapps.get(&space.webapp)?;
        Some((self.spaces.get(&webapp.uat)?, self.spaces.get(&webapp.production)?))
    }

    /// `POST /computers`: the computer is provisioned by a job. Answers with its id and the job's.
    pub(super) fn create_computer(&mut self, tenant: &str, body: &Value) -> Result<(String, String), Refusal> {
        let display_name = required(body, "display_name")?;
        let size = one_of(body, "size", &["S", "M", "L"])?;
        let region = required(body, "region")?;
        let name = optional(body, "name").unwrap_or_else(|| slug(&display_name));
        check_slug(&name)?;
        if self.computers.values().any(|computer| computer.identity.tenant == tenant && computer.name == name) {
            return Err(Refusal::new(409, format!("A computer named \"{name}\" exists.")));
        }
        let identity = self.identity(tenant, None);
        let id = identity.id.clone();
        let emoji = optional(body, "emoji").unwrap_or_default();
        let status = "provisioning".to_owned();
        let computer = Computer { identity, name, display_name, size, region, emoji, status, public_ip: None };
        self.computers.insert(id.clone(), computer);
        let job = self.provision(tenant, Work::Computer(id.clone()));
        Ok((id, job))
    }

    /// `POST /webapps`: the web app and its two Spaces, provisioned by a job. Answers with its id and the job's.
    pub(super) fn create_webapp(&mut self, tenant: &str, body: &Value) -> Result<(String, String), Refusal> {
        let computer = required(body, "computer_id")?;
        let name = required(body, "name")?;
        let runtime = one_of(body, "runtime", &["python3", "nodejs"])?;
        required(body, "web_server")?;
        check_slug(&name)?;
        let computer = self.own(&self.computers, tenant, &computer)?.identity.id.clone();
        if !self.name_is_available(&name) {
            return Err(Refusal::new(409, format!("The name \"{name}\" is taken.")));
        }
        self.check_room(&computer)?;
        let display_name = optional(body, "display_name").unwrap_or_else(|| name.clone());
        let emoji = optional(body, "emoji").unwrap_or_default();
        let id = self.add_webapp(NewWebapp { computer, name, runtime, display_name, emoji, id: None }, [None, None]);
        let job = self.provision(tenant, Work::Webapp(id.clone()));
        Ok((id, job))
    }

    /// Whether no web app of any tenant has this name.
    pub(super) fn name_is_available(&self, name: &str) -> bool {
        self.webapps.values().all(|webapp| webapp.name != name)
    }

    fn check_room(&self, computer: &str) -> Result<(), Refusal> {
        let full = self.readings.webapps_per_computer == WebappsPerComputer::One;
        if full && self.webapps.values().any(|webapp| webapp.computer == computer) {
            return Err(Refusal::new(409, "This computer hosts a web app already."));
        }
        Ok(())
    }

    /// Adds a web app with its Spaces, in the status `provisioning`, and answers with its id.
    pub(super) fn add_webapp(&mut self, new: NewWebapp, space_ids: [Option<String>; 2]) -> String {
        let tenant = self.computers.get(&new.computer).map_or_else(String::new, |it| it.identity.tenant.clone());
        let identity = self.identity(&tenant, new.id);
        let [uat, production] = space_ids.map(|id| self.identity(&tenant, id));
        let id = identity.id.clone();
        let pair = (uat.id.clone(), production.id.clone());
        for (space, production) in [(uat, false), (production, true)] {
            let suffix = if production { "" } else { "-uat" };
            let shown = Shown {
                status: "provisioning".to_owned(),
                platform_domain: format!("{}{suffix}.hostbento.app", new.name),
                custom_domain: String::new(),
                custom_domain_status: "unmapped".to_owned(),
                last_deployed_at: None,
                last_deployment_status: None,
            };
            let space = Space {
                identity: space,
                webapp: id.clone(),
                production,
                shown,
                past: Vec::new(),
                running: None,
                newest: None,
                job: JobSettings::default(),
                next_jobs: VecDeque::new(),
            };
            self.spaces.insert(space.identity.id.clone(), space);
        }
        let NewWebapp { computer, name, runtime, display_name, emoji, id: _ } = new;
        let (uat, production) = pair;
        let webapp = Webapp { identity, computer, name, display_name, runtime, emoji, uat, production };
        self.webapps.insert(id.clone(), webapp);
        id
    }
}

/// The wish for a web app.
#[derive(Debug)]
pub(super) struct NewWebapp {
    pub(super) id: Option<String>,
    pub(super) computer: String,
    pub(super) name: String,
    pub(super) display_name: String,
    pub(super) runtime: String,
    pub(super) emoji: String,
}

fn optional(body: &Value, key: &str) -> Option<String> {
    body[key].as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn required(body: &Value, key: &str) -> Result<String, Refusal> {
    optional(body, key).ok_or_else(|| Refusal::new(400, format!("{key}: This field is required.")))
}

fn one_of(body: &Value, key: &str, allowed: &[&str]) -> Result<String, Refusal> {
    let value = required(body, key)?;
    if allowed.contains(&value.as_str()) {
        return Ok(value);
    }
    Err(Refusal::new(400, format!("{key}: \"{value}\" is not a valid choice.")))
}

fn slug(text: &str) -> String {
    let dashed = text.to_lowercase().replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
    dashed.trim_matches('-').to_owned()
}

fn check_slug(name: &str) -> Result<(), Refusal> {
    if !name.is_empty() && slug(name) == name {
        return Ok(());
    }
    Err(Refusal::new(400, "name: Enter a valid slug of lower-case letters, digits and hyphens."))
}
