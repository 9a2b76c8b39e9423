//! The manual pages and the shells' completions are what the command line and the table of keys say.
//!
//! `UPDATE_MANUAL=1 cargo test --test manual` writes them anew.

mod page;
mod roff;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;
use filmgate::config::cli::Cli;

/// The committed file at `path` holds `text`, or is made to when the environment asks for that.
fn is_committed(path: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(path);
    if std::env::var_os("UPDATE_MANUAL").is_some() {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
    }
    let committed = fs::read_to_string(&file).unwrap_or_default();
    assert!(committed == text, "packaging/{path} has drifted: UPDATE_MANUAL=1 cargo test --test manual");
}

/// The file at `path` as packages have it.
fn committed(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(path)).unwrap()
}

fn completions(shell: Shell) -> String {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "filmgate", &mut text);
    // Line ends with white space before them are the generator's, and nobody's wish.
    let lines = String::from_utf8(text).unwrap();
    lines.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn the_page_of_the_command_is_the_committed_one() {
    is_committed("man/filmgate.8", &page::command(&Cli::command()));
}

#[test]
fn the_page_of_the_configuration_is_the_committed_one() {
    is_committed("man/filmgate.toml.5", &page::configuration());
}

#[test]
fn the_completions_are_the_committed_ones() {
    is_committed("completions/filmgate.bash", &completions(Shell::Bash));
    is_committed("completions/_filmgate", &completions(Shell::Zsh));
    is_committed("completions/filmgate.fish", &completions(Shell::Fish));
}

#[test]
fn every_subcommand_and_every_option_is_on_the_page() {
    fn walk(command: &clap::Command, page: &str) {
        for argument in
            command.get_arguments().filter(|argument| !["help", "version"].contains(&argument.get_id().as_str()))
        {
            let name = argument
                .get_long()
                .map_or_else(|| argument.get_value_names().unwrap()[0].to_string(), |long| format!("--{long}"));
            assert!(page.contains(&roff::escaped(&name)), "{name} of {}", command.get_name());
        }
        for sub in command.get_subcommands() {
            assert!(
                page.contains(&roff::escaped(&format!("filmgate {}", sub.get_name()))) || sub.get_name() == "explain"
            );
            walk(sub, page);
        }
    }
    walk(&Cli::command(), &committed("man/filmgate.8"));
}

/// Names of variables in the sources that ask for any, tests left out.
fn variables(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            variables(&path, found);
        } else if path.file_name().is_some_and(|name| name != "tests.rs") {
            let text = fs::read_to_string(&path).unwrap();
            let program = text.split("#[cfg(test)]").next().unwrap();
            if program.contains("env::var") {
                let is_name = |word: &&str| {
                    word.contains('_') && word.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
                };
                found.extend(program.split('"').filter(is_name).map(str::to_string));
            }
        }
    }
}

#[test]
fn the_variables_on_the_page_are_those_that_the_program_reads() {
    let mut read = BTreeSet::new();
    variables(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut read);
    // One of many, and the rest are read by AWS's own crates.
    assert!(read.remove("AWS_SHARED_CREDENTIALS_FILE"), "{read:?}");
    let told = page::ENVIRONMENT.iter().flat_map(|(names, _)| names.split(", ")).filter(|name| *name != "AWS_*");
    assert_eq!(read, told.map(str::to_string).collect());
}

#[test]
fn every_key_is_on_the_page_of_the_configuration() {
    let page = committed("man/filmgate.toml.5");
    for key in filmgate::config::keys::KEYS {
        let shown = if key.is_section() { key.header() } else { key.name().to_string() };
        assert!(page.contains(&format!("\\fB{}\\fR", roff::escaped(&shown))), "{}", key.path);
    }
}
