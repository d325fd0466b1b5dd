//! What a simulator starts with: tenants, their tokens and objects, readings. Read from JSON or YAML.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::jobs::JobSettings;
use super::state::{Computer, Content, NewWebapp, Refusal, Stamp, World};

/// The contents of a seed file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Seed {
    tenants: Vec<TenantSeed>,
    readings: Map<String, Value>,
    /// The settings of every job.
    job: JobSettings,
}

/// One account: whoever has one of its tokens sees its objects and no others.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TenantSeed {
    pub(super) name: String,
    #[serde(default)]
    pub(super) tokens: Vec<String>,
    #[serde(default)]
    computers: Vec<ComputerSeed>,
}

/// A computer; one that the tenant has by that name gets the web apps.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ComputerSeed {
    id: Option<String>,
    name: String,
    display_name: Option<String>,
    size: Option<String>,
    region: Option<String>,
    status: Option<String>,
    #[serde(default)]
    webapps: Vec<WebappSeed>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct WebappSeed {
    id: Option<String>,
    name: String,
    display_name: Option<String>,
    runtime: Option<String>,
    #[serde(default)]
    uat: SpaceSeed,
    #[serde(default)]
    production: SpaceSeed,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SpaceSeed {
    id: Option<String>,
    status: Option<String>,
    platform_domain: Option<String>,
    custom_domain: Option<String>,
    last_deployed_at: Option<String>,
    last_deployment_status: Option<String>,
    /// The sha256 of what runs, in hex.
    running: Option<String>,
    job: JobSettings,
}

impl Seed {
    /// Reads JSON or YAML. The error says what is wrong, and where.
    pub fn parse(text: &str) -> Result<Self, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    /// The tenant `demo` with the token `demo-token`, the computer `web-1`, the web app `shop` and its two Spaces.
    #[must_use]
    pub fn demo() -> Self {
        let webapp = WebappSeed {
            id: Some("7301962442809343002".to_owned()),
            name: "shop".to_owned(),
            display_name: Some("Shop".to_owned()),
            runtime: None,
            uat: SpaceSeed { id: Some("7301962442809343003".to_owned()), ..SpaceSeed::default() },
            production: SpaceSeed { id: Some("7301962442809343004".to_owned()), ..SpaceSeed::default() },
        };
        let computer = ComputerSeed {
            id: Some("7301962442809343001".to_owned()),
            name: "web-1".to_owned(),
            display_name: None,
            size: None,
            region: None,
            status: None,
            webapps: vec![webapp],
        };
        let tenant =
            TenantSeed { name: "demo".to_owned(), tokens: vec!["demo-token".to_owned()], computers: vec![computer] };
        Self { tenants: vec![tenant], ..Self::default() }
    }

    pub(super) fn sow(&self, world: &mut World) -> Result<(), Refusal> {
        world.readings.change(self.readings.clone()).map_err(|error| Refusal::new(400, error))?;
        world.job_defaults = self.job.clone();
        self.tenants.iter().try_for_each(|tenant| world.add_tenant(tenant.clone()))
    }
}

impl World {
    /// Adds a tenant, or objects and tokens to the one of that name. Nothing is provisioned: all is ready at once.
    pub(super) fn add_tenant(&mut self, seed: TenantSeed) -> Result<(), Refusal> {
        for token in seed.tokens {
            self.tokens.insert(token, seed.name.clone());
        }
        seed.computers.into_iter().try_for_each(|computer| self.add_computer(&seed.name, computer))
    }

    fn add_computer(&mut self, tenant: &str, seed: ComputerSeed) -> Result<(), Refusal> {
        let known = self.computers.values().find(|it| it.identity.tenant == tenant && it.name == seed.name);
        let known = known.map(|computer| computer.identity.id.clone());
        let id = if let Some(id) = known {
            id
        } else {
            self.check_id(seed.id.as_deref())?;
            let identity = self.identity(tenant, seed.id);
            let id = identity.id.clone();
            let computer = Computer {
                identity,
                display_name: seed.display_name.unwrap_or_else(|| seed.name.clone()),
                name: seed.name,
                size: seed.size.unwrap_or_else(|| "S".to_owned()),
                region: seed.region.unwrap_or_else(|| "nyc3".to_owned()),
                emoji: String::new(),
                status: seed.status.unwrap_or_else(|| "ready".to_owned()),
                public_ip: Some("203.0.113.10".to_owned()),
            };
            self.computers.insert(id.clone(), computer);
            id
        };
        seed.webapps.into_iter().try_for_each(|webapp| self.add_seeded_webapp(&id, webapp))
    }

    fn add_seeded_webapp(&mut self, computer: &str, seed: WebappSeed) -> Result<(), Refusal> {
        if !self.name_is_available(&seed.name) {
            return Err(Refusal::new(400, format!("the web app name `{}` is in use", seed.name)));
        }
        for id in [&seed.id, &seed.uat.id, &seed.production.id] {
            self.check_id(id.as_deref())?;
        }
        let wish = NewWebapp {
            id: seed.id,
            computer: computer.to_owned(),
            display_name: seed.display_name.unwrap_or_else(|| seed.name.clone()),
            name: seed.name,
            runtime: seed.runtime.unwrap_or_else(|| "python3".to_owned()),
            emoji: String::new(),
        };
        let webapp = self.add_webapp(wish, [seed.uat.id.clone(), seed.production.id.clone()]);
        for space in self.spaces.values_mut().filter(|space| space.webapp == webapp) {
            let seed = if space.production { &seed.production } else { &seed.uat };
            let shown = &mut space.shown;
            shown.status = seed.status.clone().unwrap_or_else(|| "running".to_owned());
            if let Some(domain) = &seed.platform_domain {
                shown.platform_domain.clone_from(domain);
            }
            if let Some(domain) = &seed.custom_domain {
                shown.custom_domain.clone_from(domain);
                "active".clone_into(&mut shown.custom_domain_status);
            }
            shown.last_deployed_at = seed.last_deployed_at.clone().map(Stamp::parse);
            shown.last_deployment_status.clone_from(&seed.last_deployment_status);
            space.running = seed.running.clone().map(|sha256| Content { sha256, ..Content::default() });
            space.job = seed.job.clone();
        }
        Ok(())
    }

    fn check_id(&self, id: Option<&str>) -> Result<(), Refusal> {
        match id {
            Some(id)
                if self.computers.contains_key(id) || self.webapps.contains_key(id) || self.spaces.contains_key(id) =>
            {
                Err(Refusal::new(400, format!("the id `{id}` is in use")))
            }
            Some(_) | None => Ok(()),
        }
    }

    /// All tenants with the ids of their objects, without tokens.
    pub(super) fn tenants_view(&self) -> Value {
        let mut tenants: Vec<&str> = self.tokens.values().map(String::as_str).collect();
        tenants.extend(self.computers.values().map(|computer| computer.identity.tenant.as_str()));
        tenants.sort_unstable();
        tenants.dedup();
        let webapps = |computer: &str| -> Vec<Value> {
            let webapps = self.webapps.values().filter(|webapp| webapp.computer == computer);
            let view = |it: &super::state::Webapp| json!({"id": it.identity.id, "name": it.name, "uat": it.uat, "production": it.production});
            webapps.map(view).collect()
        };
        let computers = |tenant: &str| -> Vec<Value> {
            let computers = self.computers.values().filter(|computer| computer.identity.tenant == tenant);
            computers
                .map(|it| json!({"id": it.identity.id, "name": it.name, "webapps": webapps(&it.identity.id)}))
                .collect()
        };
        tenants.into_iter().map(|tenant| json!({"name": tenant, "computers": computers(tenant)})).collect()
    }
}
