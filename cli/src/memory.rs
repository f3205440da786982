//! How much memory the process has used at most.

/// The peak of the resident memory in MiB, pages of mapped files included, if the system tells.
#[cfg(target_os = "linux")]
pub fn peak_mib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

/// The peak of the resident memory in MiB, pages of mapped files included, if the system tells.
#[cfg(all(unix, not(target_os = "linux")))]
pub fn peak_mib() -> Option<f64> {
    use nix::sys::resource::{UsageWho, getrusage};
    let peak = getrusage(UsageWho::RUSAGE_SELF).ok()?.max_rss() as f64;
    let unit = if cfg!(target_vendor = "apple") { 1.0 } else { 1024.0 };
    Some(peak * unit / (1024.0 * 1024.0))
}

/// The peak of the resident memory in MiB, if the system tells.
#[cfg(not(unix))]
pub fn peak_mib() -> Option<f64> {
    None
}

/// Forgets the peak so far, where the system can.
pub fn reset_peak() {
    // Linux: "5" resets VmHWM (man 5 proc). Where it fails, the peak is what it was.
    #[cfg(target_os = "linux")]
    let _ = std::fs::write("/proc/self/clear_refs", "5");
}
