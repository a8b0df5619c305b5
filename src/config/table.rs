//! The `table!` and `choices!` notations: a table of the file as a struct, with its reader and its schema.
//!
//! Owns what a key without a default, with one, or of a later version means. Which keys there are
//! is said in `raw`.

/// Declares a table of the file. `needs` have no default (and read as `None` after a fault), `may` are
/// optional, `has` have a default, `later` are refused by name. The words above a key are its description in the schema.
macro_rules! table {
    ($(#[doc = $about:literal])+ $name:ident {
        $(needs { $( $(#[doc = $ndoc:literal])+ $nfield:ident: $nform:ty, )+ })?
        $(may { $( $(#[doc = $mdoc:literal])+ $mfield:ident: $mform:ty, )+ })?
        $(has { $( $(#[doc = $hdoc:literal])+ $hfield:ident: $hform:ty = $default:expr, )+ })?
        $(later { $( $lname:ident, )+ })?
    }) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, PartialEq)]
        pub(super) struct $name {
            $($( $(#[doc = $ndoc])+ pub(super) $nfield: Option<$nform>, )+)?
            $($( $(#[doc = $mdoc])+ pub(super) $mfield: Option<$mform>, )+)?
            $($( $(#[doc = $hdoc])+ pub(super) $hfield: $hform, )+)?
        }

        impl $name {
            const KNOWN: &'static [&'static str] = &[
                $($( $crate::config::table::key(stringify!($nfield)), )+)? $($( $crate::config::table::key(stringify!($mfield)), )+)? $($( $crate::config::table::key(stringify!($hfield)), )+)?
            ];
            const LATER: &'static [&'static str] = &[$($( stringify!($lname), )+)?];

            /// Reads the keys of a table that is known to be one.
            pub(super) fn read_entries(
                entries: &$crate::config::form::Entries<'_>,
                reading: &mut $crate::config::form::Reading<'_>,
            ) -> Self {
                let table = Self {
                    $($( $nfield: entries.needed($crate::config::table::key(stringify!($nfield)), reading), )+)?
                    $($( $mfield: entries.optional($crate::config::table::key(stringify!($mfield)), reading), )+)?
                    $($( $hfield: entries.optional($crate::config::table::key(stringify!($hfield)), reading).unwrap_or_else(|| $default), )+)?
                };
                entries.close(Self::KNOWN, Self::LATER, reading);
                table
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self {
                    $($( $nfield: None, )+)?
                    $($( $mfield: None, )+)?
                    $($( $hfield: $default, )+)?
                }
            }
        }

        impl $crate::config::form::Form for $name {
            fn read(
                value: &toml::de::DeValue<'_>,
                key: &str,
                reading: &mut $crate::config::form::Reading<'_>,
            ) -> Option<Self> {
                let entries = $crate::config::form::Entries::open(value, key, reading)?;
                Some(Self::read_entries(&entries, reading))
            }

            fn schema() -> serde_json::Value {
                let mut keys = $crate::config::table::Keys::of(concat!($($about),+));
                $($( keys.needed::<$nform>($crate::config::table::key(stringify!($nfield)), concat!($($ndoc),+)); )+)?
                $($( keys.optional::<$mform>($crate::config::table::key(stringify!($mfield)), concat!($($mdoc),+)); )+)?
                $($( keys.with_default::<$hform>($crate::config::table::key(stringify!($hfield)), concat!($($hdoc),+), &$default); )+)?
                keys.later(Self::LATER);
                keys.schema()
            }
        }
    };
}

/// Gives an enum its words: those of this version, and those of later ones, which are refused by name.
macro_rules! choices {
    ($name:ty { $( $word:literal => $value:expr, )+ } $(later { $( $later:literal, )+ })?) => {
        impl $crate::config::form::Form for $name {
            fn read(
                value: &toml::de::DeValue<'_>,
                key: &str,
                reading: &mut $crate::config::form::Reading<'_>,
            ) -> Option<Self> {
                const WORDS: &[&str] = &[$($word),+];
                const LATER: &[&str] = &[$($($later),+)?];
                let text = reading.text(value, key, &$crate::config::table::one_of(WORDS))?;
                match text.as_str() {
                    $($word => Some($value),)+
                    word => reading.fault(key, $crate::config::table::no_choice(word, WORDS, LATER)),
                }
            }

            fn schema() -> serde_json::Value {
                serde_json::json!({ "anyOf": [{ "enum": [$($word),+] }, { "$ref": "#/$defs/template" }] })
            }

            fn shown(&self) -> Option<serde_json::Value> {
                $(if *self == $value {
                    return Some(serde_json::json!($word));
                })+
                None
            }
        }
    };
}

pub(super) use {choices, table};

/// The key of a field: a field called `r#for` is the key `for`.
pub(super) const fn key(field: &'static str) -> &'static str {
    match field.as_bytes() {
        [b'r', b'#', ..] => field.split_at(2).1,
        _ => field,
    }
}

use serde_json::{Map, Value, json};

use super::form::{Form, nearest};

/// The schema of one table while it is put together.
pub(super) struct Keys {
    about: &'static str,
    properties: Map<String, Value>,
    required: Vec<&'static str>,
}

impl Keys {
    pub(super) fn of(about: &'static str) -> Self {
        Self {
            about,
            properties: Map::new(),
            required: Vec::new(),
        }
    }

    pub(super) fn needed<T: Form>(&mut self, name: &'static str, about: &str) {
        self.required.push(name);
        self.optional::<T>(name, about);
    }

    pub(super) fn optional<T: Form>(&mut self, name: &str, about: &str) {
        let mut schema = T::schema();
        schema["description"] = json!(about.trim());
        self.properties.insert(name.to_owned(), schema);
    }

    pub(super) fn with_default<T: Form>(&mut self, name: &str, about: &str, default: &T) {
        self.optional::<T>(name, about);
        if let Some(shown) = default.shown() {
            self.properties[name]["default"] = shown;
        }
    }

    /// Keys of later versions: known, so that an editor can say why they are refused.
    pub(super) fn later(&mut self, later: &[&str]) {
        for name in later {
            let refused = json!({ "description": "not in this version", "not": {} });
            self.properties.insert((*name).to_owned(), refused);
        }
    }

    pub(super) fn schema(self) -> Value {
        json!({
            "description": self.about.trim(),
            "type": "object",
            "properties": self.properties,
            "required": self.required,
            "additionalProperties": false,
        })
    }
}

/// `"text" or "json"`, as a fault says what was expected.
pub(super) fn one_of(words: &[&str]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("{word:?}")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        Some((last, _)) => last.clone(),
        None => String::new(),
    }
}

/// Why a word is none of the choices.
pub(super) fn no_choice(word: &str, words: &[&str], later: &[&str]) -> String {
    if later.contains(&word) {
        return format!(
            "{word:?} is not in this version; expected {}",
            one_of(words)
        );
    }
    match nearest(word, words) {
        Some(near) => format!(
            "expected {}, found {word:?}; did you mean {near:?}?",
            one_of(words)
        ),
        None => format!("expected {}, found {word:?}", one_of(words)),
    }
}
