//! The command.

use std::path::Path;
use std::process::ExitCode;

use filmgate::config::cli::{self, Command};
use filmgate::config::presign;
use filmgate::server;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match cli::parse() {
        Command::Run { config } => match cli::load(&config) {
            Ok(options) => run(options, &config),
            Err(code) => code,
        },
        Command::Check { config, to_start } => cli::check(&config, to_start),
        Command::Presign(arguments) => presign::run(&arguments),
        Command::Policy { ask } => cli::policy(ask),
        Command::PrintDefault => cli::print_default(),
        Command::Demo(arguments) => demo(arguments),
    }
}

fn run(options: server::Options, config: &Path) -> ExitCode {
    let config = config.to_owned();
    match server::run(options, &mut move || cli::reread(&config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("filmgate: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(feature = "demo")]
fn demo(arguments: cli::DemoArguments) -> ExitCode {
    let cli::DemoArguments { once, size, listen, tls_kernel: kernel } = arguments;
    let size_bytes = size.unwrap_or(filmgate::demo::SIZE_BYTES);
    filmgate::demo::run(filmgate::demo::Options { once, size_bytes, port: listen, kernel, keep: false })
}

#[cfg(not(feature = "demo"))]
fn demo(_: cli::DemoArguments) -> ExitCode {
    cli::no_demo()
}
