//! What the kernel says of this process, by the names that every exporter of Prometheus uses.
//!
//! Read from `/proc` at each scrape. What cannot be read, as on another system than Linux, is left out.

use std::fs;

use rustix::process::{Resource, getrlimit};

use crate::telemetry::prometheus::Exposition;

/// What is shown, where it is known.
#[derive(Debug, Default, PartialEq)]
struct Figures {
    cpu_s: Option<f64>,
    resident_bytes: Option<u64>,
    virtual_bytes: Option<u64>,
    threads: Option<u64>,
    open_fds: Option<u64>,
    max_fds: Option<u64>,
    started_s: Option<f64>,
}

/// From `/proc/self/stat`, in the kernel's own units.
#[derive(Debug, PartialEq)]
struct Stat {
    /// In user mode and in the kernel.
    cpu_ticks: u64,
    threads: u64,
    /// After the boot.
    started_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

pub(super) fn show(out: &mut Exposition) {
    let figures = read();
    out.counter(
        "process_cpu_seconds_total",
        "Time of processors that the process used, in user mode and in the kernel.",
    )
    .known(figures.cpu_s);
    let count = |count: Option<u64>| count.map(|count| count as f64);
    for (name, help, figure) in [
        (
            "process_resident_memory_bytes",
            "Memory of the process that is in RAM.",
            count(figures.resident_bytes),
        ),
        (
            "process_virtual_memory_bytes",
            "Address space of the process.",
            count(figures.virtual_bytes),
        ),
        (
            "process_threads",
            "Threads of the process.",
            count(figures.threads),
        ),
        (
            "process_open_fds",
            "File descriptors that are open: sockets and files.",
            count(figures.open_fds),
        ),
        (
            "process_max_fds",
            "File descriptors that may be open.",
            count(figures.max_fds),
        ),
        (
            "process_start_time_seconds",
            "When the process started, in seconds since 1970.",
            figures.started_s,
        ),
    ] {
        out.gauge(name, help).known(figure);
    }
}

fn read() -> Figures {
    let stat = fs::read_to_string("/proc/self/stat").ok();
    let stat = stat.as_deref().and_then(parse_stat);
    let boot_s = fs::read_to_string("/proc/stat").ok();
    let boot_s = boot_s.as_deref().and_then(parse_boot);
    let ticks_per_s = rustix::param::clock_ticks_per_second();
    let seconds = |ticks: u64| ticks as f64 / ticks_per_s as f64;
    let of = |read: fn(&Stat) -> u64| stat.as_ref().map(read);
    Figures {
        cpu_s: of(|stat| stat.cpu_ticks).map(seconds),
        resident_bytes: of(|stat| stat.resident_pages)
            .map(|pages| pages * rustix::param::page_size() as u64),
        virtual_bytes: of(|stat| stat.virtual_bytes),
        threads: of(|stat| stat.threads),
        // The folder that is read is open as well, and no longer when it is told.
        open_fds: fs::read_dir("/proc/self/fd")
            .ok()
            .map(|open| (open.count() as u64).saturating_sub(1)),
        max_fds: getrlimit(Resource::Nofile).current,
        started_s: of(|stat| stat.started_ticks)
            .zip(boot_s)
            .map(|(ticks, boot_s)| boot_s as f64 + seconds(ticks)),
    }
}

/// Fields are counted as in proc(5), from the one behind the program's name, which may hold anything.
fn parse_stat(text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(") ")?;
    let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
    let field = |number: usize| -> Option<u64> { fields.get(number - 3)?.parse().ok() };
    Some(Stat {
        cpu_ticks: field(14)? + field(15)?,
        threads: field(20)?,
        started_ticks: field(22)?,
        virtual_bytes: field(23)?,
        resident_pages: field(24)?,
    })
}

/// When the machine was started, in seconds since 1970.
fn parse_boot(text: &str) -> Option<u64> {
    let mut lines = text.lines();
    lines.find_map(|line| line.strip_prefix("btime ")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_may_have_any_name() {
        let text = "4242 (a) b (c) S 1 4242 4242 0 -1 4194304 100 0 0 0 250 50 0 0 20 0 9 0 123456 1048576 512 18446744073709551615 1 1";
        let expected = Stat {
            cpu_ticks: 300,
            threads: 9,
            started_ticks: 123_456,
            virtual_bytes: 1_048_576,
            resident_pages: 512,
        };
        assert_eq!(parse_stat(text), Some(expected));
        assert_eq!(parse_stat("4242 (a) S 1"), None);
        assert_eq!(
            parse_boot("cpu 1 2\nbtime 1762000000\n"),
            Some(1_762_000_000)
        );
        assert_eq!(parse_boot("cpu 1 2\n"), None);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn this_process_is_known() {
        let figures = read();
        assert!(figures.resident_bytes > Some(1 << 20), "{figures:?}");
        assert!(figures.open_fds >= Some(3), "{figures:?}");
        assert!(figures.open_fds < figures.max_fds, "{figures:?}");
        assert!(figures.cpu_s.is_some() && figures.threads >= Some(1));
        let now_s = crate::clock::wall().as_unix_millis() as f64 / 1e3;
        let age_s = now_s - figures.started_s.expect("a start");
        assert!((-2.0..86_400.0).contains(&age_s), "{figures:?}");
    }
}
