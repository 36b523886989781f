//! Reads what the bridge shows under /metrics, and checks that its books balance.

use std::fmt;

/// One scrape.
pub struct Metrics {
    series: Vec<Series>,
}

struct Series {
    name: String,
    labels: Vec<(String, String)>,
    value: f64,
}

impl Metrics {
    pub fn parse(text: &str) -> Metrics {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let series = lines
            .map(|line| parse_series(line).unwrap_or_else(|| panic!("not a Prometheus line: {line}")))
            .collect();
        Metrics { series }
    }

    /// The sum over all series of this name that carry these labels; 0 if there is none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.series
            .iter()
            .filter(|series| series.name == name && series.carries(labels))
            .map(|s| s.value)
            .sum()
    }

    pub fn has(&self, name: &str) -> bool {
        self.series.iter().any(|series| series.name == name)
    }

    /// Upper bounds of a histogram, rising, each with how many observations lie below it. `name` ends in `_bucket`.
    pub fn buckets(&self, name: &str) -> Vec<(f64, f64)> {
        let of_name = self.series.iter().filter(|series| series.name == name);
        of_name
            .filter_map(|series| {
                let (_, bound) = series.labels.iter().find(|(label, _)| label == "le")?;
                Some((bound.parse().ok()?, series.value))
            })
            .collect()
    }

    pub fn books(&self) -> Books {
        let uplink = |name: &str| self.value(name, &[("direction", "uplink")]);
        Books {
            received: uplink("roombridge_received_total"),
            derived: uplink("roombridge_derived_total"),
            spool_depth_at_start: uplink("roombridge_spool_depth_at_start"),
            stored: uplink("roombridge_stored_total"),
            spool_depth: uplink("roombridge_spool_depth"),
            dead_lettered: uplink("roombridge_dead_lettered_total"),
            filtered: uplink("roombridge_filtered_total"),
            dropped: uplink("roombridge_dropped_total"),
            in_flight: uplink("roombridge_in_flight"),
        }
    }
}

impl Series {
    fn carries(&self, wanted: &[(&str, &str)]) -> bool {
        wanted.iter().all(|(name, value)| self.labels.iter().any(|(n, v)| n == name && v == value))
    }
}

/// What came in and what became of it, in deliveries since the process started.
#[derive(Debug, Clone, PartialEq)]
pub struct Books {
    pub received: f64,
    /// What the classroom made.
    pub derived: f64,
    pub spool_depth_at_start: f64,
    pub stored: f64,
    pub spool_depth: f64,
    pub dead_lettered: f64,
    pub filtered: f64,
    pub dropped: f64,
    pub in_flight: f64,
}

impl Books {
    pub fn came_in(&self) -> f64 {
        self.received + self.derived + self.spool_depth_at_start
    }

    pub fn accounted_for(&self) -> f64 {
        self.stored + self.spool_depth + self.dead_lettered + self.filtered + self.dropped + self.in_flight
    }

    pub fn balanced(&self) -> bool {
        self.came_in() == self.accounted_for()
    }
}

impl fmt::Display for Books {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "came in {} != accounted for {}: {self:?}", self.came_in(), self.accounted_for())
    }
}

/// `name{label="value",...} number [timestamp]`
fn parse_series(line: &str) -> Option<Series> {
    let name_end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(name_end);
    let mut labels = Vec::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = parse_labels(inside, &mut labels)?;
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some(Series { name: name.to_owned(), labels, value })
}

/// Returns what comes after the closing brace.
fn parse_labels<'a>(mut rest: &'a str, labels: &mut Vec<(String, String)>) -> Option<&'a str> {
    loop {
        rest = rest.trim_start_matches([',', ' ']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some(after);
        }
        let (name, after) = rest.split_once("=\"")?;
        let mut value = String::new();
        let mut characters = after.char_indices();
        let end = loop {
            match characters.next()? {
                (end, '"') => break end,
                (_, '\\') => match characters.next()?.1 {
                    'n' => value.push('\n'),
                    other => value.push(other),
                },
                (_, other) => value.push(other),
            }
        };
        labels.push((name.to_owned(), value));
        rest = &after[end + 1..];
    }
}
