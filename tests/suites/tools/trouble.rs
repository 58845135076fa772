//! What cannot be answered is one helpful line.

use anyhow::{Result, ensure};
use testbed::{User, scenarios};

use crate::subject::Tools;

scenarios![Tools:
    an_unknown_name_is_answered_by_the_nearest,
    nobody_who_answers_is_told_where,
    who_may_not_ask_is_told_what_to_do,
];

const QUESTIONS: [&[&str]; 3] = [&["get", "services"], &["get", "endpoints", "web"], &["explain", "web"]];

fn an_unknown_name_is_answered_by_the_nearest(t: &mut Tools) -> Result<()> {
    t.serve()?;
    for question in
        [&["explain", "test/wbe"][..], &["get", "svc", "wbe"], &["get", "ep", "-n", "test", "wbe"]]
    {
        let said = t.refused(User::Starter, question)?;
        ensure!(said.contains("did you mean test/web?"), "{said}");
    }
    let said = t.refused(User::Starter, &["explain", "other/zzz"])?;
    ensure!(said.contains("nor any other in namespace other") && said.contains("get services -A"), "{said}");
    Ok(())
}

fn nobody_who_answers_is_told_where(t: &mut Tools) -> Result<()> {
    for question in QUESTIONS {
        let said = t.refused(User::Starter, question)?;
        ensure!(said.contains("no pointsman answers at") && said.contains("--socket"), "{said}");
    }
    Ok(())
}

fn who_may_not_ask_is_told_what_to_do(t: &mut Tools) -> Result<()> {
    t.serve()?;
    for question in QUESTIONS {
        let said = t.refused(User::Ordinary, question)?;
        ensure!(said.contains("you may not ask") && said.contains("as root"), "{said}");
    }
    Ok(())
}
