//! The command line, read and checked.

#[cfg(feature = "eval")]
mod eval;
mod values;

use crate::{
    failure::{Failure, Outcome},
    synthetic::Synthetic,
};
use clap::{ArgGroup, Args, CommandFactory, FromArgMatches, Parser, Subcommand, error::ErrorKind};
#[cfg(feature = "eval")]
pub use eval::*;
pub use pupil::all_threads;
#[cfg(feature = "chat")]
use pupil::{ChatOptions, Model, nets::kv::CacheType, text::SamplerOptions};
#[cfg(feature = "translate")]
use pupil::{TranslateOptions, translate::EarlyStop};
#[cfg(feature = "eval")]
use pupil_distill::shortlist;
use std::path::PathBuf;
pub use values::*;

/// Runs small language models and detectors from one GGUF file.
#[derive(Parser)]
#[command(name = "pupil", version, about, disable_help_subcommand = true)]
pub struct Pupil {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    /// Ask a model, or talk with it
    #[cfg(feature = "chat")]
    Chat(ChatArgs),
    /// Translate a text, a file, or lines as they come
    #[cfg(feature = "translate")]
    Translate(TranslateArgs),
    /// Find the objects in pictures or in a video
    #[cfg(feature = "detect")]
    Detect(DetectArgs),
    /// Measure how good a model is
    #[cfg(feature = "eval")]
    Eval(EvalArgs),
    /// Add a shortlist of words to a translator, from parallel text
    #[cfg(feature = "eval")]
    Shortlist(ShortlistArgs),
    /// Train a student as a recipe says
    #[cfg(feature = "distill")]
    Distill(crate::distill::DistillArgs),
    /// Have a teacher label text for students
    #[cfg(feature = "distill")]
    Label(crate::label::args::LabelArgs),
    /// Show what a GGUF file holds
    Inspect(InspectArgs),
    /// Show the tokens of a text
    Tokenize(TokenizeArgs),
    /// Measure the speed of a model on this machine
    Bench(BenchArgs),
    /// Make a GGUF file out of a detector's ONNX graph or a language model's folder
    #[cfg(feature = "onnx")]
    Convert(ConvertArgs),
}

/// `pupil chat`
#[cfg(feature = "chat")]
#[derive(Args)]
#[command(after_help = "\
Without PROMPT this is a conversation at the terminal or, if stdin is none, an answer to each of its lines. \
Ctrl-C stops an answer.")]
pub struct ChatArgs {
    /// The GGUF file of the model [default: the one in the program, English]
    #[arg(short, long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// What to ask; - reads it from stdin
    pub prompt: Option<String>,
    /// What to tell the model first
    #[arg(short, long, value_name = "TEXT", conflicts_with = "raw")]
    pub system: Option<String>,
    /// Continue PROMPT as it stands, without the model's chat template, and print it with its continuation
    #[arg(long)]
    pub raw: bool,
    /// Tokens in an answer, at most
    #[arg(short = 'n', long, value_name = "N", value_parser = tokens)]
    pub max_tokens: Option<usize>,
    /// End an answer before TEXT; may be given several times
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Tokens in the conversation, at most [default: what the model was trained for, but at most 4096]
    #[arg(short, long, value_name = "N", value_parser = tokens)]
    pub context: Option<usize>,
    /// Forget the oldest turns when the conversation is full
    #[arg(long)]
    pub shift: bool,
    /// How keys and values are kept: f16, f32 or q8_0
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    pub cache_type: CacheType,
    #[command(flatten)]
    pub sampler: SamplerArgs,
    /// Threads to compute with [default: one for each core]
    #[arg(short, long, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
    /// Print one JSON object for each answer
    #[arg(long)]
    pub json: bool,
    /// Print times, speeds and memory to stderr
    #[arg(short, long)]
    pub verbose: bool,
}

