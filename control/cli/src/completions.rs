//! `forebay completions bash|zsh|fish`.

use clap::ValueEnum;
use clap_complete::Shell as Generator;

use crate::fault::Fault;

/// Arguments of `completions`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The shell to complete for
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Print the script on standard output.
pub(crate) fn run(args: &Args, command: &mut clap::Command) -> Result<u8, Fault> {
    let generator = match args.shell {
        Shell::Bash => Generator::Bash,
        Shell::Zsh => Generator::Zsh,
        Shell::Fish => Generator::Fish,
    };
    clap_complete::generate(generator, command, "forebay", &mut std::io::stdout());
    Ok(0)
}
