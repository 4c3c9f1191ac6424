//! What the system says of itself, as text: files below `/proc` and `/sys`, by their paths. What they mean is
//! found out elsewhere, from the texts alone.
#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fs::{read_dir, read_to_string};
use std::path::Path;

pub(super) const ALLOWED: &str = "proc/sys/net/ipv4/tcp_allowed_congestion_control";
pub(super) const AVAILABLE: &str = "proc/sys/net/ipv4/tcp_available_congestion_control";
pub(super) const BUSY_POLL: &str = "proc/sys/net/core/busy_poll";
pub(super) const BUSY_READ: &str = "proc/sys/net/core/busy_read";
pub(super) const CLOCK: &str = "sys/devices/system/clocksource/clocksource0/current_clocksource";
pub(super) const CLOCKS: &str = "sys/devices/system/clocksource/clocksource0/available_clocksource";
pub(super) const CPUINFO: &str = "proc/cpuinfo";
pub(super) const HUGE_PAGES: &str = "sys/kernel/mm/transparent_hugepage/enabled";
pub(super) const ISOLATED: &str = "sys/devices/system/cpu/isolated";
pub(super) const KERNEL: &str = "proc/sys/kernel/osrelease";
pub(super) const LIMITS: &str = "proc/self/limits";
pub(super) const LOAD: &str = "proc/loadavg";
pub(super) const MEMORY: &str = "proc/meminfo";
pub(super) const ONLINE: &str = "sys/devices/system/cpu/online";
pub(super) const PRODUCT: &str = "sys/class/dmi/id/product_name";
pub(super) const RECEIVE_MAX: &str = "proc/sys/net/core/rmem_max";
pub(super) const SEND_MAX: &str = "proc/sys/net/core/wmem_max";
pub(super) const SOMAXCONN: &str = "proc/sys/net/core/somaxconn";
pub(super) const URING_DISABLED: &str = "proc/sys/kernel/io_uring_disabled";
pub(super) const VENDOR: &str = "sys/class/dmi/id/sys_vendor";

/// Not a file: `quota period` in microseconds, a line for each control group that this process is in.
pub(super) const QUOTAS: &str = "quotas";

/// Not a file either: so many bytes, a line for each control group that this process is in.
pub(super) const MEMORY_LIMITS: &str = "memory limits";

const FILES: [&str; 20] = [
    ALLOWED,
    AVAILABLE,
    BUSY_POLL,
    BUSY_READ,
    CLOCK,
    CLOCKS,
    CPUINFO,
    HUGE_PAGES,
    ISOLATED,
    KERNEL,
    LIMITS,
    LOAD,
    MEMORY,
    ONLINE,
    PRODUCT,
    RECEIVE_MAX,
    SEND_MAX,
    SOMAXCONN,
    URING_DISABLED,
    VENDOR,
];

const CORES: &str = "sys/devices/system/cpu";

/// Texts by the paths of their files, without the first slash.
pub(super) struct Facts {
    pub(super) linux: bool,
    texts: BTreeMap<String, String>,
}

/// A state in which a core waits for work.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct IdleState {
    pub(super) name: String,
    /// How long it takes to leave it, in microseconds.
    pub(super) latency_us: u64,
}

