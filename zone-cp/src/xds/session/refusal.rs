//! What Envoy says when it refuses, and which resource it means.

use std::sync::Arc;

use atoll_envoy::ResourceType;

/// A resource that a proxy refuses. It keeps the version that it had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Its type.
    pub kind: ResourceType,
    /// Its name.
    pub name: Arc<str>,
    /// The refused version; none if its removal was refused.
    pub version: Option<Arc<str>>,
    /// Why, in Envoy's words.
    pub reason: Arc<str>,
}

/// Longest reason that is kept.
const REASON_MAX: usize = 400;

/// The readable part of Envoy's text: it begins with a random marker of its protobuf library, and it repeats the resource.
pub(super) fn reason(text: &str) -> String {
    let lines = text.lines().map(|line| without_marker(line.trim())).filter(|line| !line.is_empty());
    let joined = lines.collect::<Vec<_>>().join(" ");
    let joined = without_dump(&joined);
    match joined.char_indices().nth(REASON_MAX) {
        None => joined.to_owned(),
        Some((end, _)) => format!("{}…", &joined[..end]),
    }
}

fn without_marker(line: &str) -> &str {
    match line.strip_prefix("goo.gle/") {
        None => line,
        Some(rest) => rest.split_once(char::is_whitespace).map_or("", |(_, rest)| rest.trim_start()),
    }
}

/// Validation errors end with the whole message in protobuf's text form.
fn without_dump(text: &str) -> &str {
    let start = ["): name: \"", "): cluster_name: \"", "): goo.gle/"].iter().filter_map(|mark| text.find(mark)).min();
    start.map_or(text, |start| &text[..=start])
}

/// Which of `names` the text is about: those that it names as Envoy's lists of errors do, else those that it mentions.
pub(super) fn named<'a>(text: &str, names: impl Iterator<Item = &'a str> + Clone) -> Vec<&'a str> {
    let listed: Vec<_> = names.clone().filter(|name| mentions(text, name, |rest| rest.starts_with(": "))).collect();
    if listed.is_empty() { names.filter(|name| mentions(text, name, |_| true)).collect() } else { listed }
}

/// Whether `name` stands in `text` as a word of its own, and `follows` accepts what comes after it.
fn mentions(text: &str, name: &str, follows: impl Fn(&str) -> bool) -> bool {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '/' | '#' | '.');
    text.match_indices(name).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + name.len()..]);
        !before.ends_with(part) && !after.starts_with(part) && follows(after)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_words() {
        let names = ["kri_a_80", "kri_a_8080", "b"];
        let about = |text: &str| named(text, names.into_iter());
        assert_eq!(about("Error adding/updating listener(s) kri_a_8080: bad\nb: bad"), ["kri_a_8080", "b"]);
        assert_eq!(about("Error adding/updating cluster(s) kri_a_80: needs kri_a_8080"), ["kri_a_80"]);
        assert_eq!(about("unknown b"), ["b"]);
        assert_eq!(about("nothing of ours"), Vec::<&str>::new());
    }

    #[test]
    fn reasons_are_readable() {
        let text = "goo.gle/debugonly  \nError adding/updating listener(s) l: Proto constraint validation failed \
                    (FilterValidationError.Name: value length must be at least 1 characters): name: \"l\"\naddress {\n}\n";
        let expected = "Error adding/updating listener(s) l: Proto constraint validation failed (FilterValidationError.Name: \
                        value length must be at least 1 characters)";
        assert_eq!(reason(text), expected);
        assert_eq!(reason(&"x".repeat(1_000)).chars().count(), REASON_MAX + 1);
    }
}
