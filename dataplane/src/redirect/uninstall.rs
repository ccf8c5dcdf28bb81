//! `atoll-dp uninstall transparent-proxy`.

use std::time::{Duration, Instant};

use super::{
    RedirectFault,
    args::UninstallArgs,
    findings::{Installed, installed},
    host, nft, rules,
    state::{self, State, StateFile},
};

/// How often connections are counted.
const LOOK: Duration = Duration::from_millis(100);

/// Ends redirection and leaves nothing of it. New connections go their own way at once; open ones may finish.
///
/// # Errors
/// When the table is not as it was installed, or the kernel refuses.
pub fn uninstall(args: &UninstallArgs) -> Result<String, RedirectFault> {
    if args.dry_run {
        return dry_run(args);
    }
    let file = StateFile::lock(&args.state_file)?;
    let (state, table) = (file.load()?, nft::table()?);
    let found = installed(state.as_ref(), table.as_ref());
    let said = match found {
        Installed::No => "redirection is not installed; nothing is changed".to_owned(),
        Installed::Gone => "the table is gone already, as after a boot; nothing else is to be undone".to_owned(),
        Installed::Changed if !args.force => return Err(RedirectFault::Changed(rules::TABLE)),
        Installed::Unknown if !args.force => {
            return Err(RedirectFault::Unknown { table: rules::TABLE, state: args.state_file.clone() });
        }
        Installed::Yes | Installed::Changed | Installed::Unknown => remove(args, &file, state)?,
    };
    file.forget()?;
    Ok(said)
}

fn remove(args: &UninstallArgs, file: &StateFile, state: Option<State>) -> Result<String, RedirectFault> {
    let cut = match &state {
        Some(state) => drain(args.drain_time, file, state)?,
        None => 0,
    };
    nft::apply(&rules::remove())?;
    let mut said =
        format!("redirection is removed (table {}); {cut} connections through the proxy were still open", rules::TABLE);
    if let Some(state) = state {
        let same = nft::ruleset()? == state.before;
        said.push_str(if same {
            "\nthe ruleset is, byte for byte, as it was before"
        } else {
            "\nother programs have changed their own tables since redirection was installed; those are left as they are"
        });
    }
    Ok(said)
}

/// Lets what is open finish; how many connections did not.
fn drain(limit: Duration, file: &StateFile, state: &State) -> Result<usize, RedirectFault> {
    if limit.is_zero() {
        return Ok(0);
    }
    nft::apply(&rules::release())?;
    // A run that is cut off here can be repeated.
    file.save(&State { table: nft::table()?.unwrap_or_default(), releasing: true, ..state.clone() })?;
    let (began, ports) = (Instant::now(), state.options.proxy_ports());
    loop {
        let open = host::connections_at(&ports)?;
        if open == 0 || began.elapsed() >= limit {
            return Ok(open);
        }
        std::thread::sleep(LOOK);
    }
}

fn dry_run(args: &UninstallArgs) -> Result<String, RedirectFault> {
    let (state, table) = (state::load(&args.state_file)?, nft::table()?);
    let found = installed(state.as_ref(), table.as_ref());
    Ok(match found {
        Installed::No => "redirection is not installed: nothing would be done".to_owned(),
        Installed::Gone => format!("the table is gone already: only {} would be removed", args.state_file.display()),
        Installed::Changed | Installed::Unknown if !args.force => {
            format!(
                "the table {} is not as {} says: nothing would be done without --force",
                rules::TABLE,
                args.state_file.display()
            )
        }
        Installed::Yes | Installed::Changed | Installed::Unknown => format!(
            "nft would do:\n{}then, when no connection is open through the proxy or {:?} are over:\n{}and {} would be removed",
            rules::release(),
            args.drain_time,
            rules::remove(),
            args.state_file.display()
        ),
    })
}
