//! Mail's place in this program: invitations are brought, notices put into the outbox, and that is emptied, by whoever leads.

use crate::access::{Invited, SignIn};
use crate::clock::Clock;
use crate::controllers::{self, Courier, Herald, Invitations, Notice, Reports};
use crate::engine::Fence;
use crate::mail::{Mailer, Message, NOTICE, Outbox, settings};
use crate::resource::User;
use crate::store::{Outgoing, Store};
use crate::web::Web;
use async_trait::async_trait;
use k8s_openapi::jiff::Timestamp;
use kube::{Api, Client};
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

    /// Tells owners what becomes of their workspaces.
    pub fn herald(&self, client: &Client) -> Arc<dyn Herald> {
        Arc::new(ByMail { post: self.clone(), client: client.clone() })
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

struct ByMail {
    post: Post,
    client: Client,
}

#[async_trait]
impl Herald for ByMail {
    async fn destroyed_soon(&self, notice: &Notice) -> Result<(), String> {
        let words = |e: &dyn std::fmt::Display| e.to_string();
        if settings(&self.post.store).await.map_err(|e| words(&e))?.mail.is_none() {
            return Ok(());
        }
        let owner = Api::<User>::all(self.client.clone()).get_opt(&notice.owner).await.map_err(|e| words(&e))?;
        let Some(owner) = owner else { return Ok(()) };
        let now = self.post.clock.now().as_millisecond();
        let mail = Outgoing {
            purpose: format!("{NOTICE}{}", notice.uid),
            recipient: owner.spec.email,
            body: serde_json::to_string(notice).map_err(|e| words(&e))?,
            created_at: now,
            next_at: now,
            attempts: 0,
            error: String::new(),
        };
        let put = self.post.store.put_outgoing(mail).await.map_err(|e| words(&e))?;
        put.then_some(()).ok_or_else(|| "too many mails wait to be sent".into())
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
