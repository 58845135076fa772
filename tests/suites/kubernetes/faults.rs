//! A server that goes wrong in one way after the other: what is programmed stays, and when it is well again, what
//! changed meanwhile is in force.

use std::time::Duration;

use anyhow::Result;
use testbed::api_server::Fault;

use crate::subject::Subject;

/// Goes through a fault twice: with everything watched, and from the start.
fn survives(subject: &mut Subject, fault: Fault, said: &str) -> Result<()> {
    subject.put("web", 10, &[1]);
    subject.publish()?;
    subject.start()?;
    subject.await_watches()?;
    subject.server.set_fault(Some(fault));
    // Some faults leave open watches alone.
    subject.server.cut_connections();
    subject.proxy()?.await_line_with(said)?;
    subject.check_leads_to(10, 1)?;
    subject.put_endpoints("web", &[2]);
    subject.publish()?;
    subject.server.set_fault(None);
    subject.await_watches()?;
    subject.await_leads_to(10, 2)?;

    subject.proxy()?.kill()?;
    subject.server.set_fault(Some(fault));
    subject.launch()?;
    subject.proxy()?.await_line_with(said)?;
    subject.check_left_in_force(10, 2)?;
    subject.put_endpoints("web", &[1]);
    subject.publish()?;
    subject.server.set_fault(None);
    subject.proxy()?.await_line_with("synced")?;
    subject.await_watches()?;
    subject.await_leads_to(10, 1)
}

pub(crate) fn a_server_that_is_down_is_waited_for(subject: &mut Subject) -> Result<()> {
    survives(subject, Fault::Down, "Connection refused")
}

pub(crate) fn a_wrong_certificate_is_refused_and_named(subject: &mut Subject) -> Result<()> {
    survives(subject, Fault::WrongCertificate, "invalid peer certificate")
}

pub(crate) fn garbage_is_survived(subject: &mut Subject) -> Result<()> {
    survives(subject, Fault::Garbage, "the API server's answer makes no sense")
}

pub(crate) fn broken_off_answers_are_survived(subject: &mut Subject) -> Result<()> {
    survives(subject, Fault::Truncated, "the connection broke")
}

pub(crate) fn trickling_answers_are_survived(subject: &mut Subject) -> Result<()> {
    subject.args.extend(["--watch-silence".to_owned(), "2s".to_owned()]);
    let fault = Fault::SlowDrip { bytes: 1, every: Duration::from_millis(100) };
    survives(subject, fault, "nothing was heard from the API server")
}

pub(crate) fn headers_without_end_are_survived(subject: &mut Subject) -> Result<()> {
    survives(subject, Fault::EndlessHeaders { every: Duration::ZERO }, "cannot follow Services")
}

pub(crate) fn headers_that_trickle_without_end_are_survived(subject: &mut Subject) -> Result<()> {
    subject.args.extend(["--watch-silence".to_owned(), "2s".to_owned()]);
    let fault = Fault::EndlessHeaders { every: Duration::from_millis(100) };
    survives(subject, fault, "nothing was heard from the API server")
}

pub(crate) fn internal_errors_are_survived(subject: &mut Subject) -> Result<()> {
    survives(subject, Fault::InternalError, "the API server answered 500")
}

pub(crate) fn too_many_requests_are_waited_out(subject: &mut Subject) -> Result<()> {
    survives(subject, Fault::TooManyRequests, "the API server answered 429")
}
