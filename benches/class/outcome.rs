//! What became of one class, and whether it held: every line to everybody, once, in order, in time.

use std::time::Duration;

use crate::member::Attended;

pub const P99_MS: f64 = 200.0;

/// One class. An error says why it did not come to a lesson.
pub struct Trial {
    pub students: usize,
    pub outcome: Result<Outcome, String>,
}

pub struct Outcome {
    pub lines: usize,
    pub planned_lines: usize,
    pub heard: usize,
    pub missing: usize,
    pub duplicates: usize,
    pub out_of_order: usize,
    pub strange: usize,
    pub not_accepted: usize,
    /// One word for each member.
    pub cut_off: Vec<String>,
    pub latency: Latency,
    pub left_late: Duration,
    pub usage: Usage,
}

/// From publish to receipt, of each delivery.
#[derive(Default)]
pub struct Latency {
    pub p50_ms: f64,
    pub p90_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

/// What it took.
pub struct Usage {
    /// Until everybody had a SUBACK.
    pub joining: Duration,
    /// Until the classroom said that everybody is here, after that.
    pub noticing: Duration,
    /// From the first line to the last delivery. Processor time is counted within it.
    pub lesson: Duration,
    pub server_cpu: Duration,
    pub tool_cpu: Duration,
    /// Of everything else on the machine.
    pub others_cpu: Duration,
    pub server_peak_rss_mb: f64,
    pub tool_peak_rss_mb: f64,
}

impl Trial {
    pub fn holds(&self) -> bool {
        self.outcome.as_ref().is_ok_and(Outcome::holds)
    }

    /// Processors that everything else on the machine took.
    pub fn others_busy(&self) -> Option<f64> {
        let usage = &self.outcome.as_ref().ok()?.usage;
        Some(usage.others_cpu.as_secs_f64() / usage.lesson.as_secs_f64())
    }

    pub fn in_one_line(&self) -> String {
        let outcome = match &self.outcome {
            Ok(outcome) => outcome,
            Err(error) => return format!("{} students: no lesson: {error}", self.students),
        };
        let word = if outcome.holds() { "hold" } else { "DO NOT HOLD" };
        let cut_off = outcome.cut_off.first();
        format!(
            "{} students {word}: {} of {} heard, p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms{}",
            self.students,
            outcome.heard,
            outcome.heard + outcome.missing,
            outcome.latency.p50_ms,
            outcome.latency.p99_ms,
            outcome.latency.max_ms,
            cut_off.map_or(String::new(), |first| format!("; cut off: {first}")),
        )
    }
}

impl Outcome {
    pub fn of(attended: Vec<Attended>, planned_lines: usize, shared_ids: usize, usage: Usage) -> Outcome {
        let members = attended.len();
        let sum = |count: fn(&Attended) -> usize| -> usize { attended.iter().map(count).sum() };
        let lines = sum(|member| member.said);
        let heard = sum(|member| member.heard.latencies_us.len());
        let latencies = attended.iter().flat_map(|member| &member.heard.latencies_us);
        Outcome {
            lines,
            planned_lines,
            heard,
            missing: lines * members - heard,
            duplicates: sum(|member| member.heard.duplicates),
            out_of_order: sum(|member| member.heard.out_of_order),
            strange: sum(|member| member.heard.strange) + shared_ids,
            not_accepted: sum(|member| member.not_accepted),
            latency: Latency::of(latencies.copied().collect()),
            left_late: attended.iter().map(|member| member.left_late).max().unwrap_or_default(),
            cut_off: attended.into_iter().filter_map(|member| member.cut_off).collect(),
            usage,
        }
    }

    pub fn holds(&self) -> bool {
        let faults = self.missing
            + self.duplicates
            + self.out_of_order
            + self.strange
            + self.not_accepted
            + self.cut_off.len();
        faults == 0 && self.lines == self.planned_lines && self.heard > 0 && self.latency.p99_ms < P99_MS
    }
}

impl Latency {
    fn of(mut latencies_us: Vec<u32>) -> Latency {
        latencies_us.sort_unstable();
        let Some(max_us) = latencies_us.last() else {
            return Latency::default();
        };
        let at = |share: f64| {
            let rank = (latencies_us.len() as f64 * share).ceil() as usize;
            f64::from(latencies_us[rank.saturating_sub(1)]) / 1000.0
        };
        Latency { p50_ms: at(0.5), p90_ms: at(0.9), p99_ms: at(0.99), max_ms: f64::from(*max_us) / 1000.0 }
    }
}
