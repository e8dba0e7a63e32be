//! Valid and invalid choices of PCRs.

use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> Result<PcrChoice, PcrsError> {
    text.parse()
}

fn pcr(number: u8) -> Pcr {
    Pcr::new(number).unwrap()
}

#[test]
fn numbers_names_and_both_separators_are_the_same_choice() {
    let choice = parse("7+11").unwrap();
    assert_eq!(choice.mask().to_string(), "7+11");
    assert_eq!(choice.to_read(), choice.mask());
    assert_eq!(choice.bank(), Bank::Sha256);
    for text in ["11+7", "7,11", "secure-boot-policy+kernel-boot", "7:sha256+11"] {
        assert_eq!(parse(text).unwrap(), choice, "{text}");
    }
}

#[test]
fn an_explicit_value_is_not_read_from_the_tpm() {
    let choice = parse(&format!("7:sha384={}+11", "ab".repeat(48))).unwrap();
    assert_eq!((choice.bank(), choice.to_read().to_string()), (Bank::Sha384, "11".to_owned()));
    let mut read = PcrValues::new(Bank::Sha384);
    read.insert(pcr(11), vec![1; 48]).unwrap();
    let values = choice.values(&read).unwrap();
    assert_eq!(values.get(pcr(7)).unwrap(), [0xab; 48]);
    assert_eq!(values.get(pcr(11)).unwrap(), [1; 48]);
    assert_eq!(choice.values(&PcrValues::new(Bank::Sha384)), Err(PcrsError::NotRead(pcr(11))));
    assert_eq!(choice.values(&PcrValues::new(Bank::Sha256)), Err(PcrsError::NotRead(pcr(11))));
}

#[test]
fn the_preset_is_never_eleven_alone() {
    assert_eq!(parse("uki").unwrap().mask().to_string(), "4+7+11+12+13");
}

#[test]
fn an_empty_list_is_no_pcr() {
    assert!(parse("").unwrap().mask().is_empty());
}

#[test]
fn the_fence_is_added_and_cannot_be_anything_but_zero() {
    let zero = Some(vec![0; 32]);
    assert_eq!(parse("7").unwrap().with_fence().unwrap().pcrs.get(&Pcr::FENCE), Some(&zero));
    assert_eq!(parse("7+15").unwrap().with_fence().unwrap().pcrs.get(&Pcr::FENCE), Some(&zero));
    let other = parse(&format!("15:sha256={}", "01".repeat(32))).unwrap();
    assert_eq!(other.with_fence(), Err(PcrsError::Fence));
}

#[test]
fn what_is_not_a_choice_is_refused() {
    for text in ["24", "-1", "x", "7++11", "7+", "256", "7:md5", "7:sha256=", "7:sha256=zz", "7=00", "٧"] {
        assert!(parse(text).is_err(), "{text}");
    }
    assert_eq!(parse("7+7"), Err(PcrsError::Duplicate(pcr(7))));
    assert_eq!(parse("7+secure-boot-policy"), Err(PcrsError::Duplicate(pcr(7))));
    assert_eq!(parse("7:sha1+11:sha256"), Err(PcrsError::MixedBanks));
    let short = format!("7:sha256={}", "00".repeat(20));
    assert_eq!(parse(&short), Err(PcrsError::Value { pcr: pcr(7), bank: Bank::Sha256 }));
}

proptest! {
    #[test]
    fn any_text_gives_an_answer(text in "\\PC*") {
        let _ = parse(&text);
    }

    #[test]
    fn any_list_of_our_alphabet_gives_an_answer(text in "[0-9a-f:=+,shx]{0,40}") {
        let _ = parse(&text);
    }
}
