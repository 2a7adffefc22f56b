//! Every operation of the OpenAPI documents, and what they do not list, as everybody, on what is theirs, their group's, a
//! stranger's and nobody's: the codes of all of it lie in `matrix.txt`. An operation that is new has no row there, and fails.
//!
//! `UPDATE_GOLDEN=1` writes the file anew; what has changed in it is to be read, line by line.

use super::Town;
use crate::support::api::GROUP;
use devsanctum::access::Scope;
use k8s_openapi::jiff::SignedDuration;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

/// Columns: who asks. Nobody comes first.
const SUBJECTS: [&str; 14] = [
    "nobody", "stranger", "reader", "deployer", "manager", "lead", "owner", "former", "disabled", "admin", "other", "read-key",
    "open-key", "expired",
];

/// What an address is filled with: project and name, by what it is to the people of `team`.
pub fn objects(path: &str) -> Vec<(&'static str, &'static str, &'static str)> {
    let named = path.contains("{name}");
    let kind = path.split("/{name}").next().unwrap_or_default().rsplit('/').next().unwrap_or_default();
    let in_project = path.contains("{namespace}");
    match (in_project, named, kind) {
        (true, false, _) => vec![("ours", "team", ""), ("others", "else", ""), ("public", "open", ""), ("none", "nowhere", "")],
        (true, true, kind) if kind == "workspaces" || kind.starts_with("shares?") => vec![
            ("reader's", "team", "of-reader"),
            ("deployer's", "team", "of-deployer"),
            ("owner's", "team", "of-owner"),
            ("former's", "team", "of-former"),
            ("missing", "team", "nothing"),
            ("others", "else", "of-other"),
            ("public", "open", "shown"),
            ("private in public", "open", "hidden"),
            ("none", "nowhere", "nothing"),
        ],
        (true, true, "secrets") => {
            vec![("ours", "team", "git"), ("missing", "team", "nothing"), ("others", "else", "git"), ("public", "open", "git")]
        }
        (true, true, _) => {
            vec![("ours", "team", "web"), ("missing", "team", "nothing"), ("others", "else", "web"), ("public", "open", "web")]
        }
        (false, true, "users") => {
            vec![("reader", "", "reader"), ("deployer", "", "deployer"), ("other", "", "other"), ("missing", "", "nobody")]
        }
        (false, true, "groups") => {
            vec![("readers", "", "readers"), ("devs", "", "devs"), ("elsewhere", "", "elsewhere"), ("missing", "", "nothing")]
        }
        (false, true, "projects" | "namespaces") => {
            vec![("ours", "", "team"), ("others", "", "else"), ("public", "", "open"), ("missing", "", "nothing")]
        }
        (false, true, "dockerservers") => {
            vec![
                ("for all", "", "for-all"),
                ("for devs", "", "for-devs"),
                ("others", "", "for-others"),
                ("missing", "", "nothing"),
            ]
        }
        (false, true, "templates") => vec![("there", "", "base"), ("missing", "", "nothing")],
        (false, true, "features") => vec![("there", "", "tools"), ("missing", "", "nothing")],
        (false, true, "settings") => vec![("there", "", "default"), ("missing", "", "nothing")],
        (false, true, "invitations") => vec![("there", "", "guest"), ("missing", "", "nothing")],
        (false, true, "reposyncs") => vec![("there", "", "all"), ("missing", "", "nothing")],
        _ => vec![("", "", "")],
    }
}

/// What the documents do not list: streams, reviews, what is no record.
const BESIDE: [(&str, &str); 24] = [
    ("get", "/apis/devsanctum.io/v1/namespaces/{namespace}/workspaces/{name}/log"),
    ("get", "/apis/devsanctum.io/v1/namespaces/{namespace}/workspaces/{name}/exec"),
    ("get", "/apis/devsanctum.io/v1/namespaces/{namespace}/workspaces/{name}/terminal"),
    ("get", "/apis/devsanctum.io/v1/namespaces/{namespace}/workspaces/{name}/portforward"),
    ("post", "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"),
    ("post", "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"),
    ("post", "/apis/authorization.k8s.io/v1/subjectaccessreviews"),
    ("post", "/apis/authentication.k8s.io/v1/selfsubjectreviews"),
    ("get", "/api"),
    ("get", "/apis"),
    ("get", "/openapi/v2"),
    ("get", "/openapi/v3"),
    ("get", "/version"),
    ("get", "/healthz"),
    ("get", "/devsanctum/keys"),
    ("get", "/devsanctum/secrets"),
    ("post", "/devsanctum/secrets/rotate"),
    ("get", "/devsanctum/audit"),
    ("get", "/devsanctum/audit/verify"),
    ("post", "/devsanctum/audit/prune"),
    ("post", "/devsanctum/mail"),
    ("delete", "/devsanctum/users/{name}/sessions"),
    ("get", "/devsanctum/shares?project={namespace}&workspace={name}"),
    ("post", "/devsanctum/shares?project={namespace}&workspace={name}"),
];

