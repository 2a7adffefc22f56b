//! `server`: Docker hosts, from their certificates to their last workspace.

mod certs;
mod drain;
mod figures;
mod harden;
mod join;
mod remove;

use super::args::{AddServerArgs, ServerArgs, ServerCommand, TestServerArgs};
use super::connect::{self, Context};
use super::failure::{FAILED, Failure, TIMED_OUT};
use super::target;
use super::ui::{self, clean, columns};
use crate::cli::args::Globals;
use crate::resource::conditions::holds;
use crate::resource::{DockerServer, KindDef, SYSTEM_NAMESPACE, ServerPhase, Workspace, labels};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Api, ListParams};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use tokio::time::Instant;

const MANAGER: &str = "devsanctum-server-command";
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Runs `server`.
///
/// # Errors
/// What the API refused; what is wrong with the host.
pub async fn run(globals: &Globals, args: ServerArgs) -> Result<(), Failure> {
    // Not awaited for certificates: those are made on any machine.
    let connected = connect::connect(globals);
    match args.command {
        ServerCommand::Certs(args) => certs::run(&args),
        ServerCommand::Add(args) => add(&connected.await?, args).await,
        ServerCommand::Test(args) => test(&connected.await?, &args).await,
        ServerCommand::Drain(args) => drain::run(&connected.await?, &args).await,
        ServerCommand::Undrain(one) => {
            merge(&connected.await?, &one.name, &json!({"schedulable": true, "evacuate": false})).await?;
            ui::say(&format!("dockerserver/{} takes workspaces again", one.name))
        }
        ServerCommand::Figures(one) => figures::run(&connected.await?, &one).await,
        ServerCommand::Harden(args) => harden::run(&connected.await?, &args).await,
        ServerCommand::JoinCommand(args) => join::run(&args),
        ServerCommand::Remove(args) => remove::run(&connected.await?, &args).await,
    }
}

/// The secret and the server in one transaction: neither is there without the other.
async fn add(context: &Context, args: AddServerArgs) -> Result<(), Failure> {
    target::check_name(&args.name)?;
    let (ssh, local) = (args.host.starts_with("ssh://"), args.host.starts_with("unix://"));
    if args.ssh_key.is_some() && !ssh {
        return Err(Failure::usage("--ssh-key is for a host that is reached through SSH: --host ssh://USER@HOST"));
    }
    if args.certs.is_some() && (ssh || local) {
        return Err(Failure::usage("--certs is for an engine that listens on the network; a socket has no TLS"));
    }
    let kind = |kind: &str, namespace: Option<&str>, spec: Value| json!({"apiVersion": "devsanctum.io/v1", "kind": kind, "metadata": {"name": args.name, "namespace": namespace}, "spec": spec});
    let mut spec = json!({"host": args.host, "port": args.port, "groups": args.groups});
    let mut documents = Vec::new();
    let secret = json!({"namespace": SYSTEM_NAMESPACE, "name": args.name});
    if ssh {
        let (Some(key), Some(known)) = (&args.ssh_key, &args.known_hosts) else {
            let why = "a host is reached through SSH with a key, and known by its own";
            return Err(
                Failure::new(why).hint("name both with --ssh-key and --known-hosts (`ssh-keyscan HOST` prints the latter)")
            );
        };
        let data = json!({"sshKey": text(key)?, "knownHosts": text(known)?});
        documents.push(kind("Secret", Some(SYSTEM_NAMESPACE), json!({"data": data})));
        spec["ssh"] = json!({"secret": secret});
    } else if let Some(dir) = &args.certs {
        let data = json!({"ca": pem(dir, "ca.pem")?, "cert": pem(dir, "cert.pem")?, "key": pem(dir, "key.pem")?});
        documents.push(kind("Secret", Some(SYSTEM_NAMESPACE), json!({"data": data})));
        spec["tls"] = json!({"enabled": true, "secret": secret});
    } else if !local {
        let why = "an engine on the network without TLS is everybody's who reaches it";
        return Err(
            Failure::new(why).hint("make certificates with `devsanctum server certs`, and name their folder with --certs")
        );
    }
    documents.push(kind("DockerServer", None, spec));
    let body = json!({"manager": MANAGER, "documents": documents});
    context.post("/devsanctum/apply", &body).await??;
    ui::note(&format!("dockerserver/{} registered; waiting for its engine", args.name));
    test(context, &TestServerArgs { name: args.name, timeout: args.timeout }).await
}

