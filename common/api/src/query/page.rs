//! Which page of a list.

use atoll_model::{Owner, ResourceKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{Parameters, Selection, parameter};
use crate::{
    Problem,
    body::limits,
    problem::{Invalid, title},
};

/// A page of a list.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    pub(crate) size: usize,
    pub(crate) from: From,
}

/// Where a page begins.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum From {
    /// After so many items; Kuma's clients may count.
    Index(usize),
    /// After the item with this key, whether it is still there or not: pages stay stable while others write.
    After(ResourceKey),
}

impl Page {
    /// The page of `selection` that a request asks for.
    pub(crate) fn of(query: &Parameters, selection: &Selection) -> Result<Self, Problem> {
        let size = size(query)?;
        let from = match query.text("offset") {
            None | Some("") => From::Index(0),
            Some(text) => match text.parse() {
                Ok(index) => From::Index(index),
                Err(_) => From::After(decode(text, selection).map_err(|reason| parameter("offset", reason.to_owned()))?),
            },
        };
        Ok(Self { size, from })
    }
}

/// How many items a page shall have.
pub(crate) fn size(query: &Parameters) -> Result<usize, Problem> {
    let Some(text) = query.text("size") else { return Ok(limits::PAGE) };
    let size = text.parse::<i64>().map_err(|_| size_fault("must be a number".to_owned()))?;
    match usize::try_from(size) {
        Err(_) | Ok(0) => Err(size_fault("must be greater than 0".to_owned())),
        Ok(size) if size > limits::PAGE_MAX => Err(size_fault(format!("must be at most {}", limits::PAGE_MAX))),
        Ok(size) => Ok(size),
    }
}

fn size_fault(reason: String) -> Problem {
    let invalid = Invalid { field: "size".to_owned(), reason, position: None };
    Problem { detail: "Invalid page size".to_owned(), ..Problem::invalid(title::LIST, [invalid]) }
}

/// The offset that continues `selection` after `key`.
pub(crate) fn offset_after(selection: &Selection, key: &ResourceKey) -> String {
    let text = format!("{:016x}\n{}\n{}\n{}", selection.digest(), key.mesh, key.name, key.owner);
    format!("k{}", URL_SAFE_NO_PAD.encode(text))
}

fn decode(text: &str, selection: &Selection) -> Result<ResourceKey, &'static str> {
    let key = || {
        let bytes = URL_SAFE_NO_PAD.decode(text.strip_prefix('k')?).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let mut parts = text.splitn(4, '\n');
        let digest = u64::from_str_radix(parts.next()?, 16).ok()?;
        let (mesh, name, owner) = (parts.next()?, parts.next()?, parts.next()?.parse::<Owner>().ok()?);
        Some((digest, ResourceKey::new(selection.kind, mesh, name, owner)))
    };
    match key() {
        None => Err("must be what `next` of an earlier answer says"),
        Some((digest, _)) if digest != selection.digest() => {
            Err("continues another list: send the filters of the first page with it, or begin without an offset")
        }
        Some((_, key)) => Ok(key),
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::{Kind, Name, ZoneUid};
    use http::StatusCode;

    use super::*;

    fn parameters(query: &str) -> Parameters {
        Parameters::of(&format!("/x?{query}").parse().unwrap()).unwrap()
    }

    fn selection(kind: Kind, mesh: Option<&str>, query: &str) -> Selection {
        Selection::read(kind, mesh.map(Name::from), &parameters(query)).unwrap()
    }

    #[test]
    fn offsets_come_back_as_they_went_and_to_no_other_list() {
        let key = ResourceKey::new(Kind::MeshService, "default", "api", Owner::Zone(ZoneUid(uuid::Uuid::from_u128(7))));
        let wanted = selection(Kind::MeshService, Some("default"), "name=a");
        let query = parameters(&format!("size=5&offset={}", offset_after(&wanted, &key)));
        let page = Page::of(&query, &wanted).unwrap();
        assert_eq!((page.size, page.from), (5, From::After(key)));
        for other in [
            selection(Kind::MeshService, Some("default"), "name=b"),
            selection(Kind::MeshService, Some("other"), "name=a"),
            selection(Kind::MeshService, None, "name=a"),
            selection(Kind::MeshTimeout, Some("default"), "name=a"),
        ] {
            assert!(Page::of(&query, &other).unwrap_err().invalid[0].reason.contains("another list"));
        }
        assert_eq!(Page::of(&parameters("offset=3"), &wanted).unwrap().from, From::Index(3));
        for rubbish in ["kzz", "k", "x", "-1"] {
            assert!(Page::of(&parameters(&format!("offset={rubbish}")), &wanted).is_err(), "{rubbish}");
        }
    }

    #[test]
    fn sizes_are_checked_as_kuma_does() {
        for (query, reason) in [("size=x", "number"), ("size=0", "greater than 0"), ("size=-1", "greater"), ("size=1001", "1000")]
        {
            let problem = size(&parameters(query)).unwrap_err();
            assert_eq!((problem.status, problem.detail.as_str()), (StatusCode::BAD_REQUEST, "Invalid page size"));
            assert!(problem.invalid[0].reason.contains(reason), "{query}");
        }
        assert_eq!(size(&parameters("size=1000")).unwrap(), 1000);
    }
}
