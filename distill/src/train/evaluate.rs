//! How good a student is while it learns.

use crate::{
    batch::Batch,
    data::text::{Item, Kind, Role, batches::Batches, split::hash},
    error::Result,
    eval::{
        chat::{self, Reader},
        text::rouge_l,
        translate::{Evaluation, Tokenize},
    },
    loss::{Lost, Objective, measure},
    recipe::Recipe,
    student::Student,
};
use pupil::{Model, TranslateOptions, Translator, bytes::Bytes, text::Message};
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

/// The score of a finished student on all of a part, as `pupil eval` measures it: that of the [`Exam`] for translators, and for
/// chat students the mean ROUGE-L of answers at every turn of the assistant. None if there is nothing to measure it on.
///
/// # Errors
/// `Format` if the runtime refuses the file.
pub fn finished(file: &[u8], items: &[Item], recipe: &Recipe, threads: usize) -> Result<Option<f64>> {
    if recipe.kind == Kind::Translate {
        let exam = Exam::new(items, recipe.kind, usize::MAX, recipe.data.max_tokens, threads);
        return if exam.is_empty() { Ok(None) } else { exam.score(file).map(Some) };
    }
    let dialogue = |item: &Item| match item {
        Item::Dialogue(turns) => Some(turns.clone()),
        _ => None,
    };
    let dialogues: Vec<_> = items.iter().filter_map(dialogue).collect();
    let model = Model::from_bytes(Arc::new(Bytes::from(file)), "the student")?;
    let mut reader = Reader::new(&model, None, threads)?;
    let scores = chat::evaluate(&mut reader, &dialogues, chat::MAX_TOKENS, &mut || ControlFlow::Continue(()))?;
    Ok(scores.filter(|scores| scores.turns > 0).map(|scores| 100.0 * scores.rouge_l))
}

/// Sentences to translate or dialogues to go on with at their end, and what people made of them: what a student is asked while
/// it learns.
pub struct Exam {
    kind: Kind,
    questions: Vec<Question>,
    max_tokens: usize,
    threads: usize,
}

struct Question {
    /// The turns before the last of the assistant, or the sentence alone.
    turns: Vec<Message>,
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
                    let turns = vec![Message::user(source)];
                    questions.push(Question { turns, answers: vec![target.clone()] });
                }
                Item::Dialogue(turns) => {
                    let Some(at) = turns.iter().rposition(|turn| turn.role == Role::Assistant) else { continue };
                    let before = turns[..at].iter().map(|turn| Message::new(turn.role.name(), &*turn.text));
                    let before: Vec<Message> = before.collect();
                    if before.last().is_some_and(|turn| turn.role == "user") {
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
                let scores = pairs.map(|(answer, question)| rouge_l(&question.answers[0], answer));
                100.0 * scores.sum::<f64>() / self.questions.len().max(1) as f64
            }
        })
    }

    fn translations(&self, bytes: Arc<Bytes>) -> Result<Vec<String>> {
        let options = TranslateOptions { threads: self.threads, ..TranslateOptions::default() };
        let mut translator = Translator::from_bytes(bytes, "the student", options)?;
        let texts: Vec<&str> = self.questions.iter().map(|question| question.turns[0].content.as_str()).collect();
        Ok(translator.translate_batch(&texts)?.into_iter().map(|translation| translation.text).collect())
    }

    fn answers(&self, bytes: Arc<Bytes>) -> Result<Vec<String>> {
        let model = Model::from_bytes(bytes, "the student")?;
        let mut reader = Reader::new(&model, None, self.threads)?;
        // A dialogue that is too long is one that the student cannot answer.
        let mut answer = |question: &Question| Ok(reader.answer(&question.turns, self.max_tokens)?.unwrap_or_default());
        self.questions.iter().map(&mut answer).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn translations_of_a_sentence_are_one_question() {
        let pair = |source: &str, target: &str| Item::Pair { source: source.into(), target: target.into() };
        let items = [pair("Hi!", "Hallo!"), pair("Hi.", "Tag!"), pair("No.", "Nein."), pair("Yes.", "Ja.")];
        let exam = Exam::new(&items, Kind::Translate, 2, 10, 1);
        assert_eq!((exam.len(), exam.questions[0].answers.len()), (2, 2));
    }
}