/// How the next token is chosen. What is not given is as the model's file recommends, or else as the help says.
#[cfg(feature = "chat")]
#[derive(Args)]
pub struct SamplerArgs {
    /// Temperature; 0 always takes the likeliest token [default: the model's, or 0.8]
    #[arg(long, value_name = "T", value_parser = temperature)]
    temp: Option<f32>,
    /// Choose among the K likeliest tokens; 0 among all [default: the model's, or 40]
    #[arg(long, value_name = "K", value_parser = |s: &str| number(s, 0..=1 << 20))]
    top_k: Option<usize>,
    /// Choose among the likeliest tokens that together are this likely; 1 among all [default: the model's, or 0.95]
    #[arg(long, value_name = "P",
        value_parser = |s: &str| fitting(s, "more than 0 and at most 1", |p: &f32| 0.0 < *p && *p <= 1.0))]
    top_p: Option<f32>,
    /// Choose among tokens at least this fraction as likely as the likeliest; 0 among all [default: the model's, or 0.05]
    #[arg(long, value_name = "P", value_parser = fraction::<f32>)]
    min_p: Option<f32>,
    /// Make tokens that came lately less likely; 1 does not [default: the model's, or 1]
    #[arg(long, value_name = "X", value_parser = above_zero)]
    repeat_penalty: Option<f32>,
    /// How many of the last tokens --repeat-penalty is about [default: the model's, or 64]
    #[arg(long, value_name = "N", value_parser = |s: &str| number(s, 0..=1 << 20))]
    repeat_last_n: Option<usize>,
    /// The same seed gives the same answers [default: another one each time]
    #[arg(long, value_name = "N", value_parser = seed)]
    seed: Option<u64>,
}

#[cfg(feature = "chat")]
impl SamplerArgs {
    /// The options for `model`; `seed` is for when none was given.
    pub fn options(&self, model: &Model, seed: impl FnOnce() -> u64) -> SamplerOptions {
        let model = model.sampling();
        SamplerOptions {
            temperature: self.temp.unwrap_or(model.temperature),
            top_k: self.top_k.unwrap_or(model.top_k),
            top_p: self.top_p.unwrap_or(model.top_p),
            min_p: self.min_p.unwrap_or(model.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(model.repeat_penalty),
            repeat_last_n: self.repeat_last_n.unwrap_or(model.repeat_last_n),
            seed: self.seed.unwrap_or_else(seed),
        }
    }

    /// Options by name, and whether they were given.
    #[cfg(feature = "distill")]
    pub fn given(&self) -> [(&'static str, bool); 7] {
        [
            ("--temp", self.temp.is_some()),
            ("--top-k", self.top_k.is_some()),
            ("--top-p", self.top_p.is_some()),
            ("--min-p", self.min_p.is_some()),
            ("--repeat-penalty", self.repeat_penalty.is_some()),
            ("--repeat-last-n", self.repeat_last_n.is_some()),
            ("--seed", self.seed.is_some()),
        ]
    }
}

#[cfg(feature = "chat")]
impl ChatArgs {
    /// The options of a conversation with `model`.
    pub fn options(&self, model: &Model) -> ChatOptions {
        use std::hash::{BuildHasher, Hasher, RandomState};
        let sampler = self.sampler.options(model, || RandomState::new().build_hasher().finish());
        ChatOptions {
            system: self.system.clone(),
            raw: self.raw,
            context: self.context,
            cache: self.cache_type,
            threads: self.threads.unwrap_or_else(all_threads),
            max_tokens: self.max_tokens,
            stop: self.stop.clone(),
            shift: self.shift,
            sampler: Some(sampler),
        }
    }
}

/// `pupil translate`
#[cfg(feature = "translate")]
#[derive(Args)]
#[command(after_help = "\
Without TEXT, lines of stdin are translated as they come, each with its layout. A translation that was cut, because it \
grew too long or began to repeat itself, is reported on stderr.")]
pub struct TranslateArgs {
    #[command(flatten)]
    pub translator: TranslatorArgs,
    /// What to translate; without it, or as -, stdin
    pub text: Option<String>,
    /// Translate the lines of this file
    #[arg(short, long, value_name = "FILE", conflicts_with = "text")]
    pub input: Option<PathBuf>,
    /// Write translations to this file, which appears when all is translated
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Prefer longer translations the more, the larger this is
    #[arg(long, value_name = "X", default_value_t = TranslateOptions::default().length_penalty,
        value_parser = |s: &str| fitting(s, "a number", |x: &f32| x.is_finite()))]
    pub length_penalty: f32,
    /// End a sentence once as many of its hypotheses have ended as --beam says
    #[arg(long)]
    pub early_stop: bool,
    /// Let no sequence of N tokens come twice in a sentence; 0 allows all
    #[arg(long, value_name = "N", default_value = "0", value_parser = |s: &str| number(s, 0..=64))]
    pub no_repeat_ngram: usize,
    /// Tokens of a translation for each token of its sentence, at most
    #[arg(long, value_name = "X", default_value_t = TranslateOptions::default().max_length_ratio,
        value_parser = |s: &str| fitting(s, "more than 0 and at most 100", |x: &f32| 0.0 < *x && *x <= 100.0))]
    pub max_ratio: f32,
    /// Print one JSON object for each line
    #[arg(long)]
    pub json: bool,
    /// Print times, speeds and memory to stderr
    #[arg(short, long)]
    pub verbose: bool,
}

