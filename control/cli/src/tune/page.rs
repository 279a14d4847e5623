//! The page: plots and tables in one file that needs nothing else, in light and dark.

use std::fmt::Write;

use super::advice::{Advice, Limit, Machine, shards};
use super::calibration::Calibration;
use super::chart::{processors, thousands, throughput};

const STYLE: &str = "
:root{color-scheme:light dark;--back:#fbfbf9;--text:#1c2024;--soft:#5b6470;--line:#d9dde2;--server:#2a6fb0;
--generator:#c8862a;--others:#8d949c;--curve:#b03a5b;--chosen:#23835a;--inside:#fff}
@media (prefers-color-scheme:dark){:root{--back:#14171a;--text:#e6e8ea;--soft:#a2abb5;--line:#343a41;--server:#5aa2e0;
--generator:#e0a550;--others:#7c848d;--curve:#ec7a9b;--chosen:#4fc48f;--inside:#101214}}
body{margin:0 auto;padding:2rem 1.25rem;max-width:820px;background:var(--back);color:var(--text);
font:16px/1.5 system-ui,-apple-system,\"Segoe UI\",Roboto,\"Helvetica Neue\",sans-serif}
h1{font-size:1.5rem;margin:0 0 .25rem}h2{font-size:1.15rem;margin:2.2rem 0 .5rem}p{margin:.5rem 0}.soft{color:var(--soft)}
.advice{border-left:5px solid var(--chosen);padding:.25rem 0 .25rem 1rem;margin:1.25rem 0}
.advice strong{font-size:1.25rem}svg{width:100%;height:auto;display:block}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums;font-size:.92rem}
th,td{text-align:right;padding:.4rem .6rem;border-bottom:1px solid var(--line);vertical-align:top}
th:first-child,td:first-child,td.text,th.text{text-align:left}th{color:var(--soft);font-weight:600}
svg text{font-size:14px;fill:var(--text)}svg .x,svg .label,svg .inside{text-anchor:middle}svg .y{text-anchor:end;fill:var(--soft)}
svg .label,svg .key{fill:var(--soft)}svg .value{font-weight:600;text-anchor:middle;paint-order:stroke;stroke:var(--back);stroke-width:5}svg .inside{fill:var(--inside);font-weight:600}
svg .axis{stroke:var(--soft)}svg .grid{stroke:var(--line)}
svg polyline{fill:none}svg .curve{stroke:var(--curve);stroke-width:2.5}svg .ideal{stroke:var(--soft);stroke-width:1.5;stroke-dasharray:5 5}
svg .spread{stroke:var(--server);stroke-width:2;fill:none}svg .run{fill:var(--soft)}
svg .median{fill:var(--server)}svg .chosen{fill:var(--chosen)}
svg rect.server{fill:var(--server)}svg rect.generator{fill:var(--generator)}svg rect.others{fill:var(--others)}
code{font-family:ui-monospace,Menlo,Consolas,monospace;font-size:.95em}
";

/// What the page is about, besides the advice.
pub(super) struct Facts<'a> {
    pub(super) machine: &'a Machine,
    pub(super) calibration: &'a Calibration,
    /// `durable` or `local`.
    pub(super) ack: &'a str,
    /// Kernel and processor, as the machine tells them.
    pub(super) about: &'a str,
    /// Seconds that it all took.
    pub(super) seconds: f64,
}

/// The whole page.
pub(super) fn page(advice: &Advice, facts: &Facts<'_>) -> String {
    let mut out = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <title>Forebay: how many shards</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <h1>How many shards</h1>\n<p class=\"soft\">{}; acks {}; {} runs in {:.0} s. Nothing was changed.</p>\n\
         <div class=\"advice\"><p><strong>{}</strong></p>\n",
        escape(facts.about),
        escape(facts.ack),
        advice.runs.len(),
        facts.seconds,
        match advice.shards {
            1 => "Use 1 shard: <code>shards = 1</code> under <code>[node]</code>".to_owned(),
            more =>
                format!("Use {more} shards: <code>shards = {more}</code> under <code>[node]</code>"),
        }
    );
    for reason in &advice.reasons {
        put(&mut out, format_args!("<p>{}</p>", escape(reason)));
    }
    out.push_str("</div>\n<h2>Throughput</h2>\n");
    out.push_str(&throughput(advice));
    law(&mut out, advice);
    out.push_str("<h2>Who used the processors</h2>\n");
    out.push_str(&processors(advice, facts.machine));
    put(
        &mut out,
        format_args!(
            "<p class=\"soft\">Of {} processors; {} on the same machine generated the load.</p>",
            facts.machine.cores,
            match facts.machine.generators {
                1 => "one thread".to_owned(),
                more => format!("{more} threads"),
            }
        ),
    );
    steps(&mut out, advice);
    calibration(&mut out, facts.calibration);
    out.push_str("</body>\n</html>\n");
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("writing to a String cannot fail");
}

fn law(out: &mut String, advice: &Advice) {
    let Some(fit) = &advice.fit else {
        out.push_str("<p>No curve: only one count of shards was measured.</p>\n");
        return;
    };
    let law = &fit.law;
    let coherency = match fit.told_apart {
        true => format!("{:.5}", law.kappa),
        false => "not told apart from contention by two counts of shards".to_owned(),
    };
    put(
        out,
        format_args!(
            "<p class=\"soft\">Universal Scalability Law, X(N) = λN / (1 + σ(N − 1) + κN(N − 1)): λ {} messages/s, contention σ {:.4}, \
         coherency κ {coherency}; runs are {:.1} % off the curve.</p>",
            thousands(law.lambda),
            law.sigma,
            fit.off_share * 100.0
        ),
    );
}

/// What a limit is called.
pub(super) fn name(limit: Limit) -> &'static str {
    match limit {
        Limit::Cpu => "CPU",
        Limit::Sync => "sync",
        Limit::Network => "network",
        Limit::Generator => "generator",
        Limit::Others => "other processes",
        Limit::Waiting => "nothing full",
    }
}

