//! Words whose stop does not end a sentence: English, German, French, Czech.
//!
//! An entry in small letters also stands for the word with a capital. Inner stops are written, spaces after them not.

/// A sentence goes on after them, whatever follows.
const ALWAYS: &[&str] = &[
    // Titles.
    "Mr",
    "Mrs",
    "Ms",
    "Messrs",
    "Mx",
    "Dr",
    "Drs",
    "Prof",
    "Rev",
    "Hon",
    "Gen",
    "Col",
    "Lt",
    "Sgt",
    "Capt",
    "Cmdr",
    "Adm",
    "Maj",
    "Sen",
    "Rep",
    "Gov",
    "Mt",
    "Hr",
    "Hrn",
    "Fr",
    "Frl",
    "Frhr",
    "Fam",
    "Dipl",
    "Ing",
    "Dipl.-Ing",
    "Mag",
    "Mme",
    "Mmes",
    "Mlle",
    "Mlles",
    "MM",
    "Mgr",
    "Pr",
    "Ste",
    "Bc",
    "MUDr",
    "MVDr",
    "JUDr",
    "PhDr",
    "RNDr",
    "PaedDr",
    "ThDr",
    // Words that point ahead.
    "e.g",
    "i.e",
    "eg",
    "ie",
    "vs",
    "viz",
    "cf",
    "approx",
    "z.b",
    "d.h",
    "u.a",
    "v.a",
    "u.u",
    "z.t",
    "z.zt",
    "i.d.r",
    "s.o",
    "s.u",
    "m.e",
    "o.g",
    "bzw",
    "ca",
    "evtl",
    "ggf",
    "ggfs",
    "vgl",
    "sog",
    "inkl",
    "exkl",
    "zzgl",
    "einschl",
    "insb",
    "mind",
    "gem",
    "hrsg",
    "geb",
    "tel",
    "hl",
    "p.ex",
    "c.-à-d",
    "c.à.d",
    "env",
    "éd",
    "tél",
    "tj",
    "t.j",
    "tzn",
    "tzv",
    "např",
    "resp",
    "popř",
    "příp",
    "cca",
    "vč",
    "sv",
    "ul",
    "nám",
    "mj",
    "m.j",
    "srov",
    "zejm",
    "kupř",
];

/// A sentence goes on after them if a number follows.
const BEFORE_NUMBERS: &[&str] = &[
    "no", "nos", "fig", "figs", "p", "pp", "vol", "ch", "chap", "sec", "art", "eq", "ref", "tab", "nr", "bd", "abs",
    "kap", "abb", "s", "ziff", "aufl", "jg", "str", "č", "čp", "odst", "obr", "roč", "r", "n", "num", "min", "max",
    "§", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct", "okt", "nov", "dec", "dez", "janv",
    "févr", "avr", "juil", "déc",
];

/// A sentence ends with them only if the next word is one of [`STARTERS`].
const SOMETIMES: &[&str] = &[
    "Inc", "Ltd", "Corp", "Co", "Jr", "Sr", "Bros", "St", "Ave", "Blvd", "Rd", "al", "Chr", "mio", "mrd", "tsd", "jh",
    "std", "str", "min", "max", "doc", "prof", "gen", "plk", "mjr", "kpt", "por", "mil", "mld", "tis", "jun", "sen",
    "apr", "av", "dept", "univ", "o.ä", "u.ä", "bhf",
];

/// Words that begin sentences and are seldom names.
const STARTERS: &[&str] = &[
    "A", "An", "And", "After", "All", "Although", "As", "At", "Because", "Before", "But", "By", "Did", "Do", "Does",
    "For", "From", "Had", "Has", "Have", "He", "Her", "Here", "His", "How", "However", "I", "If", "In", "Is", "It",
    "Its", "My", "No", "Not", "Now", "On", "Our", "She", "Since", "So", "Some", "That", "The", "Their", "Then",
    "There", "These", "They", "This", "Those", "Was", "We", "Were", "What", "When", "Where", "While", "Who", "Why",
    "With", "Yes", "You", "Your", "Aber", "Alle", "Als", "Am", "An", "Auch", "Auf", "Bei", "Da", "Dann", "Das", "Dem",
    "Den", "Denn", "Der", "Deshalb", "Die", "Dies", "Diese", "Dieser", "Dieses", "Doch", "Du", "Ein", "Eine", "Einen",
    "Er", "Es", "Heute", "Ich", "Ihr", "Ihre", "Im", "Ist", "Jetzt", "Man", "Mein", "Meine", "Mit", "Nach", "Nicht",
    "Nun", "Ob", "Sein", "Seine", "Sie", "Sind", "So", "Und", "Unser", "Unsere", "Vom", "Von", "War", "Was", "Weil",
    "Wenn", "Wer", "Wie", "Wir", "Wo", "Zu", "Zum", "Zur", "Alors", "Après", "Au", "Aux", "Avec", "Ce", "Ces", "Cela",
    "Cette", "Comme", "Dans", "Elle", "Elles", "En", "Est", "Et", "Il", "Ils", "Je", "Les", "Leur", "Leurs", "Mais",
    "Nous", "On", "Ou", "Où", "Par", "Pour", "Pourquoi", "Quand", "Que", "Qui", "Si", "Ses", "Son", "Sur", "Tous",
    "Tout", "Tu", "Une", "Vous", "Ale", "Ani", "Byl", "Byla", "Byli", "Bylo", "Co", "Do", "Já", "Jak", "Jako", "Je",
    "Jeho", "Její", "Jejich", "Jsou", "Kde", "Kdo", "Když", "Má", "Mají", "Mám", "Na", "Není", "Ona", "Oni", "Pak",
    "Po", "Pod", "Pokud", "Potom", "Pro", "Proč", "Proto", "Protože", "Před", "Při", "Se", "Ta", "Tak", "Také", "Tam",
    "Tato", "Ten", "Tento", "To", "Toto", "Ty", "Už", "V", "Ve", "Všichni", "Vy", "Z", "Za", "Ze", "Že",
];

