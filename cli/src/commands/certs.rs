//! `certs:*`: certificates, and the domains that they are on.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use paas_api::{
    Page, Secret, Timestamp,
    certs::{Attach, Certificate, NewCertificate},
    client::segment,
};

use crate::{context::Context, error::Error, printer::Printer, session::LimitOption};

/// A chain is smaller than this, and a key much smaller.
const LARGEST_FILE: u64 = 128 << 10;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    #[command(name = "certs:list")]
    List(List),
    #[command(name = "certs:add")]
    Add(Add),
    #[command(name = "certs:info")]
    Info(Info),
    #[command(name = "certs:remove")]
    Remove(Remove),
    #[command(name = "certs:attach")]
    Attach(Domain),
    #[command(name = "certs:detach")]
    Detach(Detach),
}

impl Command {
    pub(crate) async fn run(self, context: &Context) -> Result<(), Error> {
        match self {
            Self::List(arguments) => list(&arguments, context).await,
            Self::Add(arguments) => add(arguments, context).await,
            Self::Info(arguments) => info(&arguments, context).await,
            Self::Remove(arguments) => remove(&arguments, context).await,
            Self::Attach(arguments) => attach(arguments, context).await,
            Self::Detach(arguments) => detach(&arguments, context).await,
        }
    }
}

/// List certificates: yours, and those of the apps that you may use
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas certs\n  paas certs:list --json")]
pub(crate) struct List {
    #[command(flatten)]
    limit: LimitOption,
}

async fn list(arguments: &List, context: &Context) -> Result<(), Error> {
    let session = context.session()?;
    let certificates: Page<Certificate> =
        session.get(&format!("/v2/certs/{}", arguments.limit.query(&session))).await?;
    let printer = context.printer;
    printer.either(&certificates.results, || {
        if certificates.results.is_empty() {
            return printer.line("No certs");
        }
        let now = Utc::now();
        let mut rows = vec![
            ["Name", "Common Name", "SubjectAltName", "Expires", "Fingerprint", "Domains", "Updated", "Created"]
                .map(str::to_owned),
        ];
        rows.extend(certificates.results.iter().map(|certificate| row(certificate, now)));
        table(&rows, printer)
    })
}

fn row(certificate: &Certificate, now: DateTime<Utc>) -> [String; 8] {
    [
        certificate.name.clone(),
        certificate.common_name.clone().unwrap_or_default(),
        certificate.san.join(","),
        expiry(certificate.expires, now),
        shortened(&certificate.fingerprint),
        certificate.domains.join(","),
        day(certificate.updated),
        day(certificate.created),
    ]
}

/// Columns as wide as their widest text, two blanks between.
fn table(rows: &[[String; 8]], printer: Printer) -> Result<(), Error> {
    let mut widths = [0; 8];
    for row in rows {
        for (width, text) in widths.iter_mut().zip(row) {
            *width = text.chars().count().max(*width);
        }
    }
    rows.iter().try_for_each(|row| {
        let line: Vec<String> = row.iter().zip(widths).map(|(text, width)| format!("{text:width$}")).collect();
        printer.line(line.join("  ").trim_end())
    })
}

/// `5 Mar 2030`.
fn day(moment: Timestamp) -> String {
    moment.moment().format("%-d %b %Y").to_string()
}

/// `5 Mar 2030 (in 3 years)`, or `(expired)`.
fn expiry(moment: Timestamp, now: DateTime<Utc>) -> String {
    let days = (moment.moment() - now).num_days();
    let counted = |number: i64, unit: &str| format!("(in {number} {unit}{})", if number == 1 { "" } else { "s" });
    let left = match days {
        _ if moment.moment() <= now => "(expired)".to_owned(),
        0 => "(in less than a day)".to_owned(),
        1..61 => counted(days, "day"),
        61..730 => counted(days / 30, "month"),
        _ => counted(days / 365, "year"),
    };
    format!("{} {left}", day(moment))
}

