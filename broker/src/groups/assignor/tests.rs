//! Properties of the assignors over groups that are made from seeds.

use std::collections::{BTreeMap, BTreeSet};

use millstream_protocol::{KStr, Uuid};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::{Assignor, Demand, Wanting};
use crate::groups::consumer::partitions::Partitions;

/// A group that owns what a `Demand` borrows.
#[derive(Clone, Debug, Default)]
struct Group {
    members: BTreeMap<KStr, (BTreeSet<Uuid>, Partitions)>,
    counts: BTreeMap<Uuid, i32>,
}

fn topic(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn name(number: usize) -> KStr {
    KStr::from(format!("member-{number:03}"))
}

impl Group {
    fn homogeneous(members: usize, counts: &[i32]) -> Self {
        let counts: BTreeMap<Uuid, i32> = (1..).map(topic).zip(counts.iter().copied()).collect();
        let all: BTreeSet<Uuid> = counts.keys().copied().collect();
        let members = (0..members).map(|at| (name(at), (all.clone(), Partitions::default()))).collect();
        Self { members, counts }
    }

    fn assign(&mut self, assignor: Assignor) {
        let mut wishes: Vec<BTreeSet<Uuid>> = Vec::new();
        let mut members = Vec::new();
        for (member_id, (topics, before)) in &self.members {
            let wish = wishes.iter().position(|wish| wish == topics).unwrap_or_else(|| {
                wishes.push(topics.clone());
                wishes.len() - 1
            });
            members.push(Wanting { member_id, instance_id: None, wish, before });
        }
        let demand = Demand { wishes, members, partition_counts: self.counts.clone() };
        let assigned = assignor.assign(&demand);
        for ((_, before), now) in self.members.values_mut().zip(assigned) {
            *before = now;
        }
    }

    fn loads(&self) -> Vec<usize> {
        self.members.values().map(|(_, partitions)| partitions.len()).collect()
    }

    fn owners(&self) -> BTreeMap<(Uuid, i32), KStr> {
        let mut owners = BTreeMap::new();
        for (id, (_, partitions)) in &self.members {
            for place in partitions.iter() {
                assert_eq!(owners.insert(place, id.clone()), None, "{place:?} has two owners");
            }
        }
        owners
    }

    fn check(&self, case: &str) {
        let owners = self.owners();
        for (topic, count) in &self.counts {
            let subscribers = self.members.values().filter(|(topics, _)| topics.contains(topic)).count();
            for partition in 0..*count {
                let owner = owners.get(&(*topic, partition));
                assert_eq!(owner.is_some(), subscribers > 0, "{case}: {topic} {partition}");
            }
        }
        for ((topic, partition), owner) in &owners {
            assert!(self.members[owner].0.contains(topic), "{case}: {owner:?} did not ask for {topic}");
            assert!(*partition < self.counts[topic], "{case}: no partition {partition}");
        }
    }

    fn spread(&self) -> usize {
        let loads = self.loads();
        loads.iter().max().unwrap_or(&0) - loads.iter().min().unwrap_or(&0)
    }
}

/// Partitions that somebody had, who is a member still, and that another has now.
fn moved(before: &BTreeMap<(Uuid, i32), KStr>, after: &Group) -> usize {
    let now = after.owners();
    let stays = |owner: &KStr| after.members.contains_key(owner.as_str());
    before
        .iter()
        .filter(|(place, owner)| stays(owner) && now.get(place).is_some_and(|now| now != *owner))
        .count()
}

/// What has to move so that all come within one of each other: whatever is above the share, of which the fullest
/// have one more where it does not come out even.
fn least_moves(before: &Group) -> usize {
    let partitions = usize::try_from(before.counts.values().sum::<i32>()).unwrap();
    let mut loads = before.loads();
    let (share, more) = (partitions / loads.len(), partitions % loads.len());
    loads.sort_unstable_by(|a, b| b.cmp(a));
    let allowed = (0..loads.len()).map(|at| if at < more { share + 1 } else { share });
    loads.iter().zip(allowed).map(|(load, allowed)| load.saturating_sub(allowed)).sum()
}

#[test]
fn members_who_want_the_same_are_within_one_and_as_little_moves_as_can_be() {
    for seed in 0..300 {
        let mut rng = StdRng::seed_from_u64(seed);
        let counts: Vec<i32> = (0..rng.random_range(1..5)).map(|_| rng.random_range(1..30)).collect();
        let mut group = Group::homogeneous(rng.random_range(1..12), &counts);
        let all: BTreeSet<Uuid> = group.counts.keys().copied().collect();
        group.assign(Assignor::Uniform);
        for step in 0..12 {
            let case = format!("seed {seed}, step {step}");
            match rng.random_range(0..3) {
                0 => drop(group.members.insert(name(100 + step), (all.clone(), Partitions::default()))),
                1 if group.members.len() > 1 => {
                    let gone =
                        group.members.keys().nth(rng.random_range(0..group.members.len())).unwrap().clone();
                    group.members.remove(gone.as_str());
                }
                _ => *group.counts.values_mut().next().unwrap() += 3,
            }
            let (before, least) = (group.clone(), least_moves(&group));
            group.assign(Assignor::Uniform);
            group.check(&case);
            assert!(group.spread() <= 1, "{case}: {:?}", group.loads());
            assert_eq!(moved(&before.owners(), &group), least, "{case}");
        }
    }
}

#[test]
fn members_who_want_different_topics_cannot_be_made_more_alike_by_one_move() {
    for seed in 0..300 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut group = Group::homogeneous(0, &[7, 12, 1, 30, 5]);
        let topics: Vec<Uuid> = group.counts.keys().copied().collect();
        for step in 0..12 {
            let case = format!("seed {seed}, step {step}");
            let wanted = topics.iter().copied().filter(|_| rng.random_bool(0.5)).collect();
            let member = group.members.entry(name(rng.random_range(0..8))).or_default();
            member.0 = wanted;
            group.assign(Assignor::Uniform);
            group.check(&case);
            for (topic, partition) in group.owners().keys() {
                let owner = &group.owners()[&(*topic, *partition)];
                let load = group.members[owner].1.len();
                for (other, (wanted, partitions)) in &group.members {
                    let could = wanted.contains(topic) && partitions.len() + 1 < load;
                    assert!(!could, "{case}: {owner:?} could give {topic} {partition} to {other:?}");
                }
            }
            let before = group.owners();
            group.assign(Assignor::Uniform);
            assert_eq!(moved(&before, &group), 0, "{case}: nothing changed, and yet something moved");
        }
    }
}

