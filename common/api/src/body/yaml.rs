//! YAML 1.2 documents: no tags, few aliases, no key twice, no guessing of booleans and octal numbers.

use granit_parser::{Event, Parser};
use serde_json::Value;
use serde_saphyr::{DuplicateKeyPolicy, Error};

use super::{
    Syntax,
    budget::{Bounded, within},
};
use crate::limits::Limits;

/// The documents of a YAML text; empty ones are left out.
pub(super) fn from_yaml(limits: &Limits, text: &str) -> Result<Vec<Value>, Syntax> {
    refuse_tags(text)?;
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_reader_input_bytes: Some(limits.limit_bulk_body),
            max_aliases: limits.limit_aliases,
            max_anchors: limits.limit_aliases,
            max_depth: limits.limit_depth + 1,
            flow_nesting_limit: limits.limit_depth + 1,
            // The library counts the end of the text as one more; what is exact stands below.
            max_documents: limits.limit_documents.saturating_add(1),
            max_nodes: limits.limit_nodes.saturating_mul(16),
            enforce_alias_anchor_ratio: false,
            max_inclusion_depth: 0,
            max_merge_keys: limits.limit_aliases,
        },
        duplicate_keys: DuplicateKeyPolicy::Error,
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
        reject_unsupported_tags: true,
        with_snippet: false,
    };
    let documents = within(limits, || serde_saphyr::from_multiple_with_options::<Bounded>(text, options));
    let documents = documents.map_err(|error| describe(&error))?;
    if documents.len() > limits.limit_documents {
        return Err(Syntax::new(format!("invalid YAML: more than {} documents", limits.limit_documents), None));
    }
    Ok(documents.into_iter().map(|Bounded(value)| value).collect())
}

/// A tag can turn a text into something else behind the reader's back; documents need none.
fn refuse_tags(text: &str) -> Result<(), Syntax> {
    for event in Parser::new_from_str(text) {
        // A fault of syntax is reported by the parse that follows, in its words.
        let Ok((event, span)) = event else { return Ok(()) };
        let tagged = match event {
            Event::Scalar(_, _, _, tag) | Event::SequenceStart(_, _, tag) | Event::MappingStart(_, _, tag) => tag.is_some(),
            _ => false,
        };
        if tagged {
            let at = (span.start.line(), span.start.col() + 1);
            return Err(Syntax::new("invalid YAML: tags (!…) are not read, write the value itself,".to_owned(), Some(at)));
        }
    }
    Ok(())
}

fn describe(error: &Error) -> Syntax {
    let text = error.without_snippet().to_string();
    let first = text.lines().next().unwrap_or_default();
    // Every message ends the same way, whatever the parser's style is.
    let message = first.split(" at line ").next().unwrap_or(first).trim_end_matches([':', ',']);
    let at = error.location().map(|location| (location.line() as usize, location.column() as usize));
    Syntax::new(format!("invalid YAML: {message}"), at)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn from_yaml(text: &str) -> Result<Vec<Value>, Syntax> {
        super::from_yaml(&Limits::default(), text)
    }

    fn fault(text: &str) -> String {
        from_yaml(text).expect_err(text).to_string()
    }

    #[test]
    fn documents_are_read_as_yaml_1_2() {
        let text = "a: yes\nb: true\nc: 017\nd: 1_000\ne: 1.5\nf: ~\ng: &x [1, two]\nh: *x\n---\n---\n{}\n";
        let first =
            json!({"a": "yes", "b": true, "c": "017", "d": "1_000", "e": 1.5, "f": null, "g": [1, "two"], "h": [1, "two"]});
        assert_eq!(from_yaml(text), Ok(vec![first, json!({})]));
    }

    #[test]
    fn faults_name_line_and_column() {
        for (text, part, place) in [
            ("a: 1\nb: [1,\nc: 2", "", "line"),
            ("a: 1\na: 2", "duplicate", "line 2 column 1"),
            ("a:\n  b: !!str 1", "tags", "line 2 column"),
            ("a: !include x", "tags", "line 1 column"),
            ("a: .nan", "", "line 1"),
            ("a: *nope", "", "line 1"),
        ] {
            let error = fault(text);
            assert!(error.contains(part) && error.contains(place), "{text:?}: {error}");
        }
    }

    #[test]
    fn bombs_are_stopped_early() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..8 {
            let alias = format!("*a{}", i - 1);
            bomb.push_str(&format!("a{i}: &a{i} [{}]\n", vec![alias; 10].join(", ")));
        }
        assert!(from_yaml(&bomb).is_err());
        assert!(fault(&format!("a: {}1{}", "[".repeat(40), "]".repeat(40))).contains("line 1"));
        assert!(from_yaml(&"[".repeat(100_000)).is_err());
        let deep: String = (0..200).map(|i| format!("{}a:\n", " ".repeat(i))).collect();
        assert!(from_yaml(&deep).is_err());
    }
}
