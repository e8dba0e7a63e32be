//! Every single edit of a header: each member of an enrolled volume's JSON is changed, with checksums that hold, and the
//! executable is asked whether it would open the result.
#![cfg(test)]
#![cfg(feature = "native")]

mod support;

use serde_json::{Value, json};
use support::target::Target;

#[test]
fn no_edit_of_a_single_member_opens_another_volume() {
    let target = Target::new();
    let json: Value = serde_json::from_str(&target.forge().primary.text()).unwrap();
    let mut leaves = Vec::new();
    collect(&json, "", &mut leaves);
    let (mut refused, mut harmless) = (0, Vec::new());
    for (pointer, value) in &leaves {
        for edited in edits(value).into_iter().filter(|edited| edited != value) {
            match target.refusal(&target.forge().set(pointer, &edited)) {
                Some(slug) => {
                    assert!(!slug.is_empty(), "{pointer} = {edited} is refused without a name");
                    refused += 1;
                }
                None => harmless.push(format!("{pointer} = {edited}")),
            }
        }
    }
    assert!(refused > 60, "only {refused} edits were refused");
    // What may change: the other keyslot (nothing uses it), how large the keyslots area is, what a token says beside
    // what the TPM and the owner vouch for.
    let token = json["tokens"].as_object().unwrap().keys().next().unwrap();
    for edit in &harmless {
        let allowed = ["/keyslots/0/", "/config/keyslots_size", &format!("/tokens/{token}/cvm-unlock/pcrs/")];
        assert!(allowed.iter().any(|start| edit.starts_with(start)), "{edit} opens");
    }
    target.opens(&target.forge());
}

/// All members that are neither objects nor arrays, by JSON pointer.
fn collect(value: &Value, at: &str, leaves: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| collect(value, &format!("{at}/{name}"), leaves));
        }
        Value::Array(_) => {}
        leaf => leaves.push((at.to_owned(), leaf.clone())),
    }
}

/// Values of the same form, as near as possible and far away.
fn edits(value: &Value) -> Vec<Value> {
    match value {
        Value::Number(number) => {
            let number = number.as_u64().unwrap();
            vec![json!(number + 1), json!(number * 2)]
        }
        Value::String(text) if text.parse::<u64>().is_ok() => {
            let number: u64 = text.parse().unwrap();
            vec![json!((number + 4096).to_string()), json!((number / 8192 * 4096).to_string())]
        }
        Value::String(text) if text.len() > 40 => {
            let first = if text.starts_with('A') { "B" } else { "A" };
            vec![json!(format!("{first}{}", &text[1..])), json!(text[4..])]
        }
        Value::String(text) => vec![json!(format!("{text}x")), json!("sha384")],
        _ => vec![json!(1), json!("")],
    }
}
