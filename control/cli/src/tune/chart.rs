//! Two plots as inline SVG: messages per second over shards, and who used the processors. Colours are the page's.

use std::fmt::Write;

use super::advice::{Advice, Machine};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 118.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 56.0;
/// Where the legend begins, which is wider than the plot.
const KEYS_LEFT: f64 = 30.0;
/// With more steps only the recommended one has its figure beside it.
const LABELS_MAX: usize = 6;
/// Points of the drawn curve.
const CURVE_POINTS: u32 = 120;

/// Where values lie in a plot.
struct Scale {
    x_least: f64,
    x_most: f64,
    y_most: f64,
}

impl Scale {
    fn x(&self, value: f64) -> f64 {
        LEFT + (value - self.x_least) / (self.x_most - self.x_least) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - value / self.y_most * (HEIGHT - TOP - BOTTOM)
    }
}

/// Measured runs, medians with the spread of their runs, the fitted curve, and what shards without any loss would carry.
pub(super) fn throughput(advice: &Advice) -> String {
    let most = f64::from(
        advice
            .steps
            .iter()
            .map(|step| step.shards)
            .max()
            .unwrap_or(1),
    );
    let x_most = most + 0.5;
    let measured = advice.runs.iter().map(|run| run.per_s).fold(0.0, f64::max);
    let curve = advice.fit.map_or(0.0, |fit| {
        (0..=CURVE_POINTS)
            .map(|at| {
                fit.law
                    .at(1.0 + (x_most - 1.0) * f64::from(at) / f64::from(CURVE_POINTS))
            })
            .fold(0.0, f64::max)
    });
    let scale = Scale {
        x_least: 0.5,
        x_most,
        y_most: nice(measured.max(curve) * 1.12),
    };
    let mut out =
        begin("Messages per second by shards: measured runs, their medians and the fitted curve");
    axes(&mut out, &scale, "messages per second", &thousands);
    for step in &advice.steps {
        let x = scale.x(f64::from(step.shards));
        tick(&mut out, x, &step.shards.to_string());
    }
    below(&mut out, "shards");
    if let Some(fit) = advice.fit {
        let line = |law: &dyn Fn(f64) -> f64| {
            let points = (0..=CURVE_POINTS).filter_map(|at| {
                let n = 1.0 + (x_most - 1.0) * f64::from(at) / f64::from(CURVE_POINTS);
                let rate = law(n);
                (rate <= scale.y_most).then(|| format!("{:.1},{:.1}", scale.x(n), scale.y(rate)))
            });
            points.collect::<Vec<_>>().join(" ")
        };
        let ideal = line(&|n| fit.law.lambda * n);
        let fitted = line(&|n| fit.law.at(n));
        put(
            &mut out,
            format_args!("<polyline class=\"ideal\" points=\"{ideal}\"/>"),
        );
        put(
            &mut out,
            format_args!("<polyline class=\"curve\" points=\"{fitted}\"/>"),
        );
    }
    for step in &advice.steps {
        let x = scale.x(f64::from(step.shards));
        let (low, high) = (scale.y(step.least_per_s), scale.y(step.most_per_s));
        put(
            &mut out,
            format_args!(
                "<path class=\"spread\" d=\"M{x:.1} {low:.1}V{high:.1}M{:.1} {low:.1}h14M{:.1} {high:.1}h14\"/>",
                x - 7.0,
                x - 7.0
            ),
        );
    }
    let aside = ((WIDTH - LEFT - RIGHT) / most * 0.25).min(16.0);
    for run in &advice.runs {
        let (x, y) = (scale.x(f64::from(run.shards)), scale.y(run.per_s));
        put(
            &mut out,
            format_args!(
                "<circle class=\"run\" cx=\"{:.1}\" cy=\"{y:.1}\" r=\"3\"/>",
                x - aside
            ),
        );
    }
    for step in &advice.steps {
        let (x, y) = (scale.x(f64::from(step.shards)), scale.y(step.median.per_s));
        let class = match step.shards == advice.shards {
            true => "chosen",
            false => "median",
        };
        put(
            &mut out,
            format_args!("<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"6\"/>"),
        );
        // Neighbours would write over each other.
        if advice.steps.len() > LABELS_MAX && step.shards != advice.shards {
            continue;
        }
        let above = scale.y(step.most_per_s) - 12.0;
        put(
            &mut out,
            format_args!(
                "<text class=\"value\" x=\"{x:.1}\" y=\"{above:.1}\">{}</text>",
                thousands(step.median.per_s)
            ),
        );
    }
    let mut legend = vec![
        ("run", "one run"),
        ("median", "median, least and most"),
        ("chosen", "recommended"),
    ];
    if advice.fit.is_some() {
        legend.extend([("curve", "fitted law"), ("ideal", "no loss")]);
    }
    keys(&mut out, &legend);
    out.push_str("</svg>\n");
    out
}

