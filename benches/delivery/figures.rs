//! Times and what is made of them.

use std::time::{SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970: a clock that two processes share.
pub(crate) fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
    u64::try_from(since.as_nanos()).expect("it is earlier than 2500")
}

/// Milliseconds of which so many took no more.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

impl Spread {
    /// The time between each of `from` and the one of the same number in `to`.
    pub(crate) fn between(from: &[u64], to: &[u64]) -> Self {
        assert_eq!(from.len(), to.len());
        assert!(to.iter().chain(from).all(|at| *at > 0), "each has happened");
        // An answer may come before or after the arrival that it does not wait for.
        let mut took: Vec<_> = from.iter().zip(to).map(|(from, to)| (*to as f64 - *from as f64) / 1e6).collect();
        took.sort_by(f64::total_cmp);
        let at = |share: f64| took[((took.len() as f64 * share) as usize).min(took.len() - 1)];
        Self { p50: at(0.5), p99: at(0.99), p999: at(0.999) }
    }
}

/// The middle one.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> f64 {
    let mut figures: Vec<_> = figures.into_iter().collect();
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Cores of this machine.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Seconds that a process, or else this one, has had a core; 0 where the system does not tell.
pub(crate) fn cpu_seconds(process: Option<u32>) -> f64 {
    const TICKS: f64 = 100.0;
    let process = process.map_or_else(|| "self".to_owned(), |id| id.to_string());
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{process}/stat")) else { return 0.0 };
    // Behind the name, which may have spaces: the 12th and 13th field are the time of the process and of the system for it.
    let fields = stat.rsplit(')').next().into_iter().flat_map(str::split_whitespace);
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / TICKS
}
