//! Which class of a detector a class of a data set is.

use crate::error::{Error, Result};
use pupil::Detector;

/// Whether two names are of the same class.
pub fn same(a: &str, b: &str) -> bool {
    a.trim().to_lowercase() == b.trim().to_lowercase()
}

/// Refuses names that none of the classes has.
///
/// # Errors
/// `Input`, with the classes that there are.
pub fn check<'a>(classes: &[String], names: impl IntoIterator<Item = &'a String>) -> Result<()> {
    match names.into_iter().find(|name| !classes.iter().any(|class| same(class, name))) {
        Some(name) => Err(Error::input(format!("no class '{name}', expected one of {}", classes.join(", ")))),
        None => Ok(()),
    }
}

/// For each of the classes, that of the detector: the one that `map` says, or else the one of the same name.
///
/// # Errors
/// `Input` for a name in the map that the detector does not know: what someone typed must be right.
pub fn matched(classes: &[String], map: &[(String, String)], detector: &Detector) -> Result<Vec<Option<usize>>> {
    let of = |class: &String| match map.iter().find(|(ours, _)| same(ours, class)) {
        Some((_, theirs)) => Ok(Some(detector.class(theirs)?)),
        None => Ok(detector.class(class).ok()),
    };
    classes.iter().map(of).collect()
}

/// Refuses two classes that are one to the detector: whatever it finds would be given to the first of them.
///
/// # Errors
/// `Input`, with both.
pub fn distinct(classes: &[String], matched: &[Option<usize>]) -> Result<()> {
    for (i, theirs) in matched.iter().enumerate() {
        if let Some(first) = matched[..i].iter().position(|earlier| theirs.is_some() && earlier == theirs) {
            let (a, b) = (&classes[first], &classes[i]);
            return Err(Error::input(format!("'{a}' and '{b}' are one class of the detector, expected one each")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_and_no_class_is_taken_twice() {
        let classes = ["car", "van", "cat"].map(String::from);
        assert!(check(&classes, &["Car ".to_string()]).is_ok());
        let error = check(&classes, &["dog".to_string()]).unwrap_err().to_string();
        assert_eq!(error, "no class 'dog', expected one of car, van, cat");
        assert!(distinct(&classes, &[Some(1), None, None]).is_ok());
        let error = distinct(&classes, &[Some(1), Some(1), None]).unwrap_err().to_string();
        assert!(error.starts_with("'car' and 'van' are one class"), "{error}");
    }
}
