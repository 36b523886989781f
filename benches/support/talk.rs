//! What a class says, made up: lines of a chat in Chinese, in which each word comes as often as a search of the benchmark asks.

/// In two lines of five.
pub const OFTEN: &str = "老师";
/// In one line of a hundred.
pub const NOW_AND_THEN: &str = "作业";
/// In one line of ten thousand.
pub const RARE: &str = "勾股定理";
/// One character of [`RARE`], which no other word has.
pub const ONE_CHARACTER: &str = "股";

const WORDS: [&str; 24] = [
    "今天", "我们", "学习", "数学", "问题", "答案", "明白", "再说", "一遍", "谢谢", "同学", "可以", "听到",
    "声音", "画面", "很好", "开始", "休息", "第一", "练习", "图形", "直角", "三角", "证明",
];
/// Who speaks in a room, in turn.
const STUDENTS: u64 = 30;

/// Message `number` of all, in that room. No two of one `name` are equal.
pub fn line(name: &str, number: u64, room: u64) -> String {
    let mut random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut text = String::new();
    if next(5) < 2 {
        text.push_str(OFTEN);
    }
    for _ in 0..4 + next(8) {
        text.push_str(WORDS[next(WORDS.len() as u64) as usize]);
    }
    for (word, one_of) in [(NOW_AND_THEN, 100), (RARE, 10_000)] {
        if number % one_of == one_of / 2 {
            text.push_str(word);
        }
    }
    let student = number % STUDENTS;
    format!(
        r#"{{"peer":"GID_student@@@{student:05}","roomId":"{room}","msg":"{text}","ref":"{name}-{number}"}}"#
    )
}