/// `AB:CD[...]EF:01`.
fn shortened(fingerprint: &str) -> String {
    match (fingerprint.get(..5), fingerprint.len().checked_sub(5).and_then(|start| fingerprint.get(start..))) {
        (Some(start), Some(end)) if fingerprint.len() > 11 => format!("{start}[...]{end}"),
        _ => fingerprint.to_owned(),
    }
}

/// Add a certificate with its private key
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas certs:add example-tls fullchain.pem privkey.pem\n\n\
                  The first file has the certificate and those that vouch for it, the site's own first. The key may be RSA, EC\n\
                  or Ed25519, without a passphrase. Then attach it: paas certs:attach example-tls www.example.com")]
pub(crate) struct Add {
    /// Name for the certificate: a-z, 0-9 and hyphens
    name: String,
    /// File with the certificate, as PEM
    #[arg(value_name = "CERTIFICATE_FILE")]
    certificate: PathBuf,
    /// File with its private key, as PEM
    #[arg(value_name = "KEY_FILE")]
    key: PathBuf,
}

async fn add(arguments: Add, context: &Context) -> Result<(), Error> {
    let session = context.session()?;
    let certificate = read(&arguments.certificate, "certificate")?;
    let key = Secret::from(read(&arguments.key, "private key")?);
    let body = NewCertificate { name: arguments.name, certificate, key };
    let adding = session.post::<Certificate>("/v2/certs/", &body);
    let added = context.printer.waiting("Adding SSL endpoint... ", adding).await.map_err(|error| {
        let apart = error.to_string().contains("do not match");
        let hint = "the site's own certificate comes first in its file, before those that vouch for it";
        if apart { error.hint(hint) } else { error }
    })?;
    context.printer.either(&added, || context.printer.line("done"))
}

fn read(path: &Path, what: &str) -> Result<String, Error> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LARGEST_FILE + 1).read_to_string(&mut text));
    let shown = path.display();
    match read {
        Err(error) => Err(Error::new(format!("cannot read the {what} file {shown}: {error}"))),
        Ok(length) if length as u64 > LARGEST_FILE => {
            Err(Error::new(format!("{shown} is too large for a {what}: more than {LARGEST_FILE} bytes")))
        }
        Ok(_) => Ok(text),
    }
}

/// Show a certificate
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas certs:info example-tls\n  paas certs:info example-tls --json")]
pub(crate) struct Info {
    /// Name of the certificate, as 'paas certs' shows it
    name: String,
}

async fn info(arguments: &Info, context: &Context) -> Result<(), Error> {
    let session = context.session()?;
    let certificate: Certificate =
        session.get(&format!("/v2/certs/{}", segment(&arguments.name))).await.map_err(unknown)?;
    let printer = context.printer;
    printer.either(&certificate, || {
        let Certificate { name, san, domains, .. } = &certificate;
        printer.line(format!("=== {name} Certificate"))?;
        let line = |label: &str, value: &str| printer.line(format!("{label:19} {value}").trim_end());
        let or = |text: String, else_: &str| if text.is_empty() { else_.to_owned() } else { text };
        line("Common Name(s):", certificate.common_name.as_deref().unwrap_or_default())?;
        line("Expires At:", &certificate.expires.to_string())?;
        line("Starts At:", &certificate.starts.to_string())?;
        line("Fingerprint:", &certificate.fingerprint)?;
        line("Subject Alt Name:", &or(san.join(", "), "N/A"))?;
        line("Issuer:", &certificate.issuer)?;
        line("Subject:", &certificate.subject)?;
        printer.line("")?;
        line("Connected Domains:", &or(domains.join(", "), "No connected domains"))?;
        line("Owner:", &certificate.owner)?;
        line("Created:", &certificate.created.to_string())?;
        line("Updated:", &certificate.updated.to_string())
    })
}

