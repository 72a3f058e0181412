//! Assignors, by hand and by chance.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

fn wish(topics: &[&str], owned: &[(&str, i32)], generation: i32) -> Wish {
    let subscription = MemberSubscription {
        topics: topics.iter().map(|topic| KStr::from(*topic)).collect(),
        owned: owned.iter().map(|(topic, partition)| TopicPartition::new(*topic, *partition)).collect(),
        generation,
        rack: None,
    };
    Wish { instance_id: None, subscription }
}

fn demand(members: &[(&str, Wish)], topics: &[(&str, i32)]) -> Demand {
    Demand {
        members: members.iter().map(|(id, wish)| (KStr::from(*id), wish.clone())).collect(),
        topics: topics.iter().map(|(topic, count)| (KStr::from(*topic), *count)).collect(),
    }
}

fn shown(assigned: &BTreeMap<KStr, BTreeSet<TopicPartition>>) -> String {
    let member = |(id, partitions): (&KStr, &BTreeSet<TopicPartition>)| {
        let partitions: Vec<_> = partitions.iter().map(TopicPartition::to_string).collect();
        format!("{id}: {}", partitions.join(" "))
    };
    assigned.iter().map(member).collect::<Vec<_>>().join("; ")
}

#[test]
fn ranges_are_contiguous_and_the_first_get_one_more() {
    let both = wish(&["a", "b"], &[], -1);
    let demand =
        demand(&[("x", both.clone()), ("y", both), ("z", wish(&["a"], &[], -1))], &[("a", 4), ("b", 3)]);
    assert_eq!(shown(&Assignor::Range.assign(&demand)), "x: a-0 a-1 b-0 b-1; y: a-2 b-2; z: a-3");
}

#[test]
fn in_ranges_members_with_a_name_come_first_in_the_order_of_names() {
    let named = |name: &str| Wish { instance_id: Some(KStr::from(name)), ..wish(&["a"], &[], -1) };
    let demand = demand(&[("1", named("n2")), ("2", wish(&["a"], &[], -1)), ("3", named("n1"))], &[("a", 4)]);
    assert_eq!(shown(&Assignor::Range.assign(&demand)), "1: a-2; 2: a-3; 3: a-0 a-1");
}

#[test]
fn in_turn_each_partition_goes_to_the_next_that_wants_it() {
    let members =
        [("x", wish(&["a"], &[], -1)), ("y", wish(&["a", "b"], &[], -1)), ("z", wish(&["b"], &[], -1))];
    let demand = demand(&members, &[("a", 3), ("b", 3)]);
    assert_eq!(shown(&Assignor::RoundRobin.assign(&demand)), "x: a-0 a-2; y: a-1 b-0 b-2; z: b-1");
}

#[test]
fn topics_that_do_not_exist_and_topics_that_nobody_wants_are_left_out() {
    let demand = demand(&[("x", wish(&["a", "gone"], &[], -1))], &[("a", 1), ("other", 5)]);
    for assignor in [Assignor::Range, Assignor::RoundRobin, Assignor::CooperativeSticky] {
        assert_eq!(shown(&assignor.assign(&demand)), "x: a-0", "{assignor:?}");
    }
}

#[test]
fn what_a_member_has_stays_with_it_and_what_is_to_move_is_taken_first() {
    let owns = wish(&["a"], &[("a", 0), ("a", 1), ("a", 2), ("a", 3)], 4);
    let first = demand(&[("x", owns), ("y", wish(&["a"], &[], -1))], &[("a", 4)]);
    assert_eq!(shown(&Assignor::CooperativeSticky.assign(&first)), "x: a-0 a-1; y: ");
    let gave = wish(&["a"], &[("a", 0), ("a", 1)], 5);
    let second = demand(&[("x", gave), ("y", wish(&["a"], &[], 5))], &[("a", 4)]);
    assert_eq!(shown(&Assignor::CooperativeSticky.assign(&second)), "x: a-0 a-1; y: a-2 a-3");
}

