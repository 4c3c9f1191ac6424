//! Counters for the `metrics` facade.
#![forbid(unsafe_code)]

use metrics::{Label, counter, describe_counter, describe_gauge, gauge};

use super::reader::CountersSnapshot;
use super::{Counters, layout};

/// The time that is counted, which is no sum.
const LONGEST: &str = "longest_turn_ns";

impl Counters {
    /// Tells the recorder of the [`metrics`] facade all of it, under the names that `zerio serve --metrics` has for
    /// Prometheus: `zerio_messages_received_total` and so on, and `zerio_longest_turn_seconds`. Call it as often as
    /// your metrics are looked at; zerio has no thread that would. The labels tell this server from others of your
    /// process. With the feature `metrics`.
    ///
    /// ```
    /// let server = zerio::Server::bind("127.0.0.1:0")?.start()?;
    /// server.counters().record(&[("server", "orders")]);
    /// # Ok::<(), zerio::Error>(())
    /// ```
    pub fn record(&self, labels: &[(&'static str, &str)]) {
        let labels = owned(labels);
        for (name, value, meaning) in self.table().filter(|(name, ..)| *name != LONGEST) {
            let name = format!("zerio_{name}_total");
            describe_counter!(name.clone(), meaning);
            counter!(name, labels.clone()).absolute(value);
        }
        describe_gauge!("zerio_longest_turn_seconds", "The longest turn that did work, in seconds.");
        gauge!("zerio_longest_turn_seconds", labels).set(self.engine.longest_turn_ns as f64 / 1e9);
    }
}

impl CountersSnapshot {
    /// Tells the recorder of the [`metrics`] facade how long things have taken, under the names that `zerio serve --metrics`
    /// has for Prometheus: `zerio_turn_seconds_bucket`, with the label `le`, and beside it `_sum` and `_count`; and the same of
    /// `zerio_to_kernel_seconds`. Prometheus takes them for a histogram, and so does its `histogram_quantile`. Of the facade's
    /// own histograms they are none: those want to hear of each time by itself, and a busy engine has a million in a second.
    /// With the feature `metrics`.
    ///
    /// ```
    /// # let path = std::env::temp_dir().join(format!("zerio-record-times-{}", std::process::id()));
    /// let mut config = zerio::Config::default();
    /// config.counters_file = Some(path.clone()); // where the engines write their times
    /// let server = zerio::Server::bind("127.0.0.1:0")?.config(config).start()?;
    /// let file = zerio::CountersFile::open(&path)?;
    /// // As often as your metrics are looked at:
    /// server.counters().record(&[("server", "orders")]);
    /// file.read().record_times(&[("server", "orders")]);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn record_times(&self, labels: &[(&'static str, &str)]) {
        let (labels, fields) = (owned(labels), layout::fields());
        for (label, times) in &self.histograms {
            let name = format!("zerio_{}_seconds", label.strip_suffix("_ns").unwrap_or(label));
            let meaning = fields.iter().find(|field| field.label == label).map_or("", |field| field.meaning);
            let bucket = format!("{name}_bucket");
            describe_counter!(bucket.clone(), meaning);
            let tell = |bound: String, count: u64| {
                let labels = [labels.clone(), vec![Label::new("le", bound)]].concat();
                counter!(bucket.clone(), labels).absolute(count);
            };
            times.cumulative().for_each(|(nanos, count)| tell((nanos as f64 / 1e9).to_string(), count));
            tell("+Inf".to_owned(), times.count());
            counter!(format!("{name}_count"), labels.clone()).absolute(times.count());
            gauge!(format!("{name}_sum"), labels.clone()).set(times.sum() as f64 / 1e9);
        }
    }
}

fn owned(labels: &[(&'static str, &str)]) -> Vec<Label> {
    labels.iter().map(|(key, value)| Label::new(*key, (*value).to_owned())).collect()
}
