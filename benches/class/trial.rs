//! One class from its first login to its end, with a `roombridge dev` of its own in an empty folder.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use serde_json::Value;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use crate::harness::dev::Dev;
use crate::heard::{Ids, SENDERS};
use crate::member::{Attended, Lesson, Member, PER_SENDER_S, ROOM};
use crate::outcome::{Outcome, Trial, Usage};
use crate::{machine, process_usage, say};

const WAVE: usize = 50;
const JOIN: Duration = Duration::from_secs(15);
const NOTICE: Duration = Duration::from_secs(30);
/// Between everybody's arrival and the first line.
const BREATH: Duration = Duration::from_millis(500);
/// For what is on its way when the last line was said.
const LAST_LINES: Duration = Duration::from_secs(10);
/// For copies that come late.
const LATE_COPIES: Duration = Duration::from_secs(1);
const LOOK: Duration = Duration::from_millis(20);
/// Asking costs the server more than a line does.
const ASK: Duration = Duration::from_millis(500);

pub fn run(students: usize, lesson: Duration) -> Trial {
    machine::forget_peak_memory();
    let class = Class { dev: Dev::start_with(&["--auth", "required"]), agent: agent() };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime can be made");
    let outcome = runtime.block_on(class.teach(students, lesson));
    runtime.shutdown_background();
    let trial = Trial { students, outcome: outcome.map_err(|error| format!("{error:#}")) };
    if !trial.holds() {
        let log = class.dev.output();
        let lines: Vec<_> = log.lines().collect();
        let tail = &lines[lines.len().saturating_sub(5)..];
        say(&format!("the end of what dev said:\n{}", tail.join("\n")));
    }
    trial
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().proxy(None).timeout_global(Some(JOIN)).build().into()
}

struct Class {
    dev: Dev,
    agent: ureq::Agent,
}

impl Class {
    async fn teach(&self, students: usize, time: Duration) -> anyhow::Result<Outcome> {
        ensure!(students >= SENDERS, "{SENDERS} students speak, so there must be as many");
        let begun = Instant::now();
        let members = self.join(students).await?;
        let joining = begun.elapsed();
        let noticing = self.until_all_are_here(members.len()).await?;

        let lines = SENDERS * PER_SENDER_S as usize * time.as_secs() as usize;
        let lesson = Arc::new(Lesson {
            lines,
            begins: Instant::now() + BREATH,
            ids: Ids::of(lines),
            heard: AtomicU64::new(0),
            is_over: CancellationToken::new(),
        });
        let deliveries = (lines * members.len()) as u64;
        let mut tasks = JoinSet::new();
        for member in members {
            tasks.spawn(member.attend(lesson.clone()));
        }
        let usage = Usage { joining, noticing, ..self.watch(&lesson, deliveries, time + LAST_LINES).await? };
        sleep(LATE_COPIES).await;
        lesson.is_over.cancel();
        let attended: Vec<Attended> = tasks.join_all().await;
        Ok(Outcome::of(attended, lines, lesson.ids.shared(), usage))
    }

    /// From the first line until all is heard, or the time is over.
    async fn watch(&self, lesson: &Lesson, deliveries: u64, time: Duration) -> anyhow::Result<Usage> {
        let (server, own) = (self.pid(), std::process::id());
        let used = || [process_usage::cpu(server), process_usage::cpu(own), machine::busy()];
        sleep_until(lesson.begins).await;
        let before = used();
        while lesson.heard.load(Ordering::Relaxed) < deliveries && lesson.begins.elapsed() < time {
            sleep(LOOK).await;
        }
        let (after, taken) = (used(), lesson.begins.elapsed());
        let spent = |of: usize| after[of].saturating_sub(before[of]);
        let is_alive = std::fs::read_link(format!("/proc/{server}/exe")).is_ok();
        ensure!(is_alive, "dev died during the lesson");
        Ok(Usage {
            joining: Duration::ZERO,
            noticing: Duration::ZERO,
            lesson: taken,
            server_cpu: spent(0),
            tool_cpu: spent(1),
            others_cpu: spent(2).saturating_sub(spent(0) + spent(1)),
            server_peak_rss_mb: process_usage::peak_rss_mb(server),
            tool_peak_rss_mb: process_usage::peak_rss_mb(own),
        })
    }

    /// The teacher and the students, in waves; each with a token of its own.
    async fn join(&self, students: usize) -> anyhow::Result<Vec<Member>> {
        let mut members = Vec::with_capacity(students + 1);
        members.push(self.seat("GID_teacher@@@1".to_owned(), None).await?);
        let numbers: Vec<usize> = (0..students).collect();
        for wave in numbers.chunks(WAVE) {
            let seats = wave.iter().map(|number| {
                let sender = (*number < SENDERS).then_some(*number);
                self.seat(format!("GID_student@@@{number:05}"), sender)
            });
            members.extend(futures::future::try_join_all(seats).await?);
        }
        Ok(members)
    }

    async fn seat(&self, client_id: String, sender: Option<usize>) -> anyhow::Result<Member> {
        let who = client_id.clone();
        let port = self.dev.mqtt_port();
        let seat = async {
            let token = self.login(&client_id).await?;
            Member::join(port, client_id, &token, sender).await
        };
        timeout(JOIN, seat)
            .await
            .unwrap_or_else(|_| Err(anyhow!("not in the class within {JOIN:?}")))
            .context(who)
    }

    /// The teacher shows the secret, as an application's server does; students get what everybody gets.
    async fn login(&self, client_id: &str) -> anyhow::Result<String> {
        let url = format!("http://{}/login", self.dev.address("login"));
        let request = if client_id.starts_with("GID_teacher") {
            self.agent
                .get(format!("{url}?clientId={client_id}&role=teacher"))
                .header("authorization", "Bearer dev")
        } else {
            self.agent.get(url)
        };
        let login = spawn_blocking(move || request.call()?.body_mut().read_to_string());
        login.await?.context("no token from the login")
    }

    /// What joining costs the server beyond the SUBACKs is over when the classroom counts everybody.
    async fn until_all_are_here(&self, members: usize) -> anyhow::Result<Duration> {
        let begun = Instant::now();
        let token = self.login("GID_student@@@00000").await?;
        let url = format!("http://{}/api/rooms/{ROOM}/members", self.dev.address("web"));
        loop {
            let request = self.agent.get(&url).header("authorization", format!("Bearer {token}"));
            let asked = spawn_blocking(move || request.call()?.body_mut().read_to_string());
            let answer = asked.await?.context("the classroom does not say who is here")?;
            let online = serde_json::from_str::<Value>(&answer)?["online"].clone();
            if online == members {
                return Ok(begun.elapsed());
            }
            ensure!(begun.elapsed() < NOTICE, "the classroom counts {online} of {members} after {NOTICE:?}");
            sleep(ASK).await;
        }
    }

    fn pid(&self) -> u32 {
        let text =
            std::fs::read_to_string(self.dev.data().join("dev.json")).expect("dev leaves its addresses");
        let instance: Value = serde_json::from_str(&text).expect("dev.json is JSON");
        instance["pid"].as_u64().expect("dev.json has pid") as u32
    }
}
