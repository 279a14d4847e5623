//! `KEY=VALUE` on the command line as JSON.

use serde_json::{Map, Value, json};
use wire::diagnosis::Diagnosis;

use crate::diagnosis::{ARGUMENT, CODES};

/// An object of these values: numbers, truth values, lists and tables as JSON writes them, anything else as text, nothing as null.
pub(super) fn object(values: &[String]) -> Result<Value, Diagnosis> {
    let mut object = json!({});
    for value in values {
        let Some((key, text)) = value.split_once('=') else {
            let (what, needed) = ("a value cannot be read", "KEY=VALUE, such as partitions=8");
            let seen = format!("`{value}`");
            return Err(Diagnosis::from_table(CODES, ARGUMENT, what, seen, needed));
        };
        let mut at = &mut object;
        let mut steps = key.split('.').peekable();
        while let Some(step) = steps.next() {
            let next = match steps.peek() {
                Some(_) => json!({}),
                None => read(text),
            };
            if !at.is_object() {
                *at = Value::Object(Map::new());
            }
            let own = &mut at[step];
            if own.is_null() || steps.peek().is_none() {
                *own = next;
            }
            at = own;
        }
    }
    Ok(object)
}

fn read(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(Value::String(text)) => text.into(),
        Ok(value) => value,
        Err(_) if text.is_empty() => Value::Null,
        Err(_) => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_json_and_anything_else_is_text() {
        let values = [
            "partitions=8",
            "ack=local",
            "enabled=false",
            "queue.lock=30s",
            "queue.messages_max=5",
            "hub=",
            "addresses=[\"10.0.0.0/8\"]",
            "name=\"7\"",
            "note=a=b",
        ];
        let read = object(&values.map(str::to_owned)).expect("all have a value");
        let want = json!({
            "partitions": 8, "ack": "local", "enabled": false,
            "queue": { "lock": "30s", "messages_max": 5 },
            "hub": null, "addresses": ["10.0.0.0/8"], "name": "7", "note": "a=b",
        });
        assert_eq!(read, want);
        assert!(object(&["partitions".to_owned()]).is_err());
    }
}
