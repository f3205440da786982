//! Cutting real-life texts into sentences, and long sentences into parts.

use growth::expect_linear;
use proptest::prelude::*;
use pupil::text::sentences::{
    Piece::{self, Layout, Sentence},
    shorten, split,
};
use std::cell::Cell;

mod growth;

fn sentences(text: &str) -> Vec<&str> {
    split(text).into_iter().filter_map(|piece| if let Sentence(text) = piece { Some(text) } else { None }).collect()
}

/// Checks lines in which `|` marks where they must be cut.
fn check(lines: &[&str]) {
    let mut wrong = Vec::new();
    for line in lines {
        let text = line.replace('|', "");
        let expected: Vec<&str> = line.split('|').map(str::trim).collect();
        let found = sentences(&text);
        if found != expected {
            wrong.push(format!("{expected:#?}\nbut found {found:#?}"));
        }
    }
    assert!(wrong.is_empty(), "expected {}", wrong.join("\nexpected "));
}

#[test]
fn english() {
    check(&[
        "Hello there.| How are you?| Fine!",
        "Mr. Smith met Dr. Jones and Mrs. Brown at St. Mary's.| They talked.",
        "He was born on Jan. 5, 1980 in Washington, D.C. and moved later.",
        "She lives in the U.S. Army base.| It is cold.",
        "They moved to the U.S. in 1999.| She stayed in the U.K.| He did not.",
        "J. R. R. Tolkien wrote it.| C. S. Lewis read it.",
        "George W. Bush and John F. Kennedy were presidents.",
        "It weighs approx. 3.5 kg, i.e. too much, e.g. for Tom.",
        "Version 1.2.3 is out.| Get it at https://example.com/a.b?c=d.| Mail me@x.co.uk today.",
        "Node.js and .NET are fine.| So is example.com.",
        "See Fig. 3 and No. 5, pp. 12 and vol. 2.| No.| Yes.",
        "“I know.”| “You do?” she asked.| “Yes!”",
        "He said, \"Stop!\"| Then he left.",
        "She said 'No.'| He left.",
        "Wait...| What?!| No way!!!| Really… yes.",
        "I was... not sure.| Then I was… sure.",
        "He came (why? Nobody knows.) and left.| (She stayed.)| Then it rained.",
        "At 5 p.m. the bell rang.| It was 6 p.m.| The shop closed.",
        "Apple Inc. was founded in 1976.| Ford Motor Co. CEO Jim spoke.| He works for Acme Ltd.| She does not.",
        "Martin Luther King Jr. spoke.| He won.",
        "It was 1999.| Nobody knew.| We counted 12.| They left.",
        "Smith et al. (2010) agree.| Others vs. them do not, etc.| The end.",
        "This is so.[1]| That is not.[23] | Good.",
        "**Note.**| Read this.| *Really?*| Yes.",
        "Pay $3.50.| Or €4.",
        "Dr.\u{a0}No and Mr.\u{a0}Bond.",
        "Ask Prof. Ph.D. Miller.| He knows.",
        "The prices rose 3.5%.| Then they fell.",
        "\"Why?\"| \"Because.\"",
        "Go! go! go!",
        "Elizabeth II. was queen.",
    ]);
}

#[test]
fn german() {
    check(&[
        "Guten Tag!| Wie geht es Ihnen?| Gut.",
        "Hr. Müller und Fr. Dr. Schmidt wohnen in der Hauptstr. 5.| Das ist weit.",
        "Wir haben Obst, z. B. Äpfel, Birnen usw.| Das reicht.",
        "Das gilt z.B. für Hunde, d.h. für alle.| Z. B. Katzen auch.",
        "Am 3. Mai kommt er.| Der 2. Weltkrieg endete 1945.| Danach war Frieden.",
        "Im 19. Jahrhundert lebte Friedrich II. von Preußen.| Er war König.",
        "Sie kam am 24. Dezember, er am 3. 5. 2024.| Das war spät.",
        "Der 1. FC Köln spielt am 2. Platz.| Er gewinnt.",
        "Er wohnt im 3. Haus.| Sie ist 12.| Er auch.",
        "Das kostet ca. 5 Mio. Euro bzw. 3,5 Mrd. Dollar.| Das ist viel.",
        "Vgl. Kap. 3, Abs. 2, S. 15 ff. und Art. 5.| Nr. 7 fehlt.",
        "„Komm her!“, rief er.| „Ich komme.“| Dann ging sie.",
        "»Was?«, fragte sie.| »Nichts.«| »Doch!«",
        "Um 300 v. Chr. lebten dort Kelten.| Sie kamen 50 n. Chr.| Dann gingen sie.",
        "Dipl.-Ing. Meier kommt i. d. R. um 8.30 Uhr.",
        "Prof. Dr. h. c. Weber sprach u. a. über Kunst.",
        "Das ist die sog. Ruhe vor dem Sturm, evtl. auch nicht.",
        "Das Ganze hat max. Breite 5.| Mehr nicht.",
        "Er kam … und ging.| Na ja …| Schade.",
        "Ich bin's.| Wirklich?!| Ja.",
    ]);
}

