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

// The texts of faults are those of Kubernetes, which Kuma gives out.
const RFC1035_LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic \
     character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is \
     '[a-z]([-a-z0-9]*[a-z0-9])?')";
const RFC1123_LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
     and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const RFC1123_SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
     and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const QUALIFIED: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
     character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
     '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
     start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
     '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";

fn too_long(max: usize) -> String {
    format!("must be no more than {max} characters")
}

/// What is wrong with a resource's name, if anything. `label` asks for an RFC 1035 label.
pub fn name_fault(name: &str, label: bool) -> Option<String> {
    if name.is_empty() {
        Some("cannot be empty".to_owned())
    } else if label {
        let faults = label_faults(name);
        (!faults.is_empty()).then(|| faults.join(", "))
    } else if name.len() > NAME_MAX {
        Some("value length must less or equal 253".to_owned())
    } else if !is_rfc1123_subdomain(name) {
        Some(
            "invalid characters. A lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', \
             and must start and end with an alphanumeric character"
                .to_owned(),
        )
    } else {
        None
    }
}

/// What keeps `text` from being an RFC 1035 label.
pub fn label_faults(text: &str) -> Vec<String> {
    let shape = is_lower_alnum_dash(text) && text.starts_with(|c: char| c.is_ascii_lowercase()) && !text.ends_with('-');
    let long = (text.len() > LABEL_MAX).then(|| too_long(LABEL_MAX));
    long.into_iter().chain((!shape).then(|| RFC1035_LABEL.to_owned())).collect()
}

/// What keeps `text` from being an RFC 1123 label.
pub fn dns_label_faults(text: &str) -> Vec<String> {
    let shape = !text.is_empty() && is_lower_alnum_dash(text) && !text.starts_with('-') && !text.ends_with('-');
    let long = (text.len() > LABEL_MAX).then(|| too_long(LABEL_MAX));
    long.into_iter().chain((!shape).then(|| RFC1123_LABEL.to_owned())).collect()
}

/// What keeps `text` from being an RFC 1123 subdomain.
pub fn subdomain_faults(text: &str) -> Vec<String> {
    let shape = text
        .split('.')
        .all(|label| !label.is_empty() && is_lower_alnum_dash(label) && !label.starts_with('-') && !label.ends_with('-'));
    let long = (text.len() > NAME_MAX).then(|| too_long(NAME_MAX));
    long.into_iter().chain((!shape).then(|| RFC1123_SUBDOMAIN.to_owned())).collect()
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

/// What is wrong with a label's key (Kubernetes' qualified name).
pub fn label_key_faults(key: &str) -> Vec<String> {
    let parts: Vec<&str> = key.split('/').collect();
    let (prefix, name) = match parts[..] {
        [name] => (None, name),
        [prefix, name] => (Some(prefix), name),
        _ => {
            let prefixed = "with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![format!("a valid label key {QUALIFIED} {prefixed}")];
        }
    };
    let mut faults = Vec::new();
    match prefix {
        Some("") => faults.push("prefix part must be non-empty".to_owned()),
        Some(prefix) => faults.extend(subdomain_faults(prefix).into_iter().map(|fault| format!("prefix part {fault}"))),
        None => {}
    }
    if name.is_empty() {
        faults.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_MAX {
        faults.push(format!("name part {}", too_long(LABEL_MAX)));
    }
    if !is_label_text(name) {
        faults.push(format!("name part {QUALIFIED}"));
    }
    faults
}

/// What is wrong with a label's value.
pub fn label_value_faults(value: &str) -> Vec<String> {
    let long = (value.len() > LABEL_MAX).then(|| too_long(LABEL_MAX));
    let shape = value.is_empty() || is_label_text(value);
    long.into_iter().chain((!shape).then(|| LABEL_VALUE.to_owned())).collect()
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
            assert_eq!(label_key_faults(good), [""; 0], "{good}");
        }
        for bad in ["", "a/", "/a", "a/b/c", "-a", "kuma_io/x"] {
            assert!(!label_key_faults(bad).is_empty(), "{bad}");
        }
        assert_eq!(label_value_faults(""), [""; 0]);
        assert!(!label_value_faults("a b").is_empty());
    }
}
