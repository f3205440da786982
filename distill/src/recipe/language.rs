//! Recipes of students that read and write.

use super::{Rules, Weight, above_zero, check_output, check_there, check_train, folder_of, of, read};
use crate::{
    data::text::{Kind, split::HeldOut},
    error::{Error, Result, within},
    loss::Divergence,
    student::{Types, decoder, encdec},
};
use pupil::text::SamplerOptions;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::path::{Path, PathBuf};

/// A student's training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// What the student is for.
    pub kind: Kind,
    /// The network's shape.
    pub student: toml::Table,
    /// Its vocabulary.
    pub tokenizer: TokenizerRecipe,
    /// What it begins with.
    pub init: Option<InitRecipe>,
    /// What it learns from.
    pub data: DataRecipe,
    /// Who teaches it, besides the text.
    #[serde(default)]
    pub teacher: TeacherRecipe,
    /// What is made small.
    #[serde(default)]
    pub loss: LossRecipe,
    /// How.
    pub train: TrainRecipe,
    /// After that, the student writes and the teacher scores what it wrote.
    pub on_policy: Option<OnPolicyRecipe>,
    /// At last, it learns with its weights rounded as they will be.
    pub quantize: Option<QuantizeRecipe>,
    /// What comes out.
    pub output: OutputRecipe,
}

/// `[tokenizer]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerRecipe {
    /// How a vocabulary is learned from the text.
    pub train: Option<Learner>,
    /// Tokens of the learned vocabulary.
    pub size: Option<usize>,
    /// A GGUF file whose vocabulary is taken as it is.
    pub file: Option<PathBuf>,
}

/// How a vocabulary is learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Learner {
    Bpe,
    Unigram,
}

/// `[init]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InitRecipe {
    /// A GGUF file of one of our students, of the same shape but for the number of layers, and with the same vocabulary.
    pub file: PathBuf,
    /// Those of its layers, or of its encoder's, that the student takes over; all, if none are named.
    pub layers: Option<Vec<usize>>,
    /// The same for the decoder of a translator.
    pub decoder_layers: Option<Vec<usize>>,
}

/// `[data]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataRecipe {
    /// Text; a part of it is held out.
    pub files: Vec<PathBuf>,
    /// More of such text, which is too little beside the rest: what is trained on of it comes `times` times an epoch.
    #[serde(default)]
    pub often: Vec<PathBuf>,
    /// How many times.
    #[serde(default = "defaults::times")]
    pub times: usize,
    /// Text that is only trained on, such as what a teacher wrote; what has a source that is held out is left out.
    #[serde(default)]
    pub extra: Vec<PathBuf>,
    /// Trains on `extra` alone.
    #[serde(default)]
    pub only_extra: bool,
    /// Distinct sources for testing.
    #[serde(default)]
    pub test: usize,
    /// Distinct sources for choosing among states of the student.
    #[serde(default = "defaults::validation")]
    pub validation: usize,
    /// The longest example, in tokens of each language.
    #[serde(default = "defaults::max_tokens")]
    pub max_tokens: usize,
    /// How many times longer than its source a translation may be, and the other way round.
    #[serde(default = "defaults::max_ratio")]
    pub max_ratio: f64,
    /// Trains on this many items only; a sample of all.
    pub limit: Option<usize>,
}

/// `[teacher]`: one of them, or none.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TeacherRecipe {
    /// A GGUF file, run by the runtime.
    pub gguf: Option<PathBuf>,
    /// A GGUF file of one of our students, or the `best.safetensors` of its training, run as it was trained.
    pub checkpoint: Option<PathBuf>,
    /// A label store.
    pub labels: Option<PathBuf>,
}

/// `[loss]`: all but the last are for those that have a teacher.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LossRecipe {
    /// The part of cross-entropy with the text, by default 0.5; the rest is the teacher's.
    pub alpha: Option<Weight>,
    /// How the teacher's part is measured, by default by forward KL.
    pub divergence: Option<Divergence>,
    /// Temperature of the teacher's part, by default 2.
    pub temperature: Option<f64>,
    /// How much of each label is spread over the vocabulary.
    pub label_smoothing: f64,
}

impl LossRecipe {
    /// The part of the text.
    pub fn alpha(&self) -> Weight {
        self.alpha.unwrap_or(Weight::Fixed(0.5))
    }

