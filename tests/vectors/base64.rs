/// The bytes that `text` stands for.
pub fn base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits = text.trim_end_matches('=').bytes();
    let bits: Vec<u8> = digits.flat_map(|c| (0..6).rev().map(move |bit| digit(c) >> bit & 1)).collect();
    bits.as_chunks::<8>().0.iter().map(|bits| bits.iter().fold(0, |byte, bit| byte << 1 | bit)).collect()
}
