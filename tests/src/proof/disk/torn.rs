//! Bar 4: a tail torn at any byte costs the batch that it tears, and doing it again changes nothing.

use millstream_log::{Acks, CleanStart, LogConfig, PowerCut};
use rand::SeedableRng as _;
use rand::rngs::SmallRng;

use super::{Batch, Rig, append, batch, consume_around};
use crate::proof::{Failure, Options, Proven};

/// What lies behind the cut: files grow without their data, and get data of others.
#[derive(Clone, Copy, Debug)]
enum Behind {
    Nothing,
    Zeros,
    Noise,
}

pub(in crate::proof) fn run(options: &Options) -> Proven {
    let seed = options.seed();
    let mut dice = SmallRng::seed_from_u64(seed);
    let rig = Rig::new(LogConfig::default());
    let (log, _) = rig.open(CleanStart::Yes)?;
    // 900 bytes a batch, and more in a long run.
    for _ in 0..6 {
        append(&log, batch(&mut dice, super::NOW_MS, &[options.either(830, 9_000)]), Acks::Written)?;
    }
    drop(log);
    let next = batch(&mut dice, super::NOW_MS, &[100]);
    let batches = rig.batches()?;
    let content = rig.content(&batches[0].file)?;
    let (mut positions, mut torn) = (0, 0);
    for cut in batches[3].positions.start..=content.len() {
        for behind in [Behind::Nothing, Behind::Zeros, Behind::Noise] {
            let mut left = content[..cut].to_vec();
            match behind {
                Behind::Nothing => {}
                Behind::Zeros => left.resize(content.len() + 100, 0),
                Behind::Noise => left.extend(content[..700].iter().map(|byte| byte ^ 0x5a)),
            }
            // What is missing may be zeros, and then zeros behind the cut make a batch whole.
            let is_whole = |batch: &&Batch| left.get(batch.positions.clone()) == Some(&batch.bytes[..]);
            let whole = batches.iter().take_while(is_whole).count();
            torn += judge(&rig, &left, whole, &next).map_err(|why| {
                Failure::Broken(format!("cut at {cut}, then {behind:?}, seed {seed}: {why:#}"))
            })?;
        }
        positions += 1;
    }
    if positions < 2_000 || torn < positions {
        return Err(Failure::Invalid(format!("only {positions} positions, {torn} torn tails")));
    }
    Ok(format!(
        "{positions} cut positions, each with nothing, zeros and noise behind: every complete batch kept and none \
         else, {torn} torn tails reported; append, power cut and recovery again gave the same; seed {seed}"
    ))
}

/// Recovers, twice, appends, takes the power, recovers. Returns how many torn tails were reported.
fn judge(rig: &Rig, left: &[u8], whole: usize, next: &bytes::Bytes) -> anyhow::Result<usize> {
    let rig = rig.fork();
    let batches = rig.batches()?;
    let file = Rig::path(&batches[0].file);
    rig.disk.overwrite(&file, left);
    let expected: Vec<_> = batches[..whole].iter().map(|batch| batch.bytes.clone()).collect();
    let check = |torn_bytes: usize| -> anyhow::Result<_> {
        let (log, recovery) = rig.open(CleanStart::No)?;
        let (served, lost) = consume_around(&log)?;
        anyhow::ensure!(
            served.starts_with(&expected),
            "of {whole} complete batches {} are served",
            served.len()
        );
        anyhow::ensure!(lost.is_empty() && recovery.lost.is_empty(), "lost {:?}", recovery.lost);
        let cut: u64 = recovery.torn.iter().map(|torn| torn.bytes).sum();
        anyhow::ensure!(cut == torn_bytes as u64, "{cut} bytes cut, {torn_bytes} are torn");
        Ok((log, served.len(), recovery.torn.len()))
    };
    let sound = batches[..whole].last().map_or(0, |last| last.positions.end);
    let (_, served, torn) = check(left.len() - sound)?;
    anyhow::ensure!(served == whole, "{served} batches instead of {whole}");
    let (log, served, _) = check(0)?;
    anyhow::ensure!(served == whole, "recovered again there are {served} batches instead of {whole}");
    let offset = append(&log, next.clone(), Acks::Durable)?;
    anyhow::ensure!(offset == whole as i64, "the next batch got offset {offset} instead of {whole}");
    drop(log);
    rig.disk.power_cut(PowerCut::LosesUnsynced);
    let (_, served, _) = check(0)?;
    anyhow::ensure!(served == whole + 1, "after the next crash {served} batches instead of {}", whole + 1);
    Ok(torn)
}