    /// How the teacher's part is measured.
    pub fn divergence(&self) -> Divergence {
        self.divergence.unwrap_or_default()
    }

    /// Temperature of the teacher's part.
    pub fn temperature(&self) -> f64 {
        self.temperature.unwrap_or(2.0)
    }

    fn check(&self) -> Result<()> {
        self.alpha().check("loss.alpha", 1.0)?;
        self.divergence().check().map_err(|error| error.at("loss.divergence"))?;
        within("loss.temperature", self.temperature(), 0.01, 100.0)?;
        within("loss.label_smoothing", self.label_smoothing, 0.0, 0.9)
    }

    /// A key of those that only say something of a teacher's part.
    fn of_teacher(&self) -> Option<&'static str> {
        let Self { alpha, divergence, temperature, .. } = self;
        let keys =
            [("alpha", alpha.is_some()), ("divergence", divergence.is_some()), ("temperature", temperature.is_some())];
        keys.into_iter().find_map(|(key, is_there)| is_there.then_some(key))
    }
}

/// `[train]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainRecipe {
    /// Changes of the weights. Or `epochs`.
    pub steps: Option<u64>,
    /// How often all of the text is gone through.
    pub epochs: Option<f64>,
    /// Tokens of a batch, padding included.
    #[serde(default = "defaults::batch_tokens")]
    pub batch_tokens: usize,
    /// Batches whose gradients are added up for one step.
    #[serde(default = "defaults::one")]
    pub accumulate: usize,
    /// The highest rate.
    pub learning_rate: f64,
    /// Steps in which the rate rises from 0.
    #[serde(default)]
    pub warmup: u64,
    /// What part of the highest rate is left at the end of the cosine.
    #[serde(default = "defaults::floor")]
    pub floor: f64,
    /// AdamW's decay, of matrices only.
    #[serde(default = "defaults::weight_decay")]
    pub weight_decay: f64,
    /// The largest norm of the gradient; 0 is any.
    #[serde(default = "defaults::clip")]
    pub clip: f64,
    /// How many activations are dropped.
    #[serde(default)]
    pub dropout: f32,
    /// Decay of the average of the weights that is kept; 0 keeps the weights themselves.
    #[serde(default = "defaults::ema")]
    pub ema: f64,
    /// Steps between measurements.
    #[serde(default = "defaults::eval_every")]
    pub eval_every: u64,
    /// Sentences or dialogues of the validation part that the student writes at each measurement; 0 measures the loss only.
    /// What they score tells the best state of a translator, so hundreds are needed; that of a chat student is told by its
    /// loss, unless it learns on-policy.
    #[serde(default = "defaults::eval_items")]
    pub eval_items: usize,
    /// Measurements without a better one after which the training ends; 0 never.
    #[serde(default)]
    pub patience: u64,
    /// Decides the first weights, the order of the text and what is dropped.
    #[serde(default)]
    pub seed: u64,
}

/// `[on_policy]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnPolicyRecipe {
    /// Changes of the weights.
    pub steps: u64,
    /// The highest rate.
    pub learning_rate: f64,
    /// How the student's distribution is measured on what it wrote.
    #[serde(default = "defaults::on_policy_divergence")]
    pub divergence: Divergence,
    /// Steps between rounds of writing.
    #[serde(default = "defaults::refresh")]
    pub refresh: u64,
    /// What the student writes in a round.
    #[serde(default = "defaults::items")]
    pub items: usize,
    /// How much of what it wrote is kept; the oldest goes first.
    #[serde(default = "defaults::replay")]
    pub replay: usize,
    /// The part of the batches that are what the student wrote; the others are the text.
    #[serde(default = "defaults::fraction")]
    pub fraction: f64,
    /// Temperature at which the student writes.
    #[serde(default = "defaults::temperature")]
    pub temperature: f32,
    /// Tokens of an answer, at most.
    #[serde(default = "defaults::max_new_tokens")]
    pub max_new_tokens: usize,
}

/// `[quantize]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuantizeRecipe {
    /// Changes of the weights.
    pub steps: u64,
    /// The highest rate.
    pub learning_rate: f64,
}

