//! What the kernel says of this process, under the names that all exporters give it. What it does not say is left out.

use std::fmt;

use procfs::process::{LimitValue, Process as Kernel};
use procfs::{boot_time_secs, page_size, ticks_per_second};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Reads `/proc/self` each time the page is asked for.
#[derive(Debug)]
pub(super) struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Ok(process) = Kernel::myself() else { return Ok(()) };
        if let Ok(stat) = process.stat() {
            let seconds = |ticks: u64| to_f64(ticks) / to_f64(ticks_per_second());
            let cpu = ConstCounter::new(seconds(stat.utime + stat.stime));
            show(&mut encoder, "process_cpu", "User and system CPU time spent", Some(&Unit::Seconds), &cpu)?;
            let resident = ConstGauge::new(to_f64(stat.rss * page_size()));
            show(&mut encoder, "process_resident_memory", "Resident memory", Some(&Unit::Bytes), &resident)?;
            let threads = ConstGauge::new(stat.num_threads);
            show(&mut encoder, "process_threads", "Threads", None, &threads)?;
            if let Ok(boot) = boot_time_secs() {
                let start = ConstGauge::new(to_f64(boot) + seconds(stat.starttime));
                let help = "When the process started, since the Unix epoch";
                show(&mut encoder, "process_start_time", help, Some(&Unit::Seconds), &start)?;
            }
        }
        if let Ok(open) = process.fd_count() {
            let open = ConstGauge::new(to_f64(open as u64));
            show(&mut encoder, "process_open_fds", "Open file descriptors", None, &open)?;
        }
        if let Ok(limits) = process.limits()
            && let LimitValue::Value(most) = limits.max_open_files.soft_limit
        {
            let most = ConstGauge::new(to_f64(most));
            show(&mut encoder, "process_max_fds", "Most file descriptors that may be open", None, &most)?;
        }
        Ok(())
    }
}

fn show(
    encoder: &mut DescriptorEncoder<'_>,
    name: &str,
    help: &str,
    unit: Option<&Unit>,
    metric: &impl EncodeMetric,
) -> Result<(), fmt::Error> {
    // As the registry ends the helps of its own metrics.
    metric.encode(encoder.encode_descriptor(name, &format!("{help}."), unit, metric.metric_type())?)
}

/// Exact up to 2^53, which is more than any of these is.
#[expect(clippy::cast_precision_loss, reason = "no machine has that many bytes or ticks")]
fn to_f64(number: u64) -> f64 {
    number as f64
}
