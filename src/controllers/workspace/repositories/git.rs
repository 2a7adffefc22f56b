//! What git is told: where from, how far, and whom to ask for credentials.

use crate::controllers::context::Context;
use crate::plan::environment::Environment;
use crate::resource::{Repository, Secret, User, Workspace};
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use std::sync::Arc;

const PREPARE: &str = include_str!("prepare.sh");
const CLONE: &str = include_str!("clone.sh");
/// Where credentials lie in the container.
const KEEP: &str = "/run/devsanctum/git";
/// Who asks, where the secret names nobody: hosts that take a token for a password take any name with it.
const ANYBODY: &str = "git";

/// A file for the container's memory. Never printed.
pub struct File {
    name: String,
    content: Vec<u8>,
    /// What in it nobody may read elsewhere.
    secret: String,
}

/// A repository, and the secret for it.
pub struct Access {
    pub repository: Repository,
    /// What changes whenever the secret does.
    pub version: String,
    secret: Option<Arc<Secret>>,
}

/// How each repository is reached.
///
/// # Errors
/// In words for people: which secret is missing.
pub fn access(ctx: &Context, record: &Workspace, env: &Environment) -> Result<Vec<Access>, String> {
    let namespace = record.namespace().unwrap_or_default();
    let mut all = Vec::new();
    for repository in env.repositories.clone() {
        let secret = match &repository.credentials {
            None => None,
            Some(named) => {
                let found = ctx.caches.secrets.get(&ObjectRef::new(&named.name).within(&namespace));
                let missing = || format!("{}: secret {namespace}/{} does not exist", repository.name, named.name);
                Some(found.ok_or_else(missing)?)
            }
        };
        let version = secret.as_ref().map(|s| format!("{:?}{:?}", s.uid(), s.resource_version())).unwrap_or_default();
        all.push(Access { repository, version, secret });
    }
    Ok(all)
}

impl Access {
    fn is_ssh(&self) -> bool {
        !self.repository.url.starts_with("http")
    }

    /// The credentials, as git's own helpers read them.
    ///
    /// # Errors
    /// In words for people: which key is missing.
    pub async fn files(&self, ctx: &Context) -> Result<Vec<File>, String> {
        let Some(secret) = &self.secret else { return Ok(Vec::new()) };
        let (uid, name) = (secret.uid().unwrap_or_default(), &self.repository.name);
        let read = async |key: &str| ctx.secrets.read(&uid, key).await;
        let needs = |key: &str| {
            let kind = if self.is_ssh() { "an SSH" } else { "an HTTP" };
            format!("{name}: secret {} has no key {key:?}, which {kind} address needs", secret.name_any())
        };
        if self.is_ssh() {
            let key = read("sshKey").await?.ok_or_else(|| needs("sshKey"))?;
            let mut text = String::from_utf8_lossy(&key).trim_end().to_owned();
            text.push('\n');
            let mut all = vec![File { name: format!("{name}.key"), content: text.clone().into_bytes(), secret: text }];
            if let Some(hosts) = read("knownHosts").await? {
                all.push(File { name: format!("{name}.hosts"), content: hosts, secret: String::new() });
            }
            return Ok(all);
        }
        let token = read("token").await?.ok_or_else(|| needs("token"))?;
        let token = String::from_utf8_lossy(&token).trim().to_owned();
        let user = read("username").await?.map_or_else(|| ANYBODY.to_owned(), |u| String::from_utf8_lossy(&u).trim().to_owned());
        if [&token, &user].iter().any(|text| text.contains(['\n', '\r', '\0'])) {
            return Err(format!("{name}: 'token' and 'username' of secret {} must be one line each", secret.name_any()));
        }
        let content = format!("username={user}\npassword={token}\n").into_bytes();
        Ok(vec![File { name: name.clone(), content, secret: token }])
    }

    /// Settings that stay in the clone, so that a person's own `git push` finds the same credentials.
    fn settings(&self) -> Vec<String> {
        let name = &self.repository.name;
        if self.is_ssh() {
            let pinned =
                self.secret.as_ref().and_then(|s| s.status.as_ref()).is_some_and(|s| s.keys.iter().any(|k| k == "knownHosts"));
            let hosts = if pinned { "yes" } else { "accept-new" };
            let mut ssh =
                format!("ssh -o BatchMode=yes -o StrictHostKeyChecking={hosts} -o UserKnownHostsFile={KEEP}/{name}.hosts");
            if self.secret.is_some() {
                ssh.push_str(&format!(" -o IdentitiesOnly=yes -i {KEEP}/{name}.key"));
            }
            return vec!["-c".into(), format!("core.sshCommand={ssh}")];
        }
        if self.secret.is_none() {
            return Vec::new();
        }
        // Nobody else is asked, and it is told to no other host.
        let scope = format!("credential.{}.helper", origin(&self.repository.url));
        vec!["-c".into(), format!("{scope}="), "-c".into(), format!("{scope}=!cat {KEEP}/{name}; :")]
    }
}

