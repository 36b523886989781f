//! The rules of deploy/alerts.yml: that each fires in its main case and ends again, at both common scrape intervals, and
//! that a real Prometheus beside a real bridge sees the same.

mod books;
mod connections;
mod counters;
mod down;
mod gauges;
mod promtool;
mod scraped;
mod story;