fn unknown(error: Error) -> Error {
    let unknown = error.to_string().contains("No Certificate matches");
    if unknown { error.hint("'paas certs' lists those that you may see") } else { error }
}

/// Remove a certificate; its domains serve without it from then on
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas certs:remove example-tls")]
pub(crate) struct Remove {
    /// Name of the certificate, as 'paas certs' shows it
    name: String,
}

async fn remove(arguments: &Remove, context: &Context) -> Result<(), Error> {
    let session = context.session()?;
    let path = format!("/v2/certs/{}", segment(&arguments.name));
    let what = format!("Removing {}... ", arguments.name);
    context.printer.waiting(&what, session.delete(&path)).await.map_err(unknown)?;
    context.printer.line("done")
}

/// Serve a domain of an app with a certificate, at once
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas certs:attach example-tls www.example.com")]
pub(crate) struct Domain {
    /// Name of the certificate, as 'paas certs' shows it
    name: String,
    /// Domain, as 'paas domains' shows it
    domain: String,
}

async fn attach(arguments: Domain, context: &Context) -> Result<(), Error> {
    let session = context.session()?;
    let Domain { name, domain } = arguments;
    let path = format!("/v2/certs/{}/domain/", segment(&name));
    let what = format!("Attaching certificate {name} to domain {domain}... ");
    let body = Attach { domain };
    let attached = context.printer.waiting(&what, session.post_for_nothing(&path, &body)).await;
    attached.map_err(|error| {
        let text = error.to_string();
        if text.contains("No Domain matches") {
            error.hint(format!("first give it to an app: paas domains:add {} -a APP", body.domain))
        } else if text.contains("already has a certificate") {
            error.hint("'paas certs' shows which; 'paas certs:detach' takes it off")
        } else {
            unknown(error)
        }
    })?;
    context.printer.line("done")
}

/// Take a certificate off a domain
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  paas certs:detach example-tls www.example.com")]
pub(crate) struct Detach {
    /// Name of the certificate, as 'paas certs' shows it
    name: String,
    /// Domain that it is on
    domain: String,
}

async fn detach(arguments: &Detach, context: &Context) -> Result<(), Error> {
    let session = context.session()?;
    let Detach { name, domain } = arguments;
    let path = format!("/v2/certs/{}/domain/{}", segment(name), segment(domain));
    let what = format!("Detaching certificate {name} from domain {domain}... ");
    context.printer.waiting(&what, session.delete(&path)).await.map_err(|error| {
        let apart = error.to_string().contains("No Domain matches");
        if apart { error.hint(format!("'paas certs:info {name}' shows which it is on")) } else { unknown(error) }
    })?;
    context.printer.line("done")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expiry_tells_how_long_there_is() {
        let now: DateTime<Utc> = "2030-03-05T12:00:00Z".parse().unwrap();
        for (moment, text) in [
            ("2030-03-05T12:00:00Z", "5 Mar 2030 (expired)"),
            ("2030-03-05T13:00:00Z", "5 Mar 2030 (in less than a day)"),
            ("2030-03-06T12:00:00Z", "6 Mar 2030 (in 1 day)"),
            ("2030-04-04T12:00:00Z", "4 Apr 2030 (in 30 days)"),
            ("2030-06-05T12:00:00Z", "5 Jun 2030 (in 3 months)"),
            ("2033-03-12T12:00:00Z", "12 Mar 2033 (in 3 years)"),
        ] {
            let moment: DateTime<Utc> = moment.parse().unwrap();
            assert_eq!(expiry(moment.into(), now), text);
        }
    }

    #[test]
    fn a_fingerprint_is_shown_by_its_ends() {
        assert_eq!(shortened("AB:CD:00:11:22:33:EF:01"), "AB:CD[...]EF:01");
        assert_eq!(shortened("AB:CD"), "AB:CD");
        assert_eq!(shortened("ü"), "ü");
    }
}