fn text(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|e| Failure::new(format!("{}: {e}", path.display())))
}

fn pem(dir: &Path, name: &str) -> Result<String, Failure> {
    let path = dir.join(name);
    let hint = "`devsanctum server certs` makes it";
    std::fs::read_to_string(&path).map_err(|e| Failure::new(format!("{}: {e}", path.display())).hint(hint))
}

fn def() -> Result<&'static KindDef, Failure> {
    target::kind("dockerserver")
}

async fn read(context: &Context, name: &str) -> Result<DockerServer, Failure> {
    let found = context.get(def()?, None, name).await?;
    Ok(serde_json::from_value(found.ok_or_else(|| Failure::new(format!("server {name:?} is not registered")))?)?)
}

/// Has it looked at anew, and says what was found.
async fn test(context: &Context, args: &TestServerArgs) -> Result<(), Failure> {
    let now = Timestamp::now();
    let asked = json!({"metadata": {"annotations": {labels::TESTED: now.to_string()}}});
    context.merge(def()?, None, &args.name, &asked, MANAGER).await??;
    let begun = Instant::now();
    loop {
        let server = read(context, &args.name).await?;
        let status = server.status.unwrap_or_default();
        // Somebody else may have asked meanwhile: what was found for them is as new.
        let looked = status.last_test.as_ref().and_then(|at| at.parse::<Timestamp>().ok()).is_some_and(|at| at >= now);
        let online = looked && status.phase == ServerPhase::Online && holds(&status.conditions, "Ready");
        let refused = looked && refused(&status.conditions);
        let over = begun.elapsed() > args.timeout;
        if !online && !refused && !over {
            tokio::time::sleep(LOOK_EVERY).await;
            continue;
        }
        let mut rows = vec![["CONDITION", "IS", "REASON", "MESSAGE"].map(str::to_owned).to_vec()];
        for c in &status.conditions {
            rows.push(vec![clean(&c.type_), clean(&c.status), clean(&c.reason), clean(&c.message)]);
        }
        ui::say(&columns(&rows).join("\n"))?;
        if let Some(ends) = &status.certificate_expires_at {
            ui::say(&format!("the first of its certificates ends on {}", clean(ends)))?;
        }
        let phase = format!("{:?}", status.phase).to_uppercase();
        let words = format!("dockerserver/{} is {phase}", args.name);
        return if online {
            ui::say(&words)
        } else {
            Err(Failure { code: if refused { FAILED } else { TIMED_OUT }, ..Failure::new(words) })
        };
    }
}

/// Whether what stands in the way is a person's to mend: waiting mends nothing.
fn refused(conditions: &[Condition]) -> bool {
    const WAYS: [&str; 9] = [
        "ServerCertificate",
        "ClientCertificate",
        "SshHostKey",
        "SshKey",
        "SshForwarding",
        "ApiTooOld",
        "NotDocker",
        "EngineReplaced",
        "EngineTaken",
    ];
    conditions.iter().any(|c| c.status == "False" && WAYS.iter().any(|way| c.reason.starts_with(way)))
}

async fn merge(context: &Context, name: &str, spec: &Value) -> Result<(), Failure> {
    context.merge(def()?, None, name, &json!({"spec": spec}), MANAGER).await??;
    Ok(())
}

/// The workspaces on a server, warm ones too.
async fn placed(context: &Context, name: &str) -> Result<Vec<Workspace>, Failure> {
    let on_it = ListParams::default().fields(&format!("status.dockerServer={name}"));
    Ok(Api::<Workspace>::all(context.client.clone()).list(&on_it).await?.items)
}
