//! `roombridge token`: issues tokens for clients, and shows what a token says. Needs no connection.

mod printed;
#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use jiff::tz::TimeZone;
use jiff::{Span, SpanRelativeTo};
use secrecy::SecretString;

use super::FAILED;
use super::output::{Aside, Stdout};
use super::times::local_zone;
use crate::access::{
    Actions, Claims, Nonce, Parents, Role, SigningSecret, Token, documented_id, group_is_unusually_short,
};
use crate::archive::visible;
use crate::model::{ClientId, Clock, SystemClock};
use printed::PrintedClaims;

const EXAMPLES: &str = "\
Examples:
  export ROOMBRIDGE_ACCESS_SECRET=...    the secret that signs tokens; for `roombridge dev`: dev
  roombridge token issue --client-id GID_teacher@@@001 --role teacher --expires 8h
  roombridge token issue --resource room/message/7 --resource roomSend/message --expires 30m
  roombridge token inspect TOKEN        with the secret, also says whether it is genuine
  roombridge token inspect - < FILE

A client logs in with username Token|ACCESS KEY|INSTANCE and password RW|TOKEN (R|TOKEN to read only, W|TOKEN to
write only).

JSON fields: token (issue only), access_key, instance, resources, actions, client_id, role, nonce, expires_at,
expired, genuine (inspect with a secret only). A field that is not known is absent.
inspect ends with 1 if the text is no token; with a secret, also if the token is not genuine or has expired.";

/// More bytes than any token has.
const MAX_INPUT_BYTES: u64 = 64 << 10;

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a token and print it.
    Issue(IssueArgs),
    /// Show what a token says.
    Inspect(InspectArgs),
}

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
struct IssueArgs {
    /// Only this client may use the token.
    #[arg(long, value_name = "GROUP@@@DEVICE", value_parser = documented_id)]
    client_id: Option<ClientId>,
    /// teacher or student. Without it, a token with --client-id is a student's, and for others the client id's group decides.
    #[arg(long, value_parser = role)]
    role: Option<Role>,
    /// An MQTT filter that the token permits; give it once for each. Without any: what a member of the class needs.
    #[arg(long = "resource", value_name = "FILTER")]
    resources: Vec<String>,
    /// What the token permits: R (read), W (write) or RW.
    #[arg(long, default_value = "RW")]
    actions: Actions,
    /// How long the token is valid, from 1 minute to 30 days: 30m, 8h, 7d.
    #[arg(long, value_name = "SPAN", default_value = "1h", value_parser = span_ms, allow_hyphen_values = true)]
    expires: u64,
    /// Access key of the deployment.
    #[arg(long, default_value = "dev")]
    access_key: String,
    /// Instance of the deployment.
    #[arg(long, default_value = "dev")]
    instance: String,
    /// Print one JSON object instead of the bare token.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    secret: SecretArgs,
}

#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
struct InspectArgs {
    /// The token, with or without RW| before it; - reads it from stdin.
    token: String,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    secret: SecretArgs,
}

