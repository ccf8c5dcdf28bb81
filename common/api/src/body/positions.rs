//! Where the fields of a YAML text stand, so that a fault can be shown with line and column.

use std::collections::HashMap;

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

/// The places of some fields of the documents of one text.
#[derive(Debug, Default)]
pub struct Positions(HashMap<(usize, Vec<String>), Option<Position>>);

impl Positions {
    /// Walks once through a text that parses and notes the places of `fields`: each the index of a document (empty ones do not
    /// count) and a path as in [`atoll_model::Violation`]. What is not asked for takes no memory.
    pub fn of<'a>(text: &str, fields: impl IntoIterator<Item = (usize, &'a str)>) -> Self {
        let mut wanted = HashMap::new();
        for (document, path) in fields {
            let path = segments(path);
            for end in 0..=path.len() {
                wanted.insert((document, path[..end].to_vec()), None);
            }
        }
        if wanted.is_empty() {
            return Self::default();
        }
        Walk { document: 0, stack: Vec::new(), wanted }.run(text)
    }

    /// The place of one of these fields, or of the nearest one around it that is there.
    pub fn find(&self, document: usize, path: &str) -> Option<Position> {
        let mut wanted = (document, segments(path));
        loop {
            if let Some(Some(position)) = self.0.get(&wanted) {
                return Some(*position);
            }
            wanted.1.pop()?;
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
    document: usize,
    stack: Vec<Open>,
    wanted: HashMap<(usize, Vec<String>), Option<Position>>,
}

impl Walk {
    fn run(mut self, text: &str) -> Positions {
        let last = self.wanted.keys().map(|(document, _)| *document).max().unwrap_or_default();
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
                // What an alias stands for has its place where it was written out.
                Event::Alias(_) => self.scalar("", position),
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
            if self.document > last {
                break;
            }
        }
        Positions(self.wanted)
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
        let at = match self.stack.last() {
            Some(Open::Map { key: Some((_, key)) }) => *key,
            Some(Open::Map { key: None } | Open::List { .. }) | None => position,
        };
        let field = (self.document, self.path());
        if let Some(place @ None) = self.wanted.get_mut(&field) {
            *place = Some(at);
        }
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
        let at = |path: &str| Positions::of(text, [(1, path)]).find(1, path).map(|at| (at.line, at.column));
        assert_eq!(at("name"), Some((3, 1)));
        assert_eq!(at("labels[\"a.b/c\"]"), Some((5, 3)));
        assert_eq!(at("spec.to[0].kind"), Some((8, 7)));
        assert_eq!(at("spec.to[0].default.http.x"), Some((9, 24)));
        assert_eq!(at("spec.to[0].default.nope"), Some((9, 7)), "the nearest around it");
        assert_eq!(at(""), Some((3, 1)));
        let aliased = Positions::of("a: &x {b: 1}\nc: *x\nd: 1\n", [(0, "d"), (0, "c.b")]);
        assert_eq!(aliased.find(0, "d"), Some(Position { line: 3, column: 1 }));
        assert_eq!(aliased.find(0, "c.b"), Some(Position { line: 2, column: 1 }));
        assert_eq!(Positions::of(text, [(7, "name")]).find(7, "name"), None);
    }
}