#[test]
fn of_two_that_claim_a_partition_the_later_generation_is_believed() {
    let old = wish(&["a"], &[("a", 0)], 3);
    let new = wish(&["a"], &[("a", 0)], 4);
    let demand = demand(&[("x", old), ("y", new)], &[("a", 1)]);
    assert_eq!(shown(&Assignor::CooperativeSticky.assign(&demand)), "x: ; y: a-0");
}

#[test]
fn a_partition_that_two_claim_alike_is_given_to_neither_before_both_gave_it_up() {
    let claim = wish(&["a"], &[("a", 0)], 4);
    let demand = demand(&[("x", claim.clone()), ("y", claim)], &[("a", 1)]);
    assert_eq!(shown(&Assignor::CooperativeSticky.assign(&demand)), "x: ; y: ");
}

/// Carries out rounds until nothing is withheld; every round's result is what members have in the next.
fn settle(mut demand: Demand) -> (Demand, usize) {
    for round in 1..10 {
        let assigned = Assignor::CooperativeSticky.assign(&demand);
        let given: usize = assigned.values().map(BTreeSet::len).sum();
        let whole = demand.partitions().len();
        let mut revokes = false;
        for (id, partitions) in assigned {
            let subscription = &mut demand.members.get_mut(&id).unwrap().subscription;
            revokes |= !subscription.owned.is_subset(&partitions);
            subscription.owned = partitions;
            subscription.generation = round;
        }
        if !revokes && given == whole {
            return (demand, round as usize);
        }
    }
    panic!("no rest after ten rounds: {demand:?}");
}

#[test]
fn by_chance_all_is_given_once_and_levelled_and_no_more_moves_than_must() {
    for seed in 0..300_u64 {
        let mut chance = StdRng::seed_from_u64(seed);
        let count = chance.random_range(1..5);
        let topics: Vec<(String, i32)> =
            (0..count).map(|n| (format!("t{n}"), chance.random_range(0..9))).collect();
        let all_alike = chance.random_bool(0.5);
        let mut start = Demand {
            topics: topics.iter().map(|(topic, count)| (KStr::from(topic.as_str()), *count)).collect(),
            ..Default::default()
        };
        for n in 0..chance.random_range(1..6) {
            let wants = |_: &&(String, i32)| all_alike || chance.random_bool(0.7);
            let mut wanted: Vec<&str> =
                topics.iter().filter(wants).map(|(topic, _)| topic.as_str()).collect();
            wanted.push("t0");
            start.members.insert(KStr::from(format!("m{n}")), wish(&wanted, &[], -1));
        }
        let (settled, _) = settle(start);
        check(&settled, all_alike, seed);
        // One leaves: what the others have stays where it is.
        let mut smaller = settled.clone();
        if smaller.members.len() > 1 {
            smaller.members.pop_first();
        }
        let (after, rounds) = settle(smaller.clone());
        check(&after, all_alike, seed);
        if all_alike {
            for (id, wish) in &smaller.members {
                let kept = &after.members[id].subscription.owned;
                assert!(wish.subscription.owned.is_subset(kept), "seed {seed}: {id} lost what it could keep");
            }
            assert_eq!(rounds, 1, "seed {seed}");
        }
    }
}

fn check(demand: &Demand, all_alike: bool, seed: u64) {
    let mut seen = BTreeSet::new();
    for (id, wish) in &demand.members {
        for partition in &wish.subscription.owned {
            assert!(seen.insert(partition.clone()), "seed {seed}: {partition} is given twice");
            assert!(
                wish.subscription.topics.contains(&partition.topic),
                "seed {seed}: {id} did not want {partition}"
            );
        }
    }
    assert_eq!(seen, demand.partitions().into_iter().collect::<BTreeSet<_>>(), "seed {seed}");
    let loads: Vec<_> = demand.members.values().map(|wish| wish.subscription.owned.len()).collect();
    let (least, most) = (loads.iter().min().unwrap(), loads.iter().max().unwrap());
    assert!(!all_alike || most - least <= 1, "seed {seed}: {loads:?}");
}