#[test]
fn french() {
    check(&[
        "Bonjour !| Comment allez-vous ?| Bien.",
        "M. Dupont et Mme Martin sont là.| Mlle. Durand aussi.",
        "« Où vas-tu ? » demanda-t-il.| « Nulle part. »| Elle partit.",
        "«\u{a0}Non\u{a0}!\u{a0}»| Il est parti.",
        "J.-P. Sartre et J.-J. Rousseau, p. ex. Émile, etc.| C'est tout.",
        "En 50 av. J.-C. Rome régnait.| La Gaule résistait.",
        "Voir p. 12, art. 3, chap. 4.| C’est clair.",
        "Il pèse env. 3,5 kg, c.-à-d. trop.",
        "Le Dr. Petit est arrivé à 5 h.| Il est reparti.",
        "Quoi ?!| Rien…| Si !",
    ]);
}

#[test]
fn czech() {
    check(&[
        "Dobrý den!| Jak se máte?| Dobře.",
        "Přišel např. pan Ing. Novák, MUDr. Malá a doc. Veselý.| Bylo to hezké.",
        "Koupili jsme jablka, hrušky atd.| Pak jsme šli domů.",
        "Dne 3. května 2024 se sešli.| Bylo 5. 10. a pršelo.",
        "Karel IV. byl král.| Žil ve 14. století.",
        "Bydlí v ul. Dlouhá č. 5, tj. daleko.| Např. Petr ne.",
        "„Pojď sem!“ zavolal.| „Nejdu.“| A odešel.",
        "Stálo to cca 3,5 mil. Kč, tzn. hodně.| To je moc.",
        "V r. 1620, resp. v 17. stol. př. n. l., to bylo jiné.",
        "Viz str. 12, obr. 3.| Je to tam.",
    ]);
}

#[test]
fn other_scripts() {
    check(&[
        "你好。|我很好！|你呢？|再见",
        "他说：“好。”|然后走了。",
        "「はい。」と言った。|「いいえ！」|彼は帰った。",
        "今日は3.5度です。|寒い！| Hello.| 終わり。",
        "Привет!| Как дела?| Хорошо.",
        "مرحبا؟| نعم.",
        "नमस्ते।| आप कैसे हैं?",
        "¿Qué?| ¡Nada!| Adiós.",
        "好吗?|很好!",
    ]);
}

#[test]
fn layout_stays_where_it_was() {
    let cases: &[(&str, &[Piece])] = &[
        ("", &[]),
        (" \n\n", &[Layout(" \n\n")]),
        ("a\r\n\r\nb", &[Sentence("a"), Layout("\r\n\r\n"), Sentence("b")]),
        ("  - One.  Two.\n", &[Layout("  - "), Sentence("One."), Layout("  "), Sentence("Two."), Layout("\n")]),
        ("1. First\n2) Second", &[Layout("1. "), Sentence("First"), Layout("\n2) "), Sentence("Second")]),
        (
            "(a) x\n  iv) y\n• z",
            &[Layout("(a) "), Sentence("x"), Layout("\n  iv) "), Sentence("y"), Layout("\n• "), Sentence("z")],
        ),
        ("# Title\n> quoted", &[Layout("# "), Sentence("Title"), Layout("\n> "), Sentence("quoted")]),
        ("- [x] done", &[Layout("- [x] "), Sentence("done")]),
        ("— Oui, dit-il.", &[Layout("— "), Sentence("Oui, dit-il.")]),
        ("3. Mai war kalt.", &[Sentence("3. Mai war kalt.")]),
        ("1. eggs\n2. května 2024", &[Layout("1. "), Sentence("eggs"), Layout("\n"), Sentence("2. května 2024")]),
        ("3.5 Millionen Euro", &[Sentence("3.5 Millionen Euro")]),
        ("1.2.3 Ziele", &[Layout("1.2.3 "), Sentence("Ziele")]),
        ("-5 degrees. So cold.", &[Sentence("-5 degrees."), Layout(" "), Sentence("So cold.")]),
        ("---\n42\n* * *\nend", &[Layout("---\n42\n* * *\n"), Sentence("end")]),
        ("Yes. 😀\u{3000}\n No", &[Sentence("Yes."), Layout(" 😀\u{3000}\n "), Sentence("No")]),
    ];
    for (text, expected) in cases {
        assert_eq!(&split(text), expected, "{text:?}");
    }
}

