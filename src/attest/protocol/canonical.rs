//! Writes canonical JSON (RFC 8785), as far as the protocol hashes it: strings and objects.
//!
//! Numbers, whose canonical form is the hard part, do not occur in runtime data; a value with one is refused.

use serde_json::Value;

/// The canonical text; `None` if the value contains anything but strings and objects.
#[must_use]
pub fn text(value: &Value) -> Option<String> {
    let mut out = String::new();
    write(value, &mut out)?;
    Some(out)
}

fn write(value: &Value, out: &mut String) -> Option<()> {
    match value {
        Value::String(text) => push_string(text, out),
        Value::Object(members) => {
            let mut members: Vec<_> = members.iter().collect();
            // By UTF-16 code units (RFC 8785, 3.2.3), which differs from the order of UTF-8 if there are
            // surrogates.
            members.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            out.push('{');
            for (position, (name, value)) in members.into_iter().enumerate() {
                if position > 0 {
                    out.push(',');
                }
                push_string(name, out);
                out.push(':');
                write(value, out)?;
            }
            out.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => return None,
    }
    Some(())
}

/// Appends a string (RFC 8785, 3.2.2.2).
fn push_string(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{8}' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\u{c}' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn members_are_sorted_by_utf_16_code_units() {
        // The example of RFC 8785, 3.2.3.
        let value = json!({
            "\u{20ac}": "Euro Sign", "\r": "Carriage Return", "\u{fb33}": "Hebrew Letter Dalet With Dagesh",
            "1": "One", "\u{1f600}": "Emoji: Grinning Face", "\u{80}": "Control", "\u{f6}": "Latin Small Letter O"
        });
        let text = text(&value).unwrap();
        let at = |name: &str| text.find(name).unwrap();
        let order = ["Carriage", "One", "Control", "Latin", "Euro", "Emoji", "Hebrew"];
        assert!(order.windows(2).all(|pair| at(pair[0]) < at(pair[1])), "{text}");
    }

    #[test]
    fn characters_are_escaped_as_ecmascript_does() {
        let value = json!("\u{20ac}$\u{f}\nA'B\"\\\\\"/\u{7f}\u{8}\u{c}\r\t");
        assert_eq!(text(&value).unwrap(), "\"\u{20ac}$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\u{7f}\\b\\f\\r\\t\"");
    }

    #[test]
    fn what_has_no_text_here_is_refused() {
        for value in [json!(1), json!(null), json!([]), json!({"a": {"b": true}})] {
            assert_eq!(text(&value), None);
        }
    }

    proptest! {
        #[test]
        fn the_text_means_the_value(members in proptest::collection::btree_map(".{0,8}", ".{0,12}", 0..8)) {
            let value = json!({"inner": members, "z": "\u{0}\u{1f}"});
            let text = text(&value).unwrap();
            prop_assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
    }
}
