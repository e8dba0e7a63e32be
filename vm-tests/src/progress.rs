//! Lines about what goes on, each of which says which scenario it is about: several run at once.
//!
//! In: a line. Out: the same on standard output, behind the scenario that this thread works on.

use std::cell::Cell;

thread_local! {
    static TOPIC: Cell<Option<&'static str>> = const { Cell::new(None) };
}

/// Does the work; what this thread says meanwhile is about `topic`.
pub fn about<T>(topic: &'static str, work: impl FnOnce() -> T) -> T {
    let before = TOPIC.replace(Some(topic));
    let result = work();
    TOPIC.set(before);
    result
}

/// Says a line.
pub fn say(line: &str) {
    println!("{}", told(line));
}

fn told(line: &str) -> String {
    match TOPIC.get() {
        None => line.to_owned(),
        Some(topic) => format!("{topic}: {line}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_its_own_threads_scenario() {
        assert_eq!(told("x"), "x");
        about("one", || {
            assert_eq!(told("x"), "one: x");
            let other = std::thread::spawn(|| about("two", || told("x")));
            assert_eq!(other.join().unwrap(), "two: x");
            about("inner", || assert_eq!(told("x"), "inner: x"));
            assert_eq!(told("x"), "one: x");
        });
        assert_eq!(told("x"), "x");
    }
}
