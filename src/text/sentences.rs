//! Cuts text into sentences for translation, and too long sentences into parts.
//!
//! Where it is in doubt it does not cut: two sentences translated as one read better than two halves of one.

use super::abbreviations::{Stop, is_counted, is_starter, may_precede_ordinal, stop_after};
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// A piece of a text. All pieces of a text one after the other are the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'t> {
    /// Copied as it is: white space, line breaks, indents, bullets, numbering, and what has no letters.
    Layout(&'t str),
    /// A sentence, without white space around it.
    Sentence(&'t str),
}

/// Cuts `text` into sentences and what is between them. A line break always ends a sentence.
///
/// ```
/// use pupil::text::sentences::{Piece::*, split};
/// let pieces = split("- Mr. Smith left. Why?\n");
/// assert_eq!(pieces, [Layout("- "), Sentence("Mr. Smith left."), Layout(" "), Sentence("Why?"), Layout("\n")]);
/// ```
pub fn split(text: &str) -> Vec<Piece<'_>> {
    let mut pieces = Pieces { text, pieces: Vec::new(), layout: 0 };
    let mut start = 0;
    for line in text.split_inclusive(is_line_break) {
        split_line(line, start, &mut pieces);
        start += line.len();
    }
    pieces.finish()
}

/// Cuts a sentence that does not fit into parts that do, which one after the other are the sentence: after `;`, `:` and
/// dashes, else after commas, else after spaces, else between characters; the nearer to the middle the better.
/// A character that alone does not fit is a part of its own.
///
/// `fits` is asked about O(n log n) bytes for a sentence of n.
pub fn shorten(sentence: &str, fits: impl Fn(&str) -> bool) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut pending = vec![sentence];
    while let Some(part) = pending.pop() {
        if part.is_empty() {
            continue;
        }
        match if fits(part) { None } else { middle(part) } {
            Some(at) => {
                let (left, right) = part.split_at(at);
                pending.extend([right, left]);
            }
            None => parts.push(part),
        }
    }
    parts
}

/// Collects pieces; what is between sentences becomes layout.
struct Pieces<'t> {
    text: &'t str,
    pieces: Vec<Piece<'t>>,
    /// Where the layout begins that has not been added yet.
    layout: usize,
}

impl<'t> Pieces<'t> {
    /// Adds the sentence from `start` to `end`, unless there is nothing to translate in it.
    fn sentence(&mut self, start: usize, end: usize) {
        let sentence = &self.text[start..end];
        if !sentence.contains(char::is_alphabetic) {
            return;
        }
        self.end_layout(start);
        self.pieces.push(Piece::Sentence(sentence));
        self.layout = end;
    }

    fn end_layout(&mut self, end: usize) {
        if self.layout < end {
            self.pieces.push(Piece::Layout(&self.text[self.layout..end]));
        }
    }

    fn finish(mut self) -> Vec<Piece<'t>> {
        self.end_layout(self.text.len());
        self.pieces
    }
}

/// `line` begins at `offset` in the text.
fn split_line(line: &str, offset: usize, pieces: &mut Pieces) {
    let content = line.trim_end().len();
    let mut start = lead_len(&line[..content]);
    let line = &line[..content];
    let mut at = start;
    let mut open = 0usize;
    while let Some(c) = line[at..].chars().next() {
        open = match c {
            '(' | '[' | '（' => open + 1,
            ')' | ']' | '）' => open.saturating_sub(1),
            _ => open,
        };
        if !is_mark(c) {
            at += c.len_utf8();
            continue;
        }
        let mark = Mark::read(line, start, at);
        at = mark.end;
        if mark.closes_bracket {
            open = 0;
        }
        if mark.ends_sentence(line) && !(open > 0 && closes_soon(&line[at..])) {
            pieces.sentence(offset + start, offset + at);
            at = line.len() - line[at..].trim_start().len();
            start = at;
            open = 0;
        }
    }
    pieces.sentence(offset + start, offset + content);
}

fn is_line_break(c: char) -> bool {
    matches!(c, '\n' | '\r' | '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}')
}

/// How long indent, bullets and numbering at the start of a line are.
fn lead_len(line: &str) -> usize {
    let mut rest = line.trim_start();
    while let Some(after) = strip_bullet(rest).or_else(|| strip_number(rest)) {
        rest = after;
    }
    line.len() - rest.len()
}

