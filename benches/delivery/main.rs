//! Delivery to webhooks against a floor: the same client posting the same bytes to the same receiver, without the gateway.
//!
//! `cargo bench --bench delivery` prints every figure with the floor that was measured in turns with it; `-- PART...` measures only
//! the named parts:
//!
//! ```text
//! rates       deliveries a second: 1, 10 and 1,000 customers of one webhook; 100 webhooks of which 0, 1 and 10 fail
//! latency     from when a message should be sent until it arrives, at half of the highest rate, open loop
//! fairness    what one dead webhook and one that takes 30 s cost the other 98, at 30 % of the highest rate
//! ```
//!
//! `--rate N` says what the highest rate is, which is measured otherwise; `--quick` makes everything short, for a check that it
//! still runs. The gateway and those who send run in this process, the receiver in one of its own on the same cores, so that a
//! delivery's share of the machine is all of it: acceptance over gRPC, the log on the disk, the call, its outcome in the log.

mod figures;
mod gateway;
mod load;
mod sink;

use figures::{Spread, median};
use gateway::{Plan, Running};
use sink::Sink;
use std::time::Duration;

// As the program does.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Webhooks of which some fail, and the customers of each.
const WEBHOOKS: usize = 100;
const CUSTOMERS: usize = 10;

/// How long everything takes.
struct Setup {
    /// Rounds of which the median counts; a first one warms up.
    rounds: usize,
    /// Messages of a measurement of the rate.
    messages: usize,
    /// Of a measurement at a given rate.
    seconds: u64,
    /// The highest rate, where it is known.
    rate: Option<f64>,
}

#[tokio::main]
async fn main() {
    let mut arguments: Vec<_> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if arguments.first().is_some_and(|argument| argument == sink::ARGUMENT) {
        return sink::serve(&arguments[1..]).await;
    }
    let rate = arguments.iter().position(|argument| argument == "--rate").map(|at| {
        let rate = arguments.drain(at..at + 2).nth(1).expect("--rate has a number");
        rate.parse().expect("the rate is a number")
    });
    let quick = arguments.iter().any(|argument| argument == "--quick");
    arguments.retain(|argument| argument != "--quick");
    let setup = if quick {
        Setup { rounds: 1, messages: 1_000, seconds: 1, rate }
    } else {
        Setup { rounds: 5, messages: 20_000, seconds: 20, rate }
    };
    for argument in &arguments {
        assert!(["rates", "latency", "fairness"].contains(&argument.as_str()), "no part is called {argument}");
    }
    let wanted = |part: &str| arguments.is_empty() || arguments.iter().any(|argument| argument == part);
    if wanted("rates") {
        rates(&setup).await;
    }
    if wanted("latency") {
        latency(&setup).await;
    }
    if wanted("fairness") {
        fairness(&setup).await;
    }
}

/// Deliveries a second of one plan.
#[derive(Clone, Copy)]
struct Rates {
    /// Of what waits: everything was accepted before.
    waiting: f64,
    /// While as many are accepted.
    passing: f64,
    floor: f64,
    /// Seconds of a core that the receiver takes for a thousand of what waits, and all others.
    sink: f64,
    others: f64,
}

async fn rates(setup: &Setup) {
    println!("Deliveries a second, embedded store, {} cores for the gateway, who sends, and the receiver", figures::cores());
    println!(
        "  {:<44} {:>8} {:>8} {:>8} {:>8} {:>8} {:>9} {:>9}",
        "", "waiting", "passing", "floor", "x floor", "x floor", "ms, ours", "its"
    );
    let single = [1, 10, 1_000].map(|customers| (format!("1 webhook, {customers} customers"), Plan::healthy(1, customers)));
    let failing = [0, 1, 10].map(|failing| {
        let plan = Plan { failing, ..Plan::healthy(WEBHOOKS, WEBHOOKS * CUSTOMERS) };
        (format!("{WEBHOOKS} webhooks, {} customers, {failing} fail", plan.customers), plan)
    });
    for (name, plan) in single.into_iter().chain(failing) {
        let mut sink = Sink::start(plan.webhooks - plan.failing, plan.failing, 0);
        let running = Running::start(&plan, &sink).await;
        running.meet(&mut sink).await;
        // One customer's messages go one by one.
        let messages = if plan.customers == 1 { setup.messages / 5 } else { setup.messages };
        let mut rounds = Vec::new();
        for _ in 0..=setup.rounds {
            rounds.push(round(&running, &mut sink, messages).await);
        }
        running.stop().await;
        // The first round warms up.
        rounds.remove(0);
        let of = |figure: fn(&Rates) -> f64| median(rounds.iter().map(figure));
        println!(
            "  {name:<44} {:>8.0} {:>8.0} {:>8.0} {:>8.2} {:>8.2} {:>9.3} {:>9.3}",
            of(|round| round.waiting),
            of(|round| round.passing),
            of(|round| round.floor),
            of(|round| round.waiting / round.floor),
            of(|round| round.passing / round.floor),
            of(|round| round.others),
            of(|round| round.sink),
        );
    }
    println!("  (waiting: all were accepted before; passing: they are accepted meanwhile; floor: the same client without the");
    println!("  gateway; ms: of a core, for one delivery of those that wait, by this process and by the receiver)");
}

