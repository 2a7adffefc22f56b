//! Makes the accounts of people who come by themselves: by an invitation, or where anybody may.

use crate::access::{Identity, Invited};
use crate::api::client;
use crate::resource::{Group, Invitation, Registration, Settings, User, UserRole, labels, names};
use axum::Router;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::core::Status;
use kube::core::response::StatusCause;
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

/// Names that are tried with a number for somebody whose own is taken.
const NUMBERED: u32 = 20;
/// And after these so many with letters by chance: 40 bits.
const BY_CHANCE: usize = 3;
/// Tries to change a group that others change at the same time.
const TRIES: usize = 10;

/// The records of people, changed as a part of the platform.
pub struct Accounts(Client);

/// An account to be made.
pub struct NewAccount<'a> {
    /// User name.
    pub name: &'a str,
    /// Login address.
    pub email: &'a str,
    /// Name shown to others.
    pub display_name: Option<&'a str>,
    /// The invitation it is made of.
    pub invitation: Option<&'a Invitation>,
}

/// Why there is no account, in words for whom it is.
#[derive(Debug)]
pub enum NoAccount {
    /// There is somebody of that name.
    NameTaken(String),
    /// There is an account of that address; whose is not said.
    AddressTaken(String),
    /// Something is wrong with what they have chosen.
    Wrong(String),
    /// It could not be made now.
    NotNow(String),
}

const ADDRESS_TAKEN: &str = "There is an account of this e-mail address already. Sign in to it.";

/// Whether nothing but the login address, which is another's, is in the way.
fn is_address_taken(status: &Status) -> bool {
    let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
    let taken = |cause: &StatusCause| (cause.reason.as_str(), cause.field.as_str()) == ("FieldValueDuplicate", "spec.email");
    status.code == 422 && !causes.is_empty() && causes.iter().all(taken)
}

fn not_now(error: &kube::Error) -> NoAccount {
    tracing::warn!(%error, "an account could not be made");
    NoAccount::NotNow("That cannot be done now. Try again.".into())
}

impl Accounts {
    /// Over the API.
    pub fn over(api: Router) -> Self {
        Self(client(api, Identity::system("devsanctum-accounts")))
    }

    /// Whether anybody may make an account.
    pub async fn are_open(&self) -> bool {
        let found = Api::<Settings>::all(self.0.clone()).get_opt(crate::resource::SETTINGS_NAME).await;
        found.is_ok_and(|settings| settings.is_some_and(|s| s.spec.registration == Registration::Open))
    }

    /// The invitation that a mail was about, if it can still be taken up.
    pub async fn invitation(&self, invited: &Invited) -> Result<Option<Invitation>, NoAccount> {
        let all = Api::<Invitation>::all(self.0.clone()).list(&ListParams::default()).await.map_err(|e| not_now(&e))?;
        let open = |i: &Invitation| {
            (i.uid().as_ref(), &i.spec.email) == (Some(&invited.uid), &invited.email)
                && i.metadata.deletion_timestamp.is_none()
                && i.status.as_ref().is_none_or(|status| status.accepted_at.is_none())
        };
        Ok(all.items.into_iter().find(open))
    }

    /// Makes a user. One that was made of this very invitation before, by somebody who did not come to an end, is found again.
    pub async fn make(&self, new: &NewAccount<'_>) -> Result<String, NoAccount> {
        let users = Api::<User>::all(self.0.clone());
        if let Some(uid) = new.invitation.and_then(ResourceExt::uid) {
            let of = ListParams::default().labels(&format!("{}={uid}", labels::INVITATION));
            let found = users.list(&of).await.map_err(|e| not_now(&e))?;
            if let Some(user) = found.items.first() {
                return Ok(user.name_any());
            }
        }
        let role = new.invitation.map_or(UserRole::User, |i| i.spec.role);
        let mut body = json!({
            "apiVersion": "devsanctum.io/v1", "kind": "User", "metadata": {"name": new.name},
            "spec": {"email": new.email, "role": role},
        });
        if let Some(uid) = new.invitation.and_then(ResourceExt::uid) {
            body["metadata"]["labels"] = json!({labels::INVITATION: uid});
        }
        if let Some(name) = new.display_name {
            body["spec"]["displayName"] = json!(name);
        }
        let user: User = serde_json::from_value(body).map_err(|e| NoAccount::Wrong(e.to_string()))?;
        match users.create(&PostParams::default(), &user).await {
            Ok(made) => Ok(made.name_any()),
            Err(kube::Error::Api(status)) if status.code == 409 => Err(NoAccount::NameTaken(status.message)),
            Err(kube::Error::Api(status)) if is_address_taken(&status) => Err(NoAccount::AddressTaken(ADDRESS_TAKEN.into())),
            Err(kube::Error::Api(status)) if status.code == 422 => Err(NoAccount::Wrong(status.message)),
            Err(error) => Err(not_now(&error)),
        }
    }

