//! The table of keys is the raw structs, no more and no less.

use std::collections::BTreeSet;

use serde::de::{Deserialize, Deserializer, Error, Visitor, value};

use crate::config::keys::{KEYS, Kind};
use crate::config::raw::{
    RawAccess, RawArchive, RawBinding, RawClassroom, RawConfig, RawDeadLetter, RawDownlink, RawHttp, RawLag,
    RawLog, RawLogin, RawMqtt, RawOrigin, RawPipeline, RawRocketMq, RawSender, RawShutdown, RawSpool, RawWeb,
};

/// Asks a struct for the names of its fields, and gives it nothing.
struct FieldNames<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for FieldNames<'_> {
    type Error = value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Error::custom("not a struct"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(Error::custom("only the names were wanted"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

fn fields<T: for<'de> Deserialize<'de>>(table: &str) -> BTreeSet<String> {
    let mut names: &'static [&'static str] = &[];
    assert!(T::deserialize(FieldNames(&mut names)).is_err());
    assert!(!names.is_empty(), "{table} has no fields");
    names
        .iter()
        .map(|name| if table.is_empty() { (*name).to_owned() } else { format!("{table}.{name}") })
        .collect()
}

#[test]
fn the_table_and_the_raw_structs_know_the_same_keys() {
    let tables: Vec<(&str, BTreeSet<String>)> = vec![
        ("", fields::<RawConfig>("")),
        ("mqtt", fields::<RawMqtt>("mqtt")),
        ("rocketmq", fields::<RawRocketMq>("rocketmq")),
        ("rocketmq.lag", fields::<RawLag>("rocketmq.lag")),
        ("binding", fields::<RawBinding>("binding")),
        ("binding.sender", fields::<RawSender>("binding.sender")),
        ("pipeline", fields::<RawPipeline>("pipeline")),
        ("spool", fields::<RawSpool>("spool")),
        ("dead_letter", fields::<RawDeadLetter>("dead_letter")),
        ("http", fields::<RawHttp>("http")),
        ("log", fields::<RawLog>("log")),
        ("shutdown", fields::<RawShutdown>("shutdown")),
        ("origin", fields::<RawOrigin>("origin")),
        ("downlink", fields::<RawDownlink>("downlink")),
        ("classroom", fields::<RawClassroom>("classroom")),
        ("access", fields::<RawAccess>("access")),
        ("login", fields::<RawLogin>("login")),
        ("web", fields::<RawWeb>("web")),
        ("archive", fields::<RawArchive>("archive")),
    ];
    let listed_tables: BTreeSet<&str> = KEYS
        .iter()
        .filter(|key| matches!(key.kind, Kind::Table | Kind::Tables))
        .map(|key| key.path)
        .collect();
    assert_eq!(
        tables.iter().map(|(name, _)| *name).filter(|name| !name.is_empty()).collect::<BTreeSet<_>>(),
        listed_tables
    );

    let raw: BTreeSet<String> = tables.into_iter().flat_map(|(_, fields)| fields).collect();
    let listed: BTreeSet<String> = KEYS.iter().map(|key| key.path.to_owned()).collect();
    assert_eq!(raw, listed);
    assert_eq!(listed.len(), KEYS.len(), "a key is listed twice");
}

#[test]
fn every_key_that_a_variable_can_set_has_the_type_that_its_struct_wants() {
    for key in KEYS.iter().filter(|key| key.from_environment) {
        let value = match key.kind {
            Kind::Text => "x",
            Kind::Integer => "7",
            Kind::Boolean => "true",
            Kind::TextList => "x,y",
            Kind::Table | Kind::Tables => panic!("{} cannot be set by a variable", key.path),
        };
        let environment = std::collections::BTreeMap::from([(key.variable(), value.to_owned())]);
        let document = crate::config::document::Document::read("bridge.toml", "", &environment).unwrap();
        document.into_raw().unwrap();
    }
}

#[test]
fn no_two_keys_share_a_variable() {
    let names: BTreeSet<String> = KEYS.iter().map(super::super::keys::Key::variable).collect();
    assert_eq!(names.len(), KEYS.len());
}
