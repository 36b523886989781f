//! The name server's answers: which brokers have a topic, and which brokers there are.
//!
//! Promises: a field that is missing is no error, because name servers of 4.9 leave some out; a broker's numbers as JSON keys are
//! read with and without quotes, because only 5.x writes them.

use std::collections::BTreeMap;

use serde::Deserialize;

/// Where a topic is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Route {
    pub broker_datas: Vec<BrokerAddresses>,
    pub queue_datas: Vec<Queues>,
}

/// One broker: its master is number 0, its replicas have others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct BrokerAddresses {
    pub broker_name: String,
    /// `host:port`, by number.
    pub broker_addrs: BTreeMap<u64, String>,
}

/// The topic's queues on one broker.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Queues {
    pub broker_name: String,
    pub perm: u32,
    pub read_queue_nums: i32,
    pub write_queue_nums: i32,
}

/// All brokers of the cluster, by name.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ClusterInfo {
    pub broker_addr_table: BTreeMap<String, BrokerAddresses>,
}

/// Reads one of the above.
pub(super) fn from_json<T: for<'de> Deserialize<'de>>(body: &[u8]) -> Result<T, serde_json::Error> {
    serde_json::from_slice(body).or_else(|_| serde_json::from_slice(&with_quoted_keys(body)))
}

/// Apache's JSON library writes the keys of a map from numbers without quotes: `{0:"127.0.0.1:10911"}`.
fn with_quoted_keys(json: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(json.len() + 16);
    let (mut in_text, mut is_escaped, mut may_be_key) = (false, false, false);
    let mut bytes = json.iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        if !in_text && may_be_key && byte.is_ascii_digit() {
            quoted.extend([b'"', byte]);
            while let Some(digit) = bytes.next_if(u8::is_ascii_digit) {
                quoted.push(digit);
            }
            quoted.push(b'"');
            may_be_key = false;
            continue;
        }
        quoted.push(byte);
        if in_text {
            in_text = is_escaped || byte != b'"';
            is_escaped = !is_escaped && byte == b'\\';
        } else {
            in_text = byte == b'"';
            may_be_key = matches!(byte, b'{' | b',') || (may_be_key && byte.is_ascii_whitespace());
        }
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    const OF_5: &str = r#"{"brokerDatas":[{"brokerAddrs":{"0":"127.0.0.1:10911","1":"127.0.0.1:10921"},"brokerName":"broker-a",
        "cluster":"DefaultCluster","enableActingMaster":false}],"filterServerTable":{},
        "queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":8,"topicSysFlag":0,"writeQueueNums":4}]}"#;
    const OF_4: &str = r#"{"brokerDatas":[{"brokerAddrs":{0:"127.0.0.1:10911", 1:"127.0.0.1:10921"},"brokerName":"broker-a",
        "cluster":"DefaultCluster"}],"filterServerTable":{},
        "queueDatas":[{"brokerName":"broker-a","perm":6,"readQueueNums":8,"topicSysFlag":0,"writeQueueNums":4}]}"#;

    #[test]
    fn a_route_of_4_and_one_of_5_are_the_same() {
        let route: Route = from_json(OF_5.as_bytes()).unwrap();
        assert_eq!(route, from_json(OF_4.as_bytes()).unwrap());
        assert_eq!(route.broker_datas[0].broker_addrs[&1], "127.0.0.1:10921");
        let queues = &route.queue_datas[0];
        assert_eq!((queues.perm, queues.read_queue_nums, queues.write_queue_nums), (6, 8, 4));
    }

    #[test]
    fn numbers_in_texts_and_lists_stay_as_they_are() {
        let json = br#"{"brokerName":"{0:,1:\"{2:","list":{},3:"\\"}"#;
        let quoted = with_quoted_keys(json);
        assert_eq!(String::from_utf8(quoted).unwrap(), r#"{"brokerName":"{0:,1:\"{2:","list":{},"3":"\\"}"#);
    }

    #[test]
    fn what_is_no_json_is_an_error() {
        assert!(from_json::<Route>(b"route").is_err());
    }
}
