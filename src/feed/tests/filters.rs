//! A filter passes what it should, to readers of the log and to live ones.

use super::*;
use proptest::prelude::*;

fn wants_it(wanted: &[Vec<u8>; 6], traits: &Traits) -> bool {
    wanted.iter().zip(traits).enumerate().all(|(i, (wanted, found))| match i {
        _ if wanted.is_empty() => true,
        5 => wanted.iter().any(|bit| found & bit != 0),
        _ => wanted.contains(found),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_filter_passes_what_matches_all_of_its_lists(
        entries in proptest::collection::vec([0..3_u8, 0..3_u8, 0..3_u8, 0..4_u8, 0..4_u8, 0..4_u8], 0..60),
        lists in [
            proptest::collection::vec(1..3_u8, 0..3), proptest::collection::vec(1..3_u8, 0..3),
            proptest::collection::vec(1..3_u8, 0..3), proptest::collection::vec(1..4_u8, 0..3),
            proptest::collection::vec(0..4_u8, 0..3), proptest::collection::vec(1..3_u8, 0..2),
        ],
        which in 0..64_u8,
        before in 0..60_usize,
    ) {
        // Few lists at a time, lest nothing match them all.
        let wanted: [Vec<u8>; 6] = std::array::from_fn(|i| if which & (1 << i) == 0 { Vec::new() } else { lists[i].clone() });
        let (before, after) = entries.split_at(before.min(entries.len()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().expect("starts");
        let seen = runtime.block_on(async {
            let gateway = gateway();
            for traits in before {
                gateway.append(entry(*traits)).await;
            }
            let mut reader = gateway.listen(filter(&wanted), Start::Earliest).await;
            reader.heartbeat().await;
            let (mut seen, _) = reader.until_heartbeat().await;
            for traits in after {
                gateway.append(entry(*traits)).await;
            }
            let (live, end) = reader.until_heartbeat().await;
            seen.extend(live);
            (seen, end)
        });
        let expected = (1..).zip(&entries).filter(|(_, traits)| wants_it(&wanted, traits)).map(|(position, _)| position);
        prop_assert_eq!(seen, (expected.collect(), entries.len() as u64));
    }
}
