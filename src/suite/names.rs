//! The closed vocabularies of the suite: families, protocols, splits.

use serde::{Deserialize, Serialize};

/// A name that is not in its vocabulary.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown {what} {name:?}: use one of {known}")]
pub struct UnknownName {
    what: &'static str,
    name: String,
    known: String,
}

/// An enum whose variants are written in lower case everywhere: JSON, flags, tables.
macro_rules! vocabulary {
    ($(#[$doc:meta])* $name:ident, $what:literal { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every value, in the order tables show them.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];

            /// The lower-case name used in files and flags.
            pub fn as_str(self) -> &'static str {
                match self { $($name::$variant => $text,)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownName;

            /// Reads the lower-case name; the error lists the known ones.
            fn from_str(name: &str) -> Result<Self, UnknownName> {
                Self::ALL.iter().copied().find(|v| v.as_str() == name).ok_or_else(|| UnknownName {
                    what: $what,
                    name: name.to_owned(),
                    known: [$($text),+].join(", "),
                })
            }
        }
    };
}

vocabulary! {
    /// A kind of ability. Pruning is chosen and judged per family.
    Family, "family" {
        /// Facts of the world that stand in the weights.
        Knowledge = "knowledge",
        /// Facts that stand in the context.
        Retrieval = "retrieval",
        /// Answers that must be worked out.
        Reasoning = "reasoning",
        /// Syntax, morphology and coherence.
        Language = "language",
    }
}

vocabulary! {
    /// How an item is asked.
    Protocol, "protocol" {
        /// The options are listed, their letters are scored.
        Choice = "choice",
        /// The text of each option is scored after the stem.
        Continuation = "continuation",
        /// Greedy text after the stem must equal an accepted answer.
        Generate = "generate",
    }
}

vocabulary! {
    /// The disjoint parts of every task, so that no number is reported on items that chose it.
    Split, "split" {
        /// Fits what is measured: layer profiles, compensation.
        Calibrate = "calibrate",
        /// Chooses between plans.
        Select = "select",
        /// Is only ever reported.
        Report = "report",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_as_they_are_written() {
        for family in Family::ALL {
            assert_eq!(family.to_string().parse::<Family>().as_ref(), Ok(family));
            let json = serde_json::to_string(family).expect("a unit variant");
            assert_eq!(json, format!("\"{family}\""));
        }
        assert_eq!("choice".parse(), Ok(Protocol::Choice));
        assert_eq!("report".parse(), Ok(Split::Report));
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_known_ones() {
        let error = "Recall"
            .parse::<Family>()
            .expect_err("not a family")
            .to_string();
        assert!(error.contains("\"Recall\""), "{error}");
        assert!(
            error.contains("knowledge, retrieval, reasoning, language"),
            "{error}"
        );
    }
}
