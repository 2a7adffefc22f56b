//! The `devsanctum` binary.

use clap::Parser;
use devsanctum::app::{self, Config, StateDir};
use devsanctum::cli::{self, Cli, Globals, Hooks};
use std::ffi::OsString;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

#[tokio::main]
async fn main() -> ExitCode {
    // A second installation of the same provider is the only way this fails.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let hooks = Hooks {
        serve: Box::new(|globals, args| Box::pin(serve(globals, args))),
        up: Box::new(|globals, args| Box::pin(app::up(globals, args))),
        down: Box::new(|globals, args| Box::pin(app::down(globals, args))),
    };
    cli::run(Cli::parse(), hooks).await
}

async fn serve(globals: Globals, args: Vec<OsString>) -> ExitCode {
    let config = Config::parse_from(std::iter::once(OsString::from("serve")).chain(args));
    app::start_logging(config.log_json);
    let stop = CancellationToken::new();
    tokio::spawn(cancel_on_signal(stop.clone()));
    let state = StateDir::open(&cli::state_dir(&globals)).map_err(|e| e.to_string());
    let result = match state {
        Ok(state) => app::serve(config, state, stop).await,
        Err(e) => Err(e),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

async fn cancel_on_signal(stop: CancellationToken) {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) else { return };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
    stop.cancel();
use devsanctum::cli::{self, Cli, Hook, Hooks};
use std::process::ExitCode;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => {
            eprintln!("error: the runtime could not be started: {e}");
            return ExitCode::FAILURE;
        }
    };
    let code = runtime.block_on(cli::run(cli, Hooks { serve: missing("serve"), up: missing("up"), down: missing("down") }));
    // A read of standard input that never ends must not keep the process.
    runtime.shutdown_background();
    code
}

/// The control plane is composed elsewhere; until then its commands say so and fail.
fn missing(command: &'static str) -> Hook {
    Box::new(move |_, _| {
        Box::pin(async move {
            eprintln!("error: this build holds no control plane to {command}");
            ExitCode::FAILURE
        })
    })
}