/// All operations there are, in order: method and address.
pub async fn operations(town: &Town) -> Vec<(String, String)> {
    let read = async |path: &str| {
        serde_json::from_str::<Value>(&town.raw(Some("admin"), "GET", path, "", String::new()).await.1).unwrap()
    };
    let mut all = Vec::new();
    for document in read("/openapi/v3").await["paths"].as_object().unwrap().values() {
        let document = read(document["serverRelativeURL"].as_str().unwrap()).await;
        for (path, item) in document["paths"].as_object().unwrap() {
            let methods =
                item.as_object().unwrap().keys().filter(|m| ["get", "post", "put", "patch", "delete"].contains(&m.as_str()));
            all.extend(methods.map(|method| (method.clone(), path.clone())));
        }
    }
    all.extend(BESIDE.map(|(method, path)| (method.to_owned(), path.to_owned())));
    all.sort_by(|a, b| (&a.1, &a.0).cmp(&(&b.1, &b.0)));
    all
}

/// A body that is in order, so that only the door can object to it.
pub async fn body(town: &Town, method: &str, path: &str) -> (String, String) {
    let json = "application/json".to_owned();
    match method {
        "patch" => (json!({"metadata": {"labels": {"touched": "yes"}}}).to_string(), "application/merge-patch+json".to_owned()),
        "put" => {
            let (_, text) = town.raw(Some("admin"), "GET", path.trim_end_matches("/status"), "", String::new()).await;
            (text, json)
        }
        "post" if path.ends_with("accessreviews") => {
            let attributes = json!({"verb": "get", "group": "devsanctum.io", "resource": "workspaces", "namespace": "team"});
            (json!({"spec": {"user": "reader", "resourceAttributes": attributes}}).to_string(), json)
        }
        "post" if path.ends_with("reviews") => (json!({"spec": {}}).to_string(), json),
        // Who may passes the door, and is then told (422) that the workspace has no address: it has never run.
        "post" if path.starts_with("/devsanctum/shares?") => {
            let named = path.split_once('?').map(|(_, query)| query).unwrap_or_default();
            let pairs = named.split('&').filter_map(|pair| pair.split_once('='));
            (pairs.map(|(key, value)| (key.to_owned(), Value::from(value))).collect::<Value>().to_string(), json)
        }
        "post" if path.starts_with("/devsanctum/") => (json!({}).to_string(), json),
        "post" => (sample(path), json),
        _ => (String::new(), json),
    }
}

/// A new record of the kind that an address is of.
fn sample(path: &str) -> String {
    let plural = path.rsplit('/').next().unwrap_or_default();
    let (version, kind, spec) = match plural {
        "workspaces" => ("devsanctum.io/v1", "Workspace", json!({"owner": "SELF"})),
        "projects" => ("devsanctum.io/v1", "Project", json!({"owner": "SELF", "template": "base"})),
        "routes" => ("devsanctum.io/v1", "Route", json!({"host": "new.example.com", "workspace": "of-owner", "port": 80})),
        "secrets" => ("devsanctum.io/v1", "Secret", json!({"data": {"token": "x"}})),
        "users" => ("devsanctum.io/v1", "User", json!({"email": "new@example.com"})),
        "groups" => ("devsanctum.io/v1", "Group", json!({"members": []})),
        "templates" => ("devsanctum.io/v1", "Template", json!({"base": "node:20"})),
        "features" => ("devsanctum.io/v1", "Feature", json!({"packages": ["git"]})),
        "dockerservers" => ("devsanctum.io/v1", "DockerServer", json!({"host": "new"})),
        "settings" => ("devsanctum.io/v1", "Settings", json!({})),
        "invitations" => ("devsanctum.io/v1", "Invitation", json!({"email": "new@example.com"})),
        "reposyncs" => ("devsanctum.io/v1", "RepoSync", json!({"url": "https://git.example.com/x.git"})),
        "namespaces" => ("v1", "Namespace", json!({})),
        "leases" => ("coordination.k8s.io/v1", "Lease", json!({})),
        _ => return json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "new"}, "involvedObject": {}}).to_string(),
    };
    json!({"apiVersion": version, "kind": kind, "metadata": {"name": "new"}, "spec": spec}).to_string()
}

/// The codes of one operation on one object, as everybody.
async fn row(town: &Town, method: &str, path: &str) -> String {
    let (body, media) = body(town, method, path).await;
    // Nothing is to stay of it.
    let writes = method != "get" && !path.ends_with("reviews");
    let uri = if writes { format!("{path}?dryRun=All") } else { path.to_owned() };
    let mut codes = String::new();
    for who in SUBJECTS {
        let (as_whom, name) = (Some(who).filter(|w| *w != "nobody"), if who == "expired" { "owner" } else { who });
        let body = body.replace("SELF", name);
        let (code, _) = town.raw(as_whom, &method.to_uppercase(), &uri, &media, body).await;
        write!(codes, " {code:>9}").unwrap();
    }
    codes
}

