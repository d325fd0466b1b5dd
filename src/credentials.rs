//! Secrets: read by name, at each use, and never listed, watched or kept.
//!
//! A token goes to the operator's own base URL, or to one that its Secret names and the operator allows; never to an
//! address that a resource names.

mod docker_config;

use std::collections::BTreeMap;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use secrecy::SecretString;
use url::Url;

use crate::artifact::{ArtifactCredentials, Auth, Repository};
use crate::cluster::within;
use crate::commands::{create_docker_secret, create_secret, remove_keys, write_key};
use crate::konigle::{Account, Guard, parse_token};
use crate::observation::Problem;
use crate::origin::{HttpOrigin, OciOrigin, Origin};
use crate::reason::Reason;

/// Why there are no credentials.
#[derive(Debug)]
pub enum CredentialsError {
    /// A person must mend the Secret.
    Problem(Problem),
    /// The API server did not answer.
    Unavailable(String),
}

/// The account that a Secret names.
///
/// # Errors
///
/// [`CredentialsError`]: the Secret or its key is missing, or what it holds cannot be used.
pub async fn account(
    client: &Client,
    namespace: &str,
    secret: &str,
    (base_url, guard): (&Url, &Guard),
) -> Result<Account, CredentialsError> {
    let create = create_secret(namespace, secret, "--from-literal=token=TOKEN");
    let data = read(client, namespace, secret, ("spec.credentials.secretRef", &create)).await?;
    let token = data.get("token").ok_or_else(|| {
        problem(
            Reason::SecretKeyMissing,
            format!("Secret {secret} has no key `token`: {}", write_it(namespace, secret, "token")),
        )
    })?;
    let token = parse_token(&token.0).map_err(|error| {
        problem(
            Reason::SecretInvalid,
            format!("Secret {secret}, key `token`: {error}; {}", write_it(namespace, secret, "token")),
        )
    })?;
    let base_url = match data.get("baseURL") {
        None => base_url.clone(),
        Some(url) => guard.parse_secret(&url.0).map_err(|error| {
            let (write_it, remove) =
                (write_it(namespace, secret, "baseURL"), remove_keys(namespace, secret, &["baseURL"]));
            problem(
                Reason::SecretInvalid,
                format!(
                    "Secret {secret}, key `baseURL`: {error}; {write_it}, or, for the operator's own base URL, remove it with `{remove}`"
                ),
            )
        })?,
    };
    Ok(Account::new(base_url, token))
}

/// The credentials for an artifact's host.
///
/// # Errors
///
/// [`CredentialsError`], as for [`account`].
pub async fn artifact(client: &Client, namespace: &str, secret: &str) -> Result<ArtifactCredentials, CredentialsError> {
    let create = create_secret(namespace, secret, "--from-literal=bearerToken=TOKEN");
    let keys = Keys { namespace, secret, data: read(client, namespace, secret, (HTTP_FIELD, &create)).await? };
    let auth = match (keys.text("bearerToken")?, keys.text("username")?, keys.text("password")?) {
        (Some(token), None, None) => Some(Auth::Bearer(SecretString::from(token))),
        (None, Some(username), Some(password)) => {
            Some(Auth::Basic { username, password: SecretString::from(password) })
        }
        (None, None, None) => None,
        (token, username, password) => {
            let has = [token.is_some(), username.is_some(), password.is_some()];
            let completed = completed(namespace, secret, has);
            return Err(
                keys.missing(HTTP_FIELD, &format!("`username` and `password`, or `bearerToken` alone, {completed}"))
            );
        }
    };
    Ok(ArtifactCredentials { auth, ca: keys.ca() })
}

/// The credentials for a repository of a registry: a docker configuration, or a name and a password.
///
/// # Errors
///
/// [`CredentialsError`], as for [`account`].
pub async fn registry(
    client: &Client,
    namespace: &str,
    secret: &str,
    repository: &Repository,
) -> Result<ArtifactCredentials, CredentialsError> {
    let create = create_docker_secret(namespace, secret, repository.registry());
    let keys = Keys { namespace, secret, data: read(client, namespace, secret, (OCI_FIELD, &create)).await? };
    keys.registry(repository)
}

/// What a Secret for an artifact's host holds.
struct Keys<'a> {
    namespace: &'a str,
    secret: &'a str,
    data: BTreeMap<String, ByteString>,
}