fn strip_bullet(line: &str) -> Option<&str> {
    const BULLETS: [char; 16] = ['-', '*', '+', '>', '#', '•', '‣', '◦', '▪', '●', '○', '–', '—', '·', '■', '✓'];
    let boxes = ["[ ]", "[x]", "[X]"].iter().find_map(|mark| line.strip_prefix(mark));
    let after = boxes.unwrap_or_else(|| line.trim_start_matches(BULLETS));
    let rest = after.trim_start();
    (after.len() < line.len() && rest.len() < after.len()).then_some(rest)
}

/// Strips numbering: `1.`, `2.3.1`, `4)`, `(5)`, `a)`, `(iv)`.
fn strip_number(line: &str) -> Option<&str> {
    let inner = line.strip_prefix('(').unwrap_or(line);
    let bracketed = inner.len() < line.len();
    let after = inner.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let number = &inner[..inner.len() - after.len()];
    if number.is_empty() || !number.starts_with(|c: char| c.is_ascii_digit()) {
        let after = inner.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        let letters = &inner[..inner.len() - after.len()];
        let is_label =
            letters.len() == 1 || (1..5).contains(&letters.len()) && letters.bytes().all(|c| b"ivx".contains(&c));
        return spaced(after.strip_prefix(')')?).filter(|_| is_label);
    }
    if number.len() > 8 || number.contains("..") {
        return None;
    }
    if let Some(after) = after.strip_prefix(')') {
        return spaced(after);
    }
    let rest = spaced(after).filter(|_| !bracketed && number.contains('.'))?;
    // `3. Mai`, `3. 5. 2024`, `2024. Das` and `3.5 Millionen` are no numbering.
    let is_date = is_counted(first_word(rest)) || rest.starts_with(|c: char| c.is_ascii_digit());
    let is_label = number.ends_with('.') || number.matches('.').count() > 1;
    let is_short = number.split('.').all(|part| part.len() < 4);
    (!is_date && is_label && is_short).then_some(rest)
}

/// What comes after the white space that `text` begins with, if it does.
fn spaced(text: &str) -> Option<&str> {
    let rest = text.trim_start();
    (rest.len() < text.len()).then_some(rest)
}

fn is_mark(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '…' | '؟' | '۔' | '।' | '॥' | '‼' | '⁇' | '⁈' | '⁉') || is_wide_mark(c)
}

/// Marks of scripts that put no space after a sentence.
fn is_wide_mark(c: char) -> bool {
    matches!(c, '。' | '！' | '？' | '｡')
}

fn is_quote_or_closer(c: char) -> bool {
    matches!(c, '"' | '\'' | '”' | '’' | '“' | '‘' | '»' | '«' | '›' | '‹' | '*' | '_' | '`') || is_closing_bracket(c)
}

fn is_closing_bracket(c: char) -> bool {
    matches!(c, ')' | ']' | '}' | '）' | '」' | '』' | '】' | '》' | '〉' | '］')
}

fn is_opener(c: char) -> bool {
    let bracket = matches!(c, '(' | '[' | '{' | '（' | '「' | '『' | '【' | '《' | '〈');
    bracket
        || matches!(
            c,
            '"' | '\''
                | '“'
                | '„'
                | '‚'
                | '‘'
                | '«'
                | '»'
                | '‹'
                | '›'
                | '¿'
                | '¡'
                | '*'
                | '_'
                | '`'
                | '-'
                | '–'
                | '—'
        )
}

/// A run of marks such as `?!` or `...`, and the quotes and brackets that it closes.
struct Mark<'t> {
    /// The sentence so far, without the marks.
    before: &'t str,
    marks: &'t str,
    closers: &'t str,
    end: usize,
    closes_bracket: bool,
}

