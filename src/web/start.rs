//! Where a workspace that is open to anybody is started: at the panel, since what is shown at its own host is read by its container.

use super::elsewhere::{Place, place};
use super::gate::canonical;
use super::pages::{self, Rest};
use super::panel::{Panel, by, to_login};
use super::{signing, wake};
use crate::access::Identity;
use crate::api::Noted;
use crate::store::StoreError;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::Response;
use axum::{Extension, Form};
use serde::Deserialize;

/// Which one, and where to go then.
#[derive(Deserialize)]
pub struct Asked {
    host: String,
    #[serde(default)]
    to: String,
}

/// The workspace, where there is one that this user may start; that there is another is told to nobody.
async fn startable(panel: &Panel, user: &str, asked: &Asked) -> Result<Place, Response> {
    let host = canonical(&asked.host);
    let found = async {
        let Some(place) = place(&panel.web, &host).await? else { return Ok::<_, StoreError>(None) };
        Ok(wake::may_start(panel, user, &place).await?.then_some(place))
    };
    match found.await {
        Ok(Some(place)) => Ok(place),
        Ok(None) => Err(pages::missing(&panel.web.panel)),
        Err(error) => Err(super::gate::failed(&error)),
    }
}

fn onward(panel: &Panel, asked: &Asked) -> String {
    format!("{}{}", panel.web.panel.of_host(&canonical(&asked.host)), pages::own_path(&asked.to))
}

/// Shows the button.
pub async fn page(State(panel): State<Panel>, uri: Uri, Query(asked): Query<Asked>, headers: HeaderMap) -> Response {
    let Some(session) = panel.session(&headers).await else {
        return to_login(uri.path_and_query().map_or("/", |path| path.as_str()));
    };
    match startable(&panel, &session.user, &asked).await {
        Ok(place) if place.rest != Rest::Stopped => pages::redirect(&onward(&panel, &asked)),
        Ok(place) => pages::start(&place.workspace, &asked.host, &asked.to, None),
        Err(answer) => answer,
    }
}

/// Starts it, and leads there.
pub async fn start(
    State(panel): State<Panel>,
    Extension(noted): Extension<Noted>,
    headers: HeaderMap,
    Form(asked): Form<Asked>,
) -> Response {
    let Some(session) = panel.session(&headers).await else { return to_login("/") };
    let place = match startable(&panel, &session.user, &asked).await {
        Ok(place) => place,
        Err(answer) => return answer,
    };
    noted.about(|entry| (entry.namespace, entry.name) = (place.project.clone(), place.workspace.clone()));
    match wake::start(&panel, Identity::person(&session.user), by(&headers).address, &place).await {
        Ok(()) => pages::go_on("It is being started", &onward(&panel, &asked)),
        Err(why) => {
            signing::refused(&noted, StatusCode::FORBIDDEN, &why, None);
            pages::start(&place.workspace, &asked.host, &asked.to, Some(&why))
        }
    }
}
