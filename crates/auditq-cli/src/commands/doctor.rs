//! x
use crate::exit::Exit;
use crate::session::Session;
use anyhow::Result;
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}
pub(crate) async fn run(_: &Args, _: Result<Session>) -> Result<Exit> {
    Ok(Exit::Ok)
}
