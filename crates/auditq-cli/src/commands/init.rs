//! x
use crate::exit::Exit;
use anyhow::Result;
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}
pub(crate) fn run(_: &Args) -> Result<Exit> {
    Ok(Exit::Ok)
}