async fn round(running: &Running, sink: &mut Sink, messages: usize) -> Rates {
    let healthy = running.plan.healthy_of(messages);
    sink.hold();
    load::at_once(running, messages).await;
    let before = (figures::cpu_seconds(None), figures::cpu_seconds(Some(sink.id())));
    let opened = figures::now();
    sink.go();
    let waiting = sink.take(healthy).rate_since(opened);
    let used = (figures::cpu_seconds(None) - before.0, figures::cpu_seconds(Some(sink.id())) - before.1);
    let begun = figures::now();
    load::at_once(running, messages).await;
    let passing = sink.take(healthy).rate_since(begun);
    let posts = load::posts(running, sink, healthy).await;
    let begun = figures::now();
    load::post_at_once(running, posts).await;
    let floor = sink.take(healthy).rate_since(begun);
    let each = |seconds: f64| seconds * 1e3 / healthy as f64;
    Rates { waiting, passing, floor, others: each(used.0), sink: each(used.1) }
}

/// The highest rate at which messages for many webhooks pass.
async fn highest_rate(setup: &Setup) -> f64 {
    if let Some(rate) = setup.rate {
        return rate;
    }
    let plan = Plan::healthy(WEBHOOKS, WEBHOOKS * CUSTOMERS);
    let mut sink = Sink::start(plan.webhooks, 0, 0);
    let running = Running::start(&plan, &sink).await;
    running.meet(&mut sink).await;
    let mut rates = Vec::new();
    for _ in 0..3 {
        let begun = figures::now();
        load::at_once(&running, setup.messages).await;
        rates.push(sink.take(setup.messages).rate_since(begun));
    }
    running.stop().await;
    median(rates)
}

async fn latency(setup: &Setup) {
    let rate = highest_rate(setup).await / 2.0;
    let plan = Plan::healthy(WEBHOOKS, WEBHOOKS * CUSTOMERS);
    let mut sink = Sink::start(plan.webhooks, 0, 0);
    let running = Running::start(&plan, &sink).await;
    running.meet(&mut sink).await;
    let mut rounds = Vec::new();
    for _ in 0..=setup.rounds {
        let times = load::schedule(rate, Duration::from_secs(setup.seconds));
        let posts = load::posts(&running, &sink, times.len()).await;
        let floor_due = load::post_on_time(&running, posts, &times).await;
        let floor = Spread::between(&floor_due, &sink.take(times.len()).arrivals);
        let sent = load::on_time(&running, &times).await;
        let arrivals = sink.take(times.len()).arrivals;
        let all = Spread::between(&sent.due, &arrivals);
        let accepting = Spread::between(&sent.due, &sent.accepted);
        let delivering = Spread::between(&sent.accepted, &arrivals);
        rounds.push([floor, accepting, delivering, all]);
    }
    running.stop().await;
    rounds.remove(0);
    println!("From when a message should be sent, open loop, {rate:.0} a second to {WEBHOOKS} webhooks, milliseconds");
    println!("  {:<44} {:>8} {:>8} {:>8}", "", "p50", "p99", "p999");
    let names = [
        "until it arrives, without the gateway (floor)",
        "until it is accepted",
        "from accepted until it arrives",
        "until it arrives",
    ];
    for (index, name) in names.into_iter().enumerate() {
        let of = |figure: fn(&Spread) -> f64| median(rounds.iter().map(|round| figure(&round[index])));
        println!("  {name:<44} {:>8.2} {:>8.2} {:>8.2}", of(|it| it.p50), of(|it| it.p99), of(|it| it.p999));
    }
    let added = median(rounds.iter().map(|round| round[3].p99 - round[0].p99));
    println!("  {:<44} {:>8} {added:>8.2}", "what the gateway adds", "");
}

async fn fairness(setup: &Setup) {
    let rate = highest_rate(setup).await * 0.3;
    let mut pairs = Vec::new();
    for pair in 0..setup.rounds {
        // Which of the two comes first takes turns as well.
        let ill_first = pair % 2 == 1;
        let first = beside(ill_first, rate, setup).await;
        let second = beside(!ill_first, rate, setup).await;
        pairs.push(if ill_first { [second, first] } else { [first, second] });
    }
    println!(
        "Of 98 webhooks, at {rate:.0} messages a second to {WEBHOOKS}, from when a message should be sent until it arrives, milliseconds"
    );
    println!("  {:<44} {:>8} {:>8} {:>8}", "", "p50", "p99", "p999");
    let names = ["the other two are well", "one is dead, one takes 30 s"];
    for (index, name) in names.into_iter().enumerate() {
        let of = |figure: fn(&Spread) -> f64| median(pairs.iter().map(|pair| figure(&pair[index])));
        println!("  {name:<44} {:>8.2} {:>8.2} {:>8.2}", of(|it| it.p50), of(|it| it.p99), of(|it| it.p999));
    }
    println!("  {:<44} {:>8} {:>8.2}", "what they cost the 98", "", median(pairs.iter().map(|pair| pair[1].p99 - pair[0].p99)));
}

/// How long messages for 98 webhooks take beside two that are well or ill.
async fn beside(ill: bool, rate: f64, setup: &Setup) -> Spread {
    let ill = usize::from(ill);
    let plan = Plan { slow: ill, dead: ill, ..Plan::healthy(WEBHOOKS, WEBHOOKS * CUSTOMERS) };
    let mut sink = Sink::start(WEBHOOKS - ill - ill, 0, ill);
    let running = Running::start(&plan, &sink).await;
    running.meet(&mut sink).await;
    let times = load::schedule(rate, Duration::from_secs(setup.seconds));
    let sent = load::on_time(&running, &times).await;
    let arrivals = sink.take((0..times.len()).filter(|n| plan.is_healthy(*n)).count()).arrivals;
    // The last two webhooks are left out whether they are well or ill, and so is the first fifth, in which connections are made.
    let counted = |n: usize| n >= times.len() / 5 && plan.webhook_of(n) < WEBHOOKS - 2;
    let (due, arrivals): (Vec<_>, Vec<_>) = (0..times.len()).filter(|n| counted(*n)).map(|n| (sent.due[n], arrivals[n])).unzip();
    running.stop().await;
    Spread::between(&due, &arrivals)
}
