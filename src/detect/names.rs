//! Names of classes, and what a file is called that holds no detector.

use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::nets::family;

/// The architecture of a detector's file.
const ARCHITECTURE: &str = "convnet";

/// The position of `name`, upper or lower case.
///
/// # Errors
/// `Input`, with names that are alike, if it is none of them.
pub(super) fn find(names: &[String], name: &str) -> Result<usize> {
    /// How many are offered.
    const OFFERED: usize = 5;
    let wanted = name.trim().to_lowercase();
    let known: Vec<String> = names.iter().map(|name| name.to_lowercase()).collect();
    if let Some(class) = known.iter().position(|name| *name == wanted) {
        return Ok(class);
    }
    let near = |name: &str| {
        let part = wanted.len() > 2 && (name.contains(&wanted) || wanted.contains(name));
        let distance = if part { 1 } else { distance(&wanted, name) };
        (distance <= 1.max(wanted.chars().count().div_ceil(4))).then_some(distance)
    };
    let mut alike: Vec<_> = known.iter().zip(names).filter_map(|(k, name)| Some((near(k)?, name.as_str()))).collect();
    alike.sort_by_key(|(distance, _)| *distance);
    let list = |names: &mut dyn Iterator<Item = &str>| names.take(OFFERED).collect::<Vec<_>>().join(", ");
    let hint = if !alike.is_empty() {
        format!("did you mean {}?", list(&mut alike.iter().map(|(_, name)| *name)))
    } else if names.len() <= OFFERED {
        format!("there are {}", list(&mut names.iter().map(String::as_str)))
    } else {
        format!(
            "there are {} classes: {}, …; pupil inspect lists them",
            names.len(),
            list(&mut names.iter().map(String::as_str))
        )
    };
    Err(Error::input(format!("there is no class '{}'; {hint}", name.trim())))
}

/// How many letters must be put in, taken out or changed (Levenshtein 1965).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// Refuses a file of another kind, with a line that says what runs it.
pub(super) fn expect_detector(file: &Gguf) -> Result<()> {
    match file.keys().str("general.architecture")? {
        ARCHITECTURE => Ok(()),
        other => Err(family::refusal(file, other, "a detector", ARCHITECTURE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::detect::class_names;

    #[test]
    fn names_are_found_or_offered() {
        let names = class_names(80);
        assert_eq!(find(&names, " Car ").unwrap(), 2);
        let refused = |name: &str| find(&names, name).unwrap_err().to_string();
        assert_eq!(refused("cars"), "there is no class 'cars'; did you mean car?");
        assert_eq!(refused("bycicle"), "there is no class 'bycicle'; did you mean bicycle?");
        assert_eq!(refused("glove"), "there is no class 'glove'; did you mean baseball glove?");
        assert!(
            refused("xylophone").starts_with("there is no class 'xylophone'; there are 80 classes: person, bicycle")
        );
        assert_eq!(find(&["face".into()], "dog").unwrap_err().to_string(), "there is no class 'dog'; there are face");
    }

    #[test]
    fn distances_of_known_words() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!((distance("", "abc"), distance("abc", ""), distance("ä", "a")), (3, 3, 1));
    }
}
