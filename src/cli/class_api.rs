//! Asks the running classroom over HTTP, as the application's server does.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use super::FAILED;
use super::output::{Report, aside};
use super::target::TargetArgs;

const DEADLINE: Duration = Duration::from_secs(20);

// No doc comment: clap would show it as the description of each command that flattens this in.
#[derive(Debug, Args)]
pub(crate) struct ClassArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Address of the bridge's pages, if it is not web.listen of the configuration.
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// The login secret, if the configuration does not have it.
    #[arg(long, env = "ROOMBRIDGE_LOGIN_SECRET", value_name = "SECRET", hide_env_values = true)]
    secret: Option<SecretString>,
    /// Print the answer as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl ClassArgs {
    /// Posts `body` to `/api/rooms/ROOM/{what}`. `done`: what is said when the class made a message of it.
    pub(crate) async fn post(
        self,
        room: &str,
        what: &str,
        body: &impl Serialize,
        done: &str,
    ) -> anyhow::Result<ExitCode> {
        let from_dev = self.target.is_dev();
        let target = self.target.find().await?;
        let Some(secret) = self.secret.or(target.config.login.secret) else {
            bail!("no login secret: set login.secret in the configuration, or give it with --secret");
        };
        let base = match (self.url, target.config.web.listen) {
            (Some(url), _) => url.trim_end_matches('/').to_owned(),
            (None, Some(listen)) => format!("http://{listen}"),
            (None, None) if from_dev => {
                bail!("`roombridge dev` runs with --auth none, so it has no class to tell; start it without")
            }
            (None, None) => {
                bail!(
                    "the configuration serves no pages (web.listen), so there is nobody to tell; give --url"
                )
            }
        };
        let url = format!("{base}/api/rooms/{room}/{what}");
        let (asked, body) = (url.clone(), serde_json::to_string(body)?);
        let answer = tokio::task::spawn_blocking(move || post(&asked, &secret, &body))
            .await
            .context("the request ended unexpectedly")?
            .with_context(|| format!("could not reach {url}; is the bridge running?"))?;
        show(answer, self.json, done)
    }
}

fn show(answer: Answer, json: bool, done: &str) -> anyhow::Result<ExitCode> {
    let mut report = Report::default();
    if json {
        report.line(serde_json::to_string(&answer)?);
    }
    let code = match (answer.id, answer.error) {
        (Some(id), _) => {
            if !json {
                report.line(format_args!("{done} (message {id})"));
            }
            ExitCode::SUCCESS
        }
        (None, error) => {
            if !json {
                let error = error.unwrap_or_else(|| "the bridge gave no answer".to_owned());
                aside(format_args!("error: {error}"));
            }
            ExitCode::from(FAILED)
        }
    };
    report.end(code)
}

fn post(url: &str, secret: &SecretString, body: &str) -> anyhow::Result<Answer> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(DEADLINE))
        .http_status_as_error(false)
        .build()
        .into();
    let mut response = agent
        .post(url)
        .header("authorization", format!("Bearer {}", secret.expose_secret()))
        .header("content-type", "application/json")
        .send(body)?;
    let text = response.body_mut().read_to_string()?;
    serde_json::from_str(&text).with_context(|| format!("the answer is no JSON: {text:?}"))
}
