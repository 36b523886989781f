//! Makes each metric and registers it in one step, so that no metric is left out of the answer.

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, core::Collector,
};

/// The label of every series that belongs to one direction.
const DIRECTION: &str = "direction";

/// Buckets from half a millisecond, as an idle store needs, to a minute, when something is broken.
const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];
const BATCH_MESSAGES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Adds the series of one direction to the registry.
#[derive(Debug)]
pub(super) struct Register {
    pub registry: Registry,
    direction: &'static str,
}

impl Register {
    pub(crate) fn uplink() -> Self {
        Self { registry: Registry::new(), direction: "uplink" }
    }

    /// The same registry, for the series of the other direction.
    pub(crate) fn downlink(&self) -> Self {
        Self { registry: self.registry.clone(), direction: "downlink" }
    }

    fn add<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C, prometheus::Error> {
        self.registry.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    pub(crate) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.add(IntCounter::with_opts(self.options(name, help))?)
    }

    pub(crate) fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(self.options(name, help), labels)?)
    }

    pub(crate) fn way_gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.add(IntGauge::with_opts(self.options(name, help))?)
    }

    pub(crate) fn way_seconds_gauge(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        self.add(Gauge::with_opts(self.options(name, help))?)
    }

    /// A gauge of this direction whose value is not always known.
    pub(crate) fn way_seconds_if_known(&self, name: &str, help: &str) -> Result<IfKnown, prometheus::Error> {
        Ok(IfKnown(self.add(GaugeVec::new(self.options(name, help), &[])?)?))
    }

    /// A gauge of the process whose value is not always known.
    pub(crate) fn gauge_if_known(&self, name: &str, help: &str) -> Result<IfKnown, prometheus::Error> {
        Ok(IfKnown(self.add(GaugeVec::new(Opts::new(name, help), &[])?)?))
    }

    /// A gauge of this direction with labels.
    pub(crate) fn way_gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.add(IntGaugeVec::new(self.options(name, help), labels)?)
    }

    fn options(&self, name: &str, help: &str) -> Opts {
        Opts::new(name, help).const_label(DIRECTION, self.direction)
    }

    /// A gauge of the process or of a connection, which have no direction.
    pub(crate) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        self.add(IntGauge::with_opts(Opts::new(name, help))?)
    }

    pub(crate) fn process_counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        self.add(IntCounter::with_opts(Opts::new(name, help))?)
    }

    pub(crate) fn process_counters(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    pub(crate) fn seconds_gauge(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        self.add(Gauge::with_opts(Opts::new(name, help))?)
    }

    pub(crate) fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    pub(crate) fn seconds(&self, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
        self.histogram(name, help, SECONDS)
    }

    pub(crate) fn batch_sizes(&self, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
        self.histogram(name, help, BATCH_MESSAGES)
    }

    fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Result<Histogram, prometheus::Error> {
        let options =
            HistogramOpts::new(name, help).const_label(DIRECTION, self.direction).buckets(buckets.to_vec());
        self.add(Histogram::with_opts(options)?)
    }
}

/// A gauge that is shown only while its value is known.
#[derive(Debug, Clone)]
pub struct IfKnown(GaugeVec);

impl IfKnown {
    /// `None` = not known; the series then goes away.
    pub fn set(&self, value: Option<f64>) {
        let labels: [&str; 0] = [];
        match value {
            Some(value) => self.0.with_label_values(&labels).set(value),
            // If it was never known, there is nothing to remove, which is no error.
            None => _ = self.0.remove_label_values(&labels),
        }
    }
}

/// One counter for each member of a closed list. To search a dozen entries is cheaper than to hash label texts for each
/// message.
#[derive(Debug)]
pub(super) struct ByMember<M> {
    counters: Vec<(M, IntCounter)>,
}

impl<M: Copy + PartialEq> ByMember<M> {
    pub(crate) fn new(
        counters: &IntCounterVec,
        members: &[M],
        labels: impl Fn(M) -> Vec<String>,
    ) -> Result<Self, prometheus::Error> {
        let counters = members.iter().map(|member| {
            let counter = counters.get_metric_with_label_values(&labels(*member))?;
            Ok((*member, counter))
        });
        Ok(Self { counters: counters.collect::<Result<_, prometheus::Error>>()? })
    }

    pub(crate) fn sum(&self) -> u64 {
        self.counters.iter().map(|(_, counter)| counter.get()).sum()
    }

    pub(crate) fn add(&self, member: M, count: u64) {
        // The list is the enum's own `ALL`, so every member is found.
        if let Some((_, counter)) = self.counters.iter().find(|(candidate, _)| *candidate == member) {
            counter.inc_by(count);
        }
    }
}