/// Who translates, and how.
#[cfg(feature = "translate")]
#[derive(Args)]
pub struct TranslatorArgs {
    /// The GGUF file of the translator [default: the one in the program, English to German]
    #[arg(short, long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// The language to translate from, e.g. en
    #[arg(long, value_name = "LANGUAGE")]
    pub from: Option<String>,
    /// The language to translate to, e.g. de
    #[arg(long, value_name = "LANGUAGE")]
    pub to: Option<String>,
    /// What to put before every sentence [default: what the file says]
    #[arg(long, value_name = "TEXT")]
    pub prefix: Option<String>,
    /// Hypotheses to follow at once; 1 always takes the likeliest token
    #[arg(long, value_name = "N", default_value = "1", value_parser = |s: &str| number(s, 1..=64))]
    pub beam: usize,
    /// Sentences to translate together
    #[arg(long, value_name = "N", default_value = "16", value_parser = |s: &str| number(s, 1..=1024))]
    pub batch: usize,
    /// Choose among all words, even if the file has a shortlist
    #[arg(long)]
    pub no_shortlist: bool,
    /// Threads to compute with [default: one for each core]
    #[arg(short, long, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
}

#[cfg(feature = "translate")]
impl TranslatorArgs {
    /// The options of the translator.
    pub fn options(&self) -> TranslateOptions {
        TranslateOptions {
            from: self.from.clone(),
            to: self.to.clone(),
            prefix: self.prefix.clone(),
            beam: self.beam,
            batch: self.batch,
            shortlist: !self.no_shortlist,
            threads: self.threads.unwrap_or_else(all_threads),
            ..TranslateOptions::default()
        }
    }
}

#[cfg(feature = "translate")]
impl TranslateArgs {
    /// The options of the translator.
    pub fn options(&self) -> TranslateOptions {
        TranslateOptions {
            length_penalty: self.length_penalty,
            early_stop: if self.early_stop { EarlyStop::Always } else { EarlyStop::default() },
            no_repeat_ngram: self.no_repeat_ngram,
            max_length_ratio: self.max_ratio,
            ..self.translator.options()
        }
    }
}

