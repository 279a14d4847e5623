//! `--sweep`: one run for every combination of values, and one table of them all.

use loadgen::{LoadPlan, Report, ServerCpu, Verdict};
use wire::diagnosis::Diagnosis;

use super::Args;
use crate::diagnosis::{ARGUMENT, SWEEP};
use crate::fault::{Fault, as_json};
use crate::project::Project;
use crate::say::say;
use crate::workbench::{Folder, Node, Tunnels};

const POINTS_MAX: usize = 256;
/// What can be swept.
const DIMENSIONS: [&str; 8] = [
    "shards",
    "batch",
    "connections",
    "window",
    "rate",
    "size",
    "flooders",
    "storm",
];

/// The values of each dimension, in the order of the command line.
pub(super) struct Sweep {
    axes: Vec<(&'static str, Vec<String>)>,
}

/// One combination of values, and what came of it.
struct Point {
    values: Vec<(&'static str, String)>,
    result: Result<Report, Vec<Diagnosis>>,
}

impl Sweep {
    /// Read every `--sweep`; nothing is run when one of them is wrong.
    pub(super) fn parse(args: &Args) -> Result<Self, Diagnosis> {
        let mut axes: Vec<(&'static str, Vec<String>)> = Vec::new();
        for text in &args.sweep {
            let (name, values) = axis(text)?;
            if axes.iter().any(|(known, _)| *known == name) {
                return Err(wrong(
                    text,
                    "each dimension once",
                    "write all its values in one list",
                ));
            }
            let mut trial = args.clone();
            for value in &values {
                set(&mut trial, name, value).ok_or_else(|| {
                    let needed = format!("a value of {name}, not `{value}`");
                    wrong(
                        text,
                        &needed,
                        "write --sweep shards=1,2,4 or --sweep batch=1,16,256",
                    )
                })?;
            }
            axes.push((name, values));
        }
        let points: usize = axes.iter().map(|(_, values)| values.len()).product();
        if points > POINTS_MAX {
            let seen = format!("{points} combinations");
            return Err(wrong(&seen, "at most 256", "sweep fewer values at a time"));
        }
        let own_node = axes.iter().any(|(name, _)| *name == "shards");
        if own_node && (args.addr.is_some() || args.plan.is_some() || args.server_pid.is_some()) {
            return Err(Diagnosis::new(
                ARGUMENT,
                "a sweep of shards starts its own nodes",
                "--addr, --plan or --server-pid",
                "--config alone",
                "name the configuration whose plan and settings the nodes shall have",
            ));
        }
        Ok(Self { axes })
    }

    /// Run every point and print the table, or the list.
    pub(super) fn run(&self, args: &Args) -> Result<u8, Fault> {
        let own_node = self.axes.iter().any(|(name, _)| *name == "shards");
        let folder = match own_node {
            true => Some(Folder::beside(&Project::read(&args.config)?.node.data)?),
            false => None,
        };
        let all = self.combinations();
        let mut points = Vec::with_capacity(all.len());
        for (number, values) in all.iter().enumerate() {
            eprintln!("{} of {}: {}", number + 1, all.len(), name_of(values));
            let result = point(args, values, folder.as_ref());
            points.push(Point {
                values: values.clone(),
                result: result.map_err(|fault| fault.found),
            });
        }
        drop(folder);
        match args.json {
            true => say!(
                "{}",
                serde_json::Value::from_iter(points.iter().map(Point::json))
            ),
            false => crate::say::write(format_args!("{}", table(&points))),
        }
        Ok(points.iter().map(Point::exit_code).fold(0, worse))
    }

    /// Every combination; the last dimension changes fastest.
    fn combinations(&self) -> Vec<Vec<(&'static str, String)>> {
        let mut all = vec![Vec::new()];
        for (name, values) in &self.axes {
            let longer = |point: &Vec<(&'static str, String)>| {
                let with = |value: &String| [&point[..], &[(*name, value.clone())]].concat();
                values.iter().map(with).collect::<Vec<_>>()
            };
            all = all.iter().flat_map(longer).collect();
        }
        all
    }
}

/// A faulty run weighs more than a void one.
fn worse(one: u8, other: u8) -> u8 {
    match (one, other) {
        (1, _) | (_, 1) => 1,
        (one, other) => one.max(other),
    }
}

fn axis(text: &str) -> Result<(&'static str, Vec<String>), Diagnosis> {
    let form = "write --sweep shards=1,2,4 or --sweep batch=1,16,256";
    let Some((name, values)) = text.split_once('=') else {
        return Err(wrong(text, "a dimension, `=` and values", form));
    };
    let Some(known) = DIMENSIONS.into_iter().find(|known| *known == name) else {
        let nearest = control::nearest::nearest(name, DIMENSIONS);
        let remedy = match nearest {
            Some(nearest) => format!("did you mean `{nearest}`?"),
            None => form.to_owned(),
        };
        let needed = format!("one of {}", DIMENSIONS.join(", "));
        return Err(wrong(text, &needed, &remedy));
    };
    let values: Vec<String> = values
        .split(',')
        .map(|value| value.trim().to_owned())
        .collect();
    if values.iter().any(String::is_empty) {
        return Err(wrong(text, "values between commas", form));
    }
    Ok((known, values))
}

fn wrong(seen: &str, needed: &str, remedy: &str) -> Diagnosis {
    Diagnosis::new(
        SWEEP,
        "--sweep cannot be read",
        format!("`{seen}`"),
        needed,
        remedy,
    )
}

/// Give one value to a run; `None` when it is none of that dimension. Sizes and storms keep their own diagnosis.
fn set(args: &mut Args, name: &str, value: &str) -> Option<()> {
    match name {
        "shards" => drop(
            value
                .parse::<u16>()
                .ok()
                .filter(|count| (1..=256).contains(count))?,
        ),
        "batch" => args.batch = value.parse().ok()?,
        "connections" => args.connections = value.parse().ok()?,
        "window" => args.window = value.parse().ok()?,
        "rate" => args.rate = value.parse().ok()?,
        "size" => args.size = value.to_owned(),
        "flooders" => args.flooders = value.parse().ok()?,
        _ => args.storm = Some(value.to_owned()),
    }
    Some(())
}

fn name_of(values: &[(&'static str, String)]) -> String {
    let each: Vec<String> = values
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    each.join(" ")
}

/// One run, against a node of its own if shards are swept.
fn point(
    args: &Args,
    values: &[(&'static str, String)],
    folder: Option<&Folder>,
) -> Result<Report, Fault> {
    let mut args = args.clone();
    for (name, value) in values {
        set(&mut args, name, value).expect("every value was tried before the first run");
    }
    let plan = super::plan(&args)?;
    let shards = values.iter().find(|(name, _)| *name == "shards");
    let (Some(folder), Some((_, shards))) = (folder, shards) else {
        return super::measure(plan);
    };
    let tunnels = Tunnels::of(&Project::read(&args.config)?.node);
    let node = Node::start(&args.config, tunnels, folder, shards)?;
    super::measure(LoadPlan {
        addr: args
            .carried
            .choose(Some(node.addr), (node.tls, node.quic))?,
        server_cpu: ServerCpu::Process(node.pid()),
        data: Some(node.data().to_owned()),
        ..plan
    })
}

impl Point {
    fn exit_code(&self) -> u8 {
        match &self.result {
            Ok(report) => report.exit_code(),
            Err(_) => 1,
        }
    }

    fn json(&self) -> serde_json::Value {
        let number = |text: &String| match serde_json::from_str(text) {
            Ok(serde_json::Value::Number(number)) => serde_json::Value::Number(number),
            _ => serde_json::Value::from(text.as_str()),
        };
        let values = self.values.iter();
        let point: serde_json::Map<_, _> = values
            .map(|(name, value)| ((*name).to_owned(), number(value)))
            .collect();
        match &self.result {
            Ok(report) => serde_json::json!({ "point": point, "report": report }),
            Err(found) => {
                let errors: Vec<_> = found.iter().map(as_json).collect();
                serde_json::json!({ "point": point, "errors": errors })
            }
        }
    }

    /// The cells of its row: values, verdict, figures.
    fn cells(&self) -> Vec<String> {
        let mut cells: Vec<String> = self.values.iter().map(|(_, value)| value.clone()).collect();
        let none = || "-".to_owned();
        let Ok(report) = &self.result else {
            cells.push("FAILED".to_owned());
            cells.extend((0..6).map(|_| none()));
            return cells;
        };
        let verdict = match report.verdict {
            Verdict::Good => "good",
            Verdict::Void => "VOID",
            Verdict::Faulty => "FAULTY",
        };
        let ms = |pick: fn(&loadgen::histogram::Summary) -> f64| {
            report
                .ack_ms
                .as_ref()
                .map_or_else(none, |ms| format!("{:.2}", pick(ms)))
        };
        let server = report
            .steady_server_ns_per_message
            .or(report.server_ns_per_message);
        cells.extend([
            verdict.to_owned(),
            format!("{:.0}", report.achieved_per_s),
            ms(|ms| ms.p50),
            ms(|ms| ms.p99),
            ms(|ms| ms.p999),
            server.map_or_else(none, |nanos| format!("{nanos:.0}")),
            format!("{:.0}", report.generator_ns_per_message),
        ]);
        cells
    }

    /// Why it is not good.
    fn reasons(&self) -> Vec<String> {
        match &self.result {
            Ok(report) => report.reasons.clone(),
            Err(found) => found.iter().map(ToString::to_string).collect(),
        }
    }
}

/// The table of all points, and below it why some of them are not good.
fn table(points: &[Point]) -> String {
    let mut header: Vec<String> = points
        .first()
        .map(|point| {
            point
                .values
                .iter()
                .map(|(name, _)| (*name).to_owned())
                .collect()
        })
        .unwrap_or_default();
    header.extend(
        [
            "verdict",
            "messages/s",
            "ack p50 ms",
            "p99 ms",
            "p99.9 ms",
            "server ns",
            "generator ns",
        ]
        .map(str::to_owned),
    );
    let rows: Vec<Vec<String>> = std::iter::once(header)
        .chain(points.iter().map(Point::cells))
        .collect();
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let mut out = String::new();
    for row in &rows {
        let cells = row.iter().enumerate();
        let cells: Vec<String> = cells
            .map(|(column, cell)| format!("{cell:>width$}", width = width(column)))
            .collect();
        out.push_str(&cells.join("  "));
        out.push('\n');
    }
    for point in points {
        for reason in point.reasons() {
            out.push_str(&format!("{}: {reason}\n", name_of(&point.values)));
        }
    }
    if points.iter().any(|point| point.exit_code() != 0) {
        out.push_str("Rows that are not good prove nothing; their reasons are above.\n");
    }
    out.push_str("ns: processor time per message, of the server and of the generator.\n");
    out
}