/// Scheme, host and port of a web address.
fn origin(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let authority = rest.split('/').next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}")
}

fn script(script: &str, name: &str) -> Vec<String> {
    ["/bin/sh", "-c", script, name].map(str::to_owned).to_vec()
}

/// The command that makes the folder and takes the files in.
pub fn prepare(workdir: &str, user: Option<&str>, files: &[File]) -> Vec<String> {
    let mut argv = script(PREPARE, "prepare");
    argv.extend([workdir.to_owned(), user.unwrap_or_default().to_owned()]);
    argv.extend(files.iter().flat_map(|f| [f.name.clone(), f.content.len().to_string()]));
    argv
}

/// What that command is given to read.
pub fn payload(files: &[File]) -> Vec<u8> {
    files.iter().flat_map(|f| f.content.iter().copied()).collect()
}

/// Whose commits are made in a clone: settings that stay in it. A person may say otherwise, there or for all of theirs.
pub async fn author(ctx: &Context, owner: &str) -> Vec<String> {
    let users: Api<User> = Api::all(ctx.frame.client.clone());
    let Ok(Some(user)) = users.get_opt(owner).await else { return Vec::new() };
    let name = user.spec.display_name.unwrap_or_else(|| owner.to_owned());
    ["-c".to_owned(), format!("user.name={name}"), "-c".to_owned(), format!("user.email={}", user.spec.email)].into()
}

/// The command that clones a repository.
pub fn clone(workdir: &str, branch: &str, access: &Access, author: &[String]) -> Vec<String> {
    let r = &access.repository;
    let depth = r.depth.map(|n| n.to_string()).unwrap_or_default();
    let mut argv = script(CLONE, "clone");
    argv.extend([workdir.to_owned(), r.name.clone(), r.url.clone(), branch.to_owned(), r.default_branch.clone(), depth]);
    argv.extend(access.settings());
    argv.extend_from_slice(author);
    argv
}

/// Words without any secret: a host may say what it was sent.
pub fn without(files: &[File], words: String) -> String {
    files.iter().filter(|f| !f.secret.is_empty()).fold(words, |words, f| words.replace(&f.secret, "…"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::SecretStatus;

    fn access_to(url: &str, keys: Option<&[&str]>) -> Access {
        let repository = serde_json::from_value(serde_json::json!({"name": "web", "url": url})).unwrap();
        let secret = keys.map(|keys| {
            let mut secret = Secret::new("git", Default::default());
            secret.status = Some(SecretStatus { keys: keys.iter().map(|k| (*k).to_owned()).collect(), ..Default::default() });
            Arc::new(secret)
        });
        Access { repository, version: String::new(), secret }
    }

    #[test]
    fn a_host_s_key_is_trusted_at_first_sight_only_where_none_is_given() {
        let ssh = |keys| access_to("git@example.com:web.git", keys).settings()[1].clone();
        let without = ssh(Some(&["sshKey"][..]));
        assert!(without.contains("StrictHostKeyChecking=accept-new") && without.ends_with(" -i /run/devsanctum/git/web.key"));
        assert!(ssh(Some(&["knownHosts", "sshKey"])).contains("StrictHostKeyChecking=yes"));
        assert!(!ssh(None).contains(" -i "));
        assert_eq!(access_to("https://example.com/web.git", None).settings(), Vec::<String>::new());
        assert_eq!(
            access_to("https://example.com/web.git", Some(&["token"])).settings(),
            [
                "-c",
                "credential.https://example.com.helper=",
                "-c",
                "credential.https://example.com.helper=!cat /run/devsanctum/git/web; :"
            ]
        );
    }

    #[test]
    fn credentials_are_for_one_host() {
        assert_eq!(origin("https://me@git.example.com:8443/a/b.git"), "https://git.example.com:8443");
        assert_eq!(origin("http://git.example.com"), "http://git.example.com");
        assert_eq!(origin("https://evil@x@git.example.com/@y"), "https://git.example.com");
    }
}

#[cfg(test)]
#[path = "clone_tests.rs"]
mod clone_tests;