pub async fn people() -> Town {
    let mut town = Town::new().await;
    let list = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect();
    let reads = Scope { verbs: list(&["get", "list", "watch"]), projects: list(&["team"]), ..Scope::default() };
    town.key("read-key", "owner", reads, None).await;
    town.key("open-key", "other", Scope { projects: list(&["open"]), ..Scope::default() }, None).await;
    town.key("expired", "owner", Scope::default(), Some(SignedDuration::from_millis(1))).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    town
}

#[tokio::test]
async fn everybody_is_answered_as_the_matrix_says() {
    let town = people().await;
    let mut rows = BTreeMap::new();
    for (method, path) in operations(&town).await {
        for (what, project, name) in objects(&path) {
            let address = path.replace("{namespace}", project).replace("{name}", name);
            let shown =
                path.replace("/apis/devsanctum.io/v1/", "").replace("namespaces/{namespace}/", "P/").replace("{name}", "N");
            let shown = shown
                .replace("/apis/", "")
                .replace("authorization.k8s.io", "authorization")
                .replace("authentication.k8s.io", "authn")
                .replace("?project={namespace}&workspace=N", " of P/N");
            let codes = row(&town, &method, &address).await;
            rows.insert(format!("{shown:<34} {:<6} {what:<17}", method.to_uppercase()), codes);
        }
    }
    let cells = rows.len() * SUBJECTS.len();
    let mut text = format!("{:<59}", "");
    SUBJECTS.iter().for_each(|who| write!(text, " {who:>9}").unwrap());
    rows.iter().for_each(|(what, codes)| write!(text, "\n{what}{codes}").unwrap());
    text.push('\n');
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/access/matrix.txt");
    if std::env::var("UPDATE_GOLDEN").is_ok() {
        std::fs::write(&file, &text).unwrap();
    }
    let golden = std::fs::read_to_string(&file).unwrap_or_default();
    let changed: Vec<_> = text.lines().filter(|line| !golden.lines().any(|old| old == *line)).take(20).collect();
    assert!(text == golden, "not as in matrix.txt (UPDATE_GOLDEN=1 writes it anew), such as\n{}", changed.join("\n"));
    println!("proof: cells of the authorization matrix {cells} played, 0 failed");
    assert!(cells >= 2500, "{cells}");
}

/// Whatever is asked of it: what is hidden is answered word for word as what is not there.
#[tokio::test]
async fn what_is_hidden_is_as_what_is_not_there() {
    let town = people().await;
    let mut compared = 0;
    for (method, path) in operations(&town).await.into_iter().filter(|(_, path)| path.starts_with(GROUP) && path.contains('{')) {
        for (what, project, name) in
            objects(&path).into_iter().filter(|(what, ..)| *what == "others" || what.starts_with("private"))
        {
            let (project_missing, name_missing) = match (project, what) {
                ("", _) => ("", "nothing-at-all"),
                (_, "others") => ("nowhere-at-all", name),
                _ => (project, "nothing-at-all"),
            };
            for who in ["stranger", "reader", "deployer", "manager", "owner", "read-key"] {
                let ask = async |project: &str, name: &str| {
                    let address = path.replace("{namespace}", project).replace("{name}", name);
                    let (body, media) = body(&town, &method, &path.replace("{namespace}", "else").replace("{name}", "x")).await;
                    let body =
                        if method == "put" { json!({"metadata": {"name": name}}).to_string() } else { body.replace("SELF", who) };
                    let uri = if method == "get" { address } else { format!("{address}?dryRun=All") };
                    town.raw(Some(who), &method.to_uppercase(), &uri, &media, body).await
                };
                let (code, hidden) = ask(project, name).await;
                let (none_code, none) = ask(project_missing, name_missing).await;
                let same = |text: &str, project: &str, name: &str| {
                    let text = if project.is_empty() {
                        text.to_owned()
                    } else {
                        text.replace(&format!("\"{project}\""), "\"P\"").replace(&format!("\\\"{project}\\\""), "\\\"P\\\"")
                    };
                    let text = if name.is_empty() { text } else { text.replace(name, "N") };
                    // The version of a list is of the moment.
                    text.split("\"resourceVersion\"").next().unwrap().to_owned()
                };
                let (hidden, none) = (same(&hidden, project, name), same(&none, project_missing, name_missing));
                assert_eq!((code, &hidden), (none_code, &none), "{who}: {method} {path} of {what}");
                compared += 1;
            }
        }
    }
    println!("compared {compared} answers about what is hidden");
    assert!(compared > 200, "{compared}");
}
