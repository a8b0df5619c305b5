//! JSON Schema of proxy.toml, from the same listing that the reader uses.
//!
//! It says what one value may be; what parts mean to each other only `check` can say.

use serde_json::{Value, json};

use super::form::Form;
use super::leaf::definitions;
use super::raw;

/// The schema, draft 2020-12.
pub fn schema() -> Value {
    let mut schema = raw::File::schema();
    // Which of two keys stands there is said by no single value.
    schema["properties"]["pools"]["additionalProperties"]["oneOf"] =
        json!([{ "required": ["endpoints"] }, { "required": ["dns"] }]);
    schema["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
    schema["title"] = json!("proxy.toml");
    schema["$defs"] = definitions();
    schema
}
