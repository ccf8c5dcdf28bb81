//! Templates of hostnames, trust domains and SPIFFE paths: Go's text/template with the fields that Kuma gives and `label`.

use gotmpl::{MissingKey, Template, Value};

use crate::{Labels, names};

/// Longest template: 1 KiB.
const TEMPLATE_MAX: usize = 1024;
/// A range over what a template can see never needs more rounds.
const RANGE_MAX: u64 = 1_000;

/// Why a template gave no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// It is longer than 1 KiB.
    #[error("template is longer than 1024 bytes")]
    TooLong,
    /// It does not parse.
    #[error("{0}")]
    Syntax(String),
    /// It cannot be evaluated: a field or label that is not there.
    #[error("{0}")]
    Evaluation(String),
    /// The text is no host name.
    #[error("{0:?} is no DNS name: use labels of lower case letters, digits and '-', joined by dots")]
    NotAName(String),
}

/// Evaluates `template` with the given fields (`.Name` and so on) and the function `label` over `labels`.
///
/// # Errors
/// See [`TemplateError`].
pub fn render(template: &str, fields: &[(&str, &str)], labels: &Labels) -> Result<String, TemplateError> {
    if template.len() > TEMPLATE_MAX {
        return Err(TemplateError::TooLong);
    }
    let known = labels.clone();
    let label = move |args: &[Value]| {
        let key = args.first().map(ToString::to_string).unwrap_or_default();
        match known.get(&key) {
            Some(value) => Ok(Value::String(value.as_str().into())),
            None => Err(gotmpl::TemplateError::Exec(format!("label {key:?} is missing"))),
        }
    };
    let data = Value::Map(std::sync::Arc::new(
        fields.iter().map(|(key, value)| ((*key).into(), Value::String((*value).into()))).collect(),
    ));
    Template::new("")
        .missing_key(MissingKey::Error)
        .max_range_iters(RANGE_MAX)
        .func("label", label)
        .parse(template)
        .map_err(|error| TemplateError::Syntax(error.to_string()))?
        .execute_to_string(&data)
        .map_err(|error| TemplateError::Evaluation(error.to_string()))
}

/// Evaluates a HostnameGenerator's template for one service.
///
/// # Errors
/// Also when the result is no host name.
pub fn hostname(template: &str, service: &HostnameFields<'_>) -> Result<String, TemplateError> {
    let name = text(template, service)?;
    if names::is_hostname(&name) { Ok(name) } else { Err(TemplateError::NotAName(name)) }
}

/// As [`hostname`], whether the result is a host name or not.
///
/// # Errors
/// When the template gives no text.
pub fn text(template: &str, service: &HostnameFields<'_>) -> Result<String, TemplateError> {
    let fields = [
        ("Name", service.name),
        ("DisplayName", service.display_name),
        ("Namespace", ""),
        ("Mesh", service.mesh),
        ("Zone", service.zone),
    ];
    render(template, &fields, service.labels)
}

/// What a HostnameGenerator's template sees of a service.
#[derive(Clone, Copy, Debug)]
pub struct HostnameFields<'a> {
    /// `.Name`: the alias for services of other zones, else the name.
    pub name: &'a str,
    /// `.DisplayName`.
    pub display_name: &'a str,
    /// `.Mesh`.
    pub mesh: &'a str,
    /// `.Zone`: the owning zone, else the local one.
    pub zone: &'a str,
    /// For `label "key"`.
    pub labels: &'a Labels,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(template: &str, expected: Result<&str, &str>) {
        let labels = Labels::from([("team".to_owned(), "shop".to_owned())]);
        let fields = HostnameFields { name: "api-x", display_name: "api", mesh: "default", zone: "gcp", labels: &labels };
        let got = hostname(template, &fields);
        match expected {
            Ok(name) => assert_eq!(got.as_deref(), Ok(name), "{template}"),
            Err(part) => {
                let text = got.expect_err(template).to_string();
                assert!(text.contains(part), "{template}: {text}");
            }
        }
    }

    #[test]
    fn templates() {
        check("{{ .DisplayName }}.{{ .Zone }}.mesh.acme.corp", Ok("api.gcp.mesh.acme.corp"));
        check("{{.Name}}.svc.{{label \"team\"}}.local", Ok("api-x.svc.shop.local"));
        check("{{ label \"nope\" }}.local", Err("nope"));
        check("{{ .Nope }}.local", Err("Nope"));
        check("{{ .DisplayName ", Err(""));
        check("UPPER.local", Err("DNS name"));
        check("a..b", Err("DNS name"));
        check(&"a".repeat(2000), Err("1024"));
    }
}
