//! The command line, through the API alone.
//!
//! Nothing here knows how the control plane works inside: every command speaks to its Kubernetes-shaped
//! API as kubectl would. Commands that run the control plane itself are handed in as [`Hooks`].

mod apply;
pub mod args;
mod audit;
mod auth;
mod branches;
mod connect;
mod cp;
mod delete;
mod describe;
mod devcontainer;
mod doctor;
mod edit;
mod events;
mod exec;
mod explain;
mod failure;
mod fork;
mod get;
mod image;
mod key;
mod kubeconfig;
mod library;
mod login;
mod logs;
pub mod manifest;
mod output;
mod port_forward;
mod relocate;
mod rest;
mod schema;
mod secrets;
mod server;
mod share;
mod ssh;
mod status;
mod target;
mod template;
mod terminal;
mod tty;
mod ui;
mod user;
mod wait;
mod why_pending;
mod workspace;

pub use args::{Cli, Command, Globals};
pub use connect::state_dir;

use clap::CommandFactory;
use failure::Failure;
use futures::future::BoxFuture;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

/// A command that lives outside this module: it gets the global flags and its own arguments as they are.
pub type Hook = Box<dyn FnOnce(Globals, Vec<OsString>) -> BoxFuture<'static, ExitCode> + Send>;

/// The commands that run the control plane itself.
pub struct Hooks {
    /// `serve`.
    pub serve: Hook,
    /// `up`.
    pub up: Hook,
    /// `down`.
    pub down: Hook,
    /// `backup`.
    pub backup: Hook,
    /// `restore`.
    pub restore: Hook,
}

/// Runs a command to its end and gives its exit code.
pub fn run(cli: Cli, hooks: Hooks) -> BoxFuture<'static, ExitCode> {
    // Boxed, so that its code is made with the library and not in the program.
    Box::pin(dispatch(cli, hooks))
}

async fn dispatch(cli: Cli, hooks: Hooks) -> ExitCode {
    let Cli { mut globals, command } = cli;
    let (hook, args) = match command {
        Command::Serve(args) => (hooks.serve, args.args),
        Command::Up(args) => (hooks.up, args.args),
        Command::Down(args) => (hooks.down, args.args),
        Command::Backup(args) => (hooks.backup, args.args),
        Command::Restore(args) => (hooks.restore, args.args),
        command => return finish(&globals, ask(&globals, command).await).await,
    };
    let args = take_state_dir(&mut globals, args);
    hook(globals, args).await
}

/// Takes `--state-dir`, the global flag that hooks heed, out of a hook's own arguments: it may stand after them, too.
fn take_state_dir(globals: &mut Globals, args: Vec<OsString>) -> Vec<OsString> {
    let (mut rest, mut args) = (Vec::new(), args.into_iter().peekable());
    while let Some(arg) = args.next() {
        if arg == "--" {
            rest.push(arg);
            rest.extend(args.by_ref());
        } else if arg == "--state-dir" && args.peek().is_some() {
            globals.state_dir = args.next().map(Into::into);
        } else if let Some(dir) = arg.as_encoded_bytes().strip_prefix(b"--state-dir=") {
            globals.state_dir = Some(OsStr::from_bytes(dir).into());
        } else {
            rest.push(arg);
        }
    }
    rest
}

async fn ask(globals: &Globals, command: Command) -> Result<(), Failure> {
    match command {
        Command::Apply(args) => apply::run(globals, args).await,
        Command::Diff(args) => apply::diff::run(globals, args).await,
        Command::Get(args) => get::run(&connect::connect(globals).await?, args).await,
        Command::Describe(args) => describe::run(&connect::connect(globals).await?, args).await,
        Command::Edit(args) => edit::run(&connect::connect(globals).await?, args).await,
        Command::Delete(args) => delete::run(&connect::connect(globals).await?, args).await,
        Command::Wait(args) => wait::run(&connect::connect(globals).await?, args).await,
        Command::Events(args) => events::run(&connect::connect(globals).await?, args).await,
        Command::Logs(args) => logs::run(&connect::connect(globals).await?, args).await,
        Command::Exec(args) => exec::run(&connect::connect(globals).await?, args).await,
        Command::Cp(args) => cp::run(&connect::connect(globals).await?, args).await,
        Command::Terminal(args) => terminal::run(&connect::connect(globals).await?, args).await,
        Command::Ssh(args) => ssh::run(&connect::connect(globals).await?, args).await,
        Command::PortForward(args) => port_forward::run(&connect::connect(globals).await?, args).await,
        Command::Workspace(args) => workspace::run(&connect::connect(globals).await?, args).await,
        Command::Fork(args) => fork::run(&connect::connect(globals).await?, args).await,
        Command::Branches(args) => branches::run(&connect::connect(globals).await?, args).await,
        Command::Image(args) => image::run(&args),
        Command::Template(args) => template::run(&connect::connect(globals).await?, args).await,
        Command::Devcontainer(args) => devcontainer::run(globals, args).await,
        Command::Library(args) => library::run(globals, args).await,
        Command::Auth(args) => auth::run(&connect::connect(globals).await?, args).await,
        Command::User(args) => user::run(&connect::connect(globals).await?, args).await,
        Command::Mail(args) => user::mail(&connect::connect(globals).await?, args).await,
        Command::Audit(args) => audit::run(&connect::connect(globals).await?, args).await,
        Command::Login(args) => login::run(globals, &args).await,
        Command::Logout => login::logout(globals).await,
        Command::Credential => login::credential(globals),
        Command::Key(args) => key::run(&connect::connect(globals).await?, args).await,
        Command::Secrets(args) => secrets::run(&connect::connect(globals).await?, args).await,
        Command::Server(args) => server::run(globals, args).await,
        Command::Share(args) => share::run(&connect::connect(globals).await?, args).await,
        Command::Explain(args) => explain::run(&args),
        Command::Kubeconfig(args) => kubeconfig::run(globals, &args),
        Command::Schema(args) => schema::run(&args),
        Command::Status(args) => status::run(&connect::connect(globals).await?, args).await,
        Command::Doctor(args) => doctor::run(globals, args).await,
        Command::Version => ui::say(&format!("devsanctum {}", env!("CARGO_PKG_VERSION"))),
        Command::Completion(args) => {
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "devsanctum", &mut script);
            ui::say(&String::from_utf8_lossy(&script))
        }
        Command::Serve(_) | Command::Up(_) | Command::Down(_) | Command::Backup(_) | Command::Restore(_) => Ok(()),
    }
}

