//! Damaged files: whatever the damage, the reader answers with an error or with a file that keeps its promises.

use super::{Builder, Random, every_type, look_at_everything};

/// Opens a damaged file; looks at all of it if it is accepted. Says whether it was.
fn open(bytes: &[u8]) -> bool {
    match Builder(bytes.to_vec()).open("damaged.gguf") {
        Ok(gguf) => {
            look_at_everything(&gguf);
            true
        }
        Err(error) => {
            let message = error.to_string();
            assert!(message.starts_with("damaged.gguf: ") && !message.contains(char::is_control), "{message}");
            false
        }
    }
}

#[test]
fn every_truncation_is_refused() {
    let file = every_type().0;
    assert!(open(&file));
    for len in 0..file.len() {
        assert!(!open(&file[..len]), "accepted {len} of {} bytes", file.len());
    }
}

#[test]
fn every_byte_flipped() {
    let mut file = every_type().0;
    let (mut accepted, mut refused) = (0, 0);
    for i in 0..file.len() {
        let original = file[i];
        let bits = (0..8).map(|bit| original ^ (1 << bit));
        for value in bits.chain([0, 255, original.wrapping_add(1), original.wrapping_sub(1)]) {
            file[i] = value;
            if open(&file) {
                accepted += 1;
            } else {
                refused += 1;
            }
        }
        file[i] = original;
    }
    println!("single bytes: {accepted} accepted, {refused} refused");
    assert!(accepted > 1000 && refused > 1000);
}

#[test]
fn random_damage() {
    let file = every_type().0;
    let len = file.len() as u64;
    let mut numbers = vec![0, 1, 2, 8, 9, 31, 32, len, len - 1, 65_536, 1 << 31, 1 << 32, 1 << 61, 1 << 63];
    numbers.extend([u64::MAX, u64::MAX - 31, u64::MAX - len, u64::MAX / 8 + 1, u64::from(u32::MAX)]);
    let mut random = Random(1);
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..30_000 {
        let mut bytes = file.clone();
        for _ in 0..=random.below(4) {
            damage(&mut bytes, &numbers, &mut random);
        }
        if open(&bytes) {
            accepted += 1;
        } else {
            refused += 1;
        }
    }
    println!("random damage: {accepted} accepted, {refused} refused");
    assert!(accepted > 1000 && refused > 1000);
}

/// One change: a number, a byte, a copied piece, a piece cut out, or the end cut off.
fn damage(bytes: &mut Vec<u8>, numbers: &[u64], random: &mut Random) {
    let at = random.below(bytes.len() + 1);
    let piece = at..bytes.len().min(at + 1 + random.below(16));
    match random.below(8) {
        0 | 1 => overwrite(bytes, at, &random.one_of(numbers).to_le_bytes()),
        2 | 3 => overwrite(bytes, at, &(*random.one_of(numbers) as u32).to_le_bytes()),
        4 => overwrite(bytes, at, &[random.next() as u8]),
        5 => {
            let copy = bytes[piece].to_vec();
            let to = random.below(bytes.len() + 1);
            bytes.splice(to..to, copy);
        }
        6 => drop(bytes.drain(piece)),
        _ => bytes.truncate(at.max(24)),
    }
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    for (byte, new) in bytes[at..].iter_mut().zip(with) {
        *byte = *new;
    }
}