#[test]
fn long_sentences_are_cut_where_it_hurts_least() {
    let short = |max: usize| move |part: &str| part.trim().chars().count() <= max;
    assert_eq!(shorten("It fits.", short(9)), ["It fits."]);
    assert_eq!(shorten("", short(9)), [""; 0]);
    let text = "He came early, as he always did; she came late, as she always did.";
    assert_eq!(shorten(text, short(40)), ["He came early, as he always did; ", "she came late, as she always did."]);
    assert_eq!(shorten("one two, three four", short(12)), ["one two, ", "three four"]);
    assert_eq!(shorten("one two three four", short(9)), ["one two ", "three ", "four"]);
    assert_eq!(shorten("one – two - three—four", short(9)), ["one – ", "two - ", "three—", "four"]);
    assert_eq!(shorten("costs 3,50 or 1:30 now", short(12)), ["costs 3,50 ", "or 1:30 now"]);
    assert_eq!(shorten("我们很快，他们很慢；再见", short(6)), ["我们很快，", "他们很慢；", "再见"]);
    assert_eq!(shorten("abcdefgh", short(3)), ["ab", "cd", "ef", "gh"]);
    assert_eq!(shorten("👩‍👩‍👧👩‍👩‍👧", |_| false).len(), 10);
    assert_eq!(shorten("👩‍👩‍👧👩‍👩‍👧", short(5)), ["👩‍👩‍👧", "👩‍👩‍👧"]);
}

#[test]
fn long_lines_take_no_more_time_than_short_ones() {
    let units = [
        "a", " ", ".", "a. ", "A. ", "3. ", "( ", "(?", "? (", "\u{301}", "。", "«", ".» ", "[1", "- ", "1.", "!\"",
        ", ",
    ];
    for unit in units {
        expect_linear(unit, |text| {
            let pieces = split(text);
            assert_eq!(pieces.iter().map(length).sum::<usize>(), text.len());
            let asked = Cell::new(0);
            let parts = shorten(text, |part| {
                asked.set(asked.get() + part.len());
                part.len() <= 500
            });
            assert!(parts.iter().all(|part| part.len() <= 500) && parts.concat() == text);
            assert!(asked.get() < 40 * text.len(), "{unit:?}: {}", asked.get());
        });
    }
}

fn length(piece: &Piece) -> usize {
    let (Layout(text) | Sentence(text)) = piece;
    text.len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn pieces_are_the_text(text in "([a-zA-Z0-9 .!?…()\\[\\]\"“”»«\\-*,;:\r\n\u{a0}\u{2028}é。「」z]|Dr\\. |z\\. B\\. |3\\. |1\\) |\\PC){0,60}") {
        let pieces = split(&text);
        let all: String = pieces.iter().map(|(Layout(text) | Sentence(text))| *text).collect();
        prop_assert_eq!(&all, &text);
        for piece in &pieces {
            match piece {
                Layout(text) => prop_assert!(!text.is_empty()),
                Sentence(text) => prop_assert!(text.trim() == *text && text.contains(char::is_alphabetic) && !text.contains(['\n', '\r'])),
            }
        }
        prop_assert!(!pieces.windows(2).any(|pair| matches!(pair, [Layout(_), Layout(_)])));
    }

    #[test]
    fn parts_are_the_sentence_and_fit(text in "([a-z]{0,9}[,;: –—、]{0,2}|\\PC){0,60}", max in 1usize..30) {
        let parts = shorten(&text, |part| part.len() <= max);
        prop_assert_eq!(parts.concat(), &text[..]);
        prop_assert!(parts.iter().all(|part| part.len() <= max || part.chars().count() == 1));
        prop_assert!(parts.iter().all(|part| !part.is_empty()));
    }
}