/// Says what went wrong, with the address where the API was not reached.
async fn finish(globals: &Globals, result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else { return ExitCode::SUCCESS };
    let server = if failure.unreachable {
        connect::config(globals).await.ok().map(|c| c.cluster_url.to_string().trim_end_matches('/').to_owned())
    } else {
        None
    };
    let text = failure.render(server.as_deref());
    if !text.is_empty() {
        ui::note(&text);
    }
    ExitCode::from(failure.code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[test]
    fn the_commands_are_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn arguments_of_hooks_are_handed_on_as_they_are() {
        let cli = Cli::try_parse_from(["devsanctum", "serve", "--listen", "127.0.0.1:0", "--help"]).unwrap();
        let Command::Serve(args) = cli.command else { panic!("not serve") };
        assert_eq!(args.args, ["--listen", "127.0.0.1:0", "--help"]);
    }

    #[test]
    fn the_state_folder_may_be_named_before_and_after_arguments_of_hooks() {
        let at = |words: &[&str]| {
            let cli = Cli::try_parse_from([&["devsanctum"], words].concat()).unwrap();
            let (mut globals, Command::Serve(args) | Command::Up(args)) = (cli.globals, cli.command) else { panic!() };
            let rest = take_state_dir(&mut globals, args.args);
            (globals.state_dir.unwrap().display().to_string(), rest)
        };
        let listen = ["--listen", "x"].map(OsString::from).to_vec();
        for words in [
            "--state-dir d serve --listen x",
            "serve --state-dir d --listen x",
            "serve --listen x --state-dir d",
            "up --listen x --state-dir=d",
        ] {
            assert_eq!(at(&words.split(' ').collect::<Vec<_>>()), ("d".to_owned(), listen.clone()), "{words}");
        }
        let (dir, rest) = at(&["up", "--state-dir", "d", "--timeout", "1s", "--", "--state-dir", "e"]);
        assert!(dir == "d" && rest.ends_with(&["--state-dir".into(), "e".into()]), "what follows -- is another's: {rest:?}");
    }

    #[test]
    fn a_dry_run_without_a_value_asks_the_server() {
        let parse = |words: &[&str]| Cli::try_parse_from(words);
        let Command::Apply(args) = parse(&["devsanctum", "apply", "-f", "x", "--dry-run"]).unwrap().command else { panic!() };
        assert_eq!(args.dry_run, args::DryRun::Server);
        let Command::Apply(args) = parse(&["devsanctum", "apply", "-f", "x", "--dry-run=client"]).unwrap().command else {
            panic!()
        };
        assert_eq!(args.dry_run, args::DryRun::Client);
        let Command::Delete(args) = parse(&["devsanctum", "delete", "ws/a", "--wait=false"]).unwrap().command else { panic!() };
        assert!(!args.wait && args.dry_run == args::DryRun::None);
        for (flag, is) in [("--dry-run", args::DryRun::Server), ("--dry-run=client", args::DryRun::Client)] {
            let Command::Delete(args) = parse(&["devsanctum", "delete", "ws/a", flag]).unwrap().command else { panic!() };
            assert_eq!(args.dry_run, is);
        }
        assert!(parse(&["devsanctum", "delete"]).is_err());
        assert!(parse(&["devsanctum", "apply"]).is_err());
    }
}
