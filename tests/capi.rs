//! The C library: its header is current, and the example programs, compiled as strict C, do what the Rust API does.

#[path = "../cli/tests/common/lights.rs"]
mod lights;

use pupil::text::SamplerOptions;
use pupil::{Chat, ChatOptions, Detector, Model, TranslateOptions, Translator};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::{env, fs};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_header_is_current() {
    let config = cbindgen::Config::from_file(root().join("cross/cbindgen.toml")).unwrap();
    // Its modules follow.
    let builder = cbindgen::Builder::new().with_config(config).with_src(root().join("src/capi/mod.rs"));
    let mut made = Vec::new();
    builder.generate().unwrap().write(&mut made);
    expect_current("cross/include/pupil.h", &made);
}

/// A detector for tests that are not written in Rust.
#[test]
fn the_detector_that_is_kept_is_current() {
    expect_current("tests/vectors/lights.gguf", &lights::file(&lights::spec()));
}

/// Expects that a file of the repository is as its code makes it now.
fn expect_current(file: &str, made: &[u8]) {
    let path = root().join(file);
    if env::var_os("UPDATE_KEPT").is_some() {
        fs::write(&path, made).unwrap();
    }
    let kept = fs::read(&path).unwrap_or_default();
    assert!(kept == made, "{file} is old; UPDATE_KEPT=1 cargo test --test capi writes it");
}

/// The target, if cargo was told one: `cross/test.sh` does, and with what to compile for it and to run what comes out.
fn target() -> Option<String> {
    env::var("CARGO_BUILD_TARGET").ok()
}

/// The C compiler for the machine that the tests run on.
fn compiler() -> String {
    let variable = target().map(|target| format!("CC_{}", target.replace('-', "_")));
    variable.and_then(|name| env::var(name).ok()).unwrap_or("cc".into())
}

/// The emulator of that machine, if cargo runs its programs in one.
fn emulator() -> Option<String> {
    let target = target()?.replace('-', "_").to_uppercase();
    env::var(format!("CARGO_TARGET_{target}_RUNNER")).ok()
}

/// A program as a command, in the emulator if there is one.
fn command(program: PathBuf) -> Command {
    let emulator = emulator().unwrap_or_default();
    let mut words = emulator.split_whitespace().map(PathBuf::from).chain([program]);
    let mut command = Command::new(words.next().expect("at least the program"));
    command.args(words);
    command
}

/// The folder of the C library, built once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        // Where the tests were built too, so that only the library itself is compiled again. A target has its own folder there.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let root_folder = if target().is_some() { folder.parent().unwrap() } else { folder };
        let features = if cfg!(feature = "hf-tokenizer") { "capi,image,hf-tokenizer" } else { "capi,image" };
        let built = Command::new(env!("CARGO"))
            .args(["rustc", "--package", "pupil", "--lib", "--crate-type", "staticlib"])
            .args(["--no-default-features", "--features", features, "--target-dir"])
            .arg(root_folder)
            .current_dir(root())
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        folder.join("debug")
    })
}

/// Compiles an example; `None`, with a line that says so, where there is no C compiler.
fn example(name: &str, flags: &[&str]) -> Option<PathBuf> {
    if Command::new(compiler()).arg("--version").output().is_err() {
        println!("skipped: no C compiler");
        return None;
    }
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}{}", flags.concat()));
    let compiled = Command::new(compiler())
        .args(["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wredundant-decls", "-Werror"])
        .args(flags)
        .arg("-I")
        .arg(root().join("cross/include"))
        .arg(root().join(format!("cross/examples/{name}.c")))
        .arg(library().join("libpupil.a"))
        .args(["-lm", "-lpthread", "-ldl", "-o"])
        .arg(&program)
        .output()
        .unwrap();
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    Some(program)
}

