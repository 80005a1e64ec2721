//! A histogram of atomics: to observe something waits for nobody.

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Bounds of times, in nanoseconds: from what a fast disk takes to what a sender may wait for an outcome.
const TIMES: &[u64] = &[
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
    30_000_000_000,
];

const NANOSECONDS: f64 = 1e9;

/// Bounds of how many.
const NUMBERS: &[u64] = &[1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000];

/// How often something was so large. Cheap to clone; every clone is the same.
#[derive(Debug, Clone)]
pub(super) struct Histogram(Arc<Buckets>);

#[derive(Debug)]
struct Buckets {
    /// As many of what is observed are one of what is shown.
    unit: f64,
    bounds: &'static [u64],
    /// For each bound how often something was within it and not within the one before; the last is beyond all.
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

impl Histogram {
    /// Of times.
    pub(super) fn of_times() -> Self {
        Self::new(NANOSECONDS, TIMES)
    }

    /// Of numbers.
    pub(super) fn of_numbers() -> Self {
        Self::new(1.0, NUMBERS)
    }

    fn new(unit: f64, bounds: &'static [u64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::default()).collect();
        Self(Arc::new(Buckets { unit, bounds, counts, sum: AtomicU64::default() }))
    }

    /// Something took so long.
    pub(super) fn took(&self, time: Duration) {
        self.observe(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
    }

    /// Something was so many.
    pub(super) fn observe(&self, value: u64) {
        let bucket = self.0.bounds.partition_point(|bound| *bound < value);
        self.0.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.0.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// True if nothing was observed.
    pub(super) fn is_empty(&self) -> bool {
        self.0.counts.iter().all(|count| count.load(Ordering::Relaxed) == 0)
    }
}

impl EncodeMetric for Histogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let Buckets { unit, bounds, counts, sum } = &*self.0;
        let bounds = bounds.iter().map(|bound| *bound as f64 / unit).chain([f64::INFINITY]);
        let buckets: Vec<_> = bounds.zip(counts.iter().map(|count| count.load(Ordering::Relaxed))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum.load(Ordering::Relaxed) as f64 / unit, count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

impl TypedMetric for Histogram {
    const TYPE: MetricType = MetricType::Histogram;
}
