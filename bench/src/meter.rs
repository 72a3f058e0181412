//! What a process costs, read from /proc: processor time and memory.
//!
//! Processor time comes from each thread's `schedstat`, in nanoseconds. The process's own `stat` counts in
//! ticks of 10 ms, too coarse for a consume that costs 30 ms; it is the fallback where a thread that was
//! there at the start has ended meanwhile and took its nanoseconds along.

pub(crate) mod scrape;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// The length of a tick in `/proc/PID/stat`: `USER_HZ` is 100 on every Linux that is not ancient.
const TICK: Duration = Duration::from_millis(10);

/// A process by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
pub(crate) struct Pid(pub(crate) u32);

/// Processor time that a process has used so far.
#[derive(Clone, Debug)]
struct Spent {
    ticks: Duration,
    threads: BTreeMap<u32, Duration>,
}

/// A running measurement of one process, and of this one beside it.
#[derive(Debug)]
pub(crate) struct Meter {
    broker: Pid,
    broker_spent: Spent,
    client_spent: Spent,
    started: Instant,
}

/// What was used between start and stop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    /// Wall time.
    pub(crate) elapsed: Duration,
    /// User and system time of the broker.
    pub(crate) broker_cpu: Duration,
    /// User and system time of this process, the load generator.
    pub(crate) client_cpu: Duration,
    /// The broker's largest resident memory meanwhile.
    pub(crate) peak_memory_bytes: u64,
}

impl Meter {
    /// Begins, and forgets the memory peak of what went before.
    pub(crate) fn start(broker: Pid) -> Result<Self> {
        // Writing 5 resets VmHWM (proc(5)); where that is not allowed the peak covers the process's life.
        let _ = fs::write(format!("/proc/{}/clear_refs", broker.0), "5");
        Ok(Self {
            broker,
            broker_spent: Spent::read(broker)?,
            client_spent: Spent::read(Pid(std::process::id()))?,
            started: Instant::now(),
        })
    }

    /// Ends.
    pub(crate) fn stop(self) -> Result<Usage> {
        let elapsed = self.started.elapsed();
        Ok(Usage {
            elapsed,
            broker_cpu: Spent::read(self.broker)?.since(&self.broker_spent),
            client_cpu: Spent::read(Pid(std::process::id()))?.since(&self.client_spent),
            peak_memory_bytes: memory_field(self.broker, "VmHWM:")?,
        })
    }
}

/// Resident memory now.
pub(crate) fn resident_bytes(process: Pid) -> Result<u64> {
    memory_field(process, "VmRSS:")
}

impl Spent {
    fn read(process: Pid) -> Result<Self> {
        let path = format!("/proc/{}/stat", process.0);
        let stat = fs::read_to_string(&path)
            .with_context(|| format!("cannot read {path}: has the process ended?"))?;
        let ticks = ticks_of(&stat).with_context(|| format!("{path} has no utime and stime"))?;
        let mut threads = BTreeMap::new();
        let tasks = format!("/proc/{}/task", process.0);
        for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))?.flatten() {
            let name = task.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
            // A thread may end between the listing and the reading.
            let Ok(schedstat) = fs::read_to_string(task.path().join("schedstat")) else { continue };
            let on_processor = schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0);
            threads.insert(id, Duration::from_nanos(on_processor));
        }
        Ok(Self { ticks: TICK * ticks, threads })
    }

    fn since(&self, before: &Self) -> Duration {
        let ticks = self.ticks.saturating_sub(before.ticks);
        if before.threads.keys().any(|thread| !self.threads.contains_key(thread)) {
            return ticks;
        }
        let spent = |(thread, now): (&u32, &Duration)| {
            now.saturating_sub(before.threads.get(thread).copied().unwrap_or_default())
        };
        let threads: Duration = self.threads.iter().map(spent).sum();
        // Threads that came and went meanwhile are only in the ticks.
        if threads + 2 * TICK < ticks { ticks } else { threads }
    }
}

/// utime + stime: fields 14 and 15, counted behind the command's closing bracket, as it may hold spaces.
fn ticks_of(stat: &str) -> Option<u32> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn memory_field(process: Pid, field: &str) -> Result<u64> {
    let path = format!("/proc/{}/status", process.0);
    let status =
        fs::read_to_string(&path).with_context(|| format!("cannot read {path}: has the process ended?"))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix(field))
        .and_then(|rest| rest.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    Ok(1024 * kib.with_context(|| format!("{path} has no {field}"))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_brackets_and_spaces_does_not_shift_the_fields() {
        let stat = "7 (a ) b) S 1 7 7 0 -1 4194560 100 0 0 0 31 11 0 0 20 0 4 0 100 1 2 3";
        assert_eq!(ticks_of(stat), Some(42));
        assert_eq!(ticks_of("7 (short) S 1"), None);
    }

    #[test]
    fn own_work_shows_in_own_processor_time() {
        let meter = Meter::start(Pid(std::process::id())).unwrap();
        let until = Instant::now() + Duration::from_millis(60);
        let mut spins = 0u64;
        while Instant::now() < until {
            spins = std::hint::black_box(spins + 1);
        }
        let usage = meter.stop().unwrap();
        assert!(usage.broker_cpu > Duration::ZERO, "{usage:?}");
        assert!(usage.peak_memory_bytes > 100_000, "{usage:?}");
        assert!(resident_bytes(Pid(std::process::id())).unwrap() > 100_000);
    }

    #[test]
    fn a_thread_that_ended_makes_the_ticks_count() {
        let spent = |ticks, threads: &[(u32, u64)]| Spent {
            ticks: TICK * ticks,
            threads: threads.iter().map(|(id, nanos)| (*id, Duration::from_nanos(*nanos))).collect(),
        };
        let before = spent(10, &[(1, 500), (2, 100)]);
        assert_eq!(spent(13, &[(1, 900)]).since(&before), 3 * TICK);
        assert_eq!(spent(10, &[(1, 900), (2, 150), (3, 50)]).since(&before), Duration::from_nanos(500));
        assert_eq!(spent(20, &[(1, 900), (2, 150)]).since(&before), 10 * TICK);
    }

    #[test]
    fn a_process_that_is_gone_is_named() {
        let error = Meter::start(Pid(u32::MAX)).unwrap_err();
        assert!(error.to_string().contains("/proc/4294967295/stat"), "{error}");
    }
}
