//! The plan file: a model as TOML. Read strictly, and every fault is told with the line it stands on.

mod locate;
pub(crate) mod syntax;

use wire::diagnosis::Diagnosis;
use wire::route::RouteTable;

use crate::compile::{self, Found};
use crate::diagnosis::TABLE;
use crate::model::Model;

/// Compile the text of a plan as epoch 1; `file` is the name that messages give it.
///
/// # Errors
/// Everything that is wrong; never an empty list.
pub fn compile(text: &str, file: &str) -> Result<RouteTable, Vec<Diagnosis>> {
    compile_epoch(text, file, 1)
}

/// Compile the text of a plan as the given epoch of the route table.
///
/// # Errors
/// Everything that is wrong; never an empty list.
pub fn compile_epoch(text: &str, file: &str, epoch: u64) -> Result<RouteTable, Vec<Diagnosis>> {
    let model = read(text, file).map_err(|fault| vec![fault])?;
    compile::compile(&model, epoch, None)
        .map(|compiled| compiled.table)
        .map_err(|found| located(found, text, file))
}

/// Read the text of a plan. What its values mean is not looked at.
///
/// # Errors
/// The first thing that is no plan's.
pub fn read(text: &str, file: &str) -> Result<Model, Diagnosis> {
    toml::from_str(text).map_err(|error| {
        let at = locate::line(text, error.span().unwrap_or(0..0));
        let mut fault = syntax::diagnosis(&error, text);
        fault.what = format!("{file} line {at}: {}", fault.what);
        fault
    })
}

/// The faults of a compiled model, each with the line of the text it was read from.
#[must_use]
pub fn located(found: Vec<Found>, text: &str, file: &str) -> Vec<Diagnosis> {
    let name = |Found { pointer, mut fault }: Found| {
        fault.what = match locate::span(text, &pointer) {
            Some(span) => format!("{file} line {}: {}", locate::line(text, span), fault.what),
            None => format!("{file}: {}", fault.what),
        };
        fault
    };
    found.into_iter().map(name).collect()
}

/// Write a model as a plan. Secrets that are not sealed are left out.
///
/// # Errors
/// When a value has no form in TOML.
pub fn write(model: &Model) -> Result<String, Diagnosis> {
    toml::to_string(model).map_err(|error| {
        let what = "the model cannot be written as TOML";
        let needed = "numbers below 2^63";
        Diagnosis::new(TABLE, what, error.to_string(), needed, "lower the value")
    })
}
