//! What the cgroups of this process leave to it: memory. Both versions of cgroups, as containers and systemd set them.
//!
//! Reads what the kernel shows, each time it is asked, and changes nothing. Processors are not looked at here:
//! `available_parallelism` of the standard library knows the quota of both versions.

use std::fs;
use std::path::{Path, PathBuf};

/// Version 1 says "no limit" by the largest number of whole pages; no machine has so much.
const NONE: u64 = 1 << 62;

/// One hierarchy in which memory is limited.
struct Hierarchy {
    /// Where it is mounted, which is as far up as can be seen.
    top: PathBuf,
    /// The group of this process.
    group: PathBuf,
    /// The file with the limit.
    file: &'static str,
}

/// The least limit in bytes of this process's group and those above it; `None` where there is none, or no cgroups.
pub fn memory_limit() -> Option<u64> {
    let groups = fs::read_to_string("/proc/self/cgroup").ok()?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    least(&groups, &mounts, &|file| fs::read_to_string(file).ok())
}

fn least(groups: &str, mounts: &str, read: &dyn Fn(&Path) -> Option<String>) -> Option<u64> {
    let hierarchies = mounts.lines().filter_map(|mount| hierarchy(mount, groups));
    let limits = hierarchies.flat_map(|Hierarchy { top, group, file }| {
        let within = group
            .ancestors()
            .take_while(|group| group.starts_with(&top));
        let limits = within.filter_map(|group| read(&group.join(file)));
        limits
            .filter_map(|text| text.trim().parse().ok())
            .collect::<Vec<u64>>()
    });
    limits.filter(|limit| *limit < NONE).min()
}

/// The hierarchy of a line of mountinfo (proc_pid_mountinfo(5)), if memory is limited there.
fn hierarchy(mount: &str, groups: &str) -> Option<Hierarchy> {
    let (place, kind) = mount.split_once(" - ")?;
    let mut place = place.split(' ').skip(3);
    let (root, top) = (place.next()?, place.next()?);
    let mut kind = kind.split(' ');
    let (file, mine) = match (kind.next()?, kind.nth(1)?) {
        ("cgroup2", _) => (
            "memory.max",
            groups.lines().find_map(|line| line.strip_prefix("0::"))?,
        ),
        ("cgroup", options) if options.split(',').any(|option| option == "memory") => {
            ("memory.limit_in_bytes", groups.lines().find_map(of_memory)?)
        }
        _ => return None,
    };
    // A container that sees the whole hierarchy's names, but only its own part of it mounted.
    let below = Path::new(mine).strip_prefix(root);
    let below = below.unwrap_or_else(|_| Path::new(""));
    let below = below.strip_prefix("/").unwrap_or(below);
    let top = PathBuf::from(top);
    let group = top.join(below);
    Some(Hierarchy { top, group, file })
}

/// The group in a line like `4:cpu,memory:/group`.
fn of_memory(line: &str) -> Option<&str> {
    let (controllers, group) = line.split_once(':')?.1.split_once(':')?;
    let has = controllers.split(',').any(|one| one == "memory");
    has.then_some(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: &str = "30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n";
    const FIRST: &str = "35 30 0:30 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
                         36 30 0:31 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";

    fn check(groups: &str, mounts: &str, files: &[(&str, &str)], limit: Option<u64>) {
        let read = |file: &Path| {
            let found = files.iter().find(|(name, _)| Path::new(name) == file);
            found.map(|(_, text)| (*text).to_owned())
        };
        assert_eq!(
            least(groups, mounts, &read),
            limit,
            "{groups}{mounts}{files:?}"
        );
    }

    #[test]
    fn the_least_limit_from_the_group_to_the_top_holds() {
        let groups = "0::/system.slice/serin.service\n";
        let own = "/sys/fs/cgroup/system.slice/serin.service/memory.max";
        let above = "/sys/fs/cgroup/system.slice/memory.max";
        check(groups, SECOND, &[(own, "67108864\n")], Some(67_108_864));
        check(
            groups,
            SECOND,
            &[(own, "max\n"), (above, "5000\n")],
            Some(5_000),
        );
        check(
            groups,
            SECOND,
            &[(own, "4000\n"), (above, "5000\n")],
            Some(4_000),
        );
        check(groups, SECOND, &[(own, "max\n")], None);
        check(groups, SECOND, &[], None);
    }

    #[test]
    fn a_container_of_either_version_finds_its_own() {
        check(
            "0::/\n",
            SECOND,
            &[("/sys/fs/cgroup/memory.max", "1000\n")],
            Some(1_000),
        );
        let groups = "5:memory:/docker/abc\n1:cpu:/docker/abc\n0::/\n";
        check(
            groups,
            "35 30 0:30 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n",
            &[("/sys/fs/cgroup/memory/memory.limit_in_bytes", "2000\n")],
            Some(2_000),
        );
        check(
            groups,
            FIRST,
            &[
                (
                    "/sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes",
                    "9223372036854771712\n",
                ),
                (
                    "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                    "9223372036854771712\n",
                ),
            ],
            None,
        );
    }

    #[test]
    fn what_is_not_understood_is_no_limit() {
        for (groups, mounts) in [
            ("", ""),
            ("0::/", ""),
            ("", SECOND),
            ("x", "y - z"),
            ("a:b", FIRST),
        ] {
            check(
                groups,
                mounts,
                &[("/sys/fs/cgroup/memory.max", "1\n")],
                None,
            );
        }
    }
}