/// `[output]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutputRecipe {
    /// The student's file.
    pub file: PathBuf,
    /// How its matrices are stored.
    #[serde(default = "defaults::q8_0", rename = "type")]
    pub dtype: String,
    /// The student's name.
    pub name: Option<String>,
    /// Its licence.
    pub license: Option<String>,
    /// What it was trained on, in words.
    pub data: Option<String>,
    /// The language that it translates from, such as "en".
    pub from: Option<String>,
    /// The language that it translates to.
    pub to: Option<String>,
    /// How a chat student's tokens should be chosen, where its user says nothing else.
    pub sampling: Option<SamplingRecipe>,
}

/// `[output.sampling]`: what differs from the runtime's defaults.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs)]
pub struct SamplingRecipe {
    pub temperature: Option<f32>,
    pub top_k: Option<u16>,
    pub top_p: Option<f32>,
    pub min_p: Option<f32>,
    pub repeat_penalty: Option<f32>,
}

mod defaults {
    use super::super::defaults;
    use crate::loss::Divergence;

    defaults! {
        times: usize = 4;
        validation: usize = 500;
        max_tokens: usize = 128;
        max_ratio: f64 = 3.0;
        batch_tokens: usize = 4096;
        one: usize = 1;
        floor: f64 = 0.05;
        weight_decay: f64 = 0.01;
        clip: f64 = 1.0;
        ema: f64 = 0.999;
        eval_every: u64 = 500;
        eval_items: usize = 300;
        on_policy_divergence: Divergence = Divergence::SkewedReverseKl(0.9);
        refresh: u64 = 100;
        items: usize = 512;
        replay: usize = 4096;
        fraction: f64 = 0.5;
        temperature: f32 = 1.0;
        max_new_tokens: usize = 64;
        q8_0: String = "q8_0".into();
    }
}

impl Recipe {
    /// Reads a recipe. Files of `[data]` are relative to `data_root` if there is one; all others, and those without, to
    /// the recipe.
    ///
    /// # Errors
    /// `Io` if it cannot be read; `Format` if it is not TOML or has an unknown key or a value of another type; `Input`
    /// for values that make no sense and for files that are not there.
    pub fn open(path: &Path, data_root: Option<&Path>) -> Result<Self> {
        of(&read(path)?, path, data_root).map_err(|error| error.at(path.display()))
    }
}

impl Rules for Recipe {
    fn place(&mut self, file: &Path, data_root: Option<&Path>) {
        let folder = folder_of(file);
        let data = data_root.unwrap_or(folder);
        let files = self.data.files.iter_mut().chain(&mut self.data.often);
        files.for_each(|file| *file = data.join(&*file));
        let TeacherRecipe { gguf, checkpoint, labels } = &mut self.teacher;
        let others = [&mut self.tokenizer.file, gguf, checkpoint, labels].into_iter().flatten();
        let others = others.chain(self.init.as_mut().map(|init| &mut init.file));
        others.chain(&mut self.data.extra).chain([&mut self.output.file]).for_each(|file| *file = folder.join(&*file));
    }

