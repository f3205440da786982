//! Stores written, cut, gone on with, merged, read and damaged.

use super::{
    record::Layout,
    store::{Header, Labels},
    vocabulary_hash,
    write::{Row, Writer, data_hash, merge},
};
use crate::{
    batch::{Batch, IGNORE, Tokens},
    loss::Sparse,
};
use std::{
    fs,
    path::{Path, PathBuf},
};

const VOCAB: usize = 20;

fn place(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("pupil-labels-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder.join(name)
}

/// Rows of several lengths, one without a position that counts.
fn batch() -> Batch {
    let input = Tokens::new(&[&[1, 2, 3, 4][..], &[5, 6], &[7], &[8, 9, 10], &[2, 2]], 0);
    let i = IGNORE;
    #[rustfmt::skip]
    let labels = vec![2, 3, i, 5,  6, i, i, i,  i, i, i, i,  9, 10, 11, i,  i, 3, i, i];
    Batch { source: None, input, labels }
}

fn rows() -> Vec<Row> {
    (0..5).map(|row| Row::of(&batch(), row)).collect()
}

/// The teacher's logits of a row.
fn logits(row: usize) -> Vec<f32> {
    let positions = rows()[row].positions as usize;
    (0..positions * VOCAB).map(|i| ((i * 37 + row * 11) % 23) as f32 / 4.0).collect()
}

fn header(shard: [usize; 2]) -> Header {
    Header {
        teacher: "teacher.gguf".into(),
        tokenizer: u64::MAX - 5,
        data: data_hash(&rows()),
        rows: 5,
        temperature: 2.0,
        layout: Layout { vocab: VOCAB, k: 3, samples: 2 },
        seed: 9,
        shard,
    }
}

/// Writes what is missing.
fn write(path: &Path, shard: [usize; 2]) {
    let header = header(shard);
    let first = header.range().start;
    let mut writer = Writer::open(path, &header, &rows()).unwrap();
    loop {
        let (next, all) = writer.progress();
        if next == all {
            return writer.finish().unwrap();
        }
        writer.append(&logits(first + next)).unwrap();
    }
}

fn whole(name: &str) -> (PathBuf, Vec<u8>) {
    let path = place(name);
    let _ = fs::remove_file(&path);
    write(&path, [1, 1]);
    let bytes = fs::read(&path).unwrap();
    (path, bytes)
}

#[test]
fn what_is_written_is_read() {
    let (path, _) = whole("read");
    let labels = Labels::open(&path).unwrap();
    assert_eq!(labels.header(), &header([1, 1]));
    let sparse = labels.sparse(&batch()).unwrap();
    let positions = batch().valid().len();
    assert_eq!((sparse.k, sparse.ids.len(), labels.records()), (5, 5 * positions, positions as u64));
    for position in sparse.probabilities.chunks(5) {
        assert!((position.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
    // The likeliest token of each position is the first.
    let all: Vec<f32> = (0..5).flat_map(logits).collect();
    for (ids, logits) in sparse.ids.chunks(5).zip(all.chunks(VOCAB)) {
        assert!(logits.iter().all(|&z| z <= logits[ids[0] as usize]));
    }
    // Rows in another order and other company.
    let one = Batch { source: None, input: Tokens::new(&[&[8, 9, 10]], 7), labels: vec![9, 10, 11] };
    let Sparse { ids, .. } = labels.sparse(&one).unwrap();
    assert_eq!(ids, sparse.ids[4 * 5..7 * 5]);
    let kept = labels.kept(1000).unwrap().unwrap();
    assert!(kept > 0.3 && kept < 1.0, "{kept}");
}

#[test]
fn rows_that_are_not_there_are_refused() {
    let labels = Labels::open(&whole("missing").0).unwrap();
    let other = Batch { source: None, input: Tokens::new(&[&[8, 9, 10]], 7), labels: vec![9, 10, 12] };
    assert!(labels.sparse(&other).unwrap_err().to_string().contains("an example is not in the store"));
    assert!(labels.check(u64::MAX - 5, 2.0).is_ok());
    assert!(labels.check(u64::MAX - 5, 1.0).unwrap_err().to_string().contains("labels at temperature 2, expected 1"));
    assert!(labels.check(7, 2.0).unwrap_err().to_string().contains("pupil label answers"));
}

#[test]
fn a_store_cut_at_any_byte_is_gone_on_with() {
    let (path, bytes) = whole("cut");
    for len in 0..=bytes.len() {
        fs::write(&path, &bytes[..len]).unwrap();
        if len < bytes.len() {
            assert!(Labels::open(&path).is_err(), "{len} of {} bytes were read", bytes.len());
        }
        write(&path, [1, 1]);
        assert!(fs::read(&path).unwrap() == bytes, "cut at byte {len}");
    }
}

#[test]
fn shards_merge_into_the_same_bytes() {
    let (path, bytes) = whole("merged");
    for of in 1..=7 {
        let mut shards: Vec<PathBuf> = (1..=of).map(|shard| place(&format!("shard-{shard}-{of}"))).collect();
        for (i, shard) in shards.iter().enumerate() {
            let _ = fs::remove_file(shard);
            write(shard, [i + 1, of]);
        }
        shards.reverse();
        merge(&shards, &path).unwrap();
        assert!(fs::read(&path).unwrap() == bytes, "{of} shards");
        if of > 1 {
            assert!(merge(&shards[1..], &path).unwrap_err().to_string().contains("expected"));
            shards[0] = shards[1].clone();
            assert!(merge(&shards, &path).unwrap_err().to_string().contains("each once"));
        }
    }
}

#[test]
fn another_store_is_not_gone_on_with() {
    let (path, bytes) = whole("other");
    type Change = fn(&mut Header);
    let changes: [(Change, &str); 7] = [
        (|h| h.teacher = "other.gguf".into(), "the teacher is teacher.gguf, expected other.gguf"),
        (|h| h.tokenizer = 1, "the tokenizer is fffffffffffffffa of 20 tokens, expected 0000000000000001"),
        (|h| h.temperature = 1.0, "the temperature is 2, expected 1"),
        (|h| h.layout.k = 4, "the number of likeliest tokens is 3, expected 4"),
        (|h| h.layout.samples = 4, "the number of samples is 2, expected 4"),
        (|h| h.seed = 10, "the seed is 9, expected 10"),
        (|h| h.shard = [1, 2], "shard 1/1, or other rows, expected shard 1/2"),
    ];
    for (change, expected) in changes {
        let mut header = header([1, 1]);
        change(&mut header);
        let error = Writer::open(&path, &header, &rows()).err().unwrap().to_string();
        assert!(error.contains(expected) && error.contains("other"), "{error}");
    }
    let fewer = &rows()[1..];
    let header = Header { rows: 4, data: data_hash(fewer), ..header([1, 1]) };
    let error = Writer::open(&path, &header, fewer).err().unwrap().to_string();
    assert!(error.contains("the data is"), "{error}");
    assert!(fs::read(&path).unwrap() == bytes);
    fs::write(&path, "a letter to a friend").unwrap();
    let error = Writer::open(&path, &self::header([1, 1]), &rows()).err().unwrap().to_string();
    assert!(error.contains("begins with") && error.contains("expected a label store"), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"a letter to a friend");
}

#[test]
fn hostile_files_are_refused_or_read() {
    let (path, bytes) = whole("hostile");
    let try_all = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let labels = Labels::open(&path).map_err(|error| error.to_string())?;
        let _ = labels.kept(100);
        labels.sparse(&batch()).map(|_| ()).map_err(|error| error.to_string())
    };
    // Whatever byte is wrong, nothing panics, and messages are one line that names the file.
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bad = bytes.clone();
            bad[at] ^= flip;
            if let Err(error) = try_all(&bad) {
                assert!(error.contains("hostile") && !error.contains('\n'), "{error}");
            }
        }
    }
    let text = String::from_utf8_lossy(&bytes[16..]).into_owned();
    let json = &text[..text.find('}').unwrap() + 1];
    let with = |json: &str| {
        let mut json = json.as_bytes().to_vec();
        json.resize((16 + json.len()).next_multiple_of(64) - 16, b' ');
        let mut bad = bytes[..12].to_vec();
        bad.extend((json.len() as u32).to_le_bytes());
        bad.extend(json);
        bad.extend(&bytes[bytes.len() - 200..]);
        bad
    };
    for (from, to, expected) in [
        (r#""k":3"#, r#""k":0"#, "k is 0, expected 1 to 20"),
        (r#""k":3"#, r#""k":18446744073709551615"#, "k is 18446744073709551615"),
        (r#""k":3"#, r#""k":-3"#, "the header"),
        (r#""samples":2"#, r#""samples":99999"#, "samples is 99999"),
        (r#""vocab":20"#, r#""vocab":18446744073709551615"#, "the vocabulary is of"),
        (r#""rows":5"#, r#""rows":18446744073709551615"#, "rows, expected 1/1"),
        (r#""rows":5"#, r#""rows":4294967295"#, "shorter than its table"),
        (r#""shard":[1,1]"#, r#""shard":[0,1]"#, "shard 0 of 1"),
        (r#""shard":[1,1]"#, r#""shard":[2,1]"#, "shard 2 of 1"),
        (r#""temperature":2.0"#, r#""temperature":-1.0"#, "the temperature is -1"),
        (r#""temperature":2.0"#, r#""temperature":1e999"#, "the header"),
        (r#""seed":9"#, r#""sead":9"#, "the header"),
    ] {
        let changed = json.replacen(from, to, 1);
        assert_ne!(changed, json, "{from}");
        let error = try_all(&with(&changed)).unwrap_err();
        assert!(error.contains(expected), "{to}: {error}");
    }
    let mut long = bytes.clone();
    long.push(0);
    assert!(try_all(&long).unwrap_err().contains("bytes, expected"));
    let mut header = bytes.clone();
    header[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert!(try_all(&header).unwrap_err().contains("a header of 4294967295 bytes"));
    assert!(Labels::open(&std::env::temp_dir()).is_err());
    assert!(Labels::open(&place("nothing-here")).is_err());
}

#[test]
fn vocabularies_are_told_apart() {
    use pupil::gguf::{Gguf, OwnedValue, Writer};
    let hash = |tokens: &[&str]| {
        let mut writer = Writer::new();
        writer
            .key("general.architecture", "llama")
            .key("tokenizer.ggml.model", "llama")
            .key("tokenizer.ggml.tokens", OwnedValue::strings(tokens))
            .key("tokenizer.ggml.scores", vec![0.0_f32; tokens.len()]);
        let path = place("vocabulary.gguf");
        writer.write_file(&path).unwrap();
        vocabulary_hash(&pupil::text::Tokenizer::from_gguf(&Gguf::open(&path).unwrap()).unwrap())
    };
    let base = ["<unk>", "<s>", "</s>", "a", "bc"];
    assert_eq!(hash(&base), hash(&base));
    assert_ne!(hash(&base), hash(&["<unk>", "<s>", "</s>", "ab", "c"]));
    assert_ne!(hash(&base), hash(&["<unk>", "<s>", "</s>", "bc", "a"]));
}
