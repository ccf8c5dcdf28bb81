//! Operations, as decisions see them, and the rights of which each needs one.

use atoll_model::{Kind, kinds::Access};

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Reads one.
    Get,
    /// Reads many.
    List,
    /// Creates or changes.
    Put,
    /// Removes.
    Delete,
    /// Gives out a token.
    Issue,
    /// Ends a token before its time, or reads which were.
    Revoke,
    /// Reads the audit.
    Audit,
    /// Looks into proxies and links.
    Debug,
    /// Lets go on what was held.
    Release,
}

impl Verb {
    /// Its name in the audit.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Get => "get",
            Verb::List => "list",
            Verb::Put => "put",
            Verb::Delete => "delete",
            Verb::Issue => "issue-token",
            Verb::Revoke => "revoke",
            Verb::Audit => "audit",
            Verb::Debug => "debug",
            Verb::Release => "release",
        }
    }
}

/// To what it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// What everybody may see: `GET /`, health and readiness.
    Open,
    /// What everybody with a credential may see: who they are, which kinds there are, that a path does not exist.
    Known(&'static str),
    /// Resources of a kind.
    Kind(Kind),
    /// Documents of any kind, in one request.
    AnyKind,
    /// The plane itself, by the name of the view.
    System(&'static str),
    /// Tokens, by what they are for.
    Token(&'static str),
}

/// One operation, as decisions see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What is done.
    pub verb: Verb,
    /// To what.
    pub subject: Subject,
}

/// What an operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Needs {
    /// Nothing.
    Nothing,
    /// A credential.
    Credential,
    /// One of these rights, on something.
    OneOf(&'static [Access]),
}

/// What an operation is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// Resources of a kind: the handler asks about each.
    Kind(Kind),
    /// Resources of the kinds that the request names: the handler asks about each.
    AnyKind,
    /// A token: the handler asks about its holder.
    Token,
    /// The plane, or a zone that the path names.
    Plane,
}

impl Operation {
    /// What is needed before anything is known of the object.
    pub(super) fn needs(self) -> Needs {
        use Access as A;
        match (self.subject, self.verb) {
            (Subject::Open, _) => Needs::Nothing,
            (Subject::Known(_), _) => Needs::Credential,
            (_, Verb::Debug) => Needs::OneOf(&[A::Debug]),
            (_, Verb::Release) => Needs::OneOf(&[A::Release]),
            (_, Verb::Revoke) => Needs::OneOf(&[A::Revoke]),
            (_, Verb::Audit) => Needs::OneOf(&[A::Audit]),
            (Subject::Token("user"), Verb::Issue) => Needs::OneOf(&[A::IssueUserToken]),
            (Subject::Token("dataplane"), Verb::Issue) => Needs::OneOf(&[A::IssueDataplaneToken]),
            (Subject::Token("zone"), Verb::Issue) => Needs::OneOf(&[A::IssueZoneToken]),
            (Subject::Kind(_) | Subject::AnyKind, Verb::Get) => Needs::OneOf(&[A::Get]),
            (Subject::Kind(_) | Subject::AnyKind, Verb::List) => Needs::OneOf(&[A::List, A::Watch]),
            (Subject::Kind(_) | Subject::AnyKind, Verb::Put) => Needs::OneOf(&[A::Create, A::Update]),
            (Subject::Kind(_) | Subject::AnyKind, Verb::Delete) => Needs::OneOf(&[A::Delete]),
            (Subject::System("links"), Verb::Get | Verb::List) => Needs::OneOf(&[A::Debug]),
            (Subject::System("links"), Verb::Put) => Needs::OneOf(&[A::Release]),
            (Subject::System(_), Verb::Get | Verb::List) => Needs::OneOf(&[A::View]),
            // Nobody but administrators may do what has no rule.
            (Subject::System(_), Verb::Put | Verb::Delete | Verb::Issue)
            | (Subject::Token(_), Verb::Get | Verb::List | Verb::Put | Verb::Delete | Verb::Issue)
            | (Subject::Kind(_) | Subject::AnyKind, Verb::Issue) => Needs::OneOf(&[]),
        }
    }

    /// What it is about, as far as that is known before the handler looks.
    pub(super) fn target(self) -> Target {
        match self.subject {
            Subject::Kind(kind) => Target::Kind(kind),
            Subject::AnyKind => Target::AnyKind,
            Subject::Token(_) => Target::Token,
            Subject::Open | Subject::Known(_) | Subject::System(_) => Target::Plane,
        }
    }
}