/// `pupil detect`
#[cfg(feature = "detect")]
#[derive(Args)]
#[command(after_help = "\
A folder stands for the pictures in it. - is stdin: a picture, or the frames of a video, as in \
`ffmpeg -i URL -f mjpeg - | pupil detect - --json`. Of frames that come faster than they are looked at, the \
older ones are dropped, unless stdin is a file. Pictures that cannot be read are reported and skipped; the exit code is \
then 2.")]
pub struct DetectArgs {
    /// The GGUF file of the detector [default: the one in the program, of vehicles]
    #[arg(short, long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Pictures (JPEG, PNG, BMP, WebP), folders of pictures, or -
    #[arg(required_unless_present = "demo", value_name = "PICTURE|FOLDER|-")]
    pub inputs: Vec<PathBuf>,
    /// Look at a drawing of a street that is in the program
    #[arg(long, conflicts_with_all = ["inputs", "size", "every_frame"])]
    pub demo: bool,
    /// Write copies with boxes drawn: to this file, or into this folder
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// The least score, from 0 to 1 [default: what the file says]
    #[arg(long, value_name = "SCORE", value_parser = fraction::<f32>)]
    pub conf: Option<f32>,
    /// How much boxes of a class may overlap, from 0 to 1 [default: what the file says]
    #[arg(long, value_name = "IOU", value_parser = fraction::<f32>)]
    pub iou: Option<f32>,
    /// Look for these classes only
    #[arg(long, value_name = "NAME,NAME,…", value_delimiter = ',')]
    pub classes: Vec<String>,
    /// Objects in a picture, at most [default: what the file says]
    #[arg(long, value_name = "N", value_parser = |s: &str| number(s, 1..=1000))]
    pub max: Option<usize>,
    /// Stdin is raw frames of this size, three bytes a pixel (`ffmpeg -f rawvideo -pix_fmt rgb24`)
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = size)]
    pub size: Option<Size>,
    /// Drop no frames of a video
    #[arg(long)]
    pub every_frame: bool,
    /// Threads to compute with [default: one for each core]
    #[arg(short, long, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
    /// Print one JSON object for each picture
    #[arg(long)]
    pub json: bool,
    /// Print times to stderr
    #[arg(short, long)]
    pub verbose: bool,
}

/// Width and height in pixels.
#[cfg(feature = "detect")]
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Pixels from left to right.
    pub width: usize,
    /// Pixels from top to bottom.
    pub height: usize,
}

/// `pupil shortlist`
#[cfg(feature = "eval")]
#[derive(Args)]
#[command(after_help = "\
With a shortlist a translator looks only at the words that the sentence may need, which saves most of the work of a small \
one. One sentence in fifty is not learned from, but tells how good the list is.")]
pub struct ShortlistArgs {
    /// The GGUF file of the translator
    #[arg(short, long, value_name = "FILE")]
    pub model: PathBuf,
    /// Sentences and their translations: a file of lines with a tab between them
    #[arg(short, long, value_name = "FILE.tsv")]
    pub data: PathBuf,
    /// The GGUF file to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Translate from the second column to the first
    #[arg(long)]
    pub swap: bool,
    /// Translations of each token, at most
    #[arg(long, value_name = "N", default_value = "50", value_parser = |s: &str| number(s, 0..=10_000))]
    pub best: usize,
    /// Tokens that are always in the list: the most frequent ones
    #[arg(long, value_name = "N", default_value = "100", value_parser = |s: &str| number(s, 0..=100_000))]
    pub frequent: usize,
    /// Learn from the first N pairs only
    #[arg(long, value_name = "N", value_parser = limit)]
    pub limit: Option<usize>,
}

#[cfg(feature = "eval")]
impl ShortlistArgs {
    /// What the list is made of.
    pub fn options(&self) -> shortlist::Options {
        shortlist::Options { best: self.best, frequent: self.frequent, ..shortlist::Options::default() }
    }
}

/// `pupil inspect`
#[derive(Args)]
pub struct InspectArgs {
    /// The GGUF file
    pub file: PathBuf,
    /// List every tensor
    #[arg(long)]
    pub tensors: bool,
    /// Print everything as one JSON object; of long arrays only type and length
    #[arg(long)]
    pub json: bool,
}

