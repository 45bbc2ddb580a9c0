//! What the process takes of its machine, under the names that every Prometheus client gives these figures. Read from
//! /proc when somebody asks; where there is none, the figures stay 0.

use std::fs;

use prometheus::core::Collector;
use prometheus::{Counter, Gauge, IntGauge, Registry};

/// Ticks a second in /proc, the same on every Linux.
const TICKS_PER_S: f64 = 100.0;
/// Places in /proc/self/stat, counted behind the name of the program.
const CPU_USER: usize = 11;
const CPU_SYSTEM: usize = 12;
const THREADS: usize = 17;
const STARTED: usize = 19;
const BYTES_PER_KB: f64 = 1024.0;

/// The figures. They stand in a registry without a prefix.
#[derive(Debug, Clone)]
pub(crate) struct ProcessMetrics {
    registry: Registry,
    cpu_seconds_total: Counter,
    resident_memory_bytes: Gauge,
    start_time_seconds: Gauge,
    threads: IntGauge,
    open_fds: IntGauge,
    max_fds: IntGauge,
}

impl ProcessMetrics {
    /// Figures that have not been read yet.
    #[must_use]
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let gauge = |name, help| registered(&registry, Gauge::new(name, help));
        let count = |name, help| registered(&registry, IntGauge::new(name, help));
        Self {
            cpu_seconds_total: registered(
                &registry,
                Counter::new("process_cpu_seconds_total", "CPU of the process"),
            ),
            resident_memory_bytes: gauge("process_resident_memory_bytes", "Memory in use"),
            start_time_seconds: gauge("process_start_time_seconds", "Start, UTC epoch seconds"),
            threads: count("process_threads", "Threads"),
            open_fds: count("process_open_fds", "Files and sockets that are open"),
            max_fds: count("process_max_fds", "Most files and sockets that may be"),
            registry,
        }
    }

    /// Reads the figures. The registry has them.
    #[must_use]
    pub(crate) fn read(&self) -> &Registry {
        self.read_stat();
        let open_count = fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
        self.open_fds.set(i64::try_from(open_count).unwrap_or(0));
        self.max_fds.set(files_max().unwrap_or(0));
        &self.registry
    }

    fn read_stat(&self) -> Option<()> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The name of the program may hold anything, but no bracket follows it.
        let (_, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<f64> = fields
            .split_whitespace()
            .map(|field| field.parse().unwrap_or(0.0))
            .collect();
        let field = |index: usize| fields.get(index).copied();
        let cpu_s = (field(CPU_USER)? + field(CPU_SYSTEM)?) / TICKS_PER_S;
        self.cpu_seconds_total
            .inc_by((cpu_s - self.cpu_seconds_total.get()).max(0.0));
        self.resident_memory_bytes.set(resident_bytes()?);
        #[expect(clippy::cast_possible_truncation, reason = "a count of threads")]
        self.threads.set(field(THREADS)? as i64);
        // Once: the time of the machine's start wanders by a second, which would look like another start of ours.
        if self.start_time_seconds.get() == 0.0 {
            let started_s = booted_s()? + field(STARTED)? / TICKS_PER_S;
            self.start_time_seconds.set(started_s);
        }
        Some(())
    }
}

impl Default for ProcessMetrics {
    fn default() -> Self {
        Self::new()
    }
}

/// When the machine started, UTC epoch seconds.
fn booted_s() -> Option<f64> {
    let stat = fs::read_to_string("/proc/stat").ok()?;
    let line = stat.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.parse().ok()
}

fn resident_bytes() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let mut lines = status.lines();
    let line = lines.find_map(|line| line.strip_prefix("VmRSS:"))?;
    let resident_kb: f64 = line.split_whitespace().next()?.parse().ok()?;
    Some(resident_kb * BYTES_PER_KB)
}

fn files_max() -> Option<i64> {
    let limits = fs::read_to_string("/proc/self/limits").ok()?;
    let mut lines = limits.lines();
    let line = lines.find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn registered<M: Collector + Clone + 'static>(
    registry: &Registry,
    made: prometheus::Result<M>,
) -> M {
    let metric = made.expect("the names are constants that are valid");
    registry
        .register(Box::new(metric.clone()))
        .expect("each metric is registered once");
    metric
}

#[cfg(test)]
mod tests {
    use super::ProcessMetrics;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_process_sees_itself() {
        let metrics = ProcessMetrics::new();
        let before = metrics.read();
        assert_eq!(before.gather().len(), 6);
        let now_s = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs_f64();
        let age_s = now_s - metrics.start_time_seconds.get();
        assert!((-2.0..3_600.0).contains(&age_s), "{age_s}");
        assert!(metrics.resident_memory_bytes.get() > 1e6);
        assert!(metrics.threads.get() >= 1);
        let open = metrics.open_fds.get();
        assert!(open >= 3 && open <= metrics.max_fds.get(), "{open}");
        let held: Vec<_> = (0..10)
            .map(|_| std::fs::File::open("/proc/self/stat").unwrap())
            .collect();
        let _ = metrics.read();
        assert!(metrics.open_fds.get() >= open + 10, "{}", held.len());
        let cpu_s = metrics.cpu_seconds_total.get();
        let mut sum = 0_u64;
        while metrics.cpu_seconds_total.get() < cpu_s + 0.02 {
            sum = (0..1_000_000).fold(sum, u64::wrapping_add);
            let _ = metrics.read();
        }
    }
}
