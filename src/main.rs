//! The `devsanctum` binary.

use clap::Parser;
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
