//! The feature `metrics`: what a recorder of the facade is told.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{
    Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit, with_local_recorder,
};
use zerio::{Client, Config, CountersFile, Server};

/// Keeps what it is told.
#[derive(Default)]
struct Kept {
    values: Mutex<BTreeMap<String, Arc<AtomicU64>>>,
    described: Mutex<BTreeMap<String, String>>,
}

impl Kept {
    fn place(&self, key: &Key) -> Arc<AtomicU64> {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = format!("{} {}", key.name(), labels.join(","));
        self.values.lock().unwrap().entry(name).or_default().clone()
    }

    fn value(&self, name: &str) -> u64 {
        let values = self.values.lock().unwrap();
        values.get(name).unwrap_or_else(|| panic!("no {name} in {values:?}")).load(Ordering::Relaxed)
    }

    fn describe(&self, name: &KeyName, meaning: &SharedString) {
        self.described.lock().unwrap().insert(name.as_str().to_owned(), meaning.to_string());
    }
}

impl Recorder for Kept {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, meaning: SharedString) {
        self.describe(&name, &meaning);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, meaning: SharedString) {
        self.describe(&name, &meaning);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, _: SharedString) {
        panic!("{name:?} is no histogram");
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.place(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.place(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        panic!("{key:?} is no histogram");
    }
}

#[test]
fn a_recorder_is_told_every_counter_under_the_labels_of_its_server() {
    let server = Server::bind("127.0.0.1:0").unwrap().start().unwrap();
    let client = Client::connect(server.local_addr(), "a").unwrap().start().unwrap();
    for _ in 0..3 {
        client.send(b"hello").unwrap();
    }
    assert!(client.stop().undelivered.is_empty());
    // The client's end has been told, so the server has read to it.
    let begun = std::time::Instant::now();
    while server.counters().engine.disconnected == 0 {
        assert!(begun.elapsed().as_secs() < 20);
        std::thread::yield_now();
    }
    let counters = server.counters();
    let kept = Kept::default();
    with_local_recorder(&kept, || {
        counters.record(&[("server", "orders")]);
        counters.record(&[("server", "orders")]);
    });
    for (name, value, meaning) in counters.table().filter(|(name, ..)| *name != "longest_turn_ns") {
        assert_eq!(kept.value(&format!("zerio_{name}_total server=orders")), value, "{name}");
        assert_eq!(kept.described.lock().unwrap()[&format!("zerio_{name}_total")], meaning);
    }
    assert_eq!(kept.value("zerio_messages_received_total server=orders"), 3);
    let longest = f64::from_bits(kept.value("zerio_longest_turn_seconds server=orders"));
    assert_eq!(longest, counters.engine.longest_turn_ns as f64 / 1e9);
    assert_eq!(kept.values.lock().unwrap().len(), counters.table().count());
}

#[test]
fn a_recorder_is_told_how_long_turns_took_and_the_way_to_the_kernel() {
    let path = std::env::temp_dir().join(format!("zerio-facade-times-{}", std::process::id()));
    let mut config = Config::default();
    config.counters_file = Some(path.clone());
    let server = Server::bind("127.0.0.1:0").unwrap().config(config).start().unwrap();
    let client = Client::connect(server.local_addr(), "a").unwrap().start().unwrap();
    let file = CountersFile::open(&path).unwrap();
    let begun = std::time::Instant::now();
    while ["turn_ns", "to_kernel_ns"].iter().any(|name| file.read().histogram(name).unwrap().count() == 0) {
        assert!(begun.elapsed().as_secs() < 20);
        server.send("a", b"hello").unwrap();
        std::thread::yield_now();
    }
    let (first, kept) = (file.read(), Kept::default());
    client.stop();
    server.stop();
    let last = file.read();
    with_local_recorder(&kept, || {
        first.record_times(&[("server", "orders")]);
        last.record_times(&[("server", "orders")]);
        last.record_times(&[("server", "orders")]);
    });
    for name in ["turn", "to_kernel"] {
        let times = last.histogram(&format!("{name}_ns")).unwrap();
        let name = format!("zerio_{name}_seconds");
        let bucket = |le: &str| kept.value(&format!("{name}_bucket server=orders,le={le}"));
        for (nanos, count) in times.cumulative() {
            assert_eq!(bucket(&(nanos as f64 / 1e9).to_string()), count, "{name} below {nanos} ns");
        }
        assert_eq!(
            (bucket("0.000001024"), bucket("34.359738368")),
            (times.shorter_than(1 << 10), times.count())
        );
        assert_eq!(
            (bucket("+Inf"), kept.value(&format!("{name}_count server=orders"))),
            (times.count(), times.count())
        );
        let sum = f64::from_bits(kept.value(&format!("{name}_sum server=orders")));
        assert!(sum > 0.0 && sum == times.sum() as f64 / 1e9, "{name}: {sum}");
        assert!(!kept.described.lock().unwrap()[&format!("{name}_bucket")].is_empty());
    }
}