fn steps(out: &mut String, advice: &Advice) {
    out.push_str(
        "<h2>Steps</h2>\n<div class=\"scroll\"><table>\n<tr><th>shards</th><th>messages/s</th><th>least to most</th>\
         <th>server ns per message</th><th>generator ns per message</th><th class=\"text\">limited by</th></tr>\n",
    );
    for step in &advice.steps {
        put(
            out,
            format_args!(
                "<tr><td>{}</td><td>{}</td><td>{} to {}</td><td>{:.0}</td><td>{:.0}</td><td class=\"text\"><strong>{}</strong>: {}</td></tr>",
                step.shards,
                thousands(step.median.per_s),
                thousands(step.least_per_s),
                thousands(step.most_per_s),
                step.median.server_ns,
                step.median.generator_ns,
                name(step.limit),
                escape(&step.because)
            ),
        );
    }
    put(
        out,
        format_args!(
            "</table></div>\n<p class=\"soft\">Medians of {} at each count; runs took turns. ns: processor time.</p>",
            runs_each(advice)
        ),
    );
}

fn runs_each(advice: &Advice) -> String {
    match advice.runs.len() / advice.steps.len().max(1) {
        1 => "one run".to_owned(),
        more => format!("{more} runs"),
    }
}

fn calibration(out: &mut String, found: &Calibration) {
    let rows = [
        (
            "Signature checks, 100 bytes, one core",
            format!("{} per second", thousands(found.verifications_per_s)),
        ),
        (
            "Write of 64 KiB and sync, median",
            format!("{:.2} ms", found.sync_p50_s * 1e3),
        ),
        (
            "Write of 64 KiB and sync, 99th percentile",
            format!("{:.2} ms of {} syncs", found.sync_p99_s * 1e3, found.syncs),
        ),
        (
            "Memory copied, one core",
            format!("{:.1} GB per second", found.memory_bytes_per_s / 1e9),
        ),
        (
            "Received over loopback, one core",
            format!("{:.1} GB per second", found.loopback_bytes_per_s / 1e9),
        ),
    ];
    out.push_str("<h2>Calibration: each part alone</h2>\n<div class=\"scroll\"><table>\n<tr><th>what</th><th>figure</th></tr>\n");
    for (what, figure) in rows {
        put(
            out,
            format_args!("<tr><td>{what}</td><td>{figure}</td></tr>"),
        );
    }
    out.push_str("</table></div>\n");
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// The advice on a terminal.
pub(super) fn text(advice: &Advice, facts: &Facts<'_>) -> String {
    let found = facts.calibration;
    let mut out = format!(
        "alone       {} signature checks/s, sync p50 {:.2} ms p99 {:.2} ms, memory {:.1} GB/s, loopback {:.1} GB/s\n\
         machine     {} processors, {} generating; acks {}\n\n",
        thousands(found.verifications_per_s),
        found.sync_p50_s * 1e3,
        found.sync_p99_s * 1e3,
        found.memory_bytes_per_s / 1e9,
        found.loopback_bytes_per_s / 1e9,
        facts.machine.cores,
        facts.machine.generators,
        facts.ack
    );
    put(
        &mut out,
        format_args!(
            "{:>6}  {:>12}  {:>25}  {:>9}  {:>12}  {:>12}  limited by",
            "shards", "messages/s", "least to most", "server ns", "generator ns", "fitted"
        ),
    );
    for step in &advice.steps {
        let fitted = advice.fit.map_or_else(
            || "-".to_owned(),
            |fit| thousands(fit.law.at(f64::from(step.shards))),
        );
        put(
            &mut out,
            format_args!(
                "{:>6}  {:>12}  {:>25}  {:>9.0}  {:>12.0}  {fitted:>12}  {}: {}",
                step.shards,
                thousands(step.median.per_s),
                format!(
                    "{} to {}",
                    thousands(step.least_per_s),
                    thousands(step.most_per_s)
                ),
                step.median.server_ns,
                step.median.generator_ns,
                name(step.limit),
                step.because
            ),
        );
    }
    if let Some(fit) = &advice.fit {
        put(
            &mut out,
            format_args!(
                "\ncurve       lambda {} messages/s, sigma {:.4} (contention), kappa {:.5} (coherency); runs {:.1} % off it",
                thousands(fit.law.lambda),
                fit.law.sigma,
                fit.law.kappa,
                fit.off_share * 100.0
            ),
        );
    }
    put(
        &mut out,
        format_args!(
            "advice      {}: `shards = {}` under [node]",
            shards(advice.shards),
            advice.shards
        ),
    );
    for reason in &advice.reasons {
        put(&mut out, format_args!("            {reason}"));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::advice::advise;
    use crate::tune::advice::tests::{calibration as parts, run};

    fn sample(counts: u16) -> String {
        let machine = Machine {
            cores: 8,
            processors: 8,
            generators: 4,
        };
        let one = |shards: u16| {
            let n = f64::from(shards);
            let rate = 7e5 * n / (1.0 + 0.04 * (n - 1.0) + 0.004 * n * (n - 1.0));
            [0.97, 1.0, 1.04].map(|spread| run(shards, rate * spread, 900.0 + 30.0 * n, 700.0))
        };
        let advice = advise((1..=counts).flat_map(one).collect(), &machine, &parts());
        let parts = parts();
        let facts = Facts {
            machine: &machine,
            calibration: &parts,
            ack: "durable",
            about: "Linux 6.18 <test> & \"others\"",
            seconds: 61.0,
        };
        if let Some(path) = std::env::var_os("FOREBAY_TUNE_PAGE") {
            std::fs::write(path, page(&advice, &facts)).expect("writable");
        }
        page(&advice, &facts)
    }

    /// Every element is closed in the order in which it was opened, and nothing unescaped stands between.
    fn check_well_formed(html: &str) {
        let mut open: Vec<&str> = Vec::new();
        let mut rest = html.trim_start_matches("<!DOCTYPE html>");
        while let Some(at) = rest.find('<') {
            let end = rest[at..].find('>').expect("a tag ends") + at;
            let tag = &rest[at + 1..end];
            assert!(!tag.contains('<'), "{tag}");
            rest = &rest[end + 1..];
            let name = tag
                .trim_matches('/')
                .split([' ', '/'])
                .next()
                .expect("a name");
            if tag.starts_with('/') {
                assert_eq!(open.pop(), Some(name), "</{name}>");
            } else if !tag.ends_with('/') {
                open.push(name);
            }
            assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        }
        assert!(open.is_empty(), "not closed: {open:?}");
    }

    #[test]
    fn the_page_is_well_formed_and_needs_nothing_from_elsewhere() {
        for counts in [1, 2, 4, 16] {
            let html = sample(counts);
            check_well_formed(&html);
            for word in ["http", "//", "url(", "@import", "<script", "src=", "href="] {
                assert!(!html.contains(word), "{counts} counts: `{word}`");
            }
            assert!(
                !html.contains("NaN") && !html.contains("inf"),
                "{counts} counts"
            );
            assert!(html.contains("&lt;test&gt; &amp; &quot;others&quot;"));
        }
    }

    #[test]
    fn every_step_is_drawn_with_its_runs_and_its_spread_inside_the_plot() {
        let html = sample(4);
        for (class, count) in [
            ("\"run\" cx", 13),
            ("\"spread\" d", 4),
            ("\"chosen\" cx", 2),
            ("\"median\" cx", 4),
        ] {
            assert_eq!(
                html.matches(class).count(),
                count,
                "{class}, legend included"
            );
        }
        for (name, least, most) in [("cx=\"", 41.0, 740.0), ("cy=\"", 19.0, 344.0)] {
            for part in html.split(name).skip(1) {
                let value: f64 = part
                    .split('"')
                    .next()
                    .expect("a value")
                    .parse()
                    .expect("a number");
                assert!((least..=most).contains(&value), "{name}{value}");
            }
        }
        assert!(html.contains("prefers-color-scheme:dark") && html.contains("messages per second"));
    }
}