impl Keys<'_> {
    /// What they are for a registry.
    fn registry(&self, repository: &Repository) -> Result<ArtifactCredentials, CredentialsError> {
        let Self { namespace, secret, .. } = *self;
        let auth = match (self.data.get(DOCKER_CONFIG), self.text("username")?, self.text("password")?) {
            (Some(config), None, None) => {
                let auth = docker_config::find(&config.0, repository).map_err(|error| {
                    let other = create_docker_secret(namespace, "NAME", repository.registry());
                    problem(
                        Reason::SecretInvalid,
                        format!(
                            "Secret {secret}, which {OCI_FIELD} names, key `{DOCKER_CONFIG}`: {error}; write it anew, or name \
                             another Secret, made with `{other}`"
                        ),
                    )
                })?;
                Some(auth)
            }
            (None, Some(username), Some(password)) => {
                Some(Auth::Basic { username, password: SecretString::from(password) })
            }
            (None, None, None) if self.ca().is_some() => None,
            (None, None, None) => {
                let other = create_docker_secret(namespace, "NAME", repository.registry());
                return Err(self.missing(
                    OCI_FIELD,
                    &format!("`{DOCKER_CONFIG}`, or `username` and `password`: name one that is made with `{other}`"),
                ));
            }
            (None, username, password) => {
                let completed = completed(namespace, secret, [false, username.is_some(), password.is_some()]);
                return Err(
                    self.missing(OCI_FIELD, &format!("`{DOCKER_CONFIG}`, or `username` and `password`, {completed}"))
                );
            }
            (Some(_), ..) => {
                let remove = remove_keys(namespace, secret, &["username", "password"]);
                return Err(problem(
                    Reason::SecretInvalid,
                    format!(
                        "Secret {secret}, which {OCI_FIELD} names, has `{DOCKER_CONFIG}` and `username` or `password`: remove \
                         these with `{remove}`"
                    ),
                ));
            }
        };
        Ok(ArtifactCredentials { auth, ca: self.ca() })
    }

    fn text(&self, key: &str) -> Result<Option<String>, CredentialsError> {
        let Self { namespace, secret, .. } = self;
        let Some(value) = self.data.get(key) else { return Ok(None) };
        let text = std::str::from_utf8(&value.0).ok().filter(|text| !text.contains(['\n', '\r']));
        text.map(|text| Some(text.to_owned())).ok_or_else(|| {
            problem(
                Reason::SecretInvalid,
                format!(
                    "Secret {secret}, key `{key}`: it holds a line break, or no UTF-8; {}",
                    write_it(namespace, secret, key)
                ),
            )
        })
    }

    fn ca(&self) -> Option<Vec<u8>> {
        self.data.get("ca.crt").map(|ca| ca.0.clone())
    }

    fn missing(&self, field: &str, what: &str) -> CredentialsError {
        let message = format!("Secret {}, which {field} names, needs the keys {what}", self.secret);
        problem(Reason::SecretKeyMissing, message)
    }
}

/// The credentials for an origin's host.
///
/// # Errors
///
/// [`CredentialsError`]: what is wrong with the Secret, or that it cannot be read now.
pub async fn credentials_for(
    client: &Client,
    namespace: &str,
    origin: &Origin,
) -> Result<ArtifactCredentials, CredentialsError> {
    match origin {
        Origin::Http(HttpOrigin { secret: Some(secret), .. }) => artifact(client, namespace, secret).await,
        Origin::Oci(OciOrigin { secret: Some(secret), repository, .. }) => {
            registry(client, namespace, secret, repository).await
        }
        Origin::Http(_) | Origin::Oci(_) | Origin::Flux(_) => Ok(ArtifactCredentials::default()),
    }
}

/// What the keys of a Secret for an artifact's host are instead of what they should be, and the command after which they are
/// complete: of `bearerToken`, `username` and `password`, whether each is there.
fn completed(namespace: &str, secret: &str, has: [bool; 3]) -> String {
    let write = |key: &str| format!("write `{key}` with `{}`", write_key(namespace, secret, key));
    let remove = |keys: &[&str]| format!("with `{}`", remove_keys(namespace, secret, keys));
    match has {
        [false, true, _] => format!("and has `username` only: {}", write("password")),
        [false, false, _] => format!("and has `password` only: {}", write("username")),
        [true, true, true] => format!(
            "and has all three: remove `bearerToken` {}, or the other two {}",
            remove(&["bearerToken"]),
            remove(&["username", "password"])
        ),
        [true, username, _] => {
            let key = if username { "username" } else { "password" };
            format!("and has `bearerToken` and `{key}`: remove `{key}` {}", remove(&[key]))
        }
    }
}

fn write_it(namespace: &str, secret: &str, key: &str) -> String {
    format!("write it with `{}`", write_key(namespace, secret, key))
}

const HTTP_FIELD: &str = "spec.source.http.secretRef";
const OCI_FIELD: &str = "spec.source.oci.secretRef";
/// The key of a Secret of the type `kubernetes.io/dockerconfigjson`.
const DOCKER_CONFIG: &str = ".dockerconfigjson";

