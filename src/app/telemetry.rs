//! Logs and metrics.

use crate::api::RequestObserver;
use crate::controllers::{Figures, LoopReport, Outcome, PassObserver};
use crate::engine::pool::CallMetrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::fmt;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::SubscriberBuilder;
use tracing_subscriber::fmt::format::{DefaultFields, Format, FormatFields, Writer};

/// Starts logging to standard error; `RUST_LOG` chooses what.
pub fn start_logging(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube_runtime=warn,kube_client=warn"));
    // Colours are for a person at a terminal: in a file they are noise.
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let builder = lines().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    // A second start in one process (as in tests) keeps the first.
    let _ = if json { builder.json().try_init() } else { builder.try_init() };
}

fn lines() -> SubscriberBuilder<OneLine, Format> {
    tracing_subscriber::fmt().fmt_fields(OneLine)
}

/// What is told of an event, as text on its own line: words of others, such as an error's, end no line and move no cursor.
struct OneLine;

impl<'writer> FormatFields<'writer> for OneLine {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut text = String::new();
        DefaultFields::new().format_fields(Writer::new(&mut text), fields)?;
        for c in text.chars() {
            // With the two line ends that Unicode has besides.
            if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
                write!(writer, "{}", c.escape_default())?;
            } else {
                writer.write_char(c)?;
            }
        }
        Ok(())
    }
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PassLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LoopLabels {
    kind: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CallLabels {
    server: String,
    call: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    verb: String,
    resource: String,
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ServerLabels {
    server: String,
    of: &'static str,
}

/// All metrics, in Prometheus' text format on demand.
pub struct Metrics {
    registry: Registry,
    passes: Family<PassLabels, Histogram>,
    queue: Family<LoopLabels, Gauge>,
    calls: Family<CallLabels, Histogram>,
    waits: Family<CallLabels, Counter<f64, std::sync::atomic::AtomicU64>>,
    requests: Family<RequestLabels, Histogram>,
    used: Family<ServerLabels, Gauge>,
    capacity: Family<ServerLabels, Gauge>,
}

fn histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.0005, 4.0, 9))
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("devsanctum");
        let passes = Family::new_with_constructor(histogram as fn() -> Histogram);
        let queue = Family::default();
        let calls = Family::new_with_constructor(histogram as fn() -> Histogram);
        let waits = Family::default();
        let requests = Family::new_with_constructor(histogram as fn() -> Histogram);
        registry.register("reconcile_seconds", "Passes over records, by kind and outcome", passes.clone());
        registry.register("reconcile_queue", "Records asked for and not begun, by kind", queue.clone());
        registry.register("engine_call_seconds", "Calls to Docker engines, waiting not included", calls.clone());
        registry.register("engine_wait_seconds", "Time calls waited for a free place at their engine", waits.clone());
        registry.register("api_request_seconds", "API requests until the answer begins", requests.clone());
        let (used, capacity) = (Family::default(), Family::default());
        registry.register("server_used_bytes", "Memory and disk of servers in use, as last measured here", used.clone());
        registry.register("server_capacity_bytes", "Memory and disk of servers", capacity.clone());
        Self { registry, passes, queue, calls, waits, requests, used, capacity }
    }
}

impl Metrics {
    /// The metrics as Prometheus reads them.
    pub fn text(&self, loops: &BTreeMap<&'static str, LoopReport>, figures: &BTreeMap<String, Vec<Figures>>) -> String {
        self.used.clear();
        self.capacity.clear();
        for (server, now) in figures.iter().filter_map(|(server, kept)| Some((server, kept.last()?))) {
            for (of, used, total) in [("memory", now.ram_used, now.ram_total), ("disk", now.disk_used, now.disk_total)] {
                let labels = ServerLabels { server: server.clone(), of };
                let bytes = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
                self.used.get_or_create(&labels).set(bytes(used));
                self.capacity.get_or_create(&labels).set(bytes(total));
            }
        }
        for (kind, report) in loops {
            self.queue.get_or_create(&LoopLabels { kind }).set(i64::try_from(report.queue).unwrap_or(i64::MAX));
        }
        let mut text = String::new();
        // Encoding into a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// The same metrics, as those who feed them want them.
pub struct Told(pub Arc<Metrics>);

impl PassObserver for Told {
    fn observe(&self, kind: &'static str, outcome: Outcome, took: Duration) {
        self.0.passes.get_or_create(&PassLabels { kind, outcome: outcome.label() }).observe(took.as_secs_f64());
    }
}

impl CallMetrics for Told {
    fn observe(&self, server: &str, call: &'static str, outcome: &'static str, waited: Duration, took: Duration) {
        let labels = CallLabels { server: server.to_owned(), call, outcome };
        self.0.calls.get_or_create(&labels).observe(took.as_secs_f64());
        self.0.waits.get_or_create(&labels).inc_by(waited.as_secs_f64());
    }
}

impl RequestObserver for Told {
    fn observe(&self, verb: &str, resource: &str, code: u16, took: Duration) {
        let labels = RequestLabels { verb: verb.to_owned(), resource: resource.to_owned(), code };
        self.0.requests.get_or_create(&labels).observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;
    use tracing::subscriber::with_default;

    #[test]
    fn what_others_have_said_stays_on_its_line() {
        let written = Arc::new(Mutex::new(Vec::new()));
        let log = lines().with_ansi(false).with_writer(Mutex::new(Shared(written.clone()))).finish();
        with_default(log, || {
            let words = "gone\r\n2026-01-01T00:00:00Z  INFO forged \u{1b}[2J\u{9b}1A\u{2028}\u{7f}";
            tracing::error!(error = %words, name = "two\nlines", "it failed\n{words}");
            let _span = tracing::info_span!("span", error = %words).entered();
            tracing::info!("inside");
        });
        let text = String::from_utf8(written.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 2, "{text:?}");
        let odd = |c: char| (c.is_control() && c != '\n') || c == '\u{2028}';
        assert!(!text.contains(odd), "{text:?}");
        assert!(text.contains("it failed\\ngone\\r\\n2026-01-01T00:00:00Z  INFO forged ") && text.contains("[2J"), "{text:?}");
        assert!(text.contains(r#"name="two\nlines""#) && text.ends_with("inside\n"), "{text:?}");
    }

    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
}
