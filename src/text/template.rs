//! Chat templates: the Jinja source in a file that writes a conversation as the text its model was trained on.

use super::{
    python::{self, JsonStyle},
    strftime::strftime,
    tokenizer::Tokenizer,
};
use crate::{
    error::{Error, Result},
    gguf::Gguf,
};
use minijinja::{
    Environment, ErrorKind, Output, State, context, escape_formatter,
    syntax::SyntaxConfig,
    value::{Kwargs, Rest, Value},
};
use std::{fmt, time::SystemTime};

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant`; some templates know others.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }

    /// A turn that instructs the model.
    pub fn system(content: impl Into<String>) -> Self {
        Self::new("system", content)
    }

    /// A turn of the user.
    pub fn user(content: impl Into<String>) -> Self {
        Self::new("user", content)
    }

    /// A turn of the model.
    pub fn assistant(content: impl Into<String>) -> Self {
        Self::new("assistant", content)
    }
}

/// What a template is told besides the conversation.
#[derive(Debug, Clone, Default)]
pub struct RenderOptions {
    /// Ends the text with the beginning of the model's next turn.
    pub add_generation_prompt: bool,
    /// A JSON array of tools that the model may call.
    pub tools: Option<String>,
    /// A JSON object of further variables, such as `{"enable_thinking": false}`.
    pub variables: Option<String>,
    /// The time that `strftime_now` tells, in UTC; the system's clock if there is none.
    pub now: Option<SystemTime>,
}

impl RenderOptions {
    /// The model is to answer.
    pub fn prompt() -> Self {
        Self { add_generation_prompt: true, ..Self::default() }
    }
}

/// A file's chat template.
///
/// Templates are those of Hugging Face's `transformers`: Jinja with `trim_blocks` and `lstrip_blocks`, loop controls,
/// `raise_exception`, `strftime_now`, `tojson` as `json.dumps`, and the methods of Python's strings, lists and dicts.
/// They come from files, so their work and the text they make are limited.
///
/// ```
/// # use pupil::text::{ChatTemplate, Message, RenderOptions};
/// let template = ChatTemplate::chatml();
/// let text = template.render(&[Message::user("Hi")], &RenderOptions::prompt())?;
/// assert_eq!(text, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
/// # Ok::<(), pupil::Error>(())
/// ```
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

/// The name that messages call the template by: the key of the file.
const NAME: &str = "tokenizer.chat_template";

/// The format of a file that has no template.
const CHATML: &str = "{% for message in messages %}\
{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}\
{% endfor %}\
{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";

/// What a template may do: instructions, and 64 bytes of text made or read for each. Every byte of the conversation
/// adds one.
const FUEL: u64 = 1 << 20;

/// The longest template; the longest of real ones have some 30,000 bytes.
const MAX_SOURCE: usize = 1 << 16;

/// The stack that templates get. The engine reads, compiles and frees what is nested by recursion, and a hostile
/// template of the size and fuel allowed can nest very deeply; without optimisation that takes several times as much. The
/// system gives only the pages that are touched, but no stack that is larger than all memory, which may be 512 MB.
const STACK: usize = if cfg!(debug_assertions) && usize::BITS > 32 { 512 << 20 } else { 96 << 20 };

/// Calls `run` on a thread with a [large stack](STACK).
fn with_deep_stack<T: Send>(run: impl FnOnce() -> T + Send) -> Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, run);
        let thread = thread.map_err(|e| Error::new(crate::ErrorKind::Io, format!("{NAME}: no thread: {e}")))?;
        thread.join().map_err(|_| Error::format(format!("{NAME}: the template cannot be run")))
    })
}

impl ChatTemplate {
    /// The template of a file, or [ChatML](Self::chatml) if it has none.
    ///
    /// # Errors
    /// `Format` if the template is not sound Jinja.
    pub fn from_gguf(file: &Gguf, tokenizer: &Tokenizer) -> Result<Self> {
        let text = |id: Option<u32>| id.map(|id| String::from_utf8_lossy(tokenizer.token(id)).into_owned());
        let (bos, eos) = (text(tokenizer.bos()).unwrap_or_default(), text(tokenizer.eos()).unwrap_or_default());
        let source = file.keys().opt_str(NAME)?.unwrap_or(CHATML);
        Self::from_source(source, &bos, &eos).map_err(|e| e.at(file.name()))
    }

