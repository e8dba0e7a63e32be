//! Lays out the help: the manual's prose and the table of options as text of 100 columns.

use super::action::Action;
use super::command::Command;
use super::manual::{Example, Page, page};
use super::option::{Opt, Scope};
use super::options;

/// The help of a command, or the overview of all.
pub(super) fn text(topic: Option<Command>) -> String {
    let page = page(topic.unwrap_or(Command::Help));
    let sections = match topic {
        None => overview(page),
        Some(command) => about(command, page),
    };
    let mut text =
        sections.into_iter().filter(|section| !section.is_empty()).collect::<Vec<_>>().join("\n\n");
    text.push('\n');
    text
}

fn overview(page: &Page) -> Vec<String> {
    let commands = Command::ALL.iter().map(|command| entry(command.name(), self::page(*command).summary));
    let general = options::ALL.iter().filter_map(|option| match option.scope {
        Scope::Anywhere(help) | Scope::Alone(help) => Some(entry(label(option), help)),
        Scope::After(_) => None,
    });
    let tables = [("Commands", commands.collect()), (GENERAL, general.collect())];
    let mut sections = vec![page.about.to_owned(), usage(page)];
    sections.extend(laid_out(&tables));
    sections.extend([examples(page.examples), page.notes.to_owned()]);
    sections
}

fn about(command: Command, page: &Page) -> Vec<String> {
    let summary = wrapped(&format!("{}.", page.summary), COLUMNS).join("\n");
    let mut sections = vec![summary, usage(page), page.about.to_owned()];
    sections.extend(laid_out(&tables(command)));
    sections.extend([examples(page.examples), page.notes.to_owned()]);
    sections
}

/// What there is to choose from: actions, the command's own options by their headings, those of every
/// command.
fn tables(command: Command) -> Vec<(&'static str, Vec<Entry>)> {
    let mut tables: Vec<(&'static str, Vec<Entry>)> = Vec::new();
    if command == Command::Config {
        let actions = Action::ALL.iter().map(|action| entry(action.name(), action.help()));
        tables.push(("Actions", actions.collect()));
    }
    let own = options::ALL.iter().filter_map(|option| Some((*option, option.used_by(command)?)));
    for (option, used) in own {
        let entry = entry(label(option), used.help);
        match tables.iter_mut().find(|(heading, _)| *heading == used.group) {
            Some((_, entries)) => entries.push(entry),
            None => tables.push((used.group, vec![entry])),
        }
    }
    let general = options::ALL.iter().filter_map(|option| match option.scope {
        Scope::Anywhere(help) => Some(entry(label(option), help)),
        Scope::Alone(_) | Scope::After(_) => None,
    });
    tables.push((GENERAL, general.collect()));
    tables
}

fn usage(page: &Page) -> String {
    let forms: Vec<_> = page.usage.iter().map(|form| format!("cvm-unlock {form}")).collect();
    format!("Usage: {}", forms.join("\n       "))
}

fn examples(examples: &[Example]) -> String {
    let lines = examples.iter().map(|Example { purpose, line }| {
        format!("  {purpose}:\n    cvm-unlock {}", line.replace('\n', " \\\n        "))
    });
    let lines: Vec<_> = lines.collect();
    if lines.is_empty() { String::new() } else { format!("Examples:\n{}", lines.join("\n")) }
}

/// `-h, --help`, or `--tpm2-pcrs=PCRS`.
fn label(option: &Opt) -> String {
    match option.short {
        Some(letter) => format!("-{letter}, {}", option.synopsis()),
        None => option.synopsis(),
    }
}

/// A label, and what there is to say about it.
struct Entry {
    label: String,
    help: &'static str,
}

fn entry(label: impl Into<String>, help: &'static str) -> Entry {
    Entry { label: label.into(), help }
}

/// Headings with entries in two columns, the same for all. A label that is too long for its column has a line
/// of its own.
fn laid_out(tables: &[(&str, Vec<Entry>)]) -> Vec<String> {
    let labels = tables.iter().flat_map(|(_, entries)| entries).map(|entry| entry.label.len());
    let width = labels.filter(|width| *width <= LABEL).max().unwrap_or(LABEL);
    let sections = tables.iter().map(|(heading, entries)| {
        let entries: String = entries.iter().map(|entry| entry.laid_out(width)).collect();
        format!("{heading}:{entries}")
    });
    sections.collect()
}

impl Entry {
    fn laid_out(&self, width: usize) -> String {
        let Self { label, help } = self;
        let indent = width.saturating_add(4);
        let gap = format!("\n{:indent$}", "");
        let help = wrapped(help, COLUMNS.saturating_sub(indent)).join(&gap);
        if label.len() <= width {
            format!("\n  {label:<width$}  {help}")
        } else {
            format!("\n  {label}{gap}{help}")
        }
    }
}

/// Lines of at most `columns` characters, broken between words.
fn wrapped(text: &str, columns: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split_whitespace() {
        if !line.is_empty() && line.len().saturating_add(word.len()).saturating_add(1) > columns {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    lines.push(line);
    lines
}

const GENERAL: &str = "Options of every command";
const COLUMNS: usize = 100;
/// The widest label that has its help beside it.
const LABEL: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_fits_its_columns_and_names_every_option_of_the_command() {
        for command in Command::ALL {
            let text = text(Some(*command).filter(|command| *command != Command::Help));
            for line in text.lines() {
                // Comments beside the members of the configuration are a little wider.
                assert!(line.chars().count() <= 105 && line.trim_end() == line, "{command}: {line:?}");
            }
            for option in options::ALL.iter().filter(|option| option.used_by(*command).is_some()) {
                assert!(text.contains(&option.synopsis()), "{command}: {}", option.name);
            }
        }
    }

    #[test]
    fn words_are_wrapped_and_a_long_one_stands_alone() {
        assert_eq!(wrapped("a bc def ghijklmn o", 6), ["a bc", "def", "ghijklmn", "o"]);
        assert_eq!(wrapped("abc def", 7), ["abc def"]);
    }
}
