//! What limits, timeouts, tags and registry have in common: each is a map of the app's config, which a change of it turns
//! into a new release.

use std::collections::BTreeMap;

use paas_api::config::{ChangeConfig, Config, Texts};

use crate::{
    commands::releases::newest,
    context::Context,
    error::Error,
    printer::Printer,
    session::{App, DetachOption},
};

/// Changes a config, says so, and gives the config that came of it.
pub(crate) async fn apply(
    context: &Context,
    app: &App,
    detach: &DetachOption,
    what: &str,
    change: &ChangeConfig,
) -> Result<Config, Error> {
    let printer = context.printer;
    let work = async {
        let config: Config = app.post("config/", change).await?;
        // Only who does not wait needs to know what to look for.
        let version = if detach.detach { newest(app).await? } else { None };
        Ok((config, version))
    };
    let (config, version) = printer.waiting(what, work).await?;
    printer.line(version.map_or("done".into(), |version| detach.outcome(&app.name, version)))?;
    printer.line("")?;
    Ok(config)
}

/// The texts of a map, a line for each.
pub(crate) fn print_texts(printer: Printer, texts: &Texts) -> Result<(), Error> {
    let width = texts.keys().map(|name| name.chars().count()).max().unwrap_or_default() + 5;
    texts.iter().try_for_each(|(name, text)| printer.line(format!("{name:width$}{text}")))
}

/// What unsets these names.
pub(crate) fn unset<K: ToString>(names: &[K]) -> BTreeMap<String, Option<String>> {
    names.iter().map(|name| (name.to_string(), None)).collect()
}
