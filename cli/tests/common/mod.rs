//! Running the program, and small models for it.

#![allow(dead_code)] // each test file uses a part

use std::{
    env, fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What a run of the program left.
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

/// The program, to be run with `args`; in the emulator, if cargo was told one for the target.
pub fn pupil(args: &[&str]) -> Command {
    let target = env::var("CARGO_BUILD_TARGET").unwrap_or_default().replace('-', "_").to_uppercase();
    let emulator = env::var(format!("CARGO_TARGET_{target}_RUNNER")).unwrap_or_default();
    let mut words = emulator.split_whitespace().chain([env!("CARGO_BIN_EXE_pupil")]);
    let mut command = Command::new(words.next().expect("at least the program"));
    command.args(words).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs the program with nothing on stdin.
pub fn run(args: &[&str]) -> Ran {
    run_with(args, b"")
}

/// Runs the program with `input` on stdin.
pub fn run_with(args: &[&str], input: &[u8]) -> Ran {
    let mut child = pupil(args).stdin(Stdio::piped()).spawn().unwrap();
    // The program may end without reading it all.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let (out, err) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert!(!err.contains("panicked"), "{args:?}: {err}");
    Ran { code: output.status.code(), out, err }
}

/// Runs the program, which must succeed without a word on stderr, and returns its stdout.
pub fn good(args: &[&str]) -> String {
    good_with(args, b"")
}

/// As [`good`], with `input` on stdin.
pub fn good_with(args: &[&str], input: &[u8]) -> String {
    let ran = run_with(args, input);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{args:?}");
    ran.out
}

/// Runs the program, which must fail with one clear line and nothing else, and returns that line.
pub fn bad(args: &[&str]) -> String {
    bad_with(args, b"")
}

/// As [`bad`], with `input` on stdin.
pub fn bad_with(args: &[&str], input: &[u8]) -> String {
    let ran = run_with(args, input);
    assert_eq!((ran.code, ran.out.as_str()), (Some(1), ""), "{args:?}: {}", ran.err);
    assert!(ran.err.starts_with("pupil: ") && ran.err.ends_with('\n'), "{args:?}: {}", ran.err);
    assert_eq!(ran.err.lines().count(), 1, "{args:?}: {}", ran.err);
    ran.err
}

/// A place for a test's file.
pub fn place(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// A file with `bytes` in it.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let path = place(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// A file with a tiny model of random weights, for the test called `test`.
pub fn tiny(test: &str, mix: &str) -> PathBuf {
    let path = place(&format!("{test}-{mix}.gguf"));
    let shape = format!("tiny:{mix}");
    let save = path.to_str().unwrap();
    good(&["bench", "--synthetic", &shape, "--save", save, "--prompt", "4", "--decode", "2", "--reps", "1"]);
    path
}

/// A path as an argument.
pub fn arg(path: &Path) -> &str {
    path.to_str().unwrap()
}