/// `pupil tokenize`
#[derive(Args)]
pub struct TokenizeArgs {
    /// The GGUF file whose tokenizer to use
    #[arg(short, long, value_name = "FILE")]
    pub model: PathBuf,
    /// The text; without it, or as -, all of stdin
    pub text: Option<String>,
    /// Print only the ids, on one line
    #[arg(long, conflicts_with_all = ["json", "decode"])]
    pub ids: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// The other way round: TEXT is ids, print their text
    #[arg(long, conflicts_with_all = ["bare", "special"])]
    pub decode: bool,
    /// Leave out the tokens that begin and end a text
    #[arg(long)]
    pub bare: bool,
    /// Take what is spelled like a special token, e.g. <|im_end|>, for that token
    #[arg(long)]
    pub special: bool,
}

/// `pupil bench`
#[derive(Args)]
#[command(group = ArgGroup::new("what").required(true).args(["model", "synthetic"]))]
#[command(after_help = "\
Prefill is one prompt that goes through the model at once. Decode is one token at a time, after that prompt, without \
choosing among the words. Of a translator, encoding is of --batch sentences of --prompt tokens, decoding searches \
translations of --decode tokens. Of a detector, frames of a made-up picture of 1280 x 720 are timed. Before the first of the runs there is one that does not count; of the others, the median \
does. Loading is from opening the file to being ready for the first token. Memory is the peak of the whole process, \
with the pages of the file that were read.")]
pub struct BenchArgs {
    /// The GGUF file to measure
    #[arg(short, long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Random weights in the shape of a well-known model instead, e.g. smollm2-135m:q4_k_m
    #[arg(long, value_name = "SHAPE:TYPE")]
    pub synthetic: Option<Synthetic>,
    /// Write the model of random weights to a file, and measure that
    #[arg(long, value_name = "FILE", requires = "synthetic", conflicts_with = "model")]
    pub save: Option<PathBuf>,
    /// Numbers of threads to measure, one after the other [default: one for each core]
    #[arg(short, long, value_name = "N,N,…", value_delimiter = ',', value_parser = threads)]
    pub threads: Vec<usize>,
    /// Tokens in the prompt [default: 128]
    #[arg(long, value_name = "N", value_parser = tokens)]
    pub prompt: Option<usize>,
    /// Tokens to decode after it [default: 64]
    #[arg(long, value_name = "N", value_parser = tokens)]
    pub decode: Option<usize>,
    /// Of a translator: sentences together [default: 1]
    #[arg(long, value_name = "N", value_parser = |s: &str| number(s, 1..=1024))]
    pub batch: Option<usize>,
    /// Of a translator: hypotheses to follow at once [default: 1]
    #[arg(long, value_name = "N", value_parser = |s: &str| number(s, 1..=64))]
    pub beam: Option<usize>,
    /// Of a translator: choose among so many random words, as with a shortlist
    #[arg(long, value_name = "N", value_parser = tokens)]
    pub shortlist: Option<usize>,
    /// How often to measure
    #[arg(long, value_name = "N", default_value = "3", value_parser = |s: &str| number(s, 1..=1000))]
    pub reps: usize,
    /// Of a detector, also print the time of each operation, the longest first
    #[arg(long, conflicts_with = "json")]
    pub ops: bool,
    /// Print one JSON object for each number of threads
    #[arg(long)]
    pub json: bool,
}

impl BenchArgs {
    /// Tokens in the prompt, and after it.
    pub fn lengths(&self) -> [usize; 2] {
        [self.prompt.unwrap_or(128), self.decode.unwrap_or(64)]
    }

    /// Numbers of threads.
    pub fn threads(&self) -> Vec<usize> {
        if self.threads.is_empty() { vec![all_threads()] } else { self.threads.clone() }
    }
}

