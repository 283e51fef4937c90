//! Which machine this is: figures say nothing without it.

use std::{collections::BTreeMap, fs, process::Command};

/// What matters about it, by name.
pub(super) fn describe() -> BTreeMap<&'static str, String> {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let system = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let system = system.lines().find_map(|line| line.strip_prefix("PRETTY_NAME=")).unwrap_or("?").trim_matches('"');
    let processor = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let processor = processor.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or("?");
    BTreeMap::from([
        ("cores", cores.to_string()),
        ("docker", said("docker", &["version", "--format", "{{.Server.Version}}"])),
        ("git", said("git", &["--version"]).replace("git version ", "")),
        ("kernel", said("uname", &["-r"])),
        ("nginx", said("nginx", &["-v"]).replace("nginx version: nginx/", "")),
        ("openssh", said("ssh", &["-V"]).split([' ', ',']).next().unwrap_or("?").replace("OpenSSH_", "")),
        ("processor", processor.trim_start_matches([' ', '\t', ':']).to_owned()),
        ("system", system.to_owned()),
    ])
}

/// The first line of what a program says, on either stream.
fn said(program: &str, arguments: &[&str]) -> String {
    let Ok(output) = Command::new(program).args(arguments).output() else { return "?".to_owned() };
    crate::both(&output).lines().next().unwrap_or("?").to_owned()
}
