//! Decoding on one thread and on several, on an idle machine and on one whose cores are all busy, over spin times.
//!
//! ```text
//! cargo bench --bench threads -- [--type q4_0] [--threads 2] [--rounds 15] [--ms 300] [--only idle|busy]
//! ```
//!
//! The variants take turns, so that what else the machine does falls on all of them; ratios are taken within a turn.
//! "Others" is what other programs took of the machine meanwhile: a measurement said to be on an idle machine is
//! repeated, up to a limit, while that is above 10 %. Where other programs never leave the machine alone, the scheduler
//! can keep them off its cores: `chrt -f 10 cargo bench … -- --only idle` (Linux, as root).

mod random;

use pupil::nets::decoder::{Decoder, Logits, Session};
use pupil::nets::kv::CacheType;
use pupil::tensor::DType;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Tokens before those that are measured.
const PROMPT: usize = 8;

struct Options {
    dtype: DType,
    threads: usize,
    rounds: usize,
    slice: Duration,
    only: Option<String>,
}

/// A number of threads and how long they spin; `None` is the library's own choice.
struct Variant {
    name: String,
    threads: usize,
    spin: Option<Duration>,
}

struct Measured {
    tokens_per_second: f64,
    /// Share of the machine that other programs took, 0 to 1.
    others: f64,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--hog") {
        return hog();
    }
    let value = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1));
    let number = |name: &str, default: usize| value(name).map_or(default, |v| v.parse().expect("a number"));
    // `cargo bench` passes --bench; `cargo test --benches` does not, and only wants to see that it works.
    let test = !args.iter().any(|arg| arg == "--bench") || args.iter().any(|arg| arg == "--test");
    let options = Options {
        dtype: value("--type")
            .map_or(DType::Q4_0, |name| DType::ALL.into_iter().find(|t| t.name() == name).expect("a type like q4_0")),
        threads: number("--threads", 2),
        rounds: number("--rounds", if test { 1 } else { 15 }),
        slice: Duration::from_millis(number("--ms", if test { 1 } else { 300 }) as u64),
        only: value("--only").cloned(),
    };
    let shape = random::Shape { layers: if test { 2 } else { random::SMOL.layers }, ..random::SMOL };
    let decoder = Decoder::load(&random::model(&shape, options.dtype)).unwrap();
    println!("SmolLM2-135M's shape, {}, isa {}", options.dtype, pupil::kernels::Kernels::get().unwrap().isa);
    if options.only.as_deref() != Some("busy") {
        table("idle", &decoder, &options, if test { 1 } else { 5 });
    }
    if options.only.as_deref() != Some("idle") {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let hogs: Vec<Hog> = (0..cores).map(|_| Hog::start()).collect();
        std::thread::sleep(options.slice / 3);
        table(&format!("{} cores, each busy with another process", hogs.len()), &decoder, &options, 1);
    }
}