/// Processors in use at each step: server, generator, all others, idle.
pub(super) fn processors(advice: &Advice, machine: &Machine) -> String {
    let cores = machine.cores as f64;
    let count = advice.steps.len() as f64;
    let scale = Scale {
        x_least: 0.0,
        x_most: count,
        y_most: cores,
    };
    let mut out = begin("Processors in use at each step, by server, generator and all others");
    axes(&mut out, &scale, "processors in use", &|value| {
        format!("{value:.1}")
    });
    let width = (110.0_f64).min((WIDTH - LEFT - RIGHT) / count * 0.6);
    for (index, step) in advice.steps.iter().enumerate() {
        let middle = scale.x(index as f64 + 0.5);
        let run = &step.median;
        let others = machine.others(run);
        let mut under = 0.0;
        for (class, cores) in [
            ("server", run.server_cores),
            ("generator", run.generator_cores),
            ("others", others),
        ] {
            let (low, high) = (scale.y(under), scale.y((under + cores).min(scale.y_most)));
            put(
                &mut out,
                format_args!(
                    "<rect class=\"{class}\" x=\"{:.1}\" y=\"{high:.1}\" width=\"{width:.1}\" height=\"{:.1}\"/>",
                    middle - width / 2.0,
                    (low - high).max(0.0)
                ),
            );
            if low - high > 20.0 {
                put(
                    &mut out,
                    format_args!(
                        "<text class=\"inside\" x=\"{middle:.1}\" y=\"{:.1}\">{cores:.2}</text>",
                        (low + high) / 2.0 + 5.0
                    ),
                );
            }
            under += cores;
        }
        tick(&mut out, middle, &step.shards.to_string());
    }
    below(&mut out, "shards");
    keys(
        &mut out,
        &[
            ("server", "server"),
            ("generator", "generator"),
            ("others", "all others"),
        ],
    );
    out.push_str("</svg>\n");
    out
}

fn begin(title: &str) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{title}\">\n")
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing to a String cannot fail");
}

fn axes(out: &mut String, scale: &Scale, label: &str, show: &dyn Fn(f64) -> String) {
    for part in 0..=4 {
        let value = scale.y_most * f64::from(part) / 4.0;
        let y = scale.y(value);
        let class = if part == 0 { "axis" } else { "grid" };
        put(
            out,
            format_args!(
                "<line class=\"{class}\" x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{:.1}\" y2=\"{y:.1}\"/>",
                WIDTH - RIGHT
            ),
        );
        put(
            out,
            format_args!(
                "<text class=\"y\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                LEFT - 10.0,
                y + 4.5,
                show(value)
            ),
        );
    }
    let middle = (TOP + HEIGHT - BOTTOM) / 2.0;
    put(
        out,
        format_args!(
            "<text class=\"label\" transform=\"translate(16 {middle:.1}) rotate(-90)\">{label}</text>"
        ),
    );
}

fn tick(out: &mut String, x: f64, text: &str) {
    let y = HEIGHT - BOTTOM + 20.0;
    put(
        out,
        format_args!("<text class=\"x\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"),
    );
}

fn below(out: &mut String, text: &str) {
    let (x, y) = ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 14.0);
    put(
        out,
        format_args!("<text class=\"label\" x=\"{x:.1}\" y=\"{y:.1}\">{text}</text>"),
    );
}

/// The legend, in a row above the plot.
fn keys(out: &mut String, keys: &[(&str, &str)]) {
    let mut x = KEYS_LEFT;
    for (class, text) in keys {
        let mark = match *class {
            "curve" | "ideal" => format!(
                "<polyline class=\"{class}\" points=\"{x:.0},20 {:.0},20\"/>",
                x + 22.0
            ),
            "run" | "median" | "chosen" => {
                let radius = if *class == "run" { 3 } else { 6 };
                format!(
                    "<circle class=\"{class}\" cx=\"{:.0}\" cy=\"20\" r=\"{radius}\"/>",
                    x + 11.0
                )
            }
            _ => format!(
                "<rect class=\"{class}\" x=\"{x:.0}\" y=\"13\" width=\"22\" height=\"14\"/>"
            ),
        };
        put(
            out,
            format_args!(
                "{mark}<text class=\"key\" x=\"{:.0}\" y=\"24.5\">{text}</text>",
                x + 30.0
            ),
        );
        x += 48.0 + 8.2 * text.len() as f64;
    }
}

/// The next number that is easy to divide by four.
fn nice(value: f64) -> f64 {
    let unit = 10f64.powf(value.max(1.0).log10().floor());
    let steps = [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 5.0, 6.0, 8.0, 10.0];
    let step = steps.iter().find(|step| *step * unit >= value);
    step.unwrap_or(&10.0) * unit
}

/// `1,234,567`.
pub(super) fn thousands(value: f64) -> String {
    let digits = format!("{:.0}", value.max(0.0));
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_numbers_that_are_easy_to_read() {
        for (value, want) in [
            (1.0, 1.0),
            (113_000.0, 120_000.0),
            (905_000.0, 1_000_000.0),
            (2.1, 2.4),
        ] {
            let got = nice(value);
            assert!((got / want - 1.0).abs() < 1e-9, "{value}: {got}");
        }
        assert_eq!(thousands(1_234_567.4), "1,234,567");
        assert_eq!(
            (thousands(0.0), thousands(999.0)),
            ("0".to_owned(), "999".to_owned())
        );
    }
}