/// What is counted with an ordinal such as German `3.`
const COUNTED: &[&str] = &[
    "Januar",
    "Jänner",
    "Februar",
    "März",
    "April",
    "Mai",
    "Juni",
    "Juli",
    "August",
    "September",
    "Oktober",
    "November",
    "Dezember",
    "Jan",
    "Feb",
    "Apr",
    "Jun",
    "Jul",
    "Aug",
    "Sep",
    "Sept",
    "Okt",
    "Nov",
    "Dez",
    "Jahrhundert",
    "Jh",
    "Jahrhunderts",
    "Jahrtausend",
    "Weltkrieg",
    "Stock",
    "Klasse",
    "Platz",
    "Auflage",
    "Kapitel",
    "Bundesliga",
    "Liga",
    "FC",
    "Geburtstag",
    "Lebensjahr",
    "Mal",
    "Person",
    "Semester",
    "Halbzeit",
    "Runde",
    "Etage",
    "Quartal",
    "Jahrestag",
    "ledna",
    "února",
    "března",
    "dubna",
    "května",
    "června",
    "července",
    "srpna",
    "září",
    "října",
    "listopadu",
    "prosince",
    "století",
    "místo",
    "patro",
    "ročník",
];

/// What stands before an ordinal.
const BEFORE_ORDINALS: &[&str] = &[
    "der", "die", "das", "den", "dem", "des", "am", "im", "vom", "zum", "zur", "beim", "bis", "ab", "ein", "eine",
    "einem", "einen", "einer", "jeder", "jede", "jedes", "jeden", "jedem", "sein", "seine", "seinen", "seinem",
    "seiner", "ihr", "ihre", "ihren", "ihrem", "ihrer", "mein", "meine", "meinen", "meinem", "meiner", "und", "oder",
];

/// How a stop after a word reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// It belongs to the word.
    Inner,
    /// It belongs to the word if a number follows, else it is what `or_else` says.
    BeforeNumbers { sometimes: bool },
    /// It ends a sentence if one of the words follows that begin sentences.
    Sometimes,
    /// It ends a sentence.
    End,
}

/// What the list says about the stop after `word`.
pub(super) fn stop_after(word: &str) -> Stop {
    // `Hauptstr.` and the like.
    let sometimes = is_in(SOMETIMES, word) || word.ends_with("str");
    match () {
        () if is_in(ALWAYS, word) => Stop::Inner,
        () if is_in(BEFORE_NUMBERS, word) || word.ends_with("str") => Stop::BeforeNumbers { sometimes },
        () if sometimes => Stop::Sometimes,
        () => Stop::End,
    }
}

/// Whether `word` begins sentences and is seldom a name.
pub(super) fn is_starter(word: &str) -> bool {
    STARTERS.contains(&word)
}

/// Whether `word` is what ordinals count.
pub(super) fn is_counted(word: &str) -> bool {
    COUNTED.contains(&word)
}

/// Whether an ordinal may follow `word`.
pub(super) fn may_precede_ordinal(word: &str) -> bool {
    is_in(BEFORE_ORDINALS, word)
}

fn is_in(list: &[&str], word: &str) -> bool {
    list.contains(&word) || list.iter().any(|entry| is_capitalized(entry, word))
}

/// Whether `word` is `entry` with its first letter in capital.
fn is_capitalized(entry: &str, word: &str) -> bool {
    let (mut entry, mut word) = (entry.chars(), word.chars());
    match (entry.next(), word.next()) {
        (Some(small), Some(capital)) => {
            small.is_lowercase() && small.to_uppercase().eq([capital]) && tail_equal(entry.as_str(), word.as_str())
        }
        _ => false,
    }
}

/// Capitals after inner stops are as in `z.B.`.
fn tail_equal(entry: &str, word: &str) -> bool {
    if entry.contains('.') { entry.to_lowercase() == word.to_lowercase() } else { entry == word }
}
