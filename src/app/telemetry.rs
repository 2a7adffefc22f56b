//! Logs and metrics.

use crate::api::RequestObserver;
use crate::controllers::{LoopReport, Outcome, PassObserver};
use crate::engine::pool::CallMetrics;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

/// Starts logging to standard error; `RUST_LOG` chooses what.
pub fn start_logging(json: bool) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube_runtime=warn,kube_client=warn"));
    // Colours are for a person at a terminal: in a file they are noise.
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
    // A second start in one process (as in tests) keeps the first.
    let _ = if json { builder.json().try_init() } else { builder.try_init() };
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

/// All metrics, in Prometheus' text format on demand.
pub struct Metrics {
    registry: Registry,
    passes: Family<PassLabels, Histogram>,
    queue: Family<LoopLabels, Gauge>,
    calls: Family<CallLabels, Histogram>,
    waits: Family<CallLabels, Counter<f64, std::sync::atomic::AtomicU64>>,
    requests: Family<RequestLabels, Histogram>,
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
        Self { registry, passes, queue, calls, waits, requests }
    }
}

impl Metrics {
    /// The metrics as Prometheus reads them.
    pub fn text(&self, loops: &BTreeMap<&'static str, LoopReport>) -> String {
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
