//! The commands that messages tell people to run: whole, so that whoever reads one can copy it.
//!
//! Pure.

use crate::api::RESOLVE_ATTEMPT;

/// Installs the CRD of this version. Server-side, as it was installed: a plain apply would keep a copy in an annotation.
pub const INSTALL_CRD: &str = "kubectl apply --server-side -f crds/koniglespaces.cloud.konigle.com.yaml";

/// One KonigleSpace, as commands name it.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
}

impl Named<'_> {
    /// Sets one of our annotations whose value must only be new, such as [`crate::api::RESET_AT`].
    #[must_use]
    pub fn annotate_now(self, annotation: &str) -> String {
        self.annotate(&format!("{annotation}=\"$(date +%s)\""))
    }

    /// Says what became of the attempt with this nonce: `succeeded`, `failed` or `retry`.
    #[must_use]
    pub fn resolve(self, nonce: &str, answer: &str) -> String {
        self.annotate(&format!("{RESOLVE_ATTEMPT}={nonce}={answer}"))
    }

    /// Takes an annotation away.
    #[must_use]
    pub fn remove(self, annotation: &str) -> String {
        self.annotate(&format!("{annotation}-"))
    }

    /// Approves a digest for promotion.
    #[must_use]
    pub fn approve(self, digest: &str) -> String {
        let Self { namespace, name } = self;
        let patch = format!("{{\"spec\":{{\"promotion\":{{\"approvedDigest\":\"{digest}\"}}}}}}");
        format!("kubectl patch kspace {name} --namespace {namespace} --type merge --patch '{patch}'")
    }

    /// Shows it.
    #[must_use]
    pub fn describe(self) -> String {
        format!("kubectl describe kspace {} --namespace {}", self.name, self.namespace)
    }

    fn annotate(self, what: &str) -> String {
        format!("kubectl annotate kspace {} --namespace {} --overwrite {what}", self.name, self.namespace)
    }
}

/// Makes a Secret with the keys that `options` name.
#[must_use]
pub fn create_secret(namespace: &str, secret: &str, options: &str) -> String {
    format!("kubectl create secret generic {secret} --namespace {namespace} {options}")
}

/// Makes a Secret with the credentials for a registry, which is `docker.io` for Docker Hub.
#[must_use]
pub fn create_docker_secret(namespace: &str, secret: &str, registry: &str) -> String {
    format!(
        "kubectl create secret docker-registry {secret} --namespace {namespace} --docker-server={registry} \
         --docker-username=USER --docker-password=PASSWORD"
    )
}

/// Writes one key of a Secret anew and leaves the others; unlike a file, it adds no line break.
#[must_use]
pub fn write_key(namespace: &str, secret: &str, key: &str) -> String {
    format!(
        "kubectl patch secret {secret} --namespace {namespace} --patch '{{\"stringData\":{{\"{key}\":\"VALUE\"}}}}'"
    )
}

/// Removes keys of a Secret and leaves the others.
#[must_use]
pub fn remove_keys(namespace: &str, secret: &str, keys: &[&str]) -> String {
    let keys: Vec<String> = keys.iter().map(|key| format!("\"{key}\":null")).collect();
    format!("kubectl patch secret {secret} --namespace {namespace} --patch '{{\"data\":{{{}}}}}'", keys.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::RESET_AT;

    #[test]
    fn each_is_a_command_of_a_shell() {
        let shop = Named { namespace: "shop", name: "shop-uat" };
        for (command, expected) in [
            (
                shop.annotate_now(RESET_AT),
                "kubectl annotate kspace shop-uat --namespace shop --overwrite cloud.konigle.com/reset-at=\"$(date +%s)\"",
            ),
            (
                shop.resolve("k1", "succeeded"),
                "kubectl annotate kspace shop-uat --namespace shop --overwrite cloud.konigle.com/resolve-attempt=k1=succeeded",
            ),
            (
                shop.remove(RESOLVE_ATTEMPT),
                "kubectl annotate kspace shop-uat --namespace shop --overwrite cloud.konigle.com/resolve-attempt-",
            ),
            (
                shop.approve("sha256:aa"),
                "kubectl patch kspace shop-uat --namespace shop --type merge --patch \
                 '{\"spec\":{\"promotion\":{\"approvedDigest\":\"sha256:aa\"}}}'",
            ),
            (shop.describe(), "kubectl describe kspace shop-uat --namespace shop"),
            (
                create_secret("shop", "ci", "--from-literal=bearerToken=TOKEN"),
                "kubectl create secret generic ci --namespace shop --from-literal=bearerToken=TOKEN",
            ),
            (
                create_docker_secret("shop", "ci", "registry.example.com:5000"),
                "kubectl create secret docker-registry ci --namespace shop --docker-server=registry.example.com:5000 \
                 --docker-username=USER --docker-password=PASSWORD",
            ),
            (
                write_key("shop", "konigle", "token"),
                "kubectl patch secret konigle --namespace shop --patch '{\"stringData\":{\"token\":\"VALUE\"}}'",
            ),
            (
                remove_keys("shop", "ci", &["username", "password"]),
                "kubectl patch secret ci --namespace shop --patch '{\"data\":{\"username\":null,\"password\":null}}'",
            ),
        ] {
            assert_eq!(command, expected);
        }
    }
}