/// `pupil convert`
#[cfg(feature = "onnx")]
#[derive(Args)]
#[command(after_help = "\
A folder is a Hugging Face checkpoint (config.json, model.safetensors, tokenizer.json or a SentencePiece model) of a \
Llama, Qwen2, Qwen3 or T5; of the options, only --output and --type are for it. \
What is not said of a detector is as those of this head have it. The head is found in the shapes of the graph's outputs \
where that is sure.")]
pub struct ConvertArgs {
    /// The ONNX file, or the folder of a language model
    #[arg(value_name = "FILE|FOLDER")]
    pub model: PathBuf,
    /// The GGUF file to write
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Compute in bytes where that costs little; needs --calibrate
    #[arg(long, requires = "calibrate")]
    pub int8: bool,
    /// A folder of pictures like those that the detector will see
    #[arg(long, value_name = "DIR", requires = "int8")]
    pub calibrate: Option<PathBuf>,
    /// How many of the pictures to use
    #[arg(long, value_name = "N", default_value = "64", requires = "int8",
        value_parser = |s: &str| number(s, 1..=100_000))]
    pub pictures: usize,
    /// The share of the multiply-adds that may stay in f32, where bytes lose most for what they save
    #[arg(long, value_name = "SHARE", default_value_t = 0.08, requires = "int8", value_parser = fraction::<f64>)]
    pub budget: f64,
    /// Threads to calibrate with [default: one for each core]
    #[arg(short, long, value_name = "N", requires = "int8", value_parser = threads)]
    pub threads: Option<usize>,
    /// How the outputs say where objects are, e.g. yolox
    #[arg(long, value_name = "NAME")]
    pub head: Option<String>,
    /// What a box of the graph's is, if it gives boxes: xyxy (left, top, right, bottom), yxyx or cxcywh (centre and size)
    #[arg(long, value_name = "FORM", value_parser = ["xyxy", "yxyx", "cxcywh"])]
    pub boxes: Option<String>,
    /// The classes: coco, a file with a name on each line, or names with commas between them
    #[arg(long, value_name = "FILE|NAMES")]
    pub classes: Option<String>,
    /// The size of the pictures, where the graph leaves it open
    #[arg(long, value_name = "WIDTHxHEIGHT", value_parser = size)]
    pub size: Option<Size>,
    /// How pictures are brought to that size: stretch, letterbox (at the top left) or letterbox-centre
    #[arg(long, value_name = "HOW", value_parser = ["stretch", "letterbox", "letterbox-centre"])]
    pub resize: Option<String>,
    /// The order of the colours: rgb or bgr
    #[arg(long, value_name = "ORDER", value_parser = ["rgb", "bgr"])]
    pub order: Option<String>,
    /// What is subtracted from each colour, in this order
    #[arg(long, value_name = "A,B,C", value_parser = three)]
    pub mean: Option<[f32; 3]>,
    /// What the difference is divided by
    #[arg(long, value_name = "A,B,C", value_parser = three)]
    pub std: Option<[f32; 3]>,
    /// The least score of an object, from 0 to 1
    #[arg(long, value_name = "P", value_parser = fraction::<f32>)]
    pub conf: Option<f32>,
    /// By how much boxes of a class may overlap, from 0 to 1
    #[arg(long, value_name = "P", value_parser = fraction::<f32>)]
    pub iou: Option<f32>,
    /// How weights are stored: of a detector f32 or f16 [default: f32]; of a language model f32, f16, q8_0, q4_0 or
    /// q4_k_m [default: q8_0]
    #[arg(long = "type", value_name = "TYPE")]
    pub dtype: Option<String>,
}