impl Facts {
    /// Reads what there is below `root`, which is `/`.
    pub(super) fn read(root: &Path) -> Facts {
        let mut facts = Facts { linux: cfg!(target_os = "linux"), texts: BTreeMap::new() };
        let mut read = |path: String| {
            if let Ok(text) = read_to_string(root.join(&path)) {
                facts.texts.insert(path, text.trim().to_owned());
            }
        };
        FILES.iter().for_each(|path| read((*path).to_owned()));
        let numbered = |folder: &str, prefix: &str| {
            let entries = read_dir(root.join(folder)).into_iter().flatten().flatten();
            let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
            let is_one =
                |name: &String| name.strip_prefix(prefix).is_some_and(|rest| rest.parse::<u32>().is_ok());
            names.filter(is_one).map(|name| format!("{folder}/{name}")).collect::<Vec<_>>()
        };
        for core in numbered(CORES, "cpu") {
            read(format!("{core}/cpufreq/scaling_governor"));
        }
        for state in numbered(&format!("{CORES}/cpu0/cpuidle"), "state") {
            ["name", "latency", "disable"].iter().for_each(|file| read(format!("{state}/{file}")));
        }
        for (name, text) in [(QUOTAS, quotas(root)), (MEMORY_LIMITS, memory_limits(root))] {
            if !text.is_empty() {
                facts.texts.insert(name.to_owned(), text);
            }
        }
        facts
    }

    /// Of a Linux that says this and nothing else.
    #[cfg(test)]
    pub(super) fn of(texts: &[(&str, &str)]) -> Facts {
        let texts = texts.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        Facts { linux: true, texts }
    }

    pub(super) fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    pub(super) fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.parse().ok()
    }

    /// Of a choice like `always [madvise] never`, what is chosen.
    pub(super) fn chosen(&self, path: &str) -> Option<&str> {
        self.text(path)?.split_once('[')?.1.split(']').next()
    }

    /// The soft and the hard limit by its name in `/proc/self/limits`; `u64::MAX` for none.
    pub(super) fn limit(&self, name: &str) -> Option<(u64, u64)> {
        let line = self.text(LIMITS)?.lines().find_map(|line| line.strip_prefix(name))?;
        let mut values = line.split_whitespace().map(|value| match value {
            "unlimited" => Some(u64::MAX),
            number => number.parse().ok(),
        });
        Some((values.next()??, values.next()??))
    }

    /// A line of `/proc/meminfo`, in bytes.
    pub(super) fn memory(&self, name: &str) -> Option<u64> {
        let line = self.text(MEMORY)?.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        Some(1024 * line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?)
    }

    /// A value of the first processor in `/proc/cpuinfo`.
    pub(super) fn processor(&self, name: &str) -> Option<&str> {
        let lines = self.text(CPUINFO)?.lines().filter_map(|line| line.split_once(':'));
        lines
            .map(|(key, value)| (key.trim(), value.trim()))
            .find(|(key, _)| *key == name)
            .map(|(_, value)| value)
    }

    /// Who decides on each core's frequency, by what rule: each rule once.
    pub(super) fn governors(&self) -> Vec<&str> {
        let is_governor =
            |path: &&String| path.starts_with(CORES) && path.ends_with("/cpufreq/scaling_governor");
        let mut governors: Vec<&str> =
            self.texts.keys().filter(is_governor).map(|path| &*self.texts[path]).collect();
        governors.sort_unstable();
        governors.dedup();
        governors
    }

    /// The states of the first core that are in use.
    pub(super) fn idle_states(&self) -> Vec<IdleState> {
        let state = |n: u32| {
            let text = |file| self.text(&format!("{CORES}/cpu0/cpuidle/state{n}/{file}"));
            let (name, latency) = (text("name")?, text("latency")?);
            let state = IdleState { name: name.to_owned(), latency_us: latency.parse().ok()? };
            Some((state, text("disable").is_none_or(|disable| disable == "0")))
        };
        (0..).map_while(state).filter(|(_, used)| *used).map(|(state, _)| state).collect()
    }
}

/// A list of cores like `0-3,8`; `None` where it is none.
pub(super) fn cores(list: &str) -> Option<Vec<usize>> {
    let mut cores = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        cores.extend(first.parse::<usize>().ok()?..=last.parse().ok()?);
    }
    Some(cores)
}

/// What the control groups of this process and those above them allow: of version 2 in `cpu.max`, of version 1 in
/// two files.
fn quotas(root: &Path) -> String {
    of_groups(root, "cpu", |version, read| match version {
        Groups::V2 => read("cpu.max"),
        Groups::V1 => {
            let both = read("cpu.cfs_quota_us").zip(read("cpu.cfs_period_us"));
            both.map(|(quota, period)| format!("{} {period}", quota.trim()))
        }
    })
}

