//! The options of `pupil eval`.

#[cfg(feature = "distill")]
use super::tokens;
use super::{TranslatorArgs, fraction, limit, pair, threads};
use clap::{Args, Subcommand};
#[cfg(feature = "distill")]
use pupil_distill::eval::chat::MAX_TOKENS;
use pupil_distill::eval::translate::Tokenize;
use std::path::PathBuf;

/// `pupil eval`
#[derive(Args)]
pub struct EvalArgs {
    /// What kind of model
    #[command(subcommand)]
    pub what: EvalWhat,
}

/// What kind of model.
#[derive(Subcommand)]
pub enum EvalWhat {
    /// COCO's mean average precision of a detector
    Detect(EvalDetectArgs),
    /// BLEU and chrF of a translator, or of translations
    Translate(EvalTranslateArgs),
    /// Perplexity, ROUGE-L and variety of a chat model
    #[cfg(feature = "distill")]
    Chat(EvalChatArgs),
    /// The scores of several models on the same data, side by side
    #[cfg(feature = "distill")]
    Compare(EvalCompareArgs),
}

/// `pupil eval detect`
#[derive(Args)]
#[command(after_help = "\
Classes of the data set are those of the model with the same name, upper or lower case. Those that the model lacks do \
not count.")]
pub struct EvalDetectArgs {
    /// The GGUF file of the detector [default: the one in the program, of vehicles]
    #[arg(short, long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// The data set: a folder in YOLO's, COCO's or VOC's layout, a data.yaml, or a COCO .json
    #[arg(short, long, value_name = "PATH")]
    pub data: PathBuf,
    /// Parts of the data set [default: all]
    #[arg(long, value_name = "NAME,NAME,…", value_delimiter = ',')]
    pub split: Vec<String>,
    /// Score these classes of the data set only
    #[arg(long, value_name = "NAME,NAME,…", value_delimiter = ',')]
    pub classes: Vec<String>,
    /// Which class of the model a class of the data set is, where their names differ, e.g. motorbike=motorcycle
    #[arg(long, value_name = "DATA=MODEL,…", value_delimiter = ',', value_parser = pair)]
    pub map_classes: Vec<(String, String)>,
    /// Look at the first N pictures only
    #[arg(long, value_name = "N", value_parser = limit)]
    pub limit: Option<usize>,
    /// The least score of a box that counts
    #[arg(long, value_name = "SCORE", value_parser = fraction::<f32>, default_value = "0.01")]
    pub conf: f32,
    /// How much boxes of a class may overlap, from 0 to 1 [default: what the file says, but at least 0.6]
    #[arg(long, value_name = "IOU", value_parser = fraction::<f32>)]
    pub iou: Option<f32>,
    /// Threads to compute with [default: one for each core]
    #[arg(short, long, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `pupil eval translate`
#[derive(Args)]
#[command(after_help = "\
Pairs of --data that follow each other with the same sentence are references of one. With --output, translations that are \
there already are scored, and no model is needed. The scores are those of sacrebleu.")]
pub struct EvalTranslateArgs {
    #[command(flatten)]
    pub translator: TranslatorArgs,
    /// Sentences and their translations: a file of lines with a tab between them
    #[arg(short, long, value_name = "FILE.tsv", conflicts_with_all = ["source", "reference", "output"])]
    pub data: Option<PathBuf>,
    /// The sentences, one a line; needs --reference
    #[arg(long, value_name = "FILE", requires = "reference")]
    pub source: Option<PathBuf>,
    /// Their translations, one a line
    #[arg(long, value_name = "FILE")]
    pub reference: Option<PathBuf>,
    /// Score these translations, one a line, instead of a model's
    #[arg(long, value_name = "FILE", requires = "reference",
        conflicts_with_all = ["model", "source", "from", "to", "prefix", "beam", "batch", "no_shortlist", "threads"])]
    pub output: Option<PathBuf>,
    /// Look at the first N sentences only
    #[arg(long, value_name = "N", value_parser = limit)]
    pub limit: Option<usize>,
    /// How BLEU cuts words: 13a, intl, char or none
    #[arg(long, value_name = "NAME", default_value = "13a")]
    pub tokenize: Tokenize,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `pupil eval chat`
#[cfg(feature = "distill")]
#[derive(Args)]
#[command(after_help = "\
Every turn of the assistant is read, given all before it, and answered anew by always taking the likeliest token.")]
pub struct EvalChatArgs {
    /// The GGUF file of the model
    #[arg(short, long, value_name = "FILE")]
    pub model: PathBuf,
    #[command(flatten)]
    pub how: EvalChatHow,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `pupil eval compare`
#[cfg(feature = "distill")]
#[derive(Args)]
#[command(after_help = "\
If --data ends in .tsv, with a sentence, a tab and its translation on each line, the models are translators.")]
pub struct EvalCompareArgs {
    /// The GGUF files of the models
    #[arg(required = true, num_args = 2.., value_name = "FILE")]
    pub models: Vec<PathBuf>,
    #[command(flatten)]
    pub how: EvalChatHow,
    /// Print one JSON object for each model
    #[arg(long)]
    pub json: bool,
}

/// On what chat models are measured, and how.
#[cfg(feature = "distill")]
#[derive(Args)]
pub struct EvalChatHow {
    /// Dialogues: {"turns": [{"role", "text"}]} on each line
    #[arg(short, long, value_name = "FILE.jsonl")]
    pub data: PathBuf,
    /// Take the first N dialogues only
    #[arg(long, value_name = "N", value_parser = limit)]
    pub limit: Option<usize>,
    /// Tokens of an answer, at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = MAX_TOKENS, value_parser = tokens)]
    pub max_tokens: usize,
    /// Tokens in a dialogue, at most [default: what the model was trained for, but at most 4096]
    #[arg(short, long, value_name = "N", value_parser = tokens)]
    pub context: Option<usize>,
    /// Threads to compute with [default: one for each core]
    #[arg(short, long, value_name = "N", value_parser = threads)]
    pub threads: Option<usize>,
}
