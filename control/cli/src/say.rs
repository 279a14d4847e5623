//! Standard output for all commands: a reader that has seen enough (`| head`) ends the program quietly, any other
//! failure ends it with FB-2207.

use std::fmt::Arguments;
use std::io::Write;

/// Print a line on standard output.
macro_rules! say {
    ($($text:tt)*) => { $crate::say::write(format_args!("{}\n", format_args!($($text)*))) };
}
pub(crate) use say;

/// Print on standard output, or end the program.
pub(crate) fn write(text: Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    if let Err(error) = out.write_fmt(text).and_then(|()| out.flush()) {
        let fault = crate::fault::output(&error);
        fault
            .found
            .iter()
            .for_each(|diagnosis| eprintln!("forebay: {diagnosis}"));
        std::process::exit(fault.exit.into());
    }
}
