//! The C library: its header is current, what it exports is what the header has, and the example programs, compiled as strict
//! C, do what the Rust API does.

#[path = "../cli/tests/common/lights.rs"]
mod lights;

use pupil::text::SamplerOptions;
use pupil::{Chat, ChatOptions, Detector, Model, TranslateOptions, Translator};
use std::collections::BTreeSet;
use std::io::Write;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Mutex, OnceLock};
use std::{env, fs, io};

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

/// Says what is not tested here; not by a macro, whose output the tests' harness keeps to itself.
#[allow(clippy::explicit_write, reason = "tests keep what eprintln says to themselves")]
fn skipped(why: &str) {
    writeln!(io::stderr(), "skipped: {why}").unwrap();
}

/// The C compiler for the machine that the tests run on; `None`, with a line that says so, where there is none.
fn compiler() -> Option<String> {
    let variable = target().map(|target| format!("CC_{}", target.replace('-', "_")));
    let compiler = variable.and_then(|name| env::var(name).ok()).unwrap_or("cc".into());
    if Command::new(&compiler).arg("--version").output().is_err() {
        skipped("no C compiler");
        return None;
    }
    Some(compiler)
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
            // What is tested here is no kernel: this takes a third less time to compile.
            .args(["--config", "profile.dev.package.pupil.opt-level=1"])
            .current_dir(root())
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        folder.join("debug")
    })
}

/// The output of a command that has to succeed.
fn done(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The folder that `cross/library.sh` lays the C library out in, made once.
fn installed(compiler: &str) -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("libpupil");
        let mut script = Command::new(root().join("cross/library.sh"));
        done(script.arg(library().join("libpupil.a")).arg(&folder).arg(compiler));
        folder
    })
}

/// Compiles an example as what is to be called `program`, by a compiler with these flags and libraries; once, as tests run
/// beside each other.
fn compile(compiler: &str, name: &str, program: &str, flags: &[&str], libraries: &[&str]) -> PathBuf {
    static COMPILED: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(program);
    let mut compiled = COMPILED.lock().unwrap();
    if compiled.contains(&program) {
        return program;
    }
    let mut compile = Command::new(compiler);
    compile.args(["-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wredundant-decls", "-Werror"]).args(flags);
    compile.arg("-I").arg(root().join("cross/include")).arg(root().join(format!("cross/examples/{name}.c")));
    done(compile.args(libraries).arg("-o").arg(&program));
    compiled.insert(program.clone());
    program
}

/// Compiles an example with the archive, which is then a part of it; `None` where there is no C compiler.
fn example(name: &str, flags: &[&str]) -> Option<PathBuf> {
    let compiler = compiler()?;
    let archive = library().join("libpupil.a");
    let libraries = [archive.to_str().unwrap(), "-lm", "-lpthread", "-ldl"];
    Some(compile(&compiler, name, &format!("{name}{}", flags.concat()), flags, &libraries))
}

/// Runs an example bare, with AddressSanitizer and in valgrind, where these are; gives the first run's output.
fn run(name: &str, args: &[&Path]) -> Option<Output> {
    let plain_program = example(name, &[])?;
    let plain = command(plain_program.clone()).args(args).output().unwrap();
    let emulated = emulator().is_some();
    if emulated && !cfg!(target_arch = "aarch64") {
        skipped("no AddressSanitizer in this emulator");
    } else {
        let flags: &[&str] =
            if emulated { &["-fsanitize=address", "-static-libasan"] } else { &["-fsanitize=address"] };
        let mut sanitized = command(example(name, flags)?);
        // What it needs to find leaks, and to report a full stack, qemu does not have.
        let options = if emulated { "exitcode=99:detect_leaks=0:use_sigaltstack=0" } else { "exitcode=99" };
        sanitized.env("ASAN_OPTIONS", options);
        expect_the_same(&sanitized.args(args).output().unwrap(), &plain);
    }
    let mut valgrind = Command::new("valgrind");
    // What statics hold by pointers with tags in them is "possibly lost", and not meant.
    valgrind.args(["--quiet", "--leak-check=full", "--errors-for-leak-kinds=definite", "--error-exitcode=99"]);
    valgrind.arg(plain_program).args(args);
    // It does not know the newest instructions.
    let known = [("x86_64", "sse2"), ("aarch64", "neon")].into_iter().find(|(arch, _)| *arch == env::consts::ARCH);
    valgrind.envs(known.map(|(_, isa)| ("PUPIL_ISA", isa)));
    if emulated {
        skipped("no valgrind in an emulator");
    } else if let Ok(checked) = valgrind.output() {
        let report = String::from_utf8_lossy(&checked.stderr);
        assert_eq!(checked.status.code(), plain.status.code(), "{report}");
    } else {
        skipped("no valgrind");
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
fn frames_are_counted_as_the_library_counts_them() {
    let model = root().join("tests/vectors/lights.gguf");
    let frames = Path::new(env!("CARGO_TARGET_TMPDIR")).join("capi-frames.rgb");
    let (white, red) = ((1, 2, [255; 3]), (5, 6, [255, 0, 0]));
    let pictures = [&[white, red, (3, 3, [255; 3])][..], &[], &[red]].map(|lights| lights::picture(64, 64, 8, lights));
    // The last one is cut off, and none.
    let bytes = pictures.iter().map(|picture| picture.rgb()).chain([&[0; 99][..]]).collect::<Vec<_>>().concat();
    fs::write(&frames, bytes).unwrap();
    let Some(output) = run("frames", &[&model, Path::new("64"), Path::new("64"), &frames]) else { return };
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    assert_eq!(lines, "0\t2 white light\t1 red light\n1\n2\t1 red light\n");
    let mut detector = Detector::open(model).unwrap();
    let found = pictures.map(|picture| detector.detect(&picture).unwrap().len());
    assert_eq!(found, [3, 0, 1]);
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
    for (name, rest, expected) in [
        ("chat", &["x"][..], "chat: cannot open the model: none.gguf: "),
        ("detect", &["x"], "detect: cannot open the detector: none.gguf: "),
        ("frames", &["64", "64", "x"], "frames: cannot open the detector: none.gguf: "),
        ("translate", &["x"], "translate: cannot open the translator: none.gguf: "),
    ] {
        let args: Vec<_> = ["none.gguf"].iter().chain(rest).map(Path::new).collect();
        let Some(output) = run(name, &args) else { return };
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1));
        assert!(message.starts_with(expected) && message.lines().count() == 1, "{message}");
    }
}

