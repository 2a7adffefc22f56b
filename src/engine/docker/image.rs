//! Images that come from registries, and go there.

use super::{CHANGE, DockerEngine, PROGRESS, READ, absent, harden, query};
use crate::engine::{BuiltImage, EngineError, Login};
use crate::resource::labels;
use bollard::auth::DockerCredentials;
use futures::StreamExt;
use std::collections::HashMap;

/// What the engine calls Docker's own registry when it signs in there.
const DOCKER_IO: &str = "https://index.docker.io/v1/";

impl DockerEngine {
    pub(super) async fn pull_image(&self, reference: &str, login: Option<&Login>) -> Result<(), EngineError> {
        harden::check_reference(reference)?;
        let (name, tag) = split_tag(reference);
        let options = query::CreateImageOptionsBuilder::new().from_image(name).tag(tag).build();
        let mut progress = Box::pin(self.docker.create_image(Some(options), None, login.map(credentials)));
        while self.within(PROGRESS, async { progress.next().await.transpose() }).await?.is_some() {}
        Ok(())
    }

    pub(super) async fn push_image(&self, reference: &str, login: Option<&Login>) -> Result<(), EngineError> {
        harden::check_reference(reference)?;
        let (name, tag) = split_tag(reference);
        let options = query::PushImageOptionsBuilder::new().tag(tag).build();
        // The engine refuses a push that does not say who asks, though nobody need be named.
        let who = login.map(credentials).unwrap_or_default();
        let mut progress = Box::pin(self.docker.push_image(name, Some(options), Some(who)));
        while self.within(PROGRESS, async { progress.next().await.transpose() }).await?.is_some() {}
        Ok(())
    }

    pub(super) async fn name_image(&self, image: &str, name: &str) -> Result<(), EngineError> {
        harden::check_reference(image)?;
        harden::check_reference(name)?;
        let (repository, tag) = split_tag(name);
        let options = query::TagImageOptionsBuilder::new().repo(repository).tag(tag).build();
        self.within(CHANGE, self.docker.tag_image(image, Some(options))).await
    }

    pub(super) async fn list_built(&self) -> Result<Vec<BuiltImage>, EngineError> {
        let filter = HashMap::from([("label", vec![format!("{}={}", labels::BUILT_BY, self.instance)])]);
        let options = query::ListImagesOptionsBuilder::new().filters(&filter).build();
        let mut listed = self.within(READ, self.docker.list_images(Some(options))).await?;
        listed.retain(|i| i.labels.get(labels::BUILT_BY) == Some(&self.instance));
        // Old engines give one that has no name this one.
        listed.iter_mut().for_each(|i| i.repo_tags.retain(|name| name != "<none>:<none>"));
        Ok(listed.into_iter().map(|i| BuiltImage { id: i.id, names: i.repo_tags }).collect())
    }

    pub(super) async fn unname_image(&self, name: &str) -> Result<(), EngineError> {
        harden::check_reference(name)?;
        let options = query::RemoveImageOptionsBuilder::new().build();
        match self.within(CHANGE, self.docker.remove_image(name, Some(options), None)).await {
            Err(EngineError::ImageMissing(_)) => Ok(()),
            other => absent(other).map(|_| ()),
        }
    }
}

fn credentials(login: &Login) -> DockerCredentials {
    DockerCredentials {
        username: Some(login.username.clone()),
        password: Some(login.password.clone()),
        serveraddress: Some(server(login)),
        ..DockerCredentials::default()
    }
}

/// Credentials for a build, by the names of registries.
pub(super) fn credentials_by_host(login: &Login) -> HashMap<String, DockerCredentials> {
    HashMap::from([(server(login), credentials(login))])
}

fn server(login: &Login) -> String {
    if login.host == "docker.io" { DOCKER_IO.to_owned() } else { login.host.clone() }
}

/// Without a tag Docker would pull every tag there is.
fn split_tag(reference: &str) -> (&str, &str) {
    if let Some((name, digest)) = reference.split_once('@') {
        return (name, digest);
    }
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (reference, "latest"),
    }
}

#[cfg(test)]
mod tests {
    use super::split_tag;

    #[test]
    fn a_reference_without_a_tag_means_latest() {
        assert_eq!(split_tag("alpine"), ("alpine", "latest"));
        assert_eq!(split_tag("127.0.0.1:5000/a/b"), ("127.0.0.1:5000/a/b", "latest"));
        assert_eq!(split_tag("127.0.0.1:5000/a/b:2"), ("127.0.0.1:5000/a/b", "2"));
        assert_eq!(split_tag("a@sha256:00"), ("a", "sha256:00"));
    }
}
