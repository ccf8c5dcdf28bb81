//! `atoll-dp install transparent-proxy`.

use super::{
    RedirectFault,
    args::InstallArgs,
    findings::{Findings, Installed},
    nft, report, rules,
    state::{State, StateFile},
};

/// Installs redirection, or says why not. Repeated with the same arguments it changes nothing; with others it replaces what is
/// there in one transaction.
///
/// # Errors
/// Then the host is as it was.
pub fn install(args: &InstallArgs) -> Result<String, RedirectFault> {
    if args.dry_run {
        let findings = Findings::look(&args.redirect, args.before_proxy)?;
        return Ok(report::dry_run(&findings, &rules::install(&findings.options)));
    }
    let file = StateFile::lock(&args.redirect.state_file)?;
    let findings = Findings::look(&args.redirect, args.before_proxy)?;
    match findings.installed() {
        Installed::Unknown if !args.force => {
            return Err(RedirectFault::Unknown { table: rules::TABLE, state: args.redirect.state_file.clone() });
        }
        Installed::Changed if !args.force => return Err(RedirectFault::Changed(rules::TABLE)),
        Installed::Yes if is_same(&findings) => return Ok("redirection is installed already; nothing is changed".to_owned()),
        Installed::No | Installed::Yes | Installed::Gone | Installed::Changed | Installed::Unknown => {}
    }
    let conflicts = findings.conflicts();
    if !conflicts.is_empty() && !args.force {
        return Err(RedirectFault::Conflicts(conflicts));
    }
    replace(&file, &findings)?;
    Ok(report::installed(&findings, &args.redirect.state_file, &conflicts))
}

fn replace(file: &StateFile, findings: &Findings) -> Result<(), RedirectFault> {
    // Replacing does not forget what was there before the first time.
    let before = match (&findings.state, findings.installed()) {
        (Some(state), Installed::Yes | Installed::Changed) => state.before.clone(),
        _ => findings.ruleset.clone(),
    };
    let options = findings.options.clone();
    let mut state = State { options, table: String::new(), before, releasing: false };
    // Written first: a run that is cut off leaves a file that `uninstall` understands, whether the table was made or not.
    file.save(&state)?;
    if let Err(error) = nft::apply(&rules::install(&findings.options)) {
        match &findings.state {
            Some(state) => file.save(state)?,
            None => file.forget()?,
        }
        return Err(error.into());
    }
    state.table = nft::table()?.unwrap_or_default();
    file.save(&state)
}

/// The same was asked for, and the kernel has it.
fn is_same(findings: &Findings) -> bool {
    findings.state.as_ref().is_some_and(|state| state.options == findings.options && !state.table.is_empty() && !state.releasing)
}