#[cfg(feature = "onnx")]
impl ConvertArgs {
    /// Options that only detectors have, and whether they were given.
    pub fn of_detectors(&self) -> [(&'static str, bool); 11] {
        [
            ("--int8", self.int8),
            ("--head", self.head.is_some()),
            ("--boxes", self.boxes.is_some()),
            ("--classes", self.classes.is_some()),
            ("--size", self.size.is_some()),
            ("--resize", self.resize.is_some()),
            ("--order", self.order.is_some()),
            ("--mean", self.mean.is_some()),
            ("--std", self.std.is_some()),
            ("--conf", self.conf.is_some()),
            ("--iou", self.iou.is_some()),
        ]
    }

    /// The options of the conversion but for the classes.
    pub fn options(&self) -> Outcome<pupil::onnx::ConvertOptions> {
        use pupil::{detect::boxes::Form, image::Fit};
        let half = match self.dtype.as_deref() {
            None | Some("f32") => false,
            Some("f16") => true,
            Some(_) => return Err(Failure::Message("--type of a detector: expected f32 or f16".into())),
        };
        let fit = |how: &String| match how.as_str() {
            "stretch" => Fit::Stretch,
            how => Fit::Letterbox { centre: how == "letterbox-centre" },
        };
        Ok(pupil::onnx::ConvertOptions {
            size: self.size.map(|Size { width, height }| [height, width]),
            head: self.head.clone(),
            boxes: self
                .boxes
                .as_ref()
                .and_then(|boxes| Form::NAMES.iter().find(|(name, _)| name == boxes))
                .map(|f| f.1),
            classes: None,
            fit: self.resize.as_ref().map(fit),
            bgr: self.order.as_ref().map(|order| order == "bgr"),
            mean: self.mean,
            std: self.std,
            confidence: self.conf,
            iou: self.iou,
            half,
        })
    }
}

/// Reads the command line. A value may begin with a minus, so that what is wrong with -1 is said by the option itself.
pub fn read() -> Result<Pupil, clap::Error> {
    fn with_minus(command: clap::Command) -> clap::Command {
        let any = |arg: clap::Arg| match arg.get_action().takes_values() {
            true => arg.allow_negative_numbers(true),
            false => arg,
        };
        command.mut_args(any).mut_subcommands(with_minus)
    }
    Pupil::from_arg_matches(&with_minus(Pupil::command()).try_get_matches()?)
}

/// Refuses the first of some options that was given although it does nothing, because of `why`.
pub fn unused<'a>(options: impl IntoIterator<Item = (&'a str, bool)>, why: &str) -> Outcome {
    match options.into_iter().find(|(_, given)| *given) {
        Some((option, _)) => Err(Failure::Message(format!("{option} does nothing here: {why}"))),
        None => Ok(()),
    }
}

/// What to do about arguments that make no sense: help if that was asked for, one line otherwise.
pub fn refused(error: &clap::Error) -> Outcome {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Ok(error.print()?),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand | ErrorKind::MissingSubcommand => {
            Err(Failure::Message(format!("no command was given; {} --help lists them", verb(error))))
        }
        ErrorKind::InvalidSubcommand => {
            let line = one_line(&error.render().to_string());
            Err(Failure::Message(format!("{line}; {} --help lists what there is", verb(error))))
        }
        _ => Err(Failure::Message(one_line(&error.render().to_string()))),
    }
}

/// What was asked for up to where it went wrong, such as `pupil eval`.
fn verb(error: &clap::Error) -> String {
    let help = error.render().to_string();
    let usage = help.lines().find_map(|line| line.trim().strip_prefix("Usage: ")).unwrap_or("pupil");
    let words: Vec<&str> = usage.split_whitespace().take_while(|word| !word.starts_with(['<', '['])).collect();
    words.join(" ")
}

/// What clap says over several lines, without the usage that it adds.
fn one_line(message: &str) -> String {
    let lines = message.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:"));
    let lines: Vec<_> = lines.filter(|line| !line.is_empty() && !line.starts_with("For more information")).collect();
    lines.join(" ").trim_start_matches("error: ").replace(" tip: ", "; ")
}