    /// Makes a user who has not chosen a name, by what a provider calls them.
    pub async fn make_called(&self, wish: &str, new: &NewAccount<'_>) -> Result<String, NoAccount> {
        let (base, users) = (name_of(wish), Api::<User>::all(self.0.clone()));
        let numbered = (1..=NUMBERED).map(|n| if n == 1 { Ok(base.clone()) } else { Ok(format!("{base}-{n}")) });
        let by_chance = (0..BY_CHANCE).map(|_| by_chance(&base));
        let mut taken = NoAccount::NotNow("That cannot be done now. Try again.".into());
        for name in numbered.chain(by_chance) {
            let name = name?;
            if users.get_opt(&name).await.map_err(|e| not_now(&e))?.is_some() {
                continue;
            }
            match self.make(&NewAccount { name: &name, ..*new }).await {
                // Somebody else was quicker.
                Err(why @ NoAccount::NameTaken(_)) => taken = why,
                made => return made,
            }
        }
        Err(taken)
    }

    /// Adds somebody to the groups of their invitation. A group that is gone is left out.
    pub async fn join(&self, user: &str, groups: &[String]) -> Result<(), NoAccount> {
        let api = Api::<Group>::all(self.0.clone());
        for name in groups {
            for _ in 0..TRIES {
                let Some(group) = api.get_opt(name).await.map_err(|e| not_now(&e))? else { break };
                if group.spec.members.iter().any(|member| member.user == user) {
                    break;
                }
                let mut members = serde_json::to_value(&group.spec.members).unwrap_or_default();
                members.as_array_mut().iter_mut().for_each(|all| all.push(json!({"user": user})));
                let body = json!({"metadata": {"resourceVersion": group.resource_version()}, "spec": {"members": members}});
                match api.patch(name, &PatchParams::default(), &Patch::Merge(body)).await {
                    Ok(_) => break,
                    // Somebody else changed it meanwhile.
                    Err(kube::Error::Api(status)) if status.code == 409 => {}
                    Err(error) => return Err(not_now(&error)),
                }
            }
        }
        Ok(())
    }

    /// Notes that an invitation was taken up.
    pub async fn accepted(&self, invitation: &Invitation, user: &str, now: Timestamp) {
        let at = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let api = Api::<Invitation>::all(self.0.clone());
        self.note(&api, &invitation.name_any(), json!({"acceptedAt": at, "user": user, "phase": "Accepted"})).await;
    }

    /// Notes when and how somebody signed in.
    pub async fn signed_in(&self, user: &str, provider: &str, now: Timestamp) {
        let at = now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let api = Api::<User>::all(self.0.clone());
        self.note(&api, user, json!({"lastLoginAt": at, "provider": provider})).await;
    }

    /// What is lost where this fails is for people to read, and nothing depends on it.
    async fn note<K: Clone + serde::de::DeserializeOwned + std::fmt::Debug>(&self, api: &Api<K>, name: &str, status: Value) {
        let patch = Patch::Merge(json!({"status": status}));
        if let Err(error) = api.patch_status(name, &PatchParams::default(), &patch).await {
            tracing::warn!(%error, name, "could not be noted");
        }
    }
}

/// A user name made of what somebody is called elsewhere.
fn name_of(wish: &str) -> String {
    let local = wish.split('@').next().unwrap_or_default().to_lowercase();
    let plain: String = local.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    let name = plain.trim_matches('-').to_owned();
    if names::dns_label(&name).is_ok() { name } else { "user".into() }
}

/// One that nobody else is likely to have.
fn by_chance(base: &str) -> Result<String, NoAccount> {
    let mut bytes = [0; 5];
    getrandom::fill(&mut bytes).map_err(|error| {
        tracing::warn!(%error, "no random bytes for a name");
        NoAccount::NotNow("That cannot be done now. Try again.".into())
    })?;
    Ok(format!("{base}-{}", bytes.map(|b| format!("{b:02x}")).concat()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_elsewhere_is_made_a_name_here() {
        for (wish, name) in [
            ("Ada.Lovelace@example.com", "ada-lovelace"),
            ("octo_cat", "octo-cat"),
            ("--", "user"),
            ("ünïcødé", "n-c-d"),
            ("", "user"),
            ("a".repeat(99).as_str(), "a".repeat(40).as_str()),
        ] {
            assert_eq!(name_of(wish), name, "{wish}");
        }
    }
}
