//! Mail's place in this program: invitations are brought, and the outbox is emptied, by whoever leads.

use crate::access::{Invited, SignIn};
use crate::clock::Clock;
use crate::controllers::{self, Courier, Invitations, Reports};
use crate::engine::Fence;
use crate::mail::{Mailer, Message, Outbox};
use crate::store::Store;
use crate::web::Web;
use async_trait::async_trait;
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What mail is made and sent with.
#[derive(Clone)]
pub struct Post {
    store: Store,
    sign_in: Arc<SignIn>,
    clock: Arc<dyn Clock>,
    mailer: Mailer,
}

impl Post {
    /// With what the panel works with.
    pub fn of(web: &Web) -> Self {
        let mailer = Mailer::new(web.store.clone(), web.panel.origin());
        Self { store: web.store.clone(), sign_in: web.sign_in.clone(), clock: web.clock.clone(), mailer }
    }

    /// Brings invitations and empties the outbox until told to stop.
    ///
    /// # Errors
    /// When the watch of invitations has ended by itself.
    pub async fn run(&self, client: Client, reports: Arc<Reports>, fence: Fence, stop: CancellationToken) -> Result<(), String> {
        let Self { store, sign_in, clock, mailer } = self.clone();
        let (courier, stopped) = (Arc::new(self.clone()), stop.clone());
        let invitations = Invitations { client, courier, clock: clock.clone(), reports, stop, fence };
        let outbox = Outbox { store, sign_in, clock, mailer }.run(stopped);
        let (ended, ()) = tokio::join!(controllers::invitations(invitations), outbox);
        ended
    }
}

#[async_trait]
impl Courier for Post {
    async fn invite(&self, uid: &str, email: &str) -> Result<Timestamp, String> {
        let now = self.clock.now();
        let invited = Invited { uid: uid.to_owned(), email: email.to_owned() };
        let token = self.sign_in.invite(&invited, now).await.map_err(|e| e.to_string())?;
        let message = Message::invitation(&self.mailer.link(&format!("/invitation/{}", token.reveal())));
        self.mailer.send(email, &message).await.map_err(|e| e.to_string())?;
        Ok(now + crate::access::INVITATION)
    }
}