impl<'t> Mark<'t> {
    /// Reads what stands at `at`, in a sentence from `start`.
    fn read(line: &'t str, start: usize, at: usize) -> Self {
        let rest = &line[at..];
        let marks = &rest[..rest.len() - rest.trim_start_matches(is_mark).len()];
        let mut after = &rest[marks.len()..];
        loop {
            let len = after.len();
            after = after.trim_start_matches(is_quote_or_closer);
            after = after_guillemet(after).or_else(|| after_footnote(after)).unwrap_or(after);
            // As in `(Really?).` and `"No!"...`.
            if after.len() < rest.len() - marks.len() {
                after = after.trim_start_matches(is_mark);
            }
            if after.len() == len {
                break;
            }
        }
        let end = line.len() - after.len();
        let closers = &line[at + marks.len()..end];
        let closes_bracket = closers.contains(is_closing_bracket);
        Self { before: &line[start..at], marks, closers, end, closes_bracket }
    }

    fn ends_sentence(&self, line: &str) -> bool {
        let after = &line[self.end..];
        let Some(next) = after.chars().next() else { return true };
        let wide = self.marks.contains(is_wide_mark);
        if !next.is_whitespace() {
            // A quote that the sentence goes on after, as in 「はい。」と言った。
            let goes_on = !self.closers.is_empty() && is_hiragana(next);
            let is_stop = wide || self.marks != "." && is_wide_script(next);
            return is_stop && !goes_on && !matches!(next, '、' | '，' | ',');
        }
        let rest = after.trim_start();
        let space = &after[..after.len() - rest.len()];
        if wide {
            return true;
        }
        if space.chars().all(|c| matches!(c, '\u{a0}' | '\u{202f}')) && self.marks == "." && self.closers.is_empty() {
            return false;
        }
        let word = rest.trim_start_matches(|c: char| is_opener(c) || c == ' ');
        let Some(first) = word.chars().next() else { return true };
        // Small letters go on, as in `"Why?" she asked.`; so does punctuation.
        if first.is_lowercase() || is_mark(first) || matches!(first, ',' | ';' | ':' | '/' | ')' | ']' | '=') {
            return false;
        }
        self.marks != "." || !self.closers.is_empty() || self.stop_ends_sentence(word)
    }

    /// Whether a single stop before `next`, which is no small letter, ends the sentence.
    fn stop_ends_sentence(&self, next: &str) -> bool {
        let word = last_word(self.before);
        let digit_follows = next.starts_with(|c: char| c.is_ascii_digit());
        if word.bytes().all(|c| c.is_ascii_digit()) && !word.is_empty() {
            return !self.is_ordinal(word, next);
        }
        match stop_after(&self.abbreviation(word)) {
            Stop::Inner => false,
            Stop::BeforeNumbers { .. } if digit_follows => false,
            Stop::BeforeNumbers { sometimes: true } | Stop::Sometimes => begins_sentence(next),
            Stop::BeforeNumbers { .. } | Stop::End => !is_initial(word) && !is_roman(word) || begins_sentence(next),
        }
    }

    /// `word` with the single letters before it, as in `z. B.`
    fn abbreviation(&self, word: &str) -> String {
        let mut all = word.to_string();
        let mut before = &self.before[..self.before.len() - word.len()];
        for _ in 0..3 {
            let Some(rest) = before.trim_end().strip_suffix('.') else { break };
            let letter = last_word(rest);
            if letter.chars().count() != 1 || all.chars().count() > 3 {
                break;
            }
            all = format!("{letter}.{all}");
            before = &rest[..rest.len() - letter.len()];
        }
        all
    }

    /// Whether a number is an ordinal, as in `am 3. Mai`, `3. 5. 2024` or `der 2. Mann`.
    fn is_ordinal(&self, number: &str, next: &str) -> bool {
        let before = self.before[..self.before.len() - number.len()].trim_end();
        let follows = is_counted(first_word(next)) || next.starts_with(|c: char| c.is_ascii_digit());
        number.len() <= 2 && (follows || may_precede_ordinal(last_word(before)))
    }
}

/// French puts a space before `»`; it closes if a space or the end follows.
fn after_guillemet(text: &str) -> Option<&str> {
    let after = text.trim_start_matches([' ', '\u{a0}', '\u{202f}']).strip_prefix('»')?;
    after.chars().next().is_none_or(|c| !c.is_alphanumeric()).then_some(after)
}

