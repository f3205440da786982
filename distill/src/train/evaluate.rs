//! How good a student is while it learns.

use crate::{
    batch::Batch,
    data::text::{Item, Kind, Role, batches::Batches, split::hash},
    error::{Error, Result},
    eval::translate::{Evaluation, Tokenize},
    loss::{Lost, Objective, measure},
    student::Student,
};
use pupil::{Chat, ChatOptions, Model, TranslateOptions, Translator, bytes::Bytes, text::SamplerOptions};
use std::{ops::ControlFlow, sync::Arc};

/// Cross-entropy a token, in nats, on all examples.
///
/// # Errors
/// What the student refuses.
pub fn cross_entropy(student: &dyn Student, data: &Batches) -> Result<f64> {
    let mut total = Lost::default();
    for indices in data.sorted() {
        let batch: Batch = data.batch(&indices);
        let objective = Objective { alpha: 1.0, tokens: batch.valid().len(), ..Objective::default() };
        let hidden = student.hidden(&batch, None)?;
        let (weight, scale) = student.output()?;
        total += measure(&hidden, (&weight, scale), &batch.labels, None, &objective)?;
    }
    Ok(total.cross_entropy / total.tokens.max(1) as f64)
}

/// Sentences to translate or dialogues to go on with, and what people made of them.
pub struct Exam {
    kind: Kind,
    questions: Vec<Question>,
    max_tokens: usize,
    threads: usize,
}

struct Question {
    /// The turns before the last of the assistant, or the sentence alone.
    turns: Vec<(Role, String)>,
    answers: Vec<String>,
}

impl Exam {
    /// The exam of the first `limit` sources of held-out items.
    pub fn new(items: &[Item], kind: Kind, limit: usize, max_tokens: usize, threads: usize) -> Self {
        let mut questions: Vec<Question> = Vec::new();
        let mut last = None;
        for item in items {
            let source = Some(hash(item.source()));
            match item {
                // Items of the same source follow each other: they are its translations.
                Item::Pair { target, .. } if source == last => {
                    questions.last_mut().into_iter().for_each(|question| question.answers.push(target.clone()));
                }
                _ if questions.len() == limit => break,
                Item::Pair { source, target } => {
                    let turns = vec![(Role::User, source.clone())];
                    questions.push(Question { turns, answers: vec![target.clone()] });
                }
                Item::Dialogue(turns) => {
                    let Some(at) = turns.iter().rposition(|turn| turn.role == Role::Assistant) else { continue };
                    let before: Vec<_> = turns[..at].iter().map(|turn| (turn.role, turn.text.clone())).collect();
                    if before.last().is_some_and(|(role, _)| *role == Role::User) {
                        questions.push(Question { turns: before, answers: vec![turns[at].text.clone()] });
                    }
                }
                Item::Text(_) => {}
            }
            last = source;
        }
        Self { kind, questions, max_tokens, threads }
    }

    /// What the score is called.
    pub fn name(&self) -> &'static str {
        match self.kind {
            Kind::Translate => "BLEU",
            Kind::Chat => "ROUGE-L",
        }
    }

    /// How many questions there are.
    pub fn len(&self) -> usize {
        self.questions.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// The score from 0 to 100 of the student in `file`, run by the runtime, always with the likeliest token: BLEU of
    /// translations with all that people made of them, or the mean ROUGE-L of the last answers in dialogues.
    ///
    /// # Errors
    /// `Format` if the runtime refuses the file.
    pub fn score(&self, file: &[u8]) -> Result<f64> {
        let bytes: Arc<Bytes> = Arc::new(Bytes::from(file));
        let answers = match self.kind {
            Kind::Translate => self.translations(bytes)?,
            Kind::Chat => self.answers(bytes)?,
        };
        let pairs = answers.iter().zip(&self.questions);
        Ok(match self.kind {
            Kind::Translate => {
                let mut evaluation = Evaluation::new(Tokenize::V13a);
                for (answer, question) in pairs {
                    let references: Vec<&str> = question.answers.iter().map(String::as_str).collect();
                    evaluation.add(answer, &references);
                }
                evaluation.finish().bleu.score
            }
            Kind::Chat => {
                let scores = pairs.map(|(answer, question)| rouge_l(answer, &question.answers[0]));
                100.0 * scores.sum::<f64>() / self.questions.len().max(1) as f64
            }
        })
    }

    fn translations(&self, bytes: Arc<Bytes>) -> Result<Vec<String>> {
        let options = TranslateOptions { threads: self.threads, ..TranslateOptions::default() };
        let mut translator = Translator::from_bytes(bytes, "the student", options)?;
        let texts: Vec<&str> = self.questions.iter().map(|question| question.turns[0].1.as_str()).collect();
        Ok(translator.translate_batch(&texts)?.into_iter().map(|translation| translation.text).collect())
    }

    fn answers(&self, bytes: Arc<Bytes>) -> Result<Vec<String>> {
        let model = Model::from_bytes(bytes, "the student")?;
        self.questions.iter().map(|question| self.answer(&model, question)).collect()
    }

    fn answer(&self, model: &Model, question: &Question) -> Result<String> {
        let options = ChatOptions {
            raw: true,
            threads: self.threads,
            max_tokens: Some(self.max_tokens),
            sampler: SamplerOptions { temperature: 0.0, repeat_penalty: 1.0, ..SamplerOptions::default() },
            ..ChatOptions::default()
        };
        let turns: Vec<_> =
            question.turns.iter().map(|(role, text)| pupil::text::Message::new(role.name(), text.as_str())).collect();
        let prompt = model.template().render(&turns, &pupil::text::RenderOptions::prompt())?;
        match Chat::new(model, options)?.say(&prompt, |_| ControlFlow::Continue(())) {
            Ok(answer) => Ok(answer.text),
            // A dialogue that is too long is one that the student cannot answer.
            Err(error) if error.kind() == pupil::ErrorKind::ContextFull => Ok(String::new()),
            Err(error) => Err(Error::from(error)),
        }
    }
}

/// ROUGE-L (Lin 2004): F1 of the longest common subsequence of words in lower case.
fn rouge_l(answer: &str, reference: &str) -> f64 {
    let words = |text: &str| -> Vec<String> {
        let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
        words.map(str::to_lowercase).collect()
    };
    let (a, b) = (words(answer), words(reference));
    let mut before = vec![0_usize; b.len() + 1];
    for x in &a {
        let mut row = vec![0; b.len() + 1];
        for (j, y) in b.iter().enumerate() {
            row[j + 1] = if x == y { before[j] + 1 } else { row[j].max(before[j + 1]) };
        }
        before = row;
    }
    2.0 * before[b.len()] as f64 / (a.len() + b.len()).max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rouge_is_the_longest_common_subsequence() {
        assert_eq!(rouge_l("the cat sat", "The cat sat."), 1.0);
        assert!((rouge_l("police killed the gunman", "police kill the gunman") - 0.75).abs() < 1e-12);
        assert_eq!(rouge_l("", "x"), 0.0);
        assert_eq!(rouge_l("", ""), 0.0);
    }

    #[test]
    fn translations_of_a_sentence_are_one_question() {
        let pair = |source: &str, target: &str| Item::Pair { source: source.into(), target: target.into() };
        let items = [pair("Hi!", "Hallo!"), pair("Hi.", "Tag!"), pair("No.", "Nein."), pair("Yes.", "Ja.")];
        let exam = Exam::new(&items, Kind::Translate, 2, 10, 1);
        assert_eq!((exam.len(), exam.questions[0].answers.len()), (2, 2));
    }
}
