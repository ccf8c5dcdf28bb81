//! Where the fields of a YAML text stand, so that a fault can be shown with line and column.

use granit_parser::{Event, Parser};
use serde::Serialize;

/// A place in a text, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The line.
    pub line: usize,
    /// The column.
    pub column: usize,
}

/// The places of all fields of one document.
#[derive(Debug, Default)]
pub struct Positions(Vec<(Vec<String>, Position)>);

impl Positions {
    /// Walks through document `index` (not counting empty ones) of `text`, which parses.
    pub fn of(text: &str, index: usize) -> Self {
        Walk { index, document: 0, stack: Vec::new(), found: Vec::new() }.run(text)
    }

    /// The place of the field at `path` (as in [`atoll_model::Violation`]), or of the nearest one around it that is there.
    pub fn find(&self, path: &str) -> Option<Position> {
        let mut wanted = segments(path);
        loop {
            if let Some((_, position)) = self.0.iter().find(|(path, _)| *path == wanted) {
                return Some(*position);
            }
            wanted.pop()?;
        }
    }
}

/// `spec.to[0]["a.b"]` as its parts: `spec`, `to`, `0`, `a.b`.
fn segments(path: &str) -> Vec<String> {
    let mut parts = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix("[\"") {
            let (key, after) = tail.split_once("\"]").unwrap_or((tail, ""));
            parts.push(key.to_owned());
            rest = after;
        } else if let Some(tail) = rest.strip_prefix('[') {
            let (index, after) = tail.split_once(']').unwrap_or((tail, ""));
            parts.push(index.to_owned());
            rest = after;
        } else {
            let tail = rest.strip_prefix('.').unwrap_or(rest);
            let end = tail.find(['.', '[']).unwrap_or(tail.len()).max(1).min(tail.len());
            parts.push(tail[..end].to_owned());
            rest = &tail[end..];
        }
    }
    parts
}

/// A collection that is open.
enum Open {
    List { next: usize },
    Map { key: Option<(String, Position)> },
}

struct Walk {
    index: usize,
    document: usize,
    stack: Vec<Open>,
    found: Vec<(Vec<String>, Position)>,
}

impl Walk {
    fn run(mut self, text: &str) -> Positions {
        let mut empty = true;
        for (event, span) in Parser::new_from_str(text).map_while(Result::ok) {
            let position = Position { line: span.start.line(), column: span.start.col() + 1 };
            match event {
                Event::DocumentStart(..) => empty = true,
                Event::DocumentEnd => self.document += usize::from(!empty),
                Event::Scalar(value, _, _, _) => {
                    empty = empty && self.stack.is_empty() && matches!(&*value, "" | "~" | "null");
                    self.scalar(&value, position);
                }
                Event::Alias(_) => self.value(position),
                Event::SequenceStart(..) => {
                    empty = false;
                    self.value(position);
                    self.stack.push(Open::List { next: 0 });
                }
                Event::MappingStart(..) => {
                    empty = false;
                    self.value(position);
                    self.stack.push(Open::Map { key: None });
                }
                Event::SequenceEnd | Event::MappingEnd => {
                    self.stack.pop();
                    self.finish_value();
                }
                _ => {}
            }
            if self.document > self.index {
                break;
            }
        }
        Positions(self.found)
    }

    fn scalar(&mut self, value: &str, position: Position) {
        if let Some(Open::Map { key: key @ None }) = self.stack.last_mut() {
            *key = Some((value.to_owned(), position));
            return;
        }
        self.value(position);
        self.finish_value();
    }

    /// Notes where a value begins: at its key, if it has one.
    fn value(&mut self, position: Position) {
        if self.document != self.index {
            return;
        }
        let at = match self.stack.last() {
            Some(Open::Map { key: Some((_, key)) }) => *key,
            Some(Open::Map { key: None } | Open::List { .. }) | None => position,
        };
        self.found.push((self.path(), at));
    }

    fn finish_value(&mut self) {
        match self.stack.last_mut() {
            Some(Open::List { next }) => *next += 1,
            Some(Open::Map { key }) => *key = None,
            None => {}
        }
    }

    fn path(&self) -> Vec<String> {
        self.stack
            .iter()
            .filter_map(|open| match open {
                Open::List { next } => Some(next.to_string()),
                Open::Map { key } => key.as_ref().map(|(key, _)| key.clone()),
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_at_their_keys() {
        let text = "a: 1\n---\nname: x\nlabels:\n  a.b/c: v\nspec:\n  to:\n    - kind: Mesh\n      default: {http: {x: 1}}\n";
        let at = |path: &str| Positions::of(text, 1).find(path).map(|at| (at.line, at.column));
        assert_eq!(at("name"), Some((3, 1)));
        assert_eq!(at("labels[\"a.b/c\"]"), Some((5, 3)));
        assert_eq!(at("spec.to[0].kind"), Some((8, 7)));
        assert_eq!(at("spec.to[0].default.http.x"), Some((9, 24)));
        assert_eq!(at("spec.to[0].default.nope"), Some((9, 7)), "the nearest around it");
        assert_eq!(at(""), Some((3, 1)));
        assert_eq!(Positions::of(text, 7).find("name"), None);
    }
}
