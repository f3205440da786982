/// A graph, and what ONNX Runtime makes of noise.
pub struct Case {
    pub name: String,
    pub graph: Vec<u8>,
    pub outputs: Vec<Vec<f32>>,
}

/// What `graphs.py` wrote.
pub fn cases() -> Vec<Case> {
    let mut blocks = blocks(include_bytes!("graphs.bin"));
    let mut cases = Vec::new();
    while let Some(name) = blocks.next() {
        let name = String::from_utf8(name.to_vec()).unwrap();
        let graph = blocks.next().unwrap().to_vec();
        let count = usize::from(blocks.next().unwrap()[0]);
        let outputs = blocks.by_ref().take(count).map(floats).collect();
        cases.push(Case { name, graph, outputs });
    }
    cases
}

/// The case of this name.
pub fn case(name: &str) -> Case {
    cases().into_iter().find(|case| case.name == name).unwrap()
}

/// Parts of a file that have their length before them, in four bytes.
pub fn blocks(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, tail) = bytes.split_first_chunk()?;
        let (block, tail) = tail.split_at(u32::from_le_bytes(*len) as usize);
        bytes = tail;
        Some(block)
    })
}

/// Numbers in a block.
pub fn floats(block: &[u8]) -> Vec<f32> {
    block.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect()
}
