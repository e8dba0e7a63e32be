use super::value::{DEPTH_LIMIT, VALUE_LIMIT};
use super::*;
use proptest::prelude::*;

fn area(text: &str) -> Vec<u8> {
    let mut bytes = text.as_bytes().to_vec();
    bytes.extend_from_slice(&[0; 8]);
    bytes
}

#[test]
fn an_area_is_an_object_and_nuls() {
    let parse_area = Json::parse_area;
    assert_eq!(parse_area(&area(r#"{"a":[1,-2,"b",true,null]}"#)).unwrap().strict().unwrap()["a"][1], -2);
    assert_eq!(parse_area(b"{}"), Err(JsonError::NotTerminated));
    assert_eq!(parse_area(b"{}\0\0{\0"), Err(JsonError::Trailing));
    assert_eq!(parse_area(b" {}\0"), Err(JsonError::NotAnObject));
    assert_eq!(parse_area(b"\0\0"), Err(JsonError::NotAnObject));
    assert_eq!(parse_area(b"{}{}\0"), Err(JsonError::Syntax(2)));
}

#[test]
fn duplicate_keys_are_refused_at_every_depth() {
    let twice = |text: &str| Json::parse(text.as_bytes()) == Err(JsonError::DuplicateKey("a".into()));
    assert!(twice(r#"{"a":1,"a":1}"#));
    assert!(twice(r#"{"b":{"c":[{"a":1,"d":2,"a":3}]}}"#));
    assert!(twice(r#"{"a":1,"\u0061":2}"#), "an escape spells the same key");
    assert!(matches!(Json::parse(b"{\"\xf6\":1,\"\xf6\":2}"), Err(JsonError::DuplicateKey(_))));
    assert!(Json::parse(b"{\"\xf6\":1,\"\xf7\":2}").is_ok(), "other bytes are another key");
}

#[test]
fn numbers_that_are_used_are_integers_of_64_bits() {
    for text in [
        "1.0",
        "1e3",
        "1E3",
        "-0",
        "18446744073709551616",
        "-9223372036854775809",
        "1.",
        "NaN",
        "01",
        "-01",
        "00",
    ] {
        assert_eq!(parse_json(text.as_bytes()), Err(JsonError::Number), "{text}");
    }
    for text in ["+1", "0x1", ".5", "1e", "-", "-.", ".", "nan", "--1", "1.5.5", "Inf", "-.e1"] {
        assert!(matches!(Json::parse(text.as_bytes()), Err(JsonError::Syntax(_))), "{text}");
    }
    assert_eq!(parse_json(b"18446744073709551615").unwrap(), u64::MAX);
    assert_eq!(parse_json(b"-9223372036854775808").unwrap(), i64::MIN);
}

/// `cryptsetup token import` was given `{"type":"x","keyslots":[],"v":…}` with each of these, or with another
/// spelling of it. `dd bs=4096 skip=1` shows that cryptsetup 2.6.1 wrote them so.
#[test]
fn what_cryptsetup_writes_into_a_header_is_read_and_keeps_its_spelling() {
    for text in [
        "1.5",
        "1e3",
        "1E+5",
        "1.",
        "1.e5",
        "-0.0",
        "1e400",
        "1e-400",
        "NaN",
        "Infinity",
        "-Infinity",
        "00.5",
        "-.5",
        "01e5",
        "012.",
    ] {
        assert_eq!(Json::parse(text.as_bytes()), Ok(Json::Number(text.to_owned())));
    }
    for (text, bytes) in [
        (&b"\"\\u0000\""[..], &b"\0"[..]),
        (b"\"\\u0001\\n\"", b"\x01\n"),
        (b"\"\xf6\xed\xa0\x80\x7f/\"", b"\xf6\xed\xa0\x80\x7f/"),
        ("\"\u{1f600}\\ud83d\\ude00\"".as_bytes(), "\u{1f600}\u{1f600}".as_bytes()),
    ] {
        assert_eq!(Json::parse(text), Ok(Json::Text(bytes.to_vec())));
    }
}

#[test]
fn a_nul_is_refused_in_keys_and_in_strings_that_are_used() {
    assert_eq!(parse_json(br#"{"a":"b\u0000c"}"#), Err(JsonError::Nul));
    assert_eq!(Json::parse(br#"{"a\u0000":1}"#), Err(JsonError::Nul));
}

#[test]
fn raw_control_characters_and_half_a_surrogate_pair_are_malformed() {
    for byte in 0..0x20_u8 {
        let text = [b'"', byte, b'"'];
        assert_eq!(Json::parse(&text), Err(JsonError::Syntax(2)), "a raw control character {byte}");
    }
    for text in
        [r#""\ud800""#, r#""\ud800\u0041""#, r#""\udc00""#, r#""\ud800x""#, r#""\u00g0""#, r#""\x41""#]
    {
        assert!(matches!(Json::parse(text.as_bytes()), Err(JsonError::Syntax(_))), "{text}");
    }
}

#[test]
fn strings_that_are_used_are_utf_8() {
    assert_eq!(parse_json(b"\"\xff\""), Err(JsonError::Encoding));
    assert_eq!(parse_json(b"{\"\xff\":1}"), Err(JsonError::Encoding));
}

#[test]
fn depth_and_size_are_bounded() {
    let nested = |levels: usize| [vec![b'['; levels], vec![b']'; levels]].concat();
    assert!(Json::parse(&nested(DEPTH_LIMIT)).is_ok());
    assert_eq!(Json::parse(&nested(DEPTH_LIMIT + 1)), Err(JsonError::Depth));
    assert_eq!(Json::parse(&nested(100_000)), Err(JsonError::Depth));
    let wide = |items: usize| format!("[{}]", vec!["0"; items].join(","));
    assert!(Json::parse(wide(VALUE_LIMIT - 1).as_bytes()).is_ok());
    assert_eq!(Json::parse(wide(VALUE_LIMIT).as_bytes()), Err(JsonError::Size));
}

fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        "[^\0]{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..8).prop_map(Value::from),
            prop::collection::btree_map("[^\0]{0,8}", inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn what_serde_json_writes_is_read_unchanged(value in tree(), pretty: bool) {
        let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) };
        prop_assert_eq!(parse_json(&text.unwrap()).unwrap(), value);
    }

    #[test]
    fn any_text_gives_an_answer_that_serde_json_confirms(text in "[\\[\\]{}\",:a0-9.e\\\\u -]{0,40}") {
        let theirs = serde_json::from_str::<Value>(&text);
        match (parse_json(text.as_bytes()), theirs) {
            (Ok(ours), theirs) => prop_assert_eq!(theirs.unwrap(), ours),
            (Err(JsonError::Syntax(_)), theirs) => prop_assert!(theirs.is_err(), "{}", text),
            (Err(_), _) => {}
        }
    }

    #[test]
    fn any_bytes_give_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        let _answer = Json::parse(&bytes);
    }
}