/// Measures all variants, in turns, and prints the table.
fn table(title: &str, decoder: &Decoder, options: &Options, tries: usize) {
    let threads = options.threads;
    let mut variants = vec![Variant { name: "1 thread".into(), threads: 1, spin: None }];
    let several = |spin: &str, time| Variant { name: format!("{threads} threads, {spin}"), threads, spin: time };
    variants.push(several("as shipped", None));
    for micros in [0, 60, 200] {
        variants.push(several(&format!("spin {micros} µs"), Some(Duration::from_micros(micros))));
    }
    variants.push(several("spin always", Some(Duration::MAX)));

    let mut sessions: Vec<_> = variants.iter().map(|v| session(decoder, v)).collect();
    sessions.pop();
    let mut rounds: Vec<Vec<Measured>> = Vec::new();
    for round in 0..options.rounds {
        let mut measured: Vec<_> = variants.iter().map(|_| None).collect();
        for turn in 0..variants.len() {
            let at = (turn + round) % variants.len();
            // Threads that always spin would do so in the others' turns, too.
            let mut fresh = None;
            let session = match variants[at].spin {
                Some(Duration::MAX) => fresh.insert(session(decoder, &variants[at])),
                _ => &mut sessions[at],
            };
            let best = (0..tries).map(|_| measure(decoder, session, options.slice));
            let mut least: Option<Measured> = None;
            for m in best {
                if least.as_ref().is_none_or(|l| m.others < l.others) {
                    least = Some(m);
                }
                if least.as_ref().is_some_and(|l| l.others < 0.1) {
                    break;
                }
            }
            measured[at] = least;
        }
        rounds.push(measured.into_iter().flatten().collect());
    }

    println!("\n{title}; {} rounds: median (least–most)", options.rounds);
    println!("{:28}{:>22}{:>24}{:>24}{:>8}", "", "tokens/s", "× 1 thread", "× spinning always", "others");
    let last = variants.len() - 1;
    for (i, variant) in variants.iter().enumerate() {
        let over = |base: usize| {
            spread(rounds.iter().map(|r| r[i].tokens_per_second / r[base].tokens_per_second).collect(), 3)
        };
        let speed = spread(rounds.iter().map(|r| r[i].tokens_per_second).collect(), 1);
        let others = rounds.iter().map(|r| r[i].others).sum::<f64>() / rounds.len() as f64;
        println!("{:28}{speed:>22}{:>24}{:>24}{:>7.0}%", variant.name, over(0), over(last), 100.0 * others);
    }
}

fn spread(mut values: Vec<f64>, digits: usize) -> String {
    values.sort_by(f64::total_cmp);
    let (least, most) = (values[0], values[values.len() - 1]);
    format!("{:.digits$} ({least:.digits$}–{most:.digits$})", values[values.len() / 2])
}

/// A session of this variant, with a few tokens in it.
fn session(decoder: &Decoder, variant: &Variant) -> Session {
    let mut session = decoder.session(1024, CacheType::F16, variant.threads).unwrap();
    if let Some(spin) = variant.spin {
        session.set_spin(spin);
    }
    decoder.forward(&mut session, &[0; PROMPT], Logits::Last).unwrap();
    session
}

/// Decodes for a while.
fn measure(decoder: &Decoder, session: &mut Session, slice: Duration) -> Measured {
    session.cache.truncate(PROMPT);
    let (start, busy, own) = (Instant::now(), ticks_of_all(), ticks_of_this());
    let mut tokens = 0;
    while tokens < 1000 && (tokens == 0 || start.elapsed() < slice) {
        decoder.forward(session, &[tokens], Logits::Last).unwrap();
        tokens += 1;
    }
    let seconds = start.elapsed().as_secs_f64();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let others = (ticks_of_all() - busy) - (ticks_of_this() - own);
    let others = (others / 100.0 / seconds / cores as f64).max(0.0);
    Measured { tokens_per_second: f64::from(tokens) / seconds, others }
}

/// Hundredths of seconds that the machine was busy, by Linux' account; 0 elsewhere.
fn ticks_of_all() -> f64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let numbers: Vec<f64> =
        stat.lines().next().unwrap_or_default().split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    // user, nice, system, idle, iowait, irq, softirq, steal
    numbers.iter().take(8).sum::<f64>() - numbers.iter().skip(3).take(2).sum::<f64>()
}

/// Hundredths of seconds that this process computed.
fn ticks_of_this() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    after_name.split_whitespace().skip(11).take(2).filter_map(|n| n.parse::<f64>().ok()).sum()
}

/// Another process that computes without end.
struct Hog(Child);

impl Hog {
    fn start() -> Self {
        let program = std::env::current_exe().unwrap();
        Self(Command::new(program).arg("--hog").stdin(Stdio::piped()).spawn().unwrap())
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Computes until the parent is gone, which closes standard input.
fn hog() {
    std::thread::spawn(|| {
        let _ = std::io::copy(&mut std::io::stdin(), &mut std::io::sink());
        std::process::exit(0);
    });
    let mut random = random::Random(1);
    loop {
        std::hint::black_box(random.bits());
    }
}
