//! Values that are a word or a number, and comparators as a word or a list.

use crate::taylor::Comparators;
use serde::{Deserialize, Serialize};

/// `"all"` or a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    All,
    Number(usize),
}

/// `"epoch"`, `"all"` or a number of rounds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    Epoch,
    All,
    Rounds(usize),
}

impl Span {
    /// In rounds.
    pub fn rounds(self, per_epoch: usize) -> usize {
        match self {
            Span::Epoch => per_epoch,
            Span::All => usize::MAX,
            Span::Rounds(rounds) => rounds,
        }
    }
}

macro_rules! word_or_number {
    ($type:ident, $expecting:literal, $number:path, { $($word:literal => $variant:path),* }) => {
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match *self {
                    $($variant => serializer.serialize_str($word),)*
                    $number(n) => serializer.serialize_u64(n as u64),
                }
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str($expecting)
                    }

                    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<$type, E> {
                        match word {
                            $($word => Ok($variant),)*
                            other => Err(E::custom(format!("\"{other}\" is not {}", $expecting))),
                        }
                    }

                    fn visit_i64<E: serde::de::Error>(self, n: i64) -> Result<$type, E> {
                        match n {
                            1.. => Ok($number(n as usize)),
                            _ => Err(E::custom(format!("{n} is not {}", $expecting))),
                        }
                    }
                }
                deserializer.deserialize_any(Visitor)
            }
        }
    };
}

word_or_number!(Count, "\"all\" or a number from 1", Count::Number, { "all" => Count::All });
word_or_number!(
    Span,
    "\"epoch\", \"all\" or a number of rounds from 1",
    Span::Rounds,
    { "epoch" => Span::Epoch, "all" => Span::All }
);

impl Serialize for Comparators {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Comparators::Auto => serializer.serialize_str("auto"),
            Comparators::Chosen(comparators) => comparators.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Comparators {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Comparators;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("\"auto\" or a list of \"ball\" and \"unconstrained\"")
            }

            fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<Comparators, E> {
                match word {
                    "auto" => Ok(Comparators::Auto),
                    other => Err(E::invalid_value(serde::de::Unexpected::Str(other), &self)),
                }
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, list: A) -> Result<Comparators, A::Error> {
                Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(list)).map(Comparators::Chosen)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}