/// The keys of a Secret that `field` names, and that `create` would make.
async fn read(
    client: &Client,
    namespace: &str,
    name: &str,
    (field, create): (&str, &str),
) -> Result<BTreeMap<String, ByteString>, CredentialsError> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    match within("read a Secret", secrets.get(name)).await {
        Ok(secret) => Ok(secret.data.unwrap_or_default()),
        Err(error) => Err(match error.code() {
            Some(404) => problem(
                Reason::SecretNotFound,
                format!(
                    "there is no Secret {name}, which {field} names, in namespace {namespace}: create it with `{create}`"
                ),
            ),
            Some(403) => problem(
                Reason::SecretNotFound,
                format!(
                    "the operator may not read Secret {name} in namespace {namespace}: grant it `get` on Secrets there, or add the name to the chart's secretNames"
                ),
            ),
            _ => CredentialsError::Unavailable(error.to_string()),
        }),
    }
}

fn problem(reason: Reason, message: String) -> CredentialsError {
    CredentialsError::Problem(Problem { reason, message })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registrys_credentials_are_a_docker_configuration_or_a_name_and_a_password() {
        let config = r#"{"auths":{"r.example.com":{"auth":"YTpodW50ZXIy"}}}"#;
        let elsewhere = r#"{"auths":{"ghcr.io":{"auth":"YTpodW50ZXIy"}}}"#;
        let create = "kubectl create secret docker-registry NAME --namespace shop --docker-server=r.example.com";
        for (data, expected) in [
            (&[(".dockerconfigjson", config)][..], Ok("a")),
            (&[("username", "b"), ("password", "hunter2")], Ok("b")),
            (&[("ca.crt", "PEM")], Ok("")),
            (
                &[(".dockerconfigjson", elsewhere)],
                Err((Reason::SecretInvalid, vec!["r.example.com, but for ghcr.io", create])),
            ),
            (&[(".dockerconfigjson", "hunter2")], Err((Reason::SecretInvalid, vec!["JSON with `auths`", create]))),
            (
                &[(".dockerconfigjson", config), ("password", "hunter2")],
                Err((Reason::SecretInvalid, vec![r#"'{"data":{"username":null,"password":null}}'"#])),
            ),
            (&[("username", "b")], Err((Reason::SecretKeyMissing, vec![r#"'{"stringData":{"password":"VALUE"}}'"#]))),
            (
                &[("password", "hunter2")],
                Err((Reason::SecretKeyMissing, vec![r#"'{"stringData":{"username":"VALUE"}}'"#])),
            ),
            (
                &[("username", "b"), ("password", "hunter2\n")],
                Err((Reason::SecretInvalid, vec!["`password`", "line break"])),
            ),
            (&[("bearerToken", "hunter2")], Err((Reason::SecretKeyMissing, vec!["`.dockerconfigjson`, or", create]))),
            (&[], Err((Reason::SecretKeyMissing, vec!["Secret pull, which spec.source.oci.secretRef names", create]))),
        ] {
            let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), ByteString(value.as_bytes().to_vec()));
            let keys = Keys { namespace: "shop", secret: "pull", data: data.iter().map(pair).collect() };
            let found = keys.registry(&Repository::parse("r.example.com/shop").unwrap());
            assert!(!format!("{found:?}").contains("hunter2"), "{found:?}");
            match (found, expected) {
                (Ok(ArtifactCredentials { auth: Some(Auth::Basic { username, .. }), .. }), Ok(name)) => {
                    assert_eq!(username, name);
                }
                (Ok(ArtifactCredentials { auth: None, ca: Some(_) }), Ok("")) => {}
                (Err(CredentialsError::Problem(problem)), Err((reason, parts))) => {
                    assert_eq!(problem.reason, reason, "{data:?}: {}", problem.message);
                    assert!(parts.iter().all(|part| problem.message.contains(part)), "{data:?}: {}", problem.message);
                }
                (found, expected) => panic!("{data:?}: {found:?} instead of {expected:?}"),
            }
        }
    }

    #[test]
    fn each_command_leaves_the_keys_complete() {
        let command = "kubectl patch secret ci --namespace shop --patch";
        for (has, way) in [
            ([false, true, false], vec!["write `password` with", r#"'{"stringData":{"password":"VALUE"}}'"#]),
            ([false, false, true], vec!["write `username` with", r#"'{"stringData":{"username":"VALUE"}}'"#]),
            ([true, true, false], vec!["remove `username` with", r#"'{"data":{"username":null}}'"#]),
            ([true, false, true], vec!["remove `password` with", r#"'{"data":{"password":null}}'"#]),
            (
                [true, true, true],
                vec![r#"'{"data":{"bearerToken":null}}'"#, r#"'{"data":{"username":null,"password":null}}'"#],
            ),
        ] {
            let text = completed("shop", "ci", has);
            assert!(text.contains(command) && way.iter().all(|part| text.contains(part)), "{has:?}: {text}");
        }
    }
}
