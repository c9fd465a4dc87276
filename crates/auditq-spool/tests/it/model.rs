//! Random histories, compared with a `Vec`.

use std::fs;
use std::path::Path;

use auditq_spool::{Chunk, ProducerId, Spool};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::support::{eventually, open, payload, peek, tiny};

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    Read { records_max: usize, commit: bool },
    ReopenReader,
}

#[derive(Debug, Clone)]
enum Harm {
    None,
    Cut(prop::sample::Index),
    Flip(prop::sample::Index, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0_usize..1500).prop_map(Step::Append),
        2 => (1_usize..12, any::<bool>()).prop_map(|(records_max, commit)| Step::Read { records_max, commit }),
        1 => Just(Step::ReopenReader),
    ]
}

fn harm() -> impl Strategy<Value = Harm> {
    prop_oneof![
        Just(Harm::None),
        any::<prop::sample::Index>().prop_map(Harm::Cut),
        (any::<prop::sample::Index>(), 0_u8..8).prop_map(|(at, bit)| Harm::Flip(at, bit)),
    ]
}

/// Copies what a kill would leave at this moment: every file, and no lock.
fn crash_image(root: &Path, id: ProducerId, into: &Path) -> Vec<u64> {
    let (from, to) = (root.join(id.to_string()), into.join(id.to_string()));
    fs::create_dir_all(&to).unwrap();
    let mut segments = Vec::new();
    for entry in fs::read_dir(&from).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        // The maintenance thread may be renaming a segment that has been read.
        if fs::copy(from.join(&name), to.join(&name)).is_ok() && name.ends_with(".seg") {
            segments.push(u64::from_str_radix(&name[..16], 16).unwrap());
        }
    }
    segments.sort_unstable();
    segments
}

fn apply(harm: &Harm, path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let frames = bytes.len() - 4096;
    match harm {
        Harm::None => return,
        Harm::Cut(at) => bytes.truncate(4096 + at.index(frames)),
        Harm::Flip(at, bit) => bytes[4096 + at.index(frames)] ^= 1 << bit,
    }
    fs::write(path, bytes).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_spool_is_a_list_whatever_happens_to_it(steps in vec(step(), 1..60), harm in harm()) {
        let (root, image) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let spool = Spool::open(root.path(), tiny()).unwrap();
        let id = spool.producer_id();
        let mut reader = open(root.path(), id);
        let (mut model, mut read, mut committed) = (Vec::new(), 0, 0);
        let mut chunk = Chunk::default();
        for step in steps {
            match step {
                Step::Append(bytes) => {
                    let record = payload(model.len() as u64, bytes);
                    prop_assert_eq!(spool.append(&[&record]), Ok(model.len() as u64));
                    model.push(record);
                }
                Step::Read { records_max, commit } => {
                    // A rotated segment is read through once the maintenance thread has sealed it.
                    eventually("a record, if there is one", || {
                        reader.read(&mut chunk, records_max, 1).unwrap();
                        !chunk.is_empty() || read == model.len()
                    });
                    for record in chunk.records() {
                        prop_assert_eq!(record.seq, read as u64);
                        prop_assert_eq!(record.payload, &model[read][..]);
                        read += 1;
                    }
                    prop_assert!(chunk.gaps().is_empty());
                    if commit {
                        reader.commit(chunk.end()).unwrap();
                        committed = read;
                    }
                }
                Step::ReopenReader => {
                    drop(reader);
                    reader = open(root.path(), id);
                    prop_assert_eq!(reader.restarted(), None);
                    prop_assert_eq!(reader.committed().next_seq(), committed as u64);
                    read = committed;
                }
            }
        }
        let segments = crash_image(root.path(), id, image.path());
        let newest = segments.last().copied().unwrap();
        apply(&harm, &image.path().join(id.to_string()).join(format!("{newest:016x}.seg")));
        let all = peek(image.path(), id);
        for (seq, bytes) in &all.records {
            prop_assert_eq!(bytes, &model[usize::try_from(*seq).unwrap()]);
        }
        let seqs = all.seqs();
        prop_assert!(seqs.windows(2).all(|pair| pair[0] < pair[1]));
        let expected: Vec<u64> = (committed as u64..model.len() as u64).collect();
        let delivered: Vec<u64> = seqs.into_iter().filter(|&seq| seq >= committed as u64).collect();
        match harm {
            Harm::None => prop_assert_eq!((delivered, all.gaps), (expected, vec![])),
            Harm::Cut(_) => prop_assert!(expected.starts_with(&delivered)),
            Harm::Flip(..) => prop_assert!(delivered.len() + 1 >= expected.len()),
        }
    }
}
