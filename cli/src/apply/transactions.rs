//! Documents in portions that a plane takes in one request, which is one transaction.

use std::fmt::Write as _;

use super::sources::Document;

/// Documents of one request, at most.
pub(super) const DOCUMENTS: usize = 500;
/// Bytes of one request, at most.
pub(super) const BYTES: usize = 8 << 20;
/// Begins each document.
const MARKER: &str = "---\n";

/// One request.
#[derive(Debug, Default)]
pub(super) struct Transaction {
    pub(super) documents: Vec<Document>,
    pub(super) text: String,
}

impl Transaction {
    fn takes(&self, document: &Document) -> bool {
        let size = self.text.len() + MARKER.len() + document.text.len();
        self.documents.is_empty() || (self.documents.len() < DOCUMENTS && size <= BYTES)
    }

    fn add(&mut self, document: Document) {
        let _infallible = write!(self.text, "{MARKER}{}", document.text);
        self.documents.push(document);
    }

    /// Where document `index` stands, or the place in it that is at `line` of the text.
    pub(super) fn place(&self, index: usize, position: Option<(usize, usize)>) -> String {
        let Some(document) = self.documents.get(index) else { return String::new() };
        let Some((line, column)) = position else { return document.place() };
        let before: usize = self.documents[..index].iter().map(|one| one.text.lines().count() + 1).sum();
        // One more is the marker.
        match line.checked_sub(before + 1) {
            Some(line @ 1..) => document.place_of(line, column),
            Some(0) | None => document.place(),
        }
    }
}

/// Cuts documents into transactions. When they are several, meshes go first: the others need them.
pub(super) fn split(mut documents: Vec<Document>) -> Vec<Transaction> {
    let fits = documents.len() <= DOCUMENTS
        && documents.iter().map(|document| document.text.len() + MARKER.len()).sum::<usize>() <= BYTES;
    if !fits {
        documents.sort_by_key(|document| document.field("type") != atoll_model::Kind::Mesh.name());
    }
    let mut transactions = vec![Transaction::default()];
    for document in documents {
        if !transactions.last().is_some_and(|last| last.takes(&document)) {
            transactions.push(Transaction::default());
        }
        if let Some(last) = transactions.last_mut() {
            last.add(document);
        }
    }
    transactions
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::sources;

    fn documents(text: &str) -> Vec<Document> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.yaml");
        std::fs::write(&path, text).unwrap();
        sources::read(&[path]).unwrap()
    }

    fn sizes(transactions: &[Transaction]) -> Vec<usize> {
        transactions.iter().map(|one| one.documents.len()).collect()
    }

    #[test]
    fn a_transaction_has_a_limited_count_and_size() {
        let many: Vec<String> = (0..1001).map(|i| format!("type: MeshTimeout\nmesh: m\nname: t{i}\n")).collect();
        let text = many.join("---\n") + "---\ntype: Mesh\nname: m\n";
        let transactions = split(documents(&text));
        assert_eq!(sizes(&transactions), [500, 500, 2]);
        assert_eq!(transactions[0].documents[0].field("type"), "Mesh");
        let large = format!("type: Mesh\nname: a\nx: \"{}\"\n", "y".repeat(3 << 20));
        assert_eq!(sizes(&split(documents(&[large.as_str(); 3].join("---\n")))), [2, 1]);
        assert_eq!(sizes(&split(documents("type: MeshTimeout\n---\ntype: Mesh\n"))), [2]);
    }

    #[test]
    fn places_in_a_request_lead_back_to_the_files() {
        let text = "# one\ntype: Mesh\nname: a\n---\ntype: Mesh\nname: b\n";
        let transaction = split(documents(text)).remove(0);
        for (index, wanted, line) in [(0, "name: a", 3), (1, "name: b", 6)] {
            let sent = transaction.text.lines().position(|line| line == wanted).unwrap() + 1;
            let place = transaction.place(index, Some((sent, 7)));
            assert!(place.ends_with(&format!("x.yaml:{line}:7")), "{place}");
        }
        assert!(transaction.place(1, None).ends_with("x.yaml:5"));
    }
}
