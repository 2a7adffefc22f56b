//! The invitation loop: who is invited gets a mail, again when somebody wishes it.
//!
//! It watches its one kind by itself: nothing else depends on invitations, and they depend on nothing else.

use super::Reports;
use super::retry::PassError;
use super::skeleton::{self, Frame, Loop};
use super::status::Pass;
use super::triggers::Trigger;
use crate::clock::Clock;
use crate::engine::Fence;
use crate::resource::conditions::condition;
use crate::resource::{Invitation, InvitationPhase, InvitationStatus, labels};
use async_trait::async_trait;
use futures::StreamExt;
use k8s_openapi::jiff::Timestamp;
use kube::api::Api;
use kube::runtime::{WatchStreamExt, reflector, watcher};
use kube::{Client, ResourceExt};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Brings invitations to people.
#[async_trait]
pub trait Courier: Send + Sync + 'static {
    /// Sends the invitation with this uid to this address, with a link that no earlier mail has, and that ends all earlier
    /// ones. Gives when it ends.
    ///
    /// # Errors
    /// In words for people.
    async fn invite(&self, uid: &str, email: &str) -> Result<Timestamp, String>;
}

/// What the loop needs from outside.
pub struct Invitations {
    /// The API.
    pub client: Client,
    /// Brings them.
    pub courier: Arc<dyn Courier>,
    /// Time and chance.
    pub clock: Arc<dyn Clock>,
    /// Where passes are noted.
    pub reports: Arc<Reports>,
    /// Ends the loop.
    pub stop: CancellationToken,
    /// Whether it may act at all.
    pub fence: Fence,
}

/// Runs the loop until told to stop.
///
/// # Errors
/// When its watch has ended by itself.
pub async fn invitations(parts: Invitations) -> Result<(), String> {
    let Invitations { client, courier, clock, reports, stop, fence } = parts;
    let (store, mut writer) = reflector::store::<Invitation>();
    let (trigger, asked) = Trigger::new();
    let events = watcher(Api::<Invitation>::all(client.clone()), watcher::Config::default()).default_backoff();
    let feed = async move {
        let mut events = events.boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    writer.apply_watcher_event(&event);
                    match &event {
                        watcher::Event::Apply(record) | watcher::Event::Delete(record) => trigger.fire(record),
                        watcher::Event::InitDone => trigger.fire_all(&writer.as_reader()),
                        watcher::Event::Init | watcher::Event::InitApply(_) => {}
                    }
                }
                Err(error) => tracing::warn!(%error, "the watch of invitations failed; trying again"),
            }
        }
    };
    let frame = Frame { client, clock, reports, stop: stop.clone(), fence };
    tokio::select! {
        () = skeleton::run(Posting { courier }, frame, store, asked) => Ok(()),
        () = stop.cancelled() => Ok(()),
        () = feed => Err("the watch of invitations ended".into()),
    }
}

struct Posting {
    courier: Arc<dyn Courier>,
}

fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[async_trait]
impl Loop for Posting {
    type Record = Invitation;
    const NAME: &'static str = "invitation";
    const CONCURRENCY: u16 = 4;
    /// Who sets up the mail server does not wait long to see whether it works.
    const LONGEST_RETRY: Duration = Duration::from_secs(60);

    async fn reconcile(&self, record: &Invitation, pass: &mut Pass<InvitationStatus>) -> Result<(), PassError> {
        if pass.status.accepted_at.is_some() {
            pass.status.phase = InvitationPhase::Accepted;
            pass.holds("Delivered", "Accepted");
            return Ok(());
        }
        let wish = record.annotations().get(labels::RESEND).cloned();
        let another = pass.status.sent_to.as_ref() != Some(&record.spec.email);
        if another || (wish.is_some() && wish != pass.status.resent) {
            let uid = record.uid().unwrap_or_default();
            let sent = self.courier.invite(&uid, &record.spec.email).await;
            let expires = sent.map_err(|words| PassError::transient("Delivered", "NotSent", words))?;
            let status = &mut pass.status;
            (status.sent_at, status.expires_at) = (Some(time(pass.now)), Some(time(expires)));
            status.sent_to = Some(record.spec.email.clone());
            (status.times_sent, status.resent) = (status.times_sent + 1, wish);
            pass.did(format!("invited {}", record.spec.email));
        }
        let ends = pass.status.expires_at.as_deref().and_then(|at| at.parse::<Timestamp>().ok()).unwrap_or(pass.now);
        if let Ok(left) = Duration::try_from(ends.duration_since(pass.now))
            && !left.is_zero()
        {
            pass.status.phase = InvitationPhase::Sent;
            pass.holds("Delivered", "Sent");
            pass.requeue = Some(left);
            return Ok(());
        }
        pass.status.phase = InvitationPhase::Expired;
        let words = format!("its 48 hours are over; `devsanctum user resend {}` sends it anew", record.name_any());
        pass.set(condition("Delivered", false, "Expired", words));
        Ok(())
    }
}