#[test]
fn each_topic_is_spread_over_all_members() {
    let mut group = Group::homogeneous(3, &[3, 3]);
    group.assign(Assignor::Uniform);
    for (id, (_, partitions)) in &group.members {
        assert_eq!(partitions.topics().count(), 2, "{id:?} has {partitions:?}");
    }
}

#[test]
fn ranges_follow_each_other_and_equal_partitions_of_topics_come_together() {
    let mut group = Group::homogeneous(3, &[7, 7]);
    group.assign(Assignor::Range);
    group.check("range");
    let ranges: Vec<Vec<i32>> = group
        .members
        .values()
        .map(|(_, held)| held.of_topic(topic(1)).unwrap().iter().copied().collect())
        .collect();
    assert_eq!(ranges, [vec![0, 1, 2], vec![3, 4], vec![5, 6]]);
    for (_, held) in group.members.values() {
        assert_eq!(held.of_topic(topic(1)), held.of_topic(topic(2)));
    }
}

#[test]
fn a_range_is_only_for_subscribers_and_static_members_come_first() {
    let (one, two) = (BTreeSet::from([topic(1)]), BTreeSet::from([topic(1), topic(2)]));
    let ids = [name(0), name(1), name(2)];
    let (instance, nothing) = (KStr::from_static("a"), Partitions::default());
    let member =
        |at: usize, instance_id, wish| Wanting { member_id: &ids[at], instance_id, wish, before: &nothing };
    let demand = Demand {
        wishes: vec![one, two],
        members: vec![member(0, None, 0), member(1, None, 1), member(2, Some(&instance), 1)],
        partition_counts: BTreeMap::from([(topic(1), 4), (topic(2), 2)]),
    };
    let assigned = Assignor::Range.assign(&demand);
    let expected: [&[(u128, i32)]; 3] = [&[(1, 2)], &[(1, 3), (2, 1)], &[(1, 0), (1, 1), (2, 0)]];
    for (assigned, expected) in assigned.iter().zip(expected) {
        let expected: Partitions = expected.iter().map(|(number, at)| (topic(*number), *at)).collect();
        assert_eq!(*assigned, expected);
    }
}

#[test]
fn a_thousand_members_and_ten_thousand_partitions_are_no_burden() {
    let mut group = Group::homogeneous(1000, &[100; 100]);
    let started = std::time::Instant::now();
    group.assign(Assignor::Uniform);
    group.members.remove("member-500");
    group.assign(Assignor::Uniform);
    let took = started.elapsed();
    println!("two assignments took {took:?}");
    assert!(group.spread() <= 1);
}