/// The same of memory.
fn memory_limits(root: &Path) -> String {
    of_groups(root, "memory", |version, read| match version {
        Groups::V2 => read("memory.max"),
        Groups::V1 => read("memory.limit_in_bytes"),
    })
}

/// The two versions of control groups.
enum Groups {
    V1,
    V2,
}

/// A line for each control group that this process is in, or that is above one, of this controller: what `look` makes of
/// its files.
fn of_groups(
    root: &Path,
    controller: &str,
    look: impl Fn(Groups, &dyn Fn(&str) -> Option<String>) -> Option<String>,
) -> String {
    let groups = read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut lines = Vec::new();
    for group in groups.lines() {
        let mut parts = group.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        for folder in Path::new(path.trim_start_matches('/')).ancestors() {
            let groups = root.join("sys/fs/cgroup");
            let (version, folder) = if controllers.is_empty() {
                (Groups::V2, groups.join(folder))
            } else if controllers.split(',').any(|one| one == controller) {
                (Groups::V1, groups.join(controller).join(folder))
            } else {
                continue;
            };
            lines.extend(look(version, &|name| read_to_string(folder.join(name)).ok()));
        }
    }
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n")
}

/// The least of them, in bytes; `None` where nothing bounds it.
pub(super) fn memory_limit(limits: &str) -> Option<u64> {
    limits.lines().filter_map(|line| line.parse().ok()).min()
}

/// How many cores' worth of time these allow, the least of them; `None` where nothing bounds it.
pub(super) fn quota(quotas: &str) -> Option<f64> {
    let share = |line: &str| {
        let (quota, period) = line.split_once(' ')?;
        let (quota, period): (f64, f64) = (quota.parse().ok()?, period.parse().ok()?);
        (quota > 0.0 && period > 0.0).then(|| quota / period)
    };
    quotas.lines().filter_map(share).reduce(f64::min)
}

/// The ticks of all cores so far.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Ticks {
    all: u64,
    stolen: u64,
}

/// Now.
pub(super) fn ticks() -> Option<Ticks> {
    Ticks::of(&read_to_string("/proc/stat").ok()?)
}

impl Ticks {
    fn of(stat: &str) -> Option<Ticks> {
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
        let fields: Option<Vec<u64>> = line.split_whitespace().map(|field| field.parse().ok()).collect();
        // The eighth is what the host took; those behind it are in the first two already.
        let fields = fields.filter(|fields| fields.len() >= 8)?;
        Some(Ticks { all: fields[..8].iter().sum(), stolen: fields[7] })
    }