/// Runs an example bare, with AddressSanitizer and in valgrind, where these are; gives the first run's output.
fn run(name: &str, args: &[&Path]) -> Option<Output> {
    let plain_program = example(name, &[])?;
    let plain = command(plain_program.clone()).args(args).output().unwrap();
    let emulated = emulator().is_some();
    if emulated && !cfg!(target_arch = "aarch64") {
        println!("skipped: no AddressSanitizer in this emulator");
    } else {
        let flags: &[&str] =
            if emulated { &["-fsanitize=address", "-static-libasan"] } else { &["-fsanitize=address"] };
        let mut sanitized = command(example(name, flags)?);
        if emulated {
            // What it needs to find leaks, and to report a full stack, qemu does not have.
            sanitized.env("ASAN_OPTIONS", "detect_leaks=0:use_sigaltstack=0");
        }
        expect_the_same(&sanitized.args(args).output().unwrap(), &plain);
    }
    let mut valgrind = Command::new("valgrind");
    // What statics hold by pointers with tags in them is "possibly lost", and not meant.
    valgrind.args(["--quiet", "--leak-check=full", "--errors-for-leak-kinds=definite", "--error-exitcode=99"]);
    valgrind.arg(plain_program).args(args);
    // It knows no instructions of 512 bits.
    valgrind.env("PUPIL_ISA", "portable");
    if emulated {
        println!("skipped: no valgrind in an emulator");
    } else if let Ok(checked) = valgrind.output() {
        let report = String::from_utf8_lossy(&checked.stderr);
        assert_eq!(checked.status.code(), plain.status.code(), "{report}");
    } else {
        println!("skipped: no valgrind");
    }
    Some(plain)
}

/// Expects that a program did as it did before.
fn expect_the_same(now: &Output, before: &Output) {
    let report = String::from_utf8_lossy(&now.stderr);
    assert_eq!(now.stdout, before.stdout, "{report}");
    assert_eq!(now.status.code(), before.status.code(), "{report}");
}

#[test]
fn chat_answers_as_the_library_does() {
    let file = root().join("tests/vectors/llama.gguf");
    let Some(output) = run("chat", &[&file, Path::new("hello")]) else { return };
    assert!(output.status.success(), "{output:?}");
    let options = ChatOptions { max_tokens: Some(64), sampler: Some(SamplerOptions::greedy()), ..Default::default() };
    let mut chat = Chat::new(&Model::open(file).unwrap(), options).unwrap();
    let answer = chat.say("hello", |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), answer.text);
}

#[test]
fn detect_finds_what_the_library_finds() {
    let model = root().join("tests/vectors/lights.gguf");
    let picture = Path::new(env!("CARGO_TARGET_TMPDIR")).join("capi-lights.png");
    lights::picture(64, 64, 8, &[(1, 2, [255; 3]), (5, 6, [255, 0, 0])]).save(&picture).unwrap();
    let Some(output) = run("detect", &[&model, &picture]) else { return };
    assert!(output.status.success(), "{output:?}");
    let mut detector = Detector::open(model).unwrap();
    let found = detector.detect(&pupil::Picture::open(picture).unwrap()).unwrap();
    let lines: String = found
        .iter()
        .map(|found| {
            let (class, rect) = (&detector.spec().classes[found.class], found.rect);
            let (x0, y0, x1, y1) = (rect.x0, rect.y0, rect.x1, rect.y1);
            format!("{:.2} {class} {x0:.0} {y0:.0} {x1:.0} {y1:.0}\n", found.score)
        })
        .collect();
    assert_eq!(found.len(), 2);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), lines);
}

#[test]
fn translate_writes_what_the_library_writes() {
    let file = root().join("tests/vectors/t5-relu.gguf");
    let texts = ["An apple. Bread?", "- face; deaf", ""];
    let args = [&[file.as_path()][..], &texts.map(Path::new)].concat();
    let Some(output) = run("translate", &args) else { return };
    assert!(output.status.success(), "{output:?}");
    let mut translator = Translator::open(file, TranslateOptions { beam: 4, ..Default::default() }).unwrap();
    let translations = translator.translate_batch(&texts).unwrap();
    let lines: String = translations.iter().map(|translation| format!("{}\n", translation.text)).collect();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), lines);
}

#[test]
fn what_goes_wrong_is_said_in_one_line() {
    for (name, expected) in [
        ("chat", "chat: cannot open the model: none.gguf: "),
        ("detect", "detect: cannot open the detector: none.gguf: "),
        ("translate", "translate: cannot open the translator: none.gguf: "),
    ] {
        let Some(output) = run(name, &[Path::new("none.gguf"), Path::new("x")]) else { return };
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(message.starts_with(expected) && message.lines().count() == 1, "{message}");
    }
}
