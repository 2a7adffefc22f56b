//! The `devsanctum` binary.

use clap::Parser;
use devsanctum::app::{self, Config, StateDir};
use devsanctum::cli::{self, Cli, Globals};
use std::ffi::OsString;
use std::process::ExitCode;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// More writes a second than with the C library's, for no more memory (docs/PERFORMANCE.md); set in `.cargo/config.toml`.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> std::io::Result<ExitCode> {
    let runtime = tokio::runtime::Runtime::new()?;
    let code = runtime.block_on(run());
    // A read of standard input cannot be called off: waiting for it would keep `exec -i` after its command has ended.
    runtime.shutdown_background();
    Ok(code)
}

async fn run() -> ExitCode {
    // A second installation of the same provider is the only way this fails.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let hooks = app::hooks(Box::new(|globals, args| Box::pin(serve(globals, args))));
    cli::run(Cli::parse(), hooks).await
}

async fn serve(globals: Globals, args: Vec<OsString>) -> ExitCode {
    let config = Config::parse_from(std::iter::once(OsString::from("serve")).chain(args.iter().cloned()));
    app::start_logging(config.log_json);
    let stop = CancellationToken::new();
    tokio::spawn(cancel_on_signal(stop.clone()));
    if config.watchdog {
        return app::keep(&cli::state_dir(&globals), &args, stop).await;
    }
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
}
