//! Counters for the `metrics` facade.
#![forbid(unsafe_code)]

use metrics::{Label, counter, describe_counter, describe_gauge, gauge};

use super::Counters;

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
        let labels: Vec<Label> =
            labels.iter().map(|(key, value)| Label::new(*key, (*value).to_owned())).collect();
        for (name, value, meaning) in self.table().filter(|(name, ..)| *name != LONGEST) {
            let name = format!("zerio_{name}_total");
            describe_counter!(name.clone(), meaning);
            counter!(name, labels.clone()).absolute(value);
        }
        describe_gauge!("zerio_longest_turn_seconds", "The longest turn that did work, in seconds.");
        gauge!("zerio_longest_turn_seconds", labels).set(self.engine.longest_turn_ns as f64 / 1e9);
    }
}