    /// A template from its source. `bos` and `eos` are the texts of the tokens that templates call `bos_token` and
    /// `eos_token`.
    ///
    /// # Errors
    /// `Format` if `source` is not sound Jinja.
    pub fn from_source(source: &str, bos: &str, eos: &str) -> Result<Self> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(|e| refuse(&e))?);
        environment.set_formatter(format_value);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", raise_exception);
        if source.len() > MAX_SOURCE {
            let len = source.len();
            return Err(Error::format(format!("{NAME} has {len} bytes, expected at most {MAX_SOURCE}")));
        }
        let source = without_generation_tags(source);
        with_deep_stack(|| environment.add_template_owned(NAME, source))?.map_err(|e| refuse(&e))?;
        Ok(Self { environment, bos: bos.to_string(), eos: eos.to_string() })
    }

    /// ChatML, which most small models know: each turn is `<|im_start|>role\ncontent<|im_end|>\n`.
    pub fn chatml() -> Self {
        Self::from_source(CHATML, "", "").expect("our own template is sound")
    }

    /// The text of a conversation. Encode it with [`Specials::PARSE`](super::Specials::PARSE): the template spells the
    /// special tokens, the first one included.
    ///
    /// # Errors
    /// `Input` if the template refuses the conversation or fails, or if `tools` or `variables` are not JSON.
    pub fn render(&self, messages: &[Message], options: &RenderOptions) -> Result<String> {
        let turns: Vec<Value> =
            messages.iter().map(|m| context! { role => m.role.as_str(), content => m.content.as_str() }).collect();
        let tools = options.tools.as_deref().map(|json| parse_json("tools", json)).transpose()?;
        let variables = options.variables.as_deref().map(|json| parse_json("variables", json)).transpose()?;
        let now = options.now;
        let size = messages.iter().map(|m| m.role.len() + m.content.len()).sum::<usize>();
        let size = size + [&options.tools, &options.variables].into_iter().flatten().map(String::len).sum::<usize>();
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL + size as u64));
        environment
            .add_function("strftime_now", move |format: &str| strftime(now.unwrap_or_else(SystemTime::now), format));
        let known = context! {
            messages => turns,
            tools => tools,
            documents => (),
            add_generation_prompt => options.add_generation_prompt,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        };
        let known = match variables {
            Some(variables) => context! { ..variables, ..known },
            None => known,
        };
        let render = || environment.get_template(NAME).and_then(|template| template.render(known));
        with_deep_stack(render)?.map_err(|e| refuse_input(&e))
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").field("bos", &self.bos).field("eos", &self.eos).finish_non_exhaustive()
    }
}

fn parse_json(what: &str, json: &str) -> Result<Value> {
    match serde_json::from_str(json) {
        Ok(value) => Ok(from_json(value)),
        Err(error) => Err(Error::input(format!("{what}: {error}, expected JSON"))),
    }
}

fn from_json(value: serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::from(()),
        Json::Bool(value) => value.into(),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(value), _) => value.into(),
            (_, Some(value)) => value.into(),
            _ => number.as_f64().unwrap_or(f64::NAN).into(),
        },
        Json::String(value) => value.into(),
        Json::Array(values) => values.into_iter().map(from_json).collect(),
        Json::Object(values) => Value::from_pairs(values.into_iter().map(|(key, value)| (key, from_json(value)))),
    }
}

/// `{% generation %}` only marks what a model said, for training: it changes no text. As minijinja does not know it,
/// it becomes a condition that is always true.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some((before, after)) = rest.split_once("{%") {
        out.push_str(before);
        out.push_str("{%");
        rest = after;
        let Some((tag, _)) = after.split_once("%}") else { break };
        let becomes = match tag.trim_matches(['-', '+']).trim() {
            "generation" => "if true",
            "endgeneration" => "endif",
            _ => continue,
        };
        let sign = |found: Option<char>| found.filter(|c| matches!(c, '-' | '+')).map_or(String::new(), String::from);
        let (open, close) = (sign(tag.chars().next()), sign(tag.chars().next_back()));
        out.push_str(&format!("{open} {becomes} {close}"));
        rest = &after[tag.len()..];
    }
    out.push_str(rest);
    out
}

/// Writes values as Python would.
fn format_value(out: &mut Output, state: &mut State, value: &Value) -> Result<(), minijinja::Error> {
    match python::str(value) {
        Some(text) => out.write_str(&text?).map_err(minijinja::Error::from),
        None => escape_formatter(out, state, value),
    }
}

fn raise_exception(message: String) -> Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

/// The filter `tojson(ensure_ascii=False, indent=None, separators=None, sort_keys=False)` of `transformers`.
fn to_json(value: &Value, args: Rest<Value>, named: Kwargs) -> Result<String, minijinja::Error> {
    let argument = |at: usize, name: &str| -> Result<Option<Value>, minijinja::Error> {
        let given = args.get(at).cloned().map_or_else(|| named.get::<Option<Value>>(name), |v| Ok(Some(v)))?;
        Ok(given.filter(|v| !v.is_none()))
    };
    let ensure_ascii = argument(0, "ensure_ascii")?.is_some_and(|v| v.is_true());
    let indent = argument(1, "indent")?.map(usize::try_from).transpose()?;
    let separators = argument(2, "separators")?;
    let sort_keys = argument(3, "sort_keys")?.is_some_and(|v| v.is_true());
    named.assert_all_used()?;
    let (item, key) = match separators {
        Some(pair) => (pair.get_item_by_index(0)?.to_string(), pair.get_item_by_index(1)?.to_string()),
        None => (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string()),
    };
    python::json(value, &JsonStyle { ensure_ascii, indent, item_separator: item, key_separator: key, sort_keys })
}

fn refuse(error: &minijinja::Error) -> Error {
    Error::format(describe(error))
}

fn refuse_input(error: &minijinja::Error) -> Error {
    Error::input(describe(error))
}

/// One line: where, and what is wrong.
fn describe(error: &minijinja::Error) -> String {
    let line = error.line().map_or(String::new(), |line| format!(" line {line}"));
    let what = match (error.kind(), error.detail()) {
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_string(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    format!("{NAME}{line}: {}", what.replace('\n', " "))
}
