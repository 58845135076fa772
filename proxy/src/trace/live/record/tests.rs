use super::*;
use kernel::nft::Family;

const OWN: fn() -> Table = || table("pointsman-trace-7");

fn table(name: &str) -> Table {
    Table { family: Family::Ip, name: name.to_owned() }
}

/// Client number `n` to the Service.
fn asked(n: u16) -> Tuple {
    let (source, destination) = (([10, 180, 0, 3], 4000 + n).into(), ([172, 30, 0, 10], 80).into());
    Tuple { protocol: 6, source, destination }
}

/// What the endpoint sends back.
fn reply(n: u16) -> Tuple {
    let (source, destination) = (([10, 180, 0, 1], 8080).into(), ([10, 180, 0, 3], 4000 + n).into());
    Tuple { protocol: 6, source, destination }
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn rule(verdict: Verdict) -> Met {
    Met::Rule { handle: 5, verdict: Some(verdict) }
}

fn step(id: u32, table: Table, met: Met, addresses: Option<Tuple>) -> News {
    News::Step(TraceStep { id, table, chain: "c".to_owned(), met, addresses })
}

/// Our rule has packet `id` of client `n` traced.
fn traced(id: u32, n: u16) -> News {
    step(id, OWN(), rule(Verdict::Continue), Some(asked(n)))
}

fn hop(id: u32, verdict: Verdict) -> News {
    step(id, table("pointsman"), rule(verdict), None)
}

fn flow(change: FlowChange, n: u16, answered: Option<bool>, state: Option<&'static str>) -> News {
    News::Flow(FlowEvent { change, original: asked(n), reply: reply(n), answered, state })
}

fn record(most: usize) -> Record {
    let filter = Filter { destination: Some(asked(0).destination.ip()), port: Some(80), ..Filter::default() };
    Record::new(filter, most, Some(OWN()))
}

fn events(record: &mut Record) -> Vec<Event> {
    std::iter::from_fn(|| record.next_event()).collect()
}

/// The only event, which must be a connection.
fn connection(record: &mut Record) -> Connection {
    match &events(record)[..] {
        [Event::Connection(connection)] => connection.clone(),
        others => panic!("{others:?}"),
    }
}

#[test]
fn hops_and_the_entry_make_a_connection() {
    let mut record = record(10);
    record.take(ms(5), traced(1, 0));
    record.take(ms(6), hop(1, Verdict::Jump("services".to_owned())));
    record.take(ms(7), hop(1, Verdict::Accept));
    assert_eq!(events(&mut record), []);
    record.take(ms(8), flow(FlowChange::New, 0, Some(false), Some("SYN_SENT")));
    let told = connection(&mut record);
    assert_eq!((told.number, told.at, told.original), (1, ms(5), asked(0)));
    assert_eq!(told.fate, Fate::Left { reply: reply(0) });
    let times: Vec<_> = told.steps.iter().map(|(after, _)| *after).collect();
    assert_eq!(times, [ms(1), ms(2)], "our own rule is no hop");
}

#[test]
fn an_entry_alone_makes_a_connection_without_hops() {
    let mut record = record(10);
    record.take(ms(8), flow(FlowChange::New, 0, Some(false), None));
    let told = connection(&mut record);
    assert_eq!((told.steps.len(), told.fate), (0, Fate::Left { reply: reply(0) }));
}

#[test]
fn changes_are_told_once() {
    let mut record = record(10);
    record.take(ms(10), flow(FlowChange::New, 0, Some(false), Some("SYN_SENT")));
    connection(&mut record);
    for _ in 0..2 {
        record.take(ms(12), flow(FlowChange::Updated, 0, Some(true), Some("SYN_RECV")));
    }
    record.take(ms(13), flow(FlowChange::Updated, 0, Some(true), Some("ESTABLISHED")));
    record.take(ms(20), flow(FlowChange::Ended, 0, None, None));
    record.take(ms(21), flow(FlowChange::Ended, 0, None, None));
    let changed = |after, answered, state| Event::Changed { number: 1, after: ms(after), answered, state };
    let expected = [
        changed(2, true, Some("SYN_RECV")),
        changed(3, false, Some("ESTABLISHED")),
        Event::Ended { number: 1, after: ms(10), answered: true },
    ];
    assert_eq!(events(&mut record), expected);
}

#[test]
fn no_answer_is_told_once_and_settles() {
    let mut record = record(1);
    record.take(ms(10), flow(FlowChange::New, 0, Some(false), None));
    connection(&mut record);
    assert!(!record.is_complete());
    assert_eq!(record.deadline(), Some(ms(1010)));
    record.tick(ms(1009));
    assert_eq!(events(&mut record), []);
    record.tick(ms(1010));
    record.tick(ms(1011));
    let endpoint = reply(0).source;
    assert_eq!(events(&mut record), [Event::Unanswered { number: 1, after: ms(1000), endpoint }]);
    assert!(record.is_complete());
    assert_eq!(record.deadline(), None);
}

#[test]
fn a_packet_that_is_dropped_is_told_at_once_and_not_again_when_it_is_resent() {
    for last in [rule(Verdict::Drop), Met::Policy { accept: false }] {
        let mut record = record(10);
        record.take(ms(5), traced(1, 0));
        record.take(ms(6), step(1, table("filter"), last, None));
        assert_eq!(connection(&mut record).fate, Fate::Dropped);
        record.take(ms(1005), traced(1, 0));
        record.close(ms(2000));
        assert_eq!(events(&mut record), []);
    }
}

#[test]
fn a_packet_without_an_entry_is_told_where_it_went() {
    let mut record = record(10);
    record.take(ms(5), traced(1, 0));
    let moved = Tuple { destination: reply(0).source, ..asked(0) };
    record.take(ms(6), step(1, table("filter"), Met::Policy { accept: true }, Some(moved)));
    assert_eq!(record.deadline(), Some(ms(256)));
    record.tick(ms(255));
    assert_eq!(events(&mut record), []);
    record.tick(ms(256));
    assert_eq!(connection(&mut record).fate, Fate::Untracked { last: moved });
}

#[test]
fn what_does_not_match_or_others_have_traced_is_nobodys() {
    let mut record = record(10);
    let other = Tuple { destination: ([172, 30, 0, 11], 80).into(), ..asked(0) };
    record.take(ms(1), step(1, OWN(), rule(Verdict::Continue), Some(other)));
    record.take(ms(1), step(2, table("theirs"), rule(Verdict::Continue), Some(asked(1))));
    record.take(ms(1), step(3, OWN(), Met::Policy { accept: true }, Some(asked(2))));
    let theirs =
        FlowEvent { change: FlowChange::New, original: other, reply: reply(0), answered: None, state: None };
    record.take(ms(1), News::Flow(theirs));
    record.take(ms(1), flow(FlowChange::Updated, 3, Some(true), None));
    record.close(ms(5000));
    assert_eq!(events(&mut record), []);
}

#[test]
fn packets_are_told_apart() {
    let mut record = record(10);
    record.take(ms(1), traced(1, 0));
    record.take(ms(1), traced(2, 1));
    record.take(ms(1), hop(2, Verdict::Accept));
    record.take(ms(2), flow(FlowChange::New, 1, Some(false), None));
    let second = connection(&mut record);
    assert_eq!((second.original, second.steps.len()), (asked(1), 1));
    record.take(ms(2), flow(FlowChange::New, 0, Some(false), None));
    assert_eq!(connection(&mut record).steps.len(), 0);
}

#[test]
fn no_more_connections_are_taken_than_are_wanted() {
    let mut record = record(2);
    for n in 0..5 {
        record.take(ms(1), traced(n.into(), n));
    }
    for n in 0..5 {
        record.take(ms(2), flow(FlowChange::New, n, Some(false), None));
    }
    assert_eq!((events(&mut record).len(), record.connections()), (2, 2));
    assert!(record.needs_no_hops() && !record.is_complete());
    for n in 0..2 {
        record.take(ms(3), flow(FlowChange::Updated, n, Some(true), None));
    }
    assert!(record.is_complete());
}

#[test]
fn a_packets_steps_are_bounded() {
    let mut record = record(1);
    record.take(ms(1), traced(1, 0));
    for _ in 0..2 * MOST_STEPS {
        record.take(ms(1), hop(1, Verdict::Continue));
    }
    record.take(ms(2), flow(FlowChange::New, 0, Some(false), None));
    assert_eq!(connection(&mut record).steps.len(), MOST_STEPS);
}

#[test]
fn lost_news_are_told() {
    let mut record = record(1);
    record.take(ms(1), News::Lost);
    assert_eq!(events(&mut record), [Event::Lost]);
}
