//! What an error of Postgres means for a commit.

use std::sync::Arc;

use super::super::LogError;

/// How far a statement had got when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing could have been committed.
    Before,
    /// It was committing.
    Committing,
}

/// Sorts an error by what follows from it.
pub(super) fn sort(error: sqlx::Error, stage: Stage) -> LogError {
    let code = error.as_database_error().and_then(|database| database.code()).map(|code| code.into_owned());
    let cause = Arc::new(error);
    match (code.as_deref().map(meaning), stage) {
        (Some(Meaning::BadData), _) => LogError::Refused(cause),
        (Some(Meaning::Busy), _) => LogError::Busy(cause),
        // A read-only server is another one than we want: a standby, or a primary that was demoted.
        (Some(Meaning::ReadOnly), _) | (Some(Meaning::Ending) | None, Stage::Before) => LogError::Lost(cause),
        (Some(Meaning::Ending) | None, Stage::Committing) => LogError::Unknown(cause),
    }
}

/// What an SQLSTATE means.
#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    BadData,
    Busy,
    ReadOnly,
    /// The server ends the session, perhaps after it has committed.
    Ending,
}

fn meaning(code: &str) -> Meaning {
    match code {
        "25006" => Meaning::ReadOnly,
        "57P01" | "57P02" | "57P03" | "57P05" => Meaning::Ending,
        _ => match code.get(..2) {
            Some("08") => Meaning::Ending,
            Some("22" | "23" | "54") => Meaning::BadData,
            Some(_) | None => Meaning::Busy,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_by_what_follows() {
        let check = |code, expected| assert_eq!(meaning(code), expected, "{code}");
        check("57P01", Meaning::Ending); // terminating connection due to administrator command
        check("08006", Meaning::Ending);
        check("25006", Meaning::ReadOnly);
        check("22021", Meaning::BadData); // invalid byte sequence
        check("23505", Meaning::BadData);
        check("54000", Meaning::BadData);
        check("55P03", Meaning::Busy); // lock timeout
        check("57014", Meaning::Busy); // statement timeout
        check("53100", Meaning::Busy); // disk full
        check("40001", Meaning::Busy);
    }

    #[test]
    fn a_lost_connection_is_doubtful_only_while_committing() {
        let lost = || sqlx::Error::Io(std::io::ErrorKind::ConnectionReset.into());
        assert!(matches!(sort(lost(), Stage::Before), LogError::Lost(_)));
        assert!(matches!(sort(lost(), Stage::Committing), LogError::Unknown(_)));
    }
}
