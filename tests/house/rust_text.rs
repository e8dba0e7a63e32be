//! Just enough of Rust's grammar to parse the tables of `failures!`: string literals, brackets and comments.

/// The text before the bracket that closes the one just before `text`.
pub(super) fn inside(text: &str) -> &str {
    let mut depth = 0_usize;
    for (at, c) in code(text) {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' if depth == 0 => return &text[..at],
            ')' | ']' | '}' => depth -= 1,
            _ => {}
        }
    }
    panic!("no closing bracket: {text}");
}

/// The parts of `text` between separators outside of brackets and literals, without blank ones.
pub(super) fn split(text: &str, separator: char) -> Vec<&str> {
    let (mut parts, mut start, mut depth) = (Vec::new(), 0, 0_usize);
    for (at, c) in code(text) {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth -= 1,
            _ if c == separator && depth == 0 => {
                parts.push(&text[start..at]);
                start = at + separator.len_utf8();
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts.into_iter().map(str::trim).filter(|part| !part.is_empty()).collect()
}

/// The values of all string literals in `text`.
pub(super) fn literals(text: &str) -> Vec<String> {
    let mut values = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '"' {
            continue;
        }
        let mut value = String::new();
        loop {
            match chars.next().expect("a literal has an end") {
                '"' => break,
                '\\' => match chars.next() {
                    Some('\n') => while chars.next_if(|c| c.is_whitespace()).is_some() {},
                    Some(c @ ('"' | '\\')) => value.push(c),
                    other => panic!("escape {other:?} in {text}"),
                },
                c => value.push(c),
            }
        }
        values.push(value);
    }
    values
}

/// A source without comment lines and unit tests.
pub(super) fn without_comments_and_tests(source: &str) -> String {
    let (code, tests) = source.split_once("\n#[cfg(test)]\nmod tests {").unwrap_or((source, ""));
    let (_, rest) = tests.split_once("\n}\n").unwrap_or_default();
    let lines = code.split_inclusive('\n').chain(rest.split_inclusive('\n'));
    lines.filter(|line| !line.trim_start().starts_with("//")).collect()
}

/// The characters outside of string literals, with their positions.
fn code(text: &str) -> impl Iterator<Item = (usize, char)> {
    let (mut literal, mut escaped) = (false, false);
    text.char_indices().filter(move |(_, c)| {
        let outside = !literal && *c != '"';
        match c {
            '"' if !escaped => literal = !literal,
            '\\' if literal => {
                escaped = !escaped;
                return outside;
            }
            _ => {}
        }
        escaped = false;
        outside
    })
}

#[test]
fn brackets_and_separators_in_literals_do_not_count() {
    assert_eq!(inside(r#"a { "}" } b } c"#), r#"a { "}" } b "#);
    assert_eq!(split(r#"Self::A(_, _), "x, \", y", Os, "#, ','), ["Self::A(_, _)", r#""x, \", y""#, "Os"]);
    assert_eq!(literals("\"a \\\n   b\", \"\\\"c\\\"\""), ["a b", "\"c\""]);
}