// No doc comment: clap would show it as the description of each command that flattens this in.
#[derive(Debug, Args)]
struct SecretArgs {
    /// The secret that signs tokens. Others on this machine can read a command line, so better set the variable or name a file.
    #[arg(long, env = "ROOMBRIDGE_ACCESS_SECRET", hide_env_values = true)]
    secret: Option<SecretString>,
    /// Read the secret from this file; wins over --secret.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

impl SecretArgs {
    fn find(self) -> anyhow::Result<Option<SigningSecret>> {
        let secret = match (self.secret_file, self.secret) {
            (Some(path), _) => {
                let text = std::fs::read_to_string(&path)
                    .with_context(|| format!("could not read the secret from {}", path.display()))?;
                SecretString::from(text.trim())
            }
            (None, Some(secret)) => secret,
            (None, None) => return Ok(None),
        };
        Ok(Some(SigningSecret::new(&secret)?))
    }
}

pub(crate) fn run(arguments: TokenArgs) -> anyhow::Result<ExitCode> {
    let now_ms = SystemClock::default().wall_ms();
    let (mut out, zone) = (Stdout, local_zone());
    match arguments.command {
        Command::Issue(arguments) => issue(arguments, &mut out, &mut Aside, now_ms, &zone),
        Command::Inspect(arguments) => inspect(arguments, &mut out, now_ms, &zone),
    }
}

/// Writes nothing but the token to `out`, so that a script can put it into a variable.
fn issue(
    arguments: IssueArgs,
    out: &mut dyn Write,
    aside: &mut dyn Write,
    now_ms: u64,
    zone: &TimeZone,
) -> anyhow::Result<ExitCode> {
    let (json, claims) = (arguments.json, arguments.claims(now_ms)?);
    if arguments.client_id.is_some_and(|id| group_is_unusually_short(&id)) {
        writeln!(aside, "note: ApsaraMQ itself wants group ids of 7 to 64 characters")?;
    }
    let secret = arguments.secret.find()?.context(
        "no secret to sign with: set ROOMBRIDGE_ACCESS_SECRET, or name a file with --secret-file FILE",
    )?;
    let token = Token::issue(claims, &secret, now_ms)?;
    // The claims are read back, because issuing may have shortened the validity.
    let claims = Token::inspect(&token)?.claims;
    let mut printed = PrintedClaims::of(&claims, now_ms);
    if json {
        printed.token = Some(&token);
        writeln!(out, "{}", printed.json()?)?;
    } else {
        printed.write(aside, now_ms, zone)?;
        writeln!(out, "{token}")?;
    }
    Ok(ExitCode::SUCCESS)
}

impl IssueArgs {
    fn claims(&self, now_ms: u64) -> anyhow::Result<Claims> {
        let resources = if self.resources.is_empty() {
            Parents::default().resources(None)
        } else {
            self.resources.clone()
        };
        Ok(Claims {
            access_key: self.access_key.clone(),
            instance: self.instance.clone(),
            resources,
            actions: self.actions,
            expires_at_ms: now_ms.saturating_add(self.expires),
            client_id: self.client_id.as_ref().map(|id| id.as_str().to_owned()),
            role: self.role.or(self.client_id.as_ref().map(|_| Role::Student)),
            nonce: Nonce::random()?,
        })
    }
}

fn inspect(
    arguments: InspectArgs,
    out: &mut dyn Write,
    now_ms: u64,
    zone: &TimeZone,
) -> anyhow::Result<ExitCode> {
    let secret = arguments.secret.find()?;
    let text = match arguments.token.as_str() {
        "-" => io::read_to_string(io::stdin().take(MAX_INPUT_BYTES)).context("could not read stdin")?,
        _ => arguments.token,
    };
    // Takes the token also from a password such as RW|TOKEN.
    let token = text.trim().rsplit('|').next().unwrap_or_default();
    let claims = match Token::inspect(token) {
        Ok(unverified) => unverified.claims,
        Err(error) => bail!("{}", visible(&error.to_string())),
    };
    let mut printed = PrintedClaims::of(&claims, now_ms);
    printed.genuine = secret.map(|secret| Token::is_genuine(token, &secret));
    if arguments.json {
        writeln!(out, "{}", printed.json()?)?;
    } else {
        printed.write(out, now_ms, zone)?;
        let verdict = match printed.genuine {
            Some(true) => "yes: signed with this secret, and unchanged",
            Some(false) => "NO: not signed with this secret, or changed; nothing above can be believed",
            None => "not verified: anybody could have written this; give the secret to know",
        };
        writeln!(out, "genuine     {verdict}")?;
    }
    let good = match printed.genuine {
        Some(genuine) => genuine && !printed.expired,
        None => true,
    };
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
}

fn role(text: &str) -> Result<Role, String> {
    Role::parse(text).ok_or_else(|| "roles are teacher and student".to_owned())
}

fn span_ms(text: &str) -> Result<u64, String> {
    text.parse::<Span>()
        .and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()))
        .ok()
        .and_then(|span| u64::try_from(span.as_millis()).ok())
        .ok_or_else(|| "write a span such as 30m, 8h or 7d".to_owned())
}