    fn check(&self) -> Result<()> {
        let Self { tokenizer, data, loss, train, on_policy, quantize, output, .. } = self;
        match tokenizer {
            TokenizerRecipe { train: Some(_), size: Some(size), file: None } => {
                within("tokenizer.size", *size as f64, 16.0, f64::from(1 << 20))?;
            }
            TokenizerRecipe { train: None, size: None, file: Some(_) } => {}
            _ => return Err(Error::input("[tokenizer] takes train and size, or file; expected one of both")),
        }
        if self.kind == Kind::Chat && tokenizer.train == Some(Learner::Unigram) {
            return Err(Error::input("tokenizer.train is \"unigram\", expected \"bpe\" for kind \"chat\""));
        }
        if self.kind == Kind::Translate && tokenizer.train == Some(Learner::Bpe) {
            return Err(Error::input("tokenizer.train is \"bpe\", expected \"unigram\" for kind \"translate\""));
        }
        if data.files.is_empty() {
            return Err(Error::input("data.files is empty, expected files"));
        }
        if data.only_extra && data.extra.is_empty() {
            return Err(Error::input("data.only_extra is set but data.extra is empty, expected files"));
        }
        if self.kind == Kind::Chat && self.init.as_ref().is_some_and(|init| init.decoder_layers.is_some()) {
            return Err(Error::input("init.decoder_layers is set, expected init.layers alone for kind \"chat\""));
        }
        if let Some(sampling) = output.sampling {
            if self.kind == Kind::Translate {
                return Err(Error::input("[output.sampling] is there, expected it for kind \"chat\" only"));
            }
            sampling.check()?;
        }
        within("data.times", data.times as f64, 1.0, 1000.0)?;
        within("data.max_tokens", data.max_tokens as f64, 8.0, f64::from(1 << 16))?;
        within("data.max_ratio", data.max_ratio, 1.0, f64::INFINITY)?;
        within("data.limit", data.limit.map_or(1.0, |limit| limit as f64), 1.0, f64::INFINITY)?;
        // It is what chooses among the states of a student.
        within("data.validation", data.validation as f64, 1.0, f64::INFINITY)?;

        let tokens = tokenizer.size.unwrap_or(MOST_TOKENS);
        let shape = match self.kind {
            Kind::Chat => self.shape::<decoder::Config>(tokens)?.check(),
            Kind::Translate => self.shape::<encdec::Config>(tokens)?.check(),
        };
        shape.map_err(|error| error.at("[student]"))?;
        if let Some(context) = self.student.get("context").and_then(toml::Value::as_integer) {
            within("student.context", context as f64, data.max_tokens as f64, f64::INFINITY)?;
        }

        let TeacherRecipe { gguf, checkpoint, labels } = &self.teacher;
        if [gguf, checkpoint, labels].into_iter().flatten().count() > 1 {
            return Err(Error::input("[teacher] names several, expected one of gguf, checkpoint, labels"));
        }
        if let (None, Some(key)) = (self.teacher.path(), loss.of_teacher()) {
            return Err(Error::input(format!("loss.{key} is there and [teacher] is not, expected both or none")));
        }
        if labels.is_some() && loss.divergence() == Divergence::ReverseKl {
            let expected = "expected teacher.gguf or teacher.checkpoint, or another divergence";
            return Err(Error::input(format!(
                "loss.divergence is reverse-kl, which a label store cannot serve: {expected}"
            )));
        }
        loss.check()?;

        check_train!(train);
        within("train.batch_tokens", train.batch_tokens as f64, 16.0, f64::from(1 << 24))?;
        within("train.accumulate", train.accumulate as f64, 1.0, 1e6)?;
        within("train.dropout", f64::from(train.dropout), 0.0, 0.9)?;
        within("train.eval_every", train.eval_every as f64, 1.0, 1e9)?;

        if let Some(on_policy) = on_policy {
            if gguf.is_none() && checkpoint.is_none() {
                return Err(Error::input(
                    "[on_policy] needs a teacher that scores, expected teacher.gguf or teacher.checkpoint",
                ));
            }
            if self.kind == Kind::Chat {
                // The loss does not tell which state is the best, and the score of few answers chooses badly.
                let key = "train.eval_items of a chat student that learns on-policy";
                within(key, train.eval_items as f64, CHAT_ITEMS, f64::INFINITY)?;
            }
            above_zero("on_policy.learning_rate", on_policy.learning_rate)?;
            on_policy.divergence.check().map_err(|error| error.at("on_policy.divergence"))?;
            within("on_policy.refresh", on_policy.refresh as f64, 1.0, 1e9)?;
            within("on_policy.items", on_policy.items as f64, 1.0, 1e6)?;
            within("on_policy.replay", on_policy.replay as f64, on_policy.items as f64, 1e7)?;
            within("on_policy.fraction", on_policy.fraction, 0.0, 1.0)?;
            within("on_policy.temperature", f64::from(on_policy.temperature), 0.0, 10.0)?;
            within("on_policy.max_new_tokens", on_policy.max_new_tokens as f64, 1.0, data.max_tokens as f64)?;
        }
        if let Some(quantize) = quantize {
            above_zero("quantize.learning_rate", quantize.learning_rate)?;
        }
        Types::named(&output.dtype).map(drop).map_err(|error| error.at("output.type"))
    }

