//! A real model tells the stories that it tells in llama.cpp.

mod common;

use common::{arg, good};
use std::{fs, path::Path};

/// Tokens that are compared for each type. With the last three, near ties come early, which llama.cpp itself decides
/// otherwise when its cache is f32; the library's test of the same name weighs each token.
const TYPES: [(&str, usize); 7] =
    [("f32", 96), ("f16", 96), ("q8_0", 96), ("q5_0", 96), ("q5_1", 16), ("q4_1", 16), ("q4_0", 16)];

#[test]
fn stories_are_those_of_llama_cpp() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/models/gguf");
    let Ok(expected) = fs::read_to_string(models.join("stories260K.expected.txt")) else {
        println!("skipped: {} is not there", models.display());
        return;
    };
    for (dtype, tokens) in TYPES {
        let (_, story) = expected.split_once(&format!("== {dtype}\n")).unwrap();
        let story = story.split("\n== ").next().unwrap().trim();
        let path = models.join(format!("stories260K-{dtype}.gguf"));
        let tokens = tokens.to_string();
        let out = good(&["chat", "-m", arg(&path), "--raw", "--temp", "0", "-n", &tokens, "Once upon a time"]);
        let told = out.trim();
        assert!(story.starts_with(told), "{dtype}:\n{told}\n\nexpected:\n{story}");
        assert!(tokens != "96" || told == story, "{dtype}:\n{told}\n\nexpected:\n{story}");
    }
}
