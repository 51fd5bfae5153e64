//! How much memory this process may take: that of the machine, or less where a control group or `ulimit` says so.

use super::environment::total_memory;
use std::path::{Path, PathBuf};

/// The smallest limit on this process in bytes, where the system tells any.
pub fn allowed_memory() -> Option<u64> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let [groups, mounts, limits] = ["cgroup", "mountinfo", "limits"].map(|name| read(&format!("/proc/self/{name}")));
    let of_groups = group_files(&groups, &mounts).into_iter().filter_map(|path| limit_in(&path));
    total_memory().into_iter().chain(of_groups).chain(of_process(&limits)).min()
}

/// A limit at least this large is not a limit: version 1 of control groups says so with a number near 2^63.
const NO_LIMIT: u64 = 1 << 60;

fn limit_in(path: &Path) -> Option<u64> {
    parse(std::fs::read_to_string(path).ok()?.trim())
}

/// A number of bytes; `max` and the like are none.
fn parse(text: &str) -> Option<u64> {
    text.parse().ok().filter(|bytes| *bytes < NO_LIMIT)
}

/// The files that limit the memory of the groups with the lines `groups` of `/proc/self/cgroup`, and of all groups that they are in. A group
/// that is nested in another has the limits of both.
fn group_files(groups: &str, mounts: &str) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for line in groups.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else { continue };
        let (kind, names): (_, &[&str]) = match controllers {
            "" => ("cgroup2", &["memory.max", "memory.high"]),
            _ if controllers.split(',').any(|name| name == "memory") => ("cgroup", &["memory.limit_in_bytes"]),
            _ => continue,
        };
        for (root, point) in mounts.lines().filter_map(|line| mount_of(line, kind)) {
            // Seen from inside a container, the mount may begin at the group itself.
            let group = Path::new(group);
            let below = group.strip_prefix(&root).or(group.strip_prefix("/")).unwrap_or(group);
            let below: PathBuf = below.components().filter(|part| part.as_os_str() != "..").collect();
            for above in below.ancestors() {
                files.extend(names.iter().map(|name| point.join(above).join(name)));
            }
        }
    }
    files
}

/// What of the hierarchy is mounted, and where, if a line of `/proc/self/mountinfo` mounts the memory's hierarchy of this kind.
fn mount_of(line: &str, kind: &str) -> Option<(PathBuf, PathBuf)> {
    let (mount, system) = line.split_once(" - ")?;
    let mut system = system.split(' ');
    let (found, options) = (system.next()?, system.nth(1)?);
    if found != kind || (kind == "cgroup" && !options.split(',').any(|option| option == "memory")) {
        return None;
    }
    let mut fields = mount.split(' ').skip(3);
    Some((PathBuf::from(fields.next()?), PathBuf::from(fields.next()?)))
}

/// The limits of `ulimit -v`, `-d` and `-m`, from the text of `/proc/self/limits`.
fn of_process(limits: &str) -> impl Iterator<Item = u64> {
    const NAMES: [&str; 3] = ["Max address space", "Max data size", "Max resident set"];
    let soft = |line: &str| {
        let rest = NAMES.iter().find_map(|name| line.strip_prefix(name))?;
        parse(rest.split_whitespace().next()?)
    };
    limits.lines().filter_map(soft).collect::<Vec<_>>().into_iter()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_groups_of_version_2_are_all_looked_at() {
        let mounts = "24 23 0:21 / /proc rw - proc proc rw\n\
                      30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = group_files("0::/user.slice/job_1/step_0\n", mounts);
        let names: Vec<String> = found.iter().map(|path| path.display().to_string()).collect();
        for group in ["user.slice/job_1/step_0", "user.slice/job_1", "user.slice"] {
            assert!(names.contains(&format!("/sys/fs/cgroup/{group}/memory.max")), "{names:?}");
            assert!(names.contains(&format!("/sys/fs/cgroup/{group}/memory.high")), "{names:?}");
        }
        assert_eq!(names.len(), 8);
    }

    #[test]
    fn groups_of_version_1_are_those_of_the_memory_controller() {
        let mounts = "40 30 0:35 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 30 0:36 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let found = group_files("5:cpu:/docker/abc\n4:memory:/docker/abc/inner\n0::/\n", mounts);
        let expected = ["inner/memory.limit_in_bytes", "memory.limit_in_bytes"];
        assert_eq!(found, expected.map(|name| Path::new("/sys/fs/cgroup/memory").join(name)));
    }

    #[test]
    fn limits_are_read_and_their_absence_too() {
        let folder = tempfile::tempdir().unwrap();
        let write = |text: &str| {
            let path = folder.path().join("memory.max");
            std::fs::write(&path, text).unwrap();
            limit_in(&path)
        };
        assert_eq!(
            (write("1073741824\n"), write("max\n"), write("9223372036854771712\n")),
            (Some(1 << 30), None, None)
        );
        assert_eq!(limit_in(&folder.path().join("none")), None);
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max data size             unlimited            unlimited            bytes     \n\
                    Max resident set          3000000              unlimited            bytes     \n\
                    Max stack size            1000                 unlimited            bytes     \n\
                    Max address space         2000000              4000000              bytes     \n";
        assert_eq!(of_process(text).collect::<Vec<_>>(), [3_000_000, 2_000_000]);
    }

    #[test]
    fn this_process_is_allowed_no_more_than_the_machine_has() {
        if let Some(total) = total_memory() {
            assert!(allowed_memory().is_some_and(|allowed| allowed <= total && allowed > 0));
        }
    }
}