    fn check_files(&self) -> Result<()> {
        let TeacherRecipe { gguf, checkpoint, labels } = &self.teacher;
        let named = [
            ("tokenizer.file", &self.tokenizer.file),
            ("teacher.gguf", gguf),
            ("teacher.checkpoint", checkpoint),
            ("teacher.labels", labels),
        ];
        let named = named.into_iter().filter_map(|(key, file)| Some((key, file.as_ref()?)));
        let data = self.data.files.iter().map(|file| ("data.files", file));
        let often = self.data.often.iter().map(|file| ("data.often", file));
        let extra = self.data.extra.iter().map(|file| ("data.extra", file));
        let init = self.init.iter().map(|init| ("init.file", &init.file));
        let inputs: Vec<(&str, &PathBuf)> = named.chain(init).chain(data).chain(often).chain(extra).collect();
        for (key, file) in &inputs {
            check_there(key, file)?;
        }
        check_output(&self.output.file, inputs.iter().map(|(_, file)| file.as_path()))
    }
}

/// The fewest answers by whose score a state of a chat student may be chosen: sixty chose badly.
const CHAT_ITEMS: f64 = 300.0;

/// What a vocabulary is taken for that is in a file which nobody has read yet.
const MOST_TOKENS: usize = 1 << 24;

impl Recipe {
    /// The student's dimensions with a vocabulary of `tokens`; those that follow from other parts may be left out.
    ///
    /// # Errors
    /// `Format` for one that is unknown, missing or of another type.
    pub fn shape<C: DeserializeOwned>(&self, tokens: usize) -> Result<C> {
        let shape = self.dimensions(tokens).try_into();
        shape.map_err(|error: toml::de::Error| Error::format(format!("[student]: {}", error.message())))
    }

    /// `[student]` with what follows from other parts.
    pub fn dimensions(&self, tokens: usize) -> toml::Table {
        let mut dimensions = self.student.clone();
        let context = self.data.max_tokens.next_multiple_of(32);
        for (key, value) in [("vocab", tokens), ("context", context)] {
            dimensions.entry(key).or_insert(toml::Value::Integer(value as i64));
        }
        dimensions
    }

    /// Has the student begin with the weights in `file`, instead of those that the recipe names.
    ///
    /// # Errors
    /// `Input` if it is not there, or would be replaced by the student.
    pub fn init_from(&mut self, file: &Path) -> Result<()> {
        let named = self.init.take().unwrap_or_default();
        self.init = Some(InitRecipe { file: file.to_path_buf(), ..named });
        self.check_files()
    }

    /// How much is held out.
    pub fn held_out(&self) -> HeldOut {
        HeldOut { test: self.data.test, validation: self.data.validation }
    }
}

impl TeacherRecipe {
    /// The teacher's file, if there is one.
    pub fn path(&self) -> Option<&Path> {
        [&self.gguf, &self.checkpoint, &self.labels].into_iter().flatten().next().map(PathBuf::as_path)
    }
}