/// `[12]` right after a sentence.
fn after_footnote(text: &str) -> Option<&str> {
    let digits = text.strip_prefix('[')?;
    let after = digits.trim_start_matches(|c: char| c.is_ascii_digit());
    after.strip_prefix(']').filter(|_| after.len() < digits.len())
}

/// Whether a bracket closes before the next one opens, within a few words.
fn closes_soon(text: &str) -> bool {
    let next = text.char_indices().take(200).find(|(_, c)| matches!(c, '(' | ')' | '[' | ']' | '（' | '）'));
    next.is_some_and(|(_, c)| matches!(c, ')' | ']' | '）'))
}

/// The word at the end of `text`, with inner stops.
fn last_word(text: &str) -> &str {
    // Apostrophes and hyphens are parts of words.
    let is_between = |c: char| is_opener(c) && !matches!(c, '\'' | '‘' | '-') || matches!(c, '/' | '|' | ',');
    let start = text.rfind(|c: char| c.is_whitespace() || is_between(c)).unwrap_or(0);
    let word = &text[start..];
    word.trim_start_matches(|c: char| !c.is_alphanumeric() && c != '§')
}

fn first_word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric()).unwrap_or(text.len());
    &text[..end]
}

/// Whether `text` begins as sentences do, and not with a name: `The`, `Das`, `C'est`.
fn begins_sentence(text: &str) -> bool {
    let word = first_word(text);
    let after = &text[word.len()..];
    match after.chars().next() {
        // An initial, as in `J. A. Smith`.
        Some('.') if word.chars().count() == 1 => false,
        Some('\'' | '’') if word.len() == 1 => true,
        _ => is_starter(word),
    }
}

/// Whether `word` ends with a letter that stands alone, as in `J`, `U.S`, `p.m` or `J.-P`.
fn is_initial(word: &str) -> bool {
    let mut back = word.chars().rev();
    back.next().is_some_and(char::is_alphabetic) && back.next().is_none_or(|c| matches!(c, '.' | '-'))
        || word.ends_with("Ph.D")
}

fn is_roman(word: &str) -> bool {
    word.len() > 1 && word.bytes().all(|c| b"IVXLC".contains(&c))
}

fn is_hiragana(c: char) -> bool {
    matches!(c, '\u{3041}'..='\u{309f}')
}

fn is_wide_script(c: char) -> bool {
    matches!(c, '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}')
}

/// Where to cut `part` in two: of the best kind of places the nearest to the middle; nowhere if it is one character.
fn middle(part: &str) -> Option<usize> {
    let (len, half) = (part.len(), part.len() / 2);
    let mut nearest = [None::<usize>; 6];
    let (mut before, mut mark) = ('\0', None);
    for ((_, c), (at, next)) in part.char_indices().zip(part.char_indices().skip(1)) {
        if !c.is_whitespace() {
            mark = clause_mark(before, c, next);
        }
        before = c;
        let is_central = (len / 5..=len - len / 5).contains(&at);
        let kind = match mark {
            // White space stays with what is before it.
            _ if next.is_whitespace() => 5,
            Some(kind) if is_central => kind,
            _ if c.is_whitespace() => {
                if is_central {
                    2
                } else {
                    3
                }
            }
            _ if !belongs_together(c, next) => 4,
            _ => 5,
        };
        if nearest[kind].is_none_or(|known| at.abs_diff(half) < known.abs_diff(half)) {
            nearest[kind] = Some(at);
        }
    }
    nearest.into_iter().flatten().next()
}

/// Whether a clause ends with `c`: 0 for the marks that part most, 1 for commas.
fn clause_mark(before: char, c: char, next: char) -> Option<usize> {
    match c {
        '；' | '：' | '—' => Some(0),
        ';' | ':' if next.is_whitespace() => Some(0),
        '-' | '–' if next.is_whitespace() && before.is_whitespace() => Some(0),
        '，' | '、' => Some(1),
        ',' | '،' if next.is_whitespace() => Some(1),
        _ => None,
    }
}

/// Whether two characters make one: accents, variants, joined emoji.
fn belongs_together(c: char, next: char) -> bool {
    const JOINER: char = '\u{200d}';
    c == JOINER
        || next == JOINER
        || matches!(next, '\u{1f3fb}'..='\u{1f3ff}')
        || next.general_category_group() == GeneralCategoryGroup::Mark
}
