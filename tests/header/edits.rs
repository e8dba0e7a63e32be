//! Every single edit of a header: changes each member of an enrolled volume's JSON, with valid checksums, and
//! asks the executable whether it would open the result.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::support::target::Target;

#[test]
fn no_edit_of_a_single_member_opens_another_volume() {
    let target = Target::new();
    let json: Value = serde_json::from_str(&target.forge().primary.text()).unwrap();
    let mut values = Vec::new();
    collect(&json, "", &mut values);
    let (mut refused, mut harmless) = (0, BTreeSet::new());
    for (pointer, value) in &values {
        for (what, edited) in edits(value).into_iter().filter(|(_, edited)| edited != value) {
            match target.refusal(&target.forge().set(pointer, &edited)) {
                Some(slug) => {
                    assert!(!slug.is_empty(), "{pointer} {what} is refused without a name");
                    refused += 1;
                }
                None => {
                    harmless.insert(format!("{pointer} {what}"));
                }
            }
        }
    }
    assert!(refused > 150, "only {refused} edits were refused");
    let unexpected: Vec<_> =
        harmless.iter().filter(|edit| !HARMLESS.iter().any(|start| edit.starts_with(start))).collect();
    assert!(unexpected.is_empty(), "{unexpected:#?} open");
    target.opens(&target.forge());
}

/// What may change.
const HARMLESS: &[&str] = &[
    // The other keyslot, which no token names (changes of its place and key size are refused), and its
    // coverage by the digest.
    "/keyslots/0",
    "/digests/0/keyslots = [\"1\"]",
    "/config/keyslots_size ",
    // A second token with the same content, and unknown members of a token.
    "/tokens with another member",
    "/tokens/0 with another member",
    // Claims of a token that neither the TPM nor the owner vouches for; the bank and the primary key here are
    // the defaults.
    "/tokens/0 without tpm2-pcr-bank",
    "/tokens/0 without tpm2-primary-alg",
    "/tokens/0/tpm2-pcrs = [7,15,7]",
    "/tokens/0/cvm-unlock without signer",
    "/tokens/0/cvm-unlock without pcrs",
    "/tokens/0/cvm-unlock/pcrs",
];

/// All values below `value`, by JSON pointer.
fn collect(value: &Value, at: &str, values: &mut Vec<(String, Value)>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| collect(value, &format!("{at}/{name}"), values));
        }
        Value::Array(elements) => {
            (0..).zip(elements).for_each(|(number, value)| collect(value, &format!("{at}/{number}"), values));
        }
        _ => {}
    }
    if !at.is_empty() {
        values.push((at.to_owned(), value.clone()));
    }
}

/// The edits of a value: values of the same form, near and far; containers with one element less and one
/// more.
fn edits(value: &Value) -> Vec<(String, Value)> {
    let edited = |values: Vec<Value>| values.into_iter().map(|value| (format!("= {value}"), value)).collect();
    match value {
        Value::Object(members) => {
            let without = members.keys().map(|name| {
                let mut fewer = members.clone();
                fewer.remove(name);
                (format!("without {name}"), Value::Object(fewer))
            });
            let mut more = members.clone();
            more.insert("7".to_owned(), members.values().next().cloned().unwrap_or(json!("7")));
            without.chain([("with another member".to_owned(), Value::Object(more))]).collect()
        }
        Value::Array(elements) => {
            let fewer = elements.get(1..).unwrap_or_default().to_vec();
            let first = elements.first().cloned().unwrap_or(json!("7"));
            let more = elements.iter().cloned().chain([first]).collect();
            edited(vec![Value::Array(fewer), Value::Array(more)])
        }
        Value::Number(number) => {
            let number = number.as_u64().unwrap();
            edited(vec![json!(number + 1), json!(number * 2)])
        }
        Value::String(text) if text.parse::<u64>().is_ok() => {
            let number: u64 = text.parse().unwrap();
            edited(vec![json!((number + 4096).to_string()), json!((number / 8192 * 4096).to_string())])
        }
        Value::String(text) if text.len() > 40 => {
            let first = if text.starts_with('A') { "B" } else { "A" };
            edited(vec![json!(format!("{first}{}", &text[1..])), json!(text[4..])])
        }
        Value::String(text) => edited(vec![json!(format!("{text}x")), json!("sha384")]),
        _ => edited(vec![json!(1), json!("")]),
    }
}