impl SamplingRecipe {
    fn check(self) -> Result<()> {
        let open = SamplerOptions::default();
        let options = SamplerOptions {
            temperature: self.temperature.unwrap_or(open.temperature),
            top_p: self.top_p.unwrap_or(open.top_p),
            min_p: self.min_p.unwrap_or(open.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(open.repeat_penalty),
            ..open
        };
        options.validate().map_err(|error| Error::from(error).at("output.sampling"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECIPE: &str = r#"
kind = "translate"
[student]
embedding = 64
layers = 1
decoder_layers = 1
heads = 2
head_dim = 32
feed_forward = 64
[tokenizer]
train = "unigram"
size = 500
[data]
files = ["Cargo.toml"]
[teacher]
labels = "Cargo.toml"
[loss]
alpha = { from = 0.9, to = 0.1 }
divergence = { skewed-reverse-kl = 0.9 }
temperature = 2.0
[train]
steps = 100
learning_rate = 1e-3
[output]
file = "out.gguf"
"#;

    fn parse(text: &str) -> Result<Recipe> {
        of(text, &Path::new(env!("CARGO_MANIFEST_DIR")).join("recipe.toml"), None)
    }

    #[test]
    fn what_is_not_said_has_a_default() {
        let recipe = parse(RECIPE).unwrap();
        assert_eq!((recipe.data.validation, recipe.train.clip, recipe.output.dtype.as_str()), (500, 1.0, "q8_0"));
        assert_eq!(recipe.loss.alpha(), Weight::Cosine { from: 0.9, to: 0.1 });
        assert_eq!(recipe.loss.divergence(), Divergence::SkewedReverseKl(0.9));
        let loss = LossRecipe::default();
        assert_eq!(
            (loss.alpha(), loss.divergence(), loss.temperature()),
            (Weight::Fixed(0.5), Divergence::ForwardKl, 2.0)
        );
    }

    #[test]
    fn chat_students_that_write_are_chosen_by_many_answers() {
        let mut text = RECIPE.replace("labels =", "gguf =");
        for (from, to) in
            [("translate", "chat"), ("decoder_layers", "kv_heads"), ("head_dim = 32", ""), ("unigram", "bpe")]
        {
            text = text.replacen(from, to, 1);
        }
        let text = text.replace("[output]", "[on_policy]\nsteps = 5\nlearning_rate = 1e-4\n[output]");
        parse(&text).unwrap();
        for items in [0, 60] {
            let error = parse(&text.replace("steps = 100", &format!("steps = 100\neval_items = {items}"))).unwrap_err();
            let expected =
                format!("train.eval_items of a chat student that learns on-policy is {items}, expected at least 300");
            assert!(error.to_string().contains(&expected), "{error}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_key() {
        for (from, to, expected) in [
            (
                "temperature = 2.0",
                "temprature = 2.0",
                "line 20 `temprature = 2.0`: unknown field `temprature`, expected",
            ),
            ("temperature = 2.0", "temperature = \"hot\"", "line 20 `temperature = \"hot\"`: invalid type"),
            ("temperature = 2.0", "temperature = 0.0", "loss.temperature is 0, expected 0.01 to 100"),
            ("temperature = 2.0", "temperature = nan", "loss.temperature is NaN, expected 0.01 to 100"),
            ("from = 0.9", "from = 1.1", "loss.alpha.from is 1.1, expected 0 to 1"),
            ("{ from = 0.9, to = 0.1 }", "-0.1", "loss.alpha is -0.1, expected 0 to 1"),
            ("{ from = 0.9, to = 0.1 }", "\"x\"", "expected a number, or { from = a number, to = a number }"),
            ("{ skewed-reverse-kl = 0.9 }", "{ skewed-reverse-kl = 1.0 }", "loss.divergence: lambda is 1, expected"),
            ("{ skewed-reverse-kl = 0.9 }", "\"kl\"", "unknown variant `kl`"),
            ("Cargo.toml", "missing.tsv", "missing.tsv is not there, expected a file"),
            ("steps = 100", "", "[train] takes steps or epochs"),
            ("steps = 100", "steps = 100\nepochs = 2.0", "[train] takes steps or epochs"),
            ("size = 500", "size = 500\nfile = \"x.gguf\"", "[tokenizer] takes train and size, or file"),
            ("\"unigram\"", "\"bpe\"", "expected \"unigram\" for kind \"translate\""),
            ("out.gguf\"", "out.gguf\"\ntype = \"q3\"", "output.type: \"q3\" is no type, expected one of f32"),
            ("\"out.gguf\"", "\"no/such/out.gguf\"", "no/such is not there, expected a folder"),
            ("\"out.gguf\"", "\"\"", "output.file: "),
            ("\"out.gguf\"", "\".\"", "is a folder, expected the name of a file"),
            ("\"out.gguf\"", "\"src\"", "is a folder, expected the name of a file"),
            ("\"out.gguf\"", "\"Cargo.toml\"", "Cargo.toml: would replace a file that is read"),
            ("heads = 2", "heats = 2", "[student]: unknown field `heats`"),
            ("heads = 2", "heads = 2\ncontext = 64", "student.context is 64, expected at least 128"),
            ("[teacher]", "validation = 0\n[teacher]", "data.validation is 0, expected at least 1"),
            ("heads = 2", "heads = 0", "[student]: `heads` is 0, expected 1 to 1024"),
            ("labels = ", "gguf = \"a\"\nlabels = ", "[teacher] names several"),
            ("labels = \"Cargo.toml\"", "", "loss.alpha is there and [teacher] is not, expected both or none"),
            ("[output]", "[on_policy]\nsteps = 5\nlearning_rate = 1e-4\n[output]", "[on_policy] needs a teacher"),
            ("[student]", "[student", "line 3"),
        ] {
            let text = RECIPE.replacen(from, to, 1);
            assert_ne!(text, RECIPE, "{from}");
            let error = parse(&text).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains('\n'), "{to}: {error}");
        }
    }
}