    pub(super) fn steal_since(&self, before: &Ticks) -> Option<f64> {
        let (all, stolen) = (self.all.checked_sub(before.all)?, self.stolen.checked_sub(before.stolen)?);
        (all > 0).then(|| stolen as f64 / all as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_where_they_are_and_missed_where_they_are_not() {
        let root = std::env::temp_dir().join(format!("zerio-doctor-{}", std::process::id()));
        let write = |path: &str, text: &str| {
            let path = root.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("proc/sys/net/core/somaxconn", "4096\n");
        write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave\n");
        write("sys/devices/system/cpu/cpu11/cpufreq/scaling_governor", "performance\n");
        write("sys/devices/system/cpu/cpufreq/scaling_governor", "not a core's\n");
        for (state, name, latency, disable) in
            [(0, "POLL", "0", "0"), (1, "C1", "2", "0"), (2, "C6", "133", "1")]
        {
            let folder = format!("sys/devices/system/cpu/cpu0/cpuidle/state{state}");
            write(&format!("{folder}/name"), name);
            write(&format!("{folder}/latency"), latency);
            write(&format!("{folder}/disable"), disable);
        }
        write("proc/self/cgroup", "3:cpu,cpuacct:/old\n0::/a/b\n");
        write("sys/fs/cgroup/cpu/old/cpu.cfs_quota_us", "-1\n");
        write("sys/fs/cgroup/cpu/old/cpu.cfs_period_us", "100000\n");
        write("sys/fs/cgroup/a/cpu.max", "150000 100000\n");
        write("sys/fs/cgroup/a/b/cpu.max", "max 100000\n");
        write("sys/fs/cgroup/memory.max", "104857600\n");
        write("sys/fs/cgroup/a/memory.max", "max\n");
        write("sys/fs/cgroup/memory/old/memory.limit_in_bytes", "4096\n");
        let facts = Facts::read(&root);
        std::fs::remove_dir_all(&root).unwrap();

        assert_eq!(facts.number(SOMAXCONN), Some(4096));
        assert_eq!(facts.text(CLOCK), None);
        assert_eq!(facts.governors(), ["performance", "powersave"]);
        let states = facts.idle_states();
        assert_eq!(states.iter().map(|state| &*state.name).collect::<Vec<_>>(), ["POLL", "C1"]);
        assert_eq!(facts.text(QUOTAS).and_then(quota), Some(1.5));
        let limit = facts.text(MEMORY_LIMITS).and_then(memory_limit);
        assert_eq!(limit, Some(104_857_600), "that other group is of the controller cpu");
        assert_eq!(memory_limit("max\nmax"), None);
    }

    #[test]
    fn limits_memory_and_choices_are_understood() {
        let limits = "Limit                     Soft Limit           Hard Limit           Units     \n\
                      Max open files            1024                 524288               files     \n\
                      Max locked memory         unlimited            unlimited            bytes     ";
        let facts = Facts::of(&[
            (LIMITS, limits),
            (MEMORY, "MemTotal:       16000 kB\nMemAvailable:    8000 kB"),
            (HUGE_PAGES, "always [madvise] never"),
            (CPUINFO, "processor\t: 0\nmodel name\t: A Fast One\nflags\t\t: fpu hypervisor"),
        ]);
        assert_eq!(facts.limit("Max open files"), Some((1024, 524_288)));
        assert_eq!(facts.limit("Max locked memory"), Some((u64::MAX, u64::MAX)));
        assert_eq!(facts.limit("Max somethings"), None);
        assert_eq!(facts.memory("MemAvailable"), Some(8000 * 1024));
        assert_eq!(facts.chosen(HUGE_PAGES), Some("madvise"));
        assert_eq!(facts.processor("model name"), Some("A Fast One"));
    }

    #[test]
    fn lists_of_cores_are_understood_and_nonsense_is_not() {
        assert_eq!(cores("0-3,8"), Some(vec![0, 1, 2, 3, 8]));
        assert_eq!(cores(""), Some(Vec::new()));
        assert_eq!(cores("a-b"), None);
    }

    #[test]
    fn a_quota_is_the_least_of_all_that_bound_it() {
        assert_eq!(quota("max 100000\n-1 100000\n"), None);
        assert_eq!(quota("max 100000\n250000 100000\n50000 100000"), Some(0.5));
        assert_eq!(quota("nonsense\n0 0"), None);
    }

    #[test]
    fn what_the_host_took_is_a_share_of_the_time() {
        let ticks = |text| Ticks::of(text).unwrap();
        let before = ticks("cpu  100 0 100 700 0 0 0 100 50 0\ncpu0 1 2 3\n");
        let after = ticks("cpu  150 0 100 720 0 0 0 130 80 0\n");
        assert_eq!(after.steal_since(&before), Some(0.3));
        assert_eq!(before.steal_since(&after), None);
        assert_eq!(before.steal_since(&before), None);
        assert_eq!(Ticks::of("cpu  1 2 3\n"), None);
    }
}
