//! Remarks for the user about bindings whose filters have topics in common.

use super::rules::{Rule, RuleSet};

impl RuleSet {
    /// One sentence for each pair that matters: a binding that never applies, a filter that needs no subscription of its own,
    /// and overlapping filters, for which only a broker with subscription identifiers delivers each message once.
    pub fn remarks(&self) -> Vec<String> {
        let mut remarks = Vec::new();
        for (place, later) in self.rules.iter().enumerate() {
            let earlier = self.rules.iter().take(place);
            remarks.extend(earlier.filter_map(|earlier| self.remark(earlier, later)));
        }
        remarks
    }

    fn remark(&self, earlier: &Rule, later: &Rule) -> Option<String> {
        let (one, other) = (named(earlier), named(later));
        if earlier.filter.covers(&later.filter) {
            return Some(format!(
                "{other} never applies, because {one} matches all that it matches and the first match counts; put it before \
                 {one}, or remove it"
            ));
        }
        if later.filter.covers(&earlier.filter) {
            return Some(format!(
                "{one} applies to what {other} brings, which covers it; it is not subscribed to of its own"
            ));
        }
        let is_covered = |rule: &Rule| {
            let mut others = self.rules.iter().filter(|other| other.number != rule.number);
            others.any(|other| other.filter.covers(&rule.filter))
        };
        let both_come = earlier.filter.overlaps(&later.filter) && !is_covered(earlier) && !is_covered(later);
        both_come.then(|| {
            format!(
                "{one} and {other} overlap: what both match is stored once, by {one}, if the MQTT broker has subscription \
                 identifiers; else it may be stored twice, marked rbMaybeCopyOf"
            )
        })
    }
}

fn named(rule: &Rule) -> String {
    format!("binding {} ({})", rule.number, rule.filter.as_str())
}

#[cfg(test)]
mod tests {
    use crate::binding::{BindingSettings, RuleSet};
    use crate::config::BindingConfig;

    fn remarks(filters: &[&str]) -> Vec<String> {
        let bindings: Vec<BindingConfig> = filters
            .iter()
            .map(|filter| BindingConfig {
                filter: (*filter).to_owned(),
                topic: "room".to_owned(),
                tag: "{sub}".to_owned(),
                room: None,
                kind: None,
                order_key: None,
                order_key_field: None,
                sender: None,
            })
            .collect();
        let settings = BindingSettings { origin_key: vec![1], max_message_bytes: 1024 };
        RuleSet::compile(&bindings, settings).unwrap().remarks()
    }

    #[test]
    fn each_way_in_which_filters_touch_has_its_sentence() {
        assert!(remarks(&["room/#", "roomSend/#"]).is_empty());
        for (filters, word) in [
            (["room/#", "room/command/#"], "binding 2 (room/command/#) never applies"),
            (
                ["room/command/#", "room/#"],
                "binding 1 (room/command/#) applies to what binding 2 (room/#) brings",
            ),
            (["room/+/1", "room/message/+"], "binding 1 (room/+/1) and binding 2 (room/message/+) overlap"),
        ] {
            let all = remarks(&filters);
            assert!(all.len() == 1 && all[0].starts_with(word), "{all:?}");
        }
        let all = remarks(&["room/+/1", "room/message/+", "room/#"]);
        assert!(all.len() == 2 && all.iter().all(|text| text.contains("room/#")), "{all:?}");
    }
}