/// The functions that the header declares.
fn declared() -> BTreeSet<String> {
    let header = fs::read_to_string(root().join("cross/include/pupil.h")).unwrap();
    let before = header.split('(').filter_map(|text| text.rsplit(|c: char| !(c.is_alphanumeric() || c == '_')).next());
    before.filter(|word| word.starts_with("pupil_")).map(str::to_owned).collect()
}

#[test]
fn the_shared_library_exports_what_the_header_declares_in_its_version() {
    let Some(compiler) = compiler() else { return };
    let folder = installed(&compiler);
    let (version, description) = (env!("CARGO_PKG_VERSION"), env!("CARGO_PKG_DESCRIPTION"));
    let abi = match env!("CARGO_PKG_VERSION_MAJOR") {
        "0" => concat!("0.", env!("CARGO_PKG_VERSION_MINOR")),
        major => major,
    };
    let read = |what: &str| done(Command::new("readelf").args(["--wide", what]).arg(folder.join("lib/libpupil.so")));
    assert!(read("--dynamic").contains(&format!("soname: [libpupil.so.{abi}]")));
    let exported = |line: &str| {
        let columns: Vec<&str> = line.split_whitespace().collect();
        let [_, _, _, _, "GLOBAL", _, section, name] = columns[..] else { return None };
        // Neither what it needs itself nor the name of the version is in a section.
        section.parse::<u16>().is_ok().then(|| name.to_owned())
    };
    let symbols: BTreeSet<String> = read("--dyn-syms").lines().filter_map(exported).collect();
    let expected: BTreeSet<String> = declared().iter().map(|name| format!("{name}@@PUPIL_{abi}")).collect();
    assert!(expected.len() > 20 && expected.contains(&format!("pupil_version@@PUPIL_{abi}")));
    assert_eq!(symbols, expected);
    let package = fs::read_to_string(folder.join("lib/pkgconfig/pupil.pc")).unwrap();
    assert!(package.contains(&format!("Description: {description}\nVersion: {version}\n")), "{package}");
}

#[test]
fn programs_find_the_shared_library_as_pkg_config_says() {
    let Some(compiler) = compiler() else { return };
    let folder = installed(&compiler);
    let mut ask = Command::new("pkg-config");
    ask.args(["--cflags", "--libs", "pupil"]).env("PKG_CONFIG_LIBDIR", folder.join("lib/pkgconfig"));
    if ask.output().is_err() {
        return skipped("no pkg-config");
    }
    let words = done(&mut ask);
    let path = format!("-Wl,-rpath,{}", folder.join("lib").display());
    let libraries: Vec<&str> = words.split_whitespace().chain([path.as_str()]).collect();
    let shared = compile(&compiler, "chat", "chat-shared", &[], &libraries);
    let Some(whole) = example("chat", &[]) else { return };
    assert!(fs::metadata(&shared).unwrap().len() < fs::metadata(&whole).unwrap().len() / 10);
    let file = root().join("tests/vectors/llama.gguf");
    let answer = |program| command(program).arg(&file).arg("hello").output().unwrap();
    let (shared, whole) = (answer(shared), answer(whole));
    assert!(whole.status.success(), "{whole:?}");
    expect_the_same(&shared, &whole);
}
