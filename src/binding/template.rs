//! Templates: texts with placeholders for parts of an MQTT topic.
//!
//! `{0}` to `{9}` = that level, `{sub}` = everything after the first level, `{topic}` = the whole topic; `{{` and `}}` are
//! braces.
//!
//! Promises: a typing error is found when the configuration is read, never when a message comes.
//! Must never: fill in anything for a part that the topic does not have; then the whole template gives nothing.

use std::borrow::Cow;

use super::levels::{NAMED_LEVELS, Parts};

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Template {
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Level(usize),
    Sub,
    Topic,
}

/// Why a text is no usable template.
#[allow(clippy::missing_docs_in_private_items, reason = "each text says what is wrong")]
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    #[error(
        "{{{0}}} is not known; known are {{0}} to {{9}} (a topic level), {{sub}}, {{topic}}, and {{{{ }}}} for braces"
    )]
    UnknownPlaceholder(String),
    #[error("a brace is not closed or not opened; write {{{{ or }}}} for a brace itself")]
    Brace,
    #[error("it is empty; leave the key out to get the default")]
    Empty,
    #[error(
        "{{{level}}} can never be filled, because topics of this filter have {count} level(s), counted from {{0}}"
    )]
    BeyondFilter { level: usize, count: usize },
    #[error("{{sub}} can never be filled, because topics of this filter have one level")]
    NoSub,
}

impl Template {
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.is_empty() {
            return Err(TemplateError::Empty);
        }
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let (brace, after) = rest[at..].split_at(1);
            if let Some(after_two) = after.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after_two;
            } else if brace == "{" {
                let (name, after_name) = after.split_once('}').ok_or(TemplateError::Brace)?;
                if !plain.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut plain)));
                }
                pieces.push(placeholder(name)?);
                rest = after_name;
            } else {
                return Err(TemplateError::Brace);
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain));
        }
        Ok(Self { pieces })
    }

    /// The template's only piece; `None` if it has several.
    pub(crate) fn single(&self) -> Option<&Piece> {
        match self.pieces.as_slice() {
            [piece] => Some(piece),
            _ => None,
        }
    }

    /// Refuses a placeholder that no topic of so many levels can fill; `None` = topics of any depth.
    pub(crate) fn check_against(&self, count: Option<usize>) -> Result<(), TemplateError> {
        let Some(count) = count else { return Ok(()) };
        for piece in &self.pieces {
            match piece {
                Piece::Level(level) if *level >= count => {
                    return Err(TemplateError::BeyondFilter { level: *level, count });
                }
                Piece::Sub if count < 2 => return Err(TemplateError::NoSub),
                Piece::Level(_) | Piece::Sub | Piece::Text(_) | Piece::Topic => {}
            }
        }
        Ok(())
    }

    /// The filled template; `None` if the topic lacks a part, or the part is not known.
    pub(crate) fn render<'a>(&'a self, parts: &'a impl Parts) -> Option<Cow<'a, str>> {
        match self.pieces.as_slice() {
            [Piece::Text(text)] => Some(text.into()),
            [Piece::Level(index)] => parts.level(*index).map(Cow::Borrowed),
            [Piece::Sub] => parts.sub(),
            [Piece::Topic] => parts.topic(),
            _ => self.joined(parts).map(Cow::Owned),
        }
    }

    fn joined(&self, parts: &impl Parts) -> Option<String> {
        let mut rendered = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => rendered.push_str(text),
                Piece::Level(index) => rendered.push_str(parts.level(*index)?),
                Piece::Sub => rendered.push_str(&parts.sub()?),
                Piece::Topic => rendered.push_str(&parts.topic()?),
            }
        }
        Some(rendered)
    }
}

fn placeholder(name: &str) -> Result<Piece, TemplateError> {
    match name {
        "sub" => Ok(Piece::Sub),
        "topic" => Ok(Piece::Topic),
        _ => match name.as_bytes() {
            [digit @ b'0'..=b'9'] => Ok(Piece::Level(usize::from(digit - b'0').min(NAMED_LEVELS - 1))),
            _ => Err(TemplateError::UnknownPlaceholder(name.to_owned())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::super::levels::Levels;
    use super::*;
    use proptest::prelude::*;

    fn rendered(template: &str, topic: &str) -> Option<String> {
        Template::parse(template).unwrap().render(&Levels::of(topic)).map(Cow::into_owned)
    }

    proptest! {
        #[test]
        fn text_with_doubled_braces_renders_to_itself(text in "[a-z{}/]{1,20}") {
            let doubled = text.replace('{', "{{").replace('}', "}}");
            prop_assert_eq!(rendered(&doubled, "x"), Some(text));
        }

        #[test]
        fn placeholders_take_the_topic_apart_as_splitting_does(topic in "[a-c/]{0,24}", level in 0_usize..10) {
            let wanted = topic.split('/').nth(level).map(str::to_owned);
            prop_assert_eq!(rendered(&format!("{{{level}}}"), &topic), wanted);
            prop_assert_eq!(rendered("{sub}", &topic), topic.split_once('/').map(|(_, sub)| sub.to_owned()));
            prop_assert_eq!(rendered("<{topic}>", &topic), Some(format!("<{topic}>")));
        }

        #[test]
        fn no_text_panics(text in ".{0,20}") {
            let _ = Template::parse(&text);
        }
    }

    #[test]
    fn a_missing_level_makes_the_whole_template_absent() {
        assert_eq!(rendered("class-{2}", "room/message/7"), Some("class-7".to_owned()));
        assert_eq!(rendered("class-{2}", "room/message"), None);
    }

    #[test]
    fn a_typing_error_lists_what_is_known() {
        let error = Template::parse("{room}").unwrap_err();
        assert_eq!(
            error.to_string(),
            "{room} is not known; known are {0} to {9} (a topic level), {sub}, {topic}, and {{ }} for braces"
        );
        for wrong in ["{", "}", "{0", "0}", "{10}", "{}", ""] {
            assert!(Template::parse(wrong).is_err(), "{wrong}");
        }
    }
}
