//! Rules for names and label texts. Source: Kuma's `meta_validator.go` and the Kubernetes rules that it follows.

/// Longest name of a resource.
pub const NAME_MAX: usize = 253;
/// Longest DNS label.
pub const LABEL_MAX: usize = 63;

/// Whether `text` is one RFC 1035 label: at most 63 of `a-z 0-9 -`, a letter first, no `-` last.
pub fn is_rfc1035_label(text: &str) -> bool {
    is_rfc1123_label(text) && text.starts_with(|c: char| c.is_ascii_lowercase())
}

/// Whether `text` is one RFC 1123 label: at most 63 of `a-z 0-9 -`, no `-` at the ends.
pub fn is_rfc1123_label(text: &str) -> bool {
    !text.is_empty() && text.len() <= LABEL_MAX && is_lower_alnum_dash(text) && !text.starts_with('-') && !text.ends_with('-')
}

/// Whether `text` is an RFC 1123 subdomain as Kubernetes means it: labels joined by dots, at most 253 in all.
pub fn is_rfc1123_subdomain(text: &str) -> bool {
    text.len() <= NAME_MAX
        && text
            .split('.')
            .all(|label| !label.is_empty() && is_lower_alnum_dash(label) && !label.starts_with('-') && !label.ends_with('-'))
}

/// Whether `text` is a host name of DNS: an RFC 1123 subdomain whose labels have at most 63 characters.
pub fn is_hostname(text: &str) -> bool {
    text.len() <= NAME_MAX && text.split('.').all(is_rfc1123_label)
}

fn is_lower_alnum_dash(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

/// What is wrong with a resource's name, if anything. `label` asks for an RFC 1035 label.
pub fn name_fault(name: &str, label: bool) -> Option<&'static str> {
    if name.is_empty() {
        Some("cannot be empty")
    } else if label {
        (!is_rfc1035_label(name)).then_some(
            "must be at most 63 lower case letters, digits or '-', and must start with a letter and end with a letter or digit \
             (RFC 1035 label)",
        )
    } else if name.len() > NAME_MAX {
        Some("value length must less or equal 253")
    } else if !is_rfc1123_subdomain(name) {
        Some(
            "invalid characters. A lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
             and must start and end with an alphanumeric character",
        )
    } else {
        None
    }
}

/// What is wrong with a reference to a mesh, if anything.
pub fn mesh_fault(mesh: &str) -> Option<&'static str> {
    if mesh.is_empty() {
        Some("cannot be empty")
    } else if mesh.len() > NAME_MAX {
        Some("value length must less or equal 253")
    } else if !mesh.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.')) {
        Some("invalid characters. Valid characters are numbers, lowercase latin letters and '-', '_', '.' symbols.")
    } else {
        None
    }
}

/// What is wrong with a label's key (Kubernetes qualified name), if anything.
pub fn label_key_fault(key: &str) -> Option<String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if let Some(prefix) = prefix
        && !is_rfc1123_subdomain(prefix)
    {
        return Some("prefix part must be a lowercase RFC 1123 subdomain of at most 253 characters".to_owned());
    }
    if name.is_empty() {
        return Some("name part must be non-empty".to_owned());
    }
    if name.len() > LABEL_MAX {
        return Some("name part must be no more than 63 characters".to_owned());
    }
    (!is_label_text(name)).then(|| {
        "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
            .to_owned()
    })
}

/// What is wrong with a label's value, if anything.
pub fn label_value_fault(value: &str) -> Option<String> {
    if value.len() > LABEL_MAX {
        return Some("must be no more than 63 characters".to_owned());
    }
    (!value.is_empty() && !is_label_text(value)).then(|| {
        "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end \
         with an alphanumeric character"
            .to_owned()
    })
}

fn is_label_text(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    text.bytes().all(inner)
        && text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_and_subdomains() {
        for good in ["a", "a-1", "zone-1"] {
            assert!(is_rfc1035_label(good), "{good}");
        }
        for bad in ["", "1a", "-a", "a-", "A", "a.b", "a_b", &"a".repeat(64)] {
            assert!(!is_rfc1035_label(bad), "{bad}");
        }
        assert!(is_rfc1123_subdomain("a.1.b-c"));
        for bad in ["a..b", ".a", "a.", "a.-b"] {
            assert!(!is_rfc1123_subdomain(bad), "{bad}");
        }
    }

    #[test]
    fn label_keys_and_values() {
        for good in ["app", "kuma.io/workload", "A_b.c"] {
            assert_eq!(label_key_fault(good), None, "{good}");
        }
        for bad in ["", "a/", "/a", "a/b/c", "-a", "kuma_io/x"] {
            assert!(label_key_fault(bad).is_some(), "{bad}");
        }
        assert_eq!(label_value_fault(""), None);
        assert!(label_value_fault("a b").is_some());
    }
}
